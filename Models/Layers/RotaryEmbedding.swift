// Rotary position embedding: pairs of a head's elements turn by an angle that grows with the position.
// arXiv 2104.09864.

import Checkpoints
import Foundation
import Tensors

/// The frequencies of one model, shared by its layers.
struct RotaryEmbedding {
    /// [rotaryDim / 2] f32: radians per position.
    private let frequencies: Tensor
    private let layout: RotaryLayout
    private let headDim: Int

    /// Reads the optional `rope_freqs.weight` (Llama 3): a divisor for each frequency.
    init(_ config: ModelConfig, _ weights: WeightReader, backend: any Backend) throws {
        let pairCount = config.ropeDimension / 2
        let divisors = try weights.optionalVector("rope_freqs.weight", count: pairCount)
        let stretch: Double =
            switch config.ropeScaling {
            case .none: 1
            case .linear(let factor): factor
            }
        let values = (0..<pairCount).map { pair -> Float in
            let exponent = Double(2 * pair) / Double(config.ropeDimension)
            let frequency = pow(config.ropeTheta, -exponent) / stretch
            return Float(frequency / Double(divisors?[pair] ?? 1))
        }
        frequencies = try backend.allocate([pairCount], .f32, purpose: "rotary frequencies")
        backend.upload(values, to: frequencies)
        layout = config.ropeLayout
        headDim = config.headDim
    }

    /// Turns the first `heads` heads of each row of `x` in place. x: [tokens, ≥ heads × headDim].
    func callAsFunction(_ x: Tensor, heads: Int, positions: Tensor, backend: any Backend) {
        backend.rotate(
            x, heads: heads, headDim: headDim, positions: positions, frequencies: frequencies, layout: layout)
    }
}
