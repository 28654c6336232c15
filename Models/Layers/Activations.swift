// The intermediate values of a pass: allocated once for the largest step, reused by every layer.

import Checkpoints
import Tensors

/// Views of the activation buffers, f32 but for the inputs of matrices; `prefix` narrows them to one step.
struct Activations {
    /// [tokens, hidden] the residual stream
    let hidden: Tensor
    /// [tokens, hidden] input of attention and MLP, `linearInputType`
    let normed: Tensor
    /// [tokens, (heads + 2 × kvHeads) × headDim]
    let qkv: Tensor
    /// [tokens, heads × headDim] `linearInputType`
    let attended: Tensor
    /// [tokens, 2 × ffn]
    let gateUp: Tensor
    /// [tokens, ffn] `linearInputType`
    let gated: Tensor
    /// [tokens, hidden] what a part of a layer gives before it is normalized
    let branch: Tensor
    /// [tokens, experts]
    let routerLogits: Tensor
    /// [sampled rows, hidden]
    let sampledHidden: Tensor
    /// [sampled rows, hidden] `linearInputType`
    let sampledNormed: Tensor
    /// [sampled rows, vocab]
    let logits: Tensor
    /// [ranks × sampled rows, vocab / ranks] What each rank computes of them, one after another; nil for a model in one
    /// part.
    let logitParts: Tensor?
    /// [tokens] i32: the place of each row's adapter, or −1; nil where no row has one.
    let adapters: Tensor?

    init(_ config: ModelConfig, capacity: StepCapacity, backend: any Backend) throws(BackendError) {
        func buffer(_ rows: Int, _ columns: Int, _ dtype: DType = .f32) throws(BackendError) -> Tensor {
            try backend.allocate([rows, columns], dtype, purpose: "activations")
        }
        let input = backend.linearInputType
        let heads = config.headCount
        let kvHeads = config.kvHeadCount
        hidden = try buffer(capacity.tokens, config.hiddenSize)
        normed = try buffer(capacity.tokens, config.hiddenSize, input)
        qkv = try buffer(capacity.tokens, (heads + 2 * kvHeads) * config.headDim)
        attended = try buffer(capacity.tokens, heads * config.headDim, input)
        // Experts have memory of their own, and few models a use for the others.
        let ffn = config.experts == nil ? config.ffnSize : 1
        gateUp = try buffer(capacity.tokens, 2 * ffn)
        gated = try buffer(capacity.tokens, ffn, input)
        branch = try buffer(capacity.tokens, config.architecture.hasPrefix("gemma") ? config.hiddenSize : 1)
        routerLogits = try buffer(capacity.tokens, config.experts?.count ?? 1)
        sampledHidden = try buffer(capacity.sampledRows, config.hiddenSize)
        sampledNormed = try buffer(capacity.sampledRows, config.hiddenSize, input)
        logits = try buffer(capacity.sampledRows, config.vocabSize)
        logitParts = try backend.collectives.map { ranks throws(BackendError) in
            try buffer(ranks.shard.count * capacity.sampledRows, config.vocabSize / ranks.shard.count)
        }
        adapters = nil
    }

    private init(_ whole: Activations, tokens: Int, sampledRows: Int, adapters: Tensor?) {
        hidden = whole.hidden.prefix(rows: tokens)
        normed = whole.normed.prefix(rows: tokens)
        qkv = whole.qkv.prefix(rows: tokens)
        attended = whole.attended.prefix(rows: tokens)
        gateUp = whole.gateUp.prefix(rows: tokens)
        gated = whole.gated.prefix(rows: tokens)
        branch = whole.branch.prefix(rows: tokens)
        routerLogits = whole.routerLogits.prefix(rows: tokens)
        sampledHidden = whole.sampledHidden.prefix(rows: sampledRows)
        sampledNormed = whole.sampledNormed.prefix(rows: sampledRows)
        logits = whole.logits.prefix(rows: sampledRows)
        logitParts = whole.logitParts
        self.adapters = adapters
    }

    /// The same buffers, narrowed to one step.
    func prefix(tokens: Int, sampledRows: Int, adapters: Tensor?) -> Activations {
        Activations(self, tokens: tokens, sampledRows: sampledRows, adapters: adapters)
    }

    /// Bytes of all buffers.
    var byteCount: Int {
        [
            hidden, normed, qkv, attended, gateUp, gated, branch, routerLogits, sampledHidden, sampledNormed, logits,
            logitParts,
        ].compactMap(\.self).reduce(0) { $0 + $1.elementCount * $1.dtype.blockByteCount }
    }
}
