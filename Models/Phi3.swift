// Phi-3 (mini, medium) and Phi-4 (14B, mini). What differs from Llama:
//
// - Queries, keys and values are one matrix, gates and their other half another; `Attention` and `GatedMLP` take both.
// - LongRoPE: frequencies for contexts up to the original length and others beyond it; `RotaryEmbedding` chooses.
// - Phi-4-mini turns a part of each head only. Phi-3-mini looks back on a window.
//
// Papers: arXiv 2404.14219, 2402.13753 (LongRoPE). Reference for the goldens: Hugging Face transformers.

import Checkpoints
import Tensors

/// Phi-3 and Phi-4.
package final class Phi3: DecoderModel {
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
