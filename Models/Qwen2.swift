// Qwen2 and Qwen2.5, all dense sizes. What differs from Llama:
//
// - Queries, keys and values have biases.
// - Windows, which the published configurations switch off, may begin with some layer.
//
// Papers: arXiv 2407.10671, 2412.15115. Reference for the goldens: Hugging Face transformers.

import Checkpoints
import Tensors

/// Qwen2 and Qwen2.5.
package final class Qwen2: DecoderModel {
    let decoder: Decoder<PreNormLayer>

    package init(
        _ config: ModelConfig, weights: WeightReader, capacity: StepCapacity, backend: any Backend,
        progress: (Double) -> Void
    ) throws {
        decoder = try Decoder(config, weights: weights, capacity: capacity, backend: backend, progress: progress) {
            try PreNormLayer($0, $1, $2, traits: .inputBias)
        }
    }
}
