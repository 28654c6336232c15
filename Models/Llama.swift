// Llama: the decoder-only transformer that most open models follow. Covers Llama 2 and 3, SmolLM2, Mistral, Mixtral.
//
//   x ← embed(tokens)
//   each layer:  x ← x + attention(norm(x));  x ← x + mlp(norm(x))
//   logits ← head(norm(x)) for the rows that are sampled
//
// Config fields that matter: headCount and kvHeadCount (grouped-query attention), ropeTheta, ropeScaling or factors
// (Llama 3's long contexts), rmsEpsilon, whether the output head is the embedding table (SmolLM2, Llama 3.2), the
// sliding window (Mistral 7B v0.1), experts in place of the feed-forward network (Mixtral).
// Papers: arXiv 2307.09288 (Llama 2), 2407.21783 (Llama 3), 2310.06825 (Mistral), 2401.04088 (Mixtral). Reference for
// the goldens: Hugging Face transformers.

import Checkpoints
import Tensors

/// The Llama family.
package final class Llama: DecoderModel {
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
