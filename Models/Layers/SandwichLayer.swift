// The block of Gemma 2 and 3: a norm before and another after each part. x ← x + norm(attention(norm(x))); the same for
// the feed-forward network.

import Checkpoints
import Tensors

/// Attention and a feed-forward network, each between two norms.
struct SandwichLayer: DecoderLayer {
    private let attentionNorm: RMSNorm
    private let attention: Attention
    private let attentionPostNorm: RMSNorm
    private let mlpNorm: RMSNorm
    private let mlp: GatedMLP
    private let mlpPostNorm: RMSNorm

    var weightBytes: Int { attention.weightBytes + mlp.weightBytes }

    init(_ context: LayerContext, _ weights: WeightReader, _ index: Int, traits: AttentionTraits) throws {
        let (config, backend) = (context.config, context.backend)
        attentionNorm = try RMSNorm(config, weights, "attn_norm", backend)
        attention = try Attention(context, weights, index, traits: traits)
        attentionPostNorm = try RMSNorm(config, weights, "post_attention_norm", backend)
        mlpNorm = try RMSNorm(config, weights, "ffn_norm", backend)
        mlp = try GatedMLP(context, weights, index)
        mlpPostNorm = try RMSNorm(config, weights, "post_ffw_norm", backend)
    }

    func callAsFunction(_ scratch: Activations, batch: AttentionBatch, cache: KVLayer, backend: any Backend) {
        attentionNorm(scratch.hidden, into: scratch.normed, backend: backend)
        attention(scratch, batch: batch, cache: cache, into: scratch.branch, mode: .overwrite, backend: backend)
        attentionPostNorm(scratch.branch, into: scratch.hidden, mode: .accumulate, backend: backend)
        mlpNorm(scratch.hidden, into: scratch.normed, backend: backend)
        mlp(scratch, into: scratch.branch, mode: .overwrite, backend: backend)
        mlpPostNorm(scratch.branch, into: scratch.hidden, mode: .accumulate, backend: backend)
    }
}
