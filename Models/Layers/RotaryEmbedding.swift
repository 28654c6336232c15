// Rotary position embedding: pairs of a head's elements turn by an angle that grows with the position.
// arXiv 2104.09864.

import Checkpoints
import Tensors

/// The frequencies of one model, shared by its layers.
struct RotaryEmbedding {
    /// [rotaryDim / 2] f32: radians per position.
    private let frequencies: Tensor
    private let layout: RotaryLayout
    private let headDim: Int
    /// What turned elements are multiplied by.
    private let magnitude: Float

    /// Reads the optional `rope_freqs.weight` (Llama 3) or the factors of LongRoPE: a divisor for each frequency.
    init(_ config: ModelConfig, _ weights: WeightReader, capacity: StepCapacity, backend: any Backend) throws {
        let pairCount = config.ropeDimension / 2
        var divisors = try weights.optionalVector("rope_freqs.weight", count: pairCount)?.map { Double($0) }
        if case .longRope(let scaling) = config.ropeScaling {
            // One choice for a model's lifetime, by the longest sequence there can be: keys that are cached already
            // cannot be turned again when a sequence grows beyond the original context.
            let isLong = (capacity.sequenceLength ?? config.contextLength) > scaling.originalContext
            let long = try weights.optionalVector("rope_factors_long.weight", count: pairCount)
            let short = try weights.optionalVector("rope_factors_short.weight", count: pairCount)
            let stated = isLong ? scaling.long : scaling.short
            divisors = stated.isEmpty ? (isLong ? long : short)?.map { Double($0) } : stated
        }
        let values = rotaryFrequencies(
            theta: config.ropeTheta, dimension: config.ropeDimension, scaling: config.ropeScaling, divisors: divisors)
        self.init(
            config, try backend.vector(values, purpose: Self.purpose), magnitude: config.ropeScaling.magnitude)
    }

    private static let purpose = "rotary frequencies"

    private init(_ config: ModelConfig, _ frequencies: Tensor, magnitude: Double) {
        self.frequencies = frequencies
        layout = config.ropeLayout
        headDim = config.headDim
        self.magnitude = Float(magnitude)
    }

    /// The embedding of windowed layers: their own base, not stretched; or the same as everywhere.
    func local(_ config: ModelConfig, backend: any Backend) throws(BackendError) -> RotaryEmbedding {
        guard let theta = config.localRopeTheta else { return self }
        let values = rotaryFrequencies(theta: theta, dimension: config.ropeDimension, scaling: .none, divisors: nil)
        return RotaryEmbedding(config, try backend.vector(values, purpose: Self.purpose), magnitude: 1)
    }

    /// Turns the first `heads` heads of each row of `x` in place. x: [tokens, ≥ heads × headDim].
    func callAsFunction(_ x: Tensor, heads: Int, positions: Tensor, backend: any Backend) {
        backend.rotate(
            x, heads: heads, headDim: headDim, positions: positions, frequencies: frequencies, magnitude: magnitude,
            layout: layout)
    }
}
