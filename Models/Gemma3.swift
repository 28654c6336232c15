// Gemma 3, text: 270M, 1B, and the language models of 4B, 12B, 27B. What differs from Gemma 2:
//
// - Five layers with a window to one without; windowed ones rotate with a base of their own, not stretched.
// - Every head of queries and keys is normalized before it is rotated; there are no soft caps.
//
// Paper: arXiv 2503.19786. Reference for the goldens: Hugging Face transformers.

import Checkpoints
import Tensors

/// Gemma 3, text only.
package final class Gemma3: DecoderModel {
    let decoder: Decoder<SandwichLayer>

    package init(
        _ config: ModelConfig, weights: WeightReader, capacity: StepCapacity, backend: any Backend,
        progress: (Double) -> Void
    ) throws {
        decoder = try Decoder(config, weights: weights, capacity: capacity, backend: backend, progress: progress) {
            try SandwichLayer($0, $1, $2, traits: .headNorm)
        }
    }
}
