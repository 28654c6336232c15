// The block of Llama and of most models after it: x ← x + attention(norm(x)); x ← x + mlp(norm(x)).

import Checkpoints
import Tensors

/// A feed-forward network: reads `scratch.normed`, adds to an output.
protocol FeedForward {
    var weightBytes: Int { get }
    func callAsFunction(_ scratch: Activations, into output: Tensor, mode: LinearMode, backend: any Backend)
}

/// Attention and a feed-forward network, each behind a norm and added to the residual stream.
struct PreNormLayer: DecoderLayer {
    private let attentionNorm: RMSNorm
    private let attention: Attention
    private let mlpNorm: RMSNorm
    private let mlp: any FeedForward

    var weightBytes: Int { attention.weightBytes + mlp.weightBytes }

    /// - Parameter mlpNormName: of the norm before the feed-forward network.
    init(
        _ context: LayerContext, _ weights: WeightReader, _ index: Int, traits: AttentionTraits = [],
        mlpNormName: String = "ffn_norm"
    ) throws {
        let (config, backend) = (context.config, context.backend)
        attentionNorm = try RMSNorm(config, weights, "attn_norm", backend)
        attention = try Attention(context, weights, index, traits: traits)
        mlpNorm = try RMSNorm(config, weights, mlpNormName, backend)
        if let experts = config.experts {
            mlp = try ExpertMLP(config, experts, weights, backend: backend)
        } else {
            mlp = try GatedMLP(context, weights, index)
        }
    }

    func callAsFunction(_ scratch: Activations, batch: AttentionBatch, cache: KVLayer, backend: any Backend) {
        attentionNorm(scratch.hidden, into: scratch.normed, backend: backend)
        attention(scratch, batch: batch, cache: cache, into: scratch.hidden, mode: .accumulate, backend: backend)
        mlpNorm(scratch.hidden, into: scratch.normed, backend: backend)
        mlp(scratch, into: scratch.hidden, mode: .accumulate, backend: backend)
    }
}
