// SmolLM3: 3B. What differs from Llama:
//
// - Every fourth layer does not rotate its queries and keys (NoPE).
//
// Paper: arXiv 2501.18795 (layers with and without rotation). Reference for the goldens: Hugging Face transformers.

import Checkpoints
import Tensors

/// SmolLM3.
package final class SmolLM3: DecoderModel {
    let decoder: Decoder<PreNormLayer>

    package init(
        _ config: ModelConfig, weights: WeightReader, capacity: StepCapacity, backend: any Backend,
        progress: (Double) -> Void
    ) throws {
        decoder = try Decoder(config, weights: weights, capacity: capacity, backend: backend, progress: progress) {
            try PreNormLayer($0, $1, $2)
        }
    }
}
