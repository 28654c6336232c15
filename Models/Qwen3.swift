// Qwen3, all dense sizes, and Qwen3-MoE (30B-A3B, 235B-A22B). What differs from Llama:
//
// - Every head of queries and keys is normalized before it is rotated; heads have a size of their own.
// - With experts, a token goes through 8 of 128; their weights are made to add up to 1 where the configuration says so.
//
// Paper: arXiv 2505.09388. Reference for the goldens: Hugging Face transformers.

import Checkpoints
import Tensors

/// Qwen3, dense and as a mixture of experts.
package final class Qwen3: DecoderModel {
    let decoder: Decoder<PreNormLayer>

    package init(
        _ config: ModelConfig, weights: WeightReader, capacity: StepCapacity, backend: any Backend,
        progress: (Double) -> Void
    ) throws {
        decoder = try Decoder(config, weights: weights, capacity: capacity, backend: backend, progress: progress) {
            try PreNormLayer($0, $1, $2, traits: .headNorm)
        }
    }
}
