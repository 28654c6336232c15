// How the next token is chosen from a row of logits.
//
// The scheduler only carries these to the sampler. Draw number i of a request depends on (seed, position) and on
// nothing else, so a preempted or re-batched request draws the same tokens.

/// Sampling settings of one request, validated before they get here.
package struct SamplingParameters: Sendable, Equatable {
    /// [0, ...) Divides the logits; 0 is greedy.
    package var temperature: Float
    /// (0, 1] Keeps the most likely tokens up to this mass; 1 is off.
    package var topP: Float
    /// [0, ...) Keeps this many of the most likely tokens; 0 is off.
    package var topK: Int
    /// [0, 1] Drops tokens less likely than this share of the best one; 0 is off.
    package var minP: Float
    /// The stream of the counter-based generator; the draw at a position uses (seed, position).
    package var seed: UInt64
    /// nil: no log probabilities; 0: the sampled token's only; k: also those of the k best.
    package var logprobCount: Int?
    /// Tokens whose log probabilities are reported instead of those of the best; nil for most.
    package var logprobTokens: [TokenID]?
    /// Penalties, biases and bans; nil for most.
    package var rules: LogitRules?

    /// Greedy and without log probabilities unless told otherwise.
    package init(
        temperature: Float = 0, topP: Float = 1, topK: Int = 0, minP: Float = 0, seed: UInt64 = 0,
        logprobCount: Int? = nil, logprobTokens: [TokenID]? = nil, rules: LogitRules? = nil
    ) {
        self.temperature = temperature
        self.topP = topP
        self.topK = topK
        self.minP = minP
        self.seed = seed
        self.logprobCount = logprobCount
        self.logprobTokens = logprobTokens
        self.rules = rules
    }

    /// Rules are the same when they are one object.
    package static func == (left: SamplingParameters, right: SamplingParameters) -> Bool {
        left.temperature == right.temperature && left.topP == right.topP && left.topK == right.topK
            && left.minP == right.minP && left.seed == right.seed && left.logprobCount == right.logprobCount
            && left.logprobTokens == right.logprobTokens && left.rules === right.rules
    }

    /// Takes the most likely token.
    package static let greedy = SamplingParameters()
}
