// The values that cross the `sample` op: how to choose from a row of logits, and what was chosen.

/// What is done to one row of logits before a token is chosen from it. Made for one row of one step; most have none.
///
/// In this order, with x the logit of a token: x += its bias; x = x > 0 ? x / r : x · r where prompt or output hold it;
/// x −= frequency penalty · times generated; x −= presence penalty where it was generated; x = −∞ where an allow-list
/// does not name it.
package final class LogitAdjustments: Sendable {
    /// Added to a token's logit.
    package struct Bias: Sendable {
        package let token: Int32
        /// Minus infinity bans the token.
        package let bias: Float

        package init(token: Int32, bias: Float) {
            self.token = token
            self.bias = bias
        }
    }

    /// How often a token was seen.
    package struct Count: Sendable {
        package let token: Int32
        package let generated: Int32
        package let isInPrompt: Bool

        package init(token: Int32, generated: Int32, isInPrompt: Bool) {
            self.token = token
            self.generated = generated
            self.isInPrompt = isInPrompt
        }
    }

    /// A token may be named more than once; its biases add up.
    package let biases: [Bias]
    /// Each token once.
    package let counts: [Count]
    /// In rising order, each token once; nil allows all.
    package let allowedTokens: [Int32]?
    package let presencePenalty: Float
    package let frequencyPenalty: Float
    /// 1 is off.
    package let repetitionPenalty: Float

    package init(
        biases: [Bias] = [], counts: [Count] = [], allowedTokens: [Int32]? = nil, presencePenalty: Float = 0,
        frequencyPenalty: Float = 0, repetitionPenalty: Float = 1
    ) {
        self.biases = biases
        self.counts = counts
        self.allowedTokens = allowedTokens
        self.presencePenalty = presencePenalty
        self.frequencyPenalty = frequencyPenalty
        self.repetitionPenalty = repetitionPenalty
    }
}

/// How to choose a token from one row of logits.
package struct SamplingRow: Sendable {
    /// 0 means greedy: the highest logit, the lowest id among equals.
    package var temperature: Float
    /// Keep the most likely tokens until their probability reaches this; 1 is off.
    package var topP: Float
    /// Keep this many of the most likely tokens; 0 is off.
    package var topK: Int
    /// Drop tokens less likely than this fraction of the most likely; 0 is off.
    package var minP: Float
    /// Key of the counter-based random generator.
    package var seed: UInt64
    /// Counter of the generator: the position of the token being drawn, so that a draw depends on nothing else.
    package var position: UInt64
    /// Alternatives to report with their log-probability (at most `SamplingResults.maxAlternatives`), or nil for
    /// no log-probabilities at all.
    package var logprobCount: Int?
    /// What is done to the logits first; log-probabilities are those of the row as it is.
    package var adjustments: LogitAdjustments?
    /// Nothing is chosen: this token's log-probability and rank are reported. Its `logprobCount` is not nil.
    package var scoredToken: Int32?
    /// [⌈vocab / 32⌉] Bit t % 32 of word t / 32 says whether token t may be chosen, after all adjustments; nil allows
    /// all. Read before `sample` returns.
    package var mask: [UInt32]?

    package init(
        temperature: Float = 0, topP: Float = 1, topK: Int = 0, minP: Float = 0, seed: UInt64 = 0,
        position: UInt64 = 0, logprobCount: Int? = nil, adjustments: LogitAdjustments? = nil,
        scoredToken: Int32? = nil, mask: [UInt32]? = nil
    ) {
        self.temperature = temperature
        self.topP = topP
        self.topK = topK
        self.minP = minP
        self.seed = seed
        self.position = position
        self.logprobCount = logprobCount
        self.adjustments = adjustments
        self.scoredToken = scoredToken
        self.mask = mask
    }
}

extension SamplingRow {
    /// Whether the likeliest token of the row as it is will be chosen, and nothing else is asked.
    package var isPlainlyGreedy: Bool {
        (temperature < 1e-5 || topK == 1) && logprobCount == nil && adjustments == nil && scoredToken == nil
            && mask == nil
    }
}

/// What `sample` chose, row by row. Allocated once and reused, so that a step allocates nothing.
package struct SamplingResults {
    /// The most alternatives a row can report.
    package static let maxAlternatives = 20

    /// [rows] the chosen token of each row; meaningless where `isFinite` is false.
    package var tokens: [Int32]
    /// [rows] log-probability of the chosen token under the raw (untempered, unfiltered) distribution.
    package var logprobs: [Float]
    /// [rows] false when the row held a NaN or no finite logit that may be chosen: nothing was chosen.
    package var isFinite: [Bool]
    /// [rows] of a scored token: how many tokens are more likely, plus 1. Meaningless for other rows; 0 where a backend
    /// does not know it.
    package var ranks: [Int32]
    /// [rows × maxAlternatives] ids of the most likely tokens, best first.
    package var alternativeTokens: [Int32]
    /// [rows × maxAlternatives] their raw log-probabilities.
    package var alternativeLogprobs: [Float]

    package init(rowCapacity: Int) {
        tokens = Array(repeating: 0, count: rowCapacity)
        logprobs = Array(repeating: 0, count: rowCapacity)
        ranks = Array(repeating: 0, count: rowCapacity)
        isFinite = Array(repeating: true, count: rowCapacity)
        alternativeTokens = Array(repeating: 0, count: rowCapacity * Self.maxAlternatives)
        alternativeLogprobs = Array(repeating: 0, count: rowCapacity * Self.maxAlternatives)
    }
}
