// The values that cross the `sample` op: how to choose from a row of logits, and what was chosen.

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

    package init(
        temperature: Float = 0, topP: Float = 1, topK: Int = 0, minP: Float = 0, seed: UInt64 = 0,
        position: UInt64 = 0, logprobCount: Int? = nil
    ) {
        self.temperature = temperature
        self.topP = topP
        self.topK = topK
        self.minP = minP
        self.seed = seed
        self.position = position
        self.logprobCount = logprobCount
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
    /// [rows] false when the row held a NaN or no finite logit: nothing was chosen.
    package var isFinite: [Bool]
    /// [rows × maxAlternatives] ids of the most likely tokens, best first.
    package var alternativeTokens: [Int32]
    /// [rows × maxAlternatives] their raw log-probabilities.
    package var alternativeLogprobs: [Float]

    package init(rowCapacity: Int) {
        tokens = Array(repeating: 0, count: rowCapacity)
        logprobs = Array(repeating: 0, count: rowCapacity)
        isFinite = Array(repeating: true, count: rowCapacity)
        alternativeTokens = Array(repeating: 0, count: rowCapacity * Self.maxAlternatives)
        alternativeLogprobs = Array(repeating: 0, count: rowCapacity * Self.maxAlternatives)
    }
}
