// What a request's consumer hears from the engine.

import Scheduling

/// Token counts of a finished request.
package struct GenerationUsage: Sendable, Equatable {
    package let promptTokens: Int
    /// Sampled tokens, the stop token included.
    package let generatedTokens: Int
    /// Prompt tokens whose keys and values came from the prefix cache.
    package let cachedTokens: Int

    package init(promptTokens: Int, generatedTokens: Int, cachedTokens: Int) {
        self.promptTokens = promptTokens
        self.generatedTokens = generatedTokens
        self.cachedTokens = cachedTokens
    }
}

/// One event of a request's stream. `finished` and `failed` are last, and exactly one of them comes.
package enum EngineEvent: Sendable {
    /// Log-probabilities of further tokens of the prompt, in order from the second on; all come before the first token.
    case promptScores([TokenSample])
    case token(TokenSample)
    /// [hidden] What the prompt's states were reduced to; in place of tokens.
    case pooled([Float])
    case finished(FinishReason, GenerationUsage)
    case failed(EngineError)
}

/// Whether the engine serves.
package enum EngineHealth: Sendable, Equatable {
    case ready
    case draining
    /// It has work and completes no step; it may yet. The sentence says for how long.
    case stalled(String)
    /// Nothing will be served any more; the sentence says why.
    case failed(String)
}
