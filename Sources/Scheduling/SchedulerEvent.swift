// What a step tells the rest of the server, and what the runner tells the scheduler.
//
// A request ends with exactly one `finished` event, which carries its usage; before it comes one `token` event for
// each generated token, so the number of token events is the number of generated tokens.

/// A token and how likely it was.
package struct TokenLogprob: Sendable, Equatable {
    /// The token.
    package let token: TokenID
    /// Natural logarithm of its probability.
    package let logprob: Float

    /// Pairs the two.
    package init(token: TokenID, logprob: Float) {
        self.token = token
        self.logprob = logprob
    }
}

/// What the sampler chose for one sequence.
package struct TokenSample: Sendable, Equatable {
    /// The token; meaningless when the row is not finite.
    package let token: TokenID
    /// Natural logarithm of its probability; 0 when none was asked for.
    package let logprob: Float
    /// [logprobCount] The most likely tokens, best first.
    package let topLogprobs: [TokenLogprob]
    /// False: the row of logits held a NaN or an infinity, and the request must fail.
    package let isFinite: Bool
    /// Of a scored prompt token: how many tokens are more likely, plus 1; 0 where nobody counted.
    package let rank: Int

    /// In place of a token of a guessed position where its constraint leaves nothing: the step says nothing about it.
    package static let undecided: TokenID = -1

    /// A sample from a finite row unless told otherwise.
    package init(
        token: TokenID, logprob: Float = 0, topLogprobs: [TokenLogprob] = [], isFinite: Bool = true, rank: Int = 0
    ) {
        self.token = token
        self.logprob = logprob
        self.topLogprobs = topLogprobs
        self.isFinite = isFinite
        self.rank = rank
    }
}

/// Why a request failed after it was admitted.
package enum FailureCause: Sendable, Equatable {
    /// The model produced a row of logits that is not finite.
    case nonFiniteLogits
    /// The request's own bans leave none of the tokens that it allows.
    case nothingAllowed
    /// No token satisfies both its constraint and its other rules.
    case constraintStuck
    /// The step could not be executed (a device error).
    case stepFailed
}

/// How a request ended; each ends in exactly one of these ways.
package enum FinishReason: Sendable, Equatable {
    /// It generated this stop token. The token counts as generated but is not part of the text.
    case stop(TokenID)
    /// Its constraint is satisfied and allows nothing more, or its prompt was all there was to compute.
    case complete
    /// It repeated itself, and was asked not to.
    case repetition
    /// It reached `maxNewTokens` or `maxModelLength`.
    case length
    /// Its client went away or the server stopped.
    case abort
    /// Its deadline passed.
    case deadline
    /// It failed.
    case error(FailureCause)
}

/// What a request cost.
package struct RequestUsage: Sendable, Equatable {
    /// Tokens of the prompt.
    package let promptTokens: Int
    /// Tokens generated, a stop token included.
    package let generatedTokens: Int
    /// Prompt tokens found in the prefix cache instead of computed.
    package let cachedTokens: Int
    /// Times it lost its blocks.
    package let preemptions: Int
    /// When its first step was scheduled, since the engine started; nil if it never ran.
    package let firstScheduled: Duration?

    /// Gathers the fields.
    package init(
        promptTokens: Int, generatedTokens: Int, cachedTokens: Int, preemptions: Int = 0,
        firstScheduled: Duration? = nil
    ) {
        self.promptTokens = promptTokens
        self.generatedTokens = generatedTokens
        self.cachedTokens = cachedTokens
        self.preemptions = preemptions
        self.firstScheduled = firstScheduled
    }
}

/// Something that happened to one request.
package struct SchedulerEvent: Sendable, Equatable {
    /// What happened.
    package enum Kind: Sendable, Equatable {
        /// A token was generated; a stop token too, directly before its `finished`.
        case token(TokenSample)
        /// The request ended; nothing follows.
        case finished(FinishReason, usage: RequestUsage)
    }

    /// Whose event it is.
    package let id: RequestID
    /// What happened.
    package let kind: Kind

    /// Pairs the two.
    package init(id: RequestID, kind: Kind) {
        self.id = id
        self.kind = kind
    }
}
