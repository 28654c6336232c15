// Gemma 2: 2B, 9B, 27B. What differs from Llama:
//
// - Attention and the feed-forward network lie between two norms each; their gate is GELU.
// - Embeddings are multiplied by √hidden; the head is the embedding table.
// - Every other layer, from the first, looks back on a window only.
// - Scores and logits have soft caps.
//
// Paper: arXiv 2408.00118. Reference for the goldens: Hugging Face transformers.

import Checkpoints
import Tensors

/// Gemma 2.
package final class Gemma2: DecoderModel {
    let decoder: Decoder<SandwichLayer>

    package init(
        _ config: ModelConfig, weights: WeightReader, capacity: StepCapacity, backend: any Backend,
        progress: (Double) -> Void
    ) throws {
        decoder = try Decoder(config, weights: weights, capacity: capacity, backend: backend, progress: progress) {
            try SandwichLayer($0, $1, $2, traits: [])
        }
    }
}
