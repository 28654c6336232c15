// Grouped-query causal self-attention over the paged cache. arXiv 2305.13245, 2309.06180.
//
// Queries, keys and values come from one stacked matrix; queries and keys lie side by side in its output, so one
// rotation turns both.

import Checkpoints
import Tensors

/// normed → qkv → rotate → cache → attend → added to hidden.
struct Attention {
    /// [(heads + 2 × kvHeads) × headDim, hidden]
    private let qkv: PreparedWeight
    /// [hidden, heads × headDim]
    private let output: PreparedWeight
    private let rotary: RotaryEmbedding
    private let heads: Int
    private let kvHeads: Int
    private let headDim: Int
    private let scale: Float

    var weightBytes: Int { qkv.byteCount + output.byteCount }

    init(_ config: ModelConfig, _ weights: WeightReader, rotary: RotaryEmbedding, backend: any Backend) throws {
        heads = config.headCount
        kvHeads = config.kvHeadCount
        headDim = config.headDim
        scale = 1 / Float(config.headDim).squareRoot()
        self.rotary = rotary
        qkv = try backend.prepare([
            weights.tensor("attn_q.weight", shape: [heads * headDim, config.hiddenSize]),
            weights.tensor("attn_k.weight", shape: [kvHeads * headDim, config.hiddenSize]),
            weights.tensor("attn_v.weight", shape: [kvHeads * headDim, config.hiddenSize]),
        ])
        output = try backend.prepare([
            weights.tensor("attn_output.weight", shape: [config.hiddenSize, heads * headDim])
        ])
    }

    /// Reads `scratch.normed`, adds to `scratch.hidden`.
    func callAsFunction(_ scratch: Activations, batch: AttentionBatch, cache: KVLayer, backend: any Backend) {
        backend.linear(scratch.normed, qkv, into: scratch.qkv, mode: .overwrite)
        rotary(scratch.qkv, heads: heads + kvHeads, positions: batch.positions, backend: backend)
        backend.storeKV(
            scratch.qkv, keyOffset: heads * headDim, valueOffset: (heads + kvHeads) * headDim, kvHeads: kvHeads,
            headDim: headDim, slots: batch.slotMapping, cache: cache)
        backend.attend(
            scratch.qkv, heads: heads, kvHeads: kvHeads, headDim: headDim, scale: scale, cache: cache, batch: batch,
            into: scratch.attended)
        backend.linear(scratch.attended, output, into: scratch.hidden, mode: .accumulate)
    }
}
