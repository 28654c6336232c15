// Llama: the decoder-only transformer that most open models follow. Covers Llama 2 and 3, SmolLM2 and Mistral.
//
//   x ← embed(tokens)
//   each layer:  x ← x + attention(norm(x));  x ← x + mlp(norm(x))
//   logits ← head(norm(x)) for the rows that are sampled
//
// Config fields that matter: headCount and kvHeadCount (grouped-query attention), ropeTheta, rope factors (Llama 3's
// long-context scaling), rmsEpsilon, and whether the output head is the embedding table (SmolLM2, Llama 3.2).
// Papers: arXiv 2307.09288 (Llama 2), 2407.21783 (Llama 3). Reference for the goldens: Hugging Face transformers.

import Checkpoints
import Tensors

/// The Llama family.
package final class Llama: LanguageModel {
    package let dimensions: ModelDimensions
    package var logits: Tensor { activations.logits }
    package let weightBytes: Int
    package var activationBytes: Int { activations.byteCount }

    private let embedding: PreparedWeight
    private let layers: [Layer]
    private let norm: RMSNorm
    private let head: PreparedWeight
    private let activations: Activations

    /// One block: attention and MLP, each behind a norm and added to the residual stream.
    private struct Layer {
        let attentionNorm: RMSNorm
        let attention: Attention
        let mlpNorm: RMSNorm
        let mlp: GatedMLP

        init(_ config: ModelConfig, _ weights: WeightReader, rotary: RotaryEmbedding, backend: any Backend) throws {
            attentionNorm = try RMSNorm(config, weights.vector("attn_norm.weight", count: config.hiddenSize), backend)
            attention = try Attention(config, weights, rotary: rotary, backend: backend)
            mlpNorm = try RMSNorm(config, weights.vector("ffn_norm.weight", count: config.hiddenSize), backend)
            mlp = try GatedMLP(config, weights, backend: backend)
        }
    }

    package init(
        _ config: ModelConfig, weights: WeightReader, capacity: StepCapacity, backend: any Backend,
        progress: (Double) -> Void
    ) throws {
        dimensions = ModelDimensions(config)
        let table = try weights.tensor("token_embd.weight", shape: [config.vocabSize, config.hiddenSize])
        embedding = try backend.prepare([table])
        let rotary = try RotaryEmbedding(config, weights, backend: backend)
        var layers: [Layer] = []
        for index in 0..<config.layerCount {
            layers.append(try Layer(config, weights.scoped("blk.\(index)"), rotary: rotary, backend: backend))
            progress(Double(index + 1) / Double(config.layerCount))
        }
        self.layers = layers
        norm = try RMSNorm(config, weights.vector("output_norm.weight", count: config.hiddenSize), backend)
        if config.hasTiedEmbeddings {
            head = embedding
        } else {
            head = try backend.prepare([
                weights.tensor("output.weight", shape: [config.vocabSize, config.hiddenSize])
            ])
        }
        weightBytes =
            layers.reduce(embedding.byteCount + (config.hasTiedEmbeddings ? 0 : head.byteCount)) {
                $0 + $1.attention.weightBytes + $1.mlp.weightBytes
            }
        activations = try Activations(config, capacity: capacity, backend: backend)
    }

    package func forward(_ step: ForwardStep, cache: [KVLayer], backend: any Backend) {
        let scratch = activations.prefix(tokens: step.batch.tokenCount, sampledRows: step.sampledRows.rowCount)
        backend.embed(step.tokens, embedding, into: scratch.hidden)
        for (layer, layerCache) in zip(layers, cache) {
            layer.attentionNorm(scratch.hidden, into: scratch.normed, backend: backend)
            layer.attention(scratch, batch: step.batch, cache: layerCache, backend: backend)
            layer.mlpNorm(scratch.hidden, into: scratch.normed, backend: backend)
            layer.mlp(scratch, backend: backend)
        }
        guard step.sampledRows.rowCount > 0 else { return }
        backend.gatherRows(scratch.hidden, rows: step.sampledRows, into: scratch.sampledHidden)
        norm(scratch.sampledHidden, into: scratch.sampledNormed, backend: backend)
        backend.linear(scratch.sampledNormed, head, into: scratch.logits, mode: .overwrite)
    }
}
