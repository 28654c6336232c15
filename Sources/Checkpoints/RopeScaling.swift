// How rotary embeddings reach beyond the context a model was trained with.

import Tensors

/// How positions are stretched beyond the context a model was trained with.
package enum RopeScaling: Sendable, Equatable {
    case none
    /// Positions are divided by `factor`.
    case linear(factor: Double)
    /// Frequencies whose wavelength is beyond the original context / `low` are divided by `factor`, those below it /
    /// `high` are left, and those between are blended (Llama 3).
    case llama3(factor: Double, low: Double, high: Double, originalContext: Int)
    /// Frequencies are blended by how often they turn within the original context. arXiv 2309.00071.
    case yarn(YarnScaling)
    /// A divisor for every frequency: `short` ones for contexts up to the original, `long` ones beyond. Where these are
    /// empty they are tensors of the checkpoint. arXiv 2402.13753.
    case longRope(LongRopeScaling)
}

/// The numbers of YaRN.
package struct YarnScaling: Sendable, Equatable {
    package var factor: Double
    package var originalContext: Int
    /// Turns within the original context from which on a frequency is left as it is, and up to which it is divided.
    package var betaFast = 32.0
    package var betaSlow = 1.0
    /// Whether the bounds between them are rounded outwards to whole pairs.
    package var isTruncated = true
    /// What rotated features are multiplied by.
    package var magnitude: Double
}

/// The numbers of LongRoPE.
package struct LongRopeScaling: Sendable, Equatable {
    /// [rotary dimension / 2] each, or empty.
    package var short: [Double]
    package var long: [Double]
    package var originalContext: Int
    /// What rotated features are multiplied by.
    package var magnitude: Double
}

/// What a model says of its rotary embedding.
struct RopeConfig {
    var theta: Double
    var dimension: Int
    var layout: RotaryLayout
    var scaling: RopeScaling
}
