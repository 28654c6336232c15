// gpt-oss: 20B, 120B. What differs from Llama:
//
// - Biases everywhere: of queries, keys, values and the output, of the router, of every expert.
// - Each head has a sink, a learned score that takes its share of the weights.
// - Every other layer, from the first, looks back on a window only. YaRN throughout.
// - Experts with a clamped gate; a token goes through 4, whose weights add up to 1.
//
// Paper: arXiv 2508.10925. Reference for the goldens: Hugging Face transformers.

import Checkpoints
import Tensors

/// gpt-oss.
package final class GPTOSS: DecoderModel {
    let decoder: Decoder<PreNormLayer>

    package init(
        _ config: ModelConfig, weights: WeightReader, capacity: StepCapacity, backend: any Backend,
        progress: (Double) -> Void
    ) throws {
        decoder = try Decoder(config, weights: weights, capacity: capacity, backend: backend, progress: progress) {
            try PreNormLayer(
                $0, $1, $2, traits: [.inputBias, .outputBias, .sinks], mlpNormName: "post_attention_norm")
        }
    }
}
