// Grouped-query causal self-attention over the paged cache. arXiv 2305.13245, 2309.06180.
//
// Queries, keys and values come from one stacked matrix; queries and keys lie side by side in its output, so one
// rotation turns both.

import Checkpoints
import Tensors

/// What some models' attention has beside the usual. A tensor that is missing, or there without its trait, is an error.
struct AttentionTraits: OptionSet {
    let rawValue: Int

    /// Biases of queries, keys and values; of the output.
    static let inputBias = AttentionTraits(rawValue: 1)
    static let outputBias = AttentionTraits(rawValue: 2)
    /// Every head of queries and keys is normalized before it is rotated.
    static let headNorm = AttentionTraits(rawValue: 4)
    /// A learned score per head that takes part of the weights.
    static let sinks = AttentionTraits(rawValue: 8)
}

/// normed → qkv → rotate → cache → attend → output.
struct Attention {
    /// [(heads + 2 × kvHeads) × headDim, hidden]
    private let qkv: AdaptedLinear
    /// [(heads + 2 × kvHeads) × headDim]
    private let qkvBias: Tensor?
    /// [hidden, heads × headDim]
    private let output: AdaptedLinear
    /// [hidden]
    private let outputBias: Tensor?
    /// [headDim]
    private let queryNorm: Tensor?
    private let keyNorm: Tensor?
    /// Nil in layers that do not rotate.
    private let rotary: RotaryEmbedding?
    private let options: AttentionOptions
    private let heads: Int
    private let kvHeads: Int
    private let headDim: Int
    private let epsilon: Float

    var weightBytes: Int { qkv.byteCount + output.byteCount }

    init(_ context: LayerContext, _ weights: WeightReader, _ index: Int, traits: AttentionTraits) throws {
        let (config, backend) = (context.config, context.backend)
        let isWindowed = config.windowedLayers.contains(index)
        heads = config.headCount
        kvHeads = config.kvHeadCount
        headDim = config.headDim
        epsilon = config.rmsEpsilon
        rotary =
            config.unrotatedLayers.contains(index) ? nil : isWindowed ? context.localRotary : context.rotary
        qkv = try AdaptedLinear(
            backend.prepare(weights.queriesKeysValues(config), pairs: config.rotatedPairs),
            weights.adaptedParts(config), layer: index, context.adapters)
        output = try AdaptedLinear(
            backend.prepare([weights.tensor("attn_output.weight", shape: [config.hiddenSize, heads * headDim])]),
            [AdaptedPart(module: "self_attn.o_proj", rowCount: config.hiddenSize)], layer: index, context.adapters,
            isCutByInputs: true)
        func vector(_ name: String, _ count: Int, if trait: AttentionTraits) throws -> [Float]? {
            traits.contains(trait) ? try weights.vector(name, count: count) : nil
        }
        let queryBias = try vector("attn_q.bias", heads * headDim, if: .inputBias)
        let keyBias = try vector("attn_k.bias", kvHeads * headDim, if: .inputBias)
        let valueBias = try vector("attn_v.bias", kvHeads * headDim, if: .inputBias)
        qkvBias = try queryBias.map { try backend.vector($0 + (keyBias ?? []) + (valueBias ?? []), purpose: "biases") }
        outputBias = try vector("attn_output.bias", config.hiddenSize, if: .outputBias).map {
            try backend.vector($0, purpose: "biases")
        }
        let hasNorms = traits.contains(.headNorm)
        queryNorm = hasNorms ? try backend.normWeight(config, weights, "attn_q_norm", count: headDim) : nil
        keyNorm = hasNorms ? try backend.normWeight(config, weights, "attn_k_norm", count: headDim) : nil
        options = AttentionOptions(
            scale: config.attentionScale ?? 1 / Float(headDim).squareRoot(),
            slidingWindow: isWindowed ? config.slidingWindow : nil, logitSoftCap: config.attentionSoftCap,
            sinks: try vector("attn_sinks.weight", heads, if: .sinks).map {
                try backend.vector($0, purpose: "attention sinks")
            })
    }

    /// Reads `scratch.normed`.
    func callAsFunction(
        _ scratch: Activations, batch: AttentionBatch, cache: KVLayer, into target: Tensor, mode: LinearMode,
        backend: any Backend
    ) {
        qkv(scratch.normed, into: scratch.qkv, mode: .overwrite, choices: scratch.adapters, backend: backend)
        if let qkvBias { backend.addBias(qkvBias, to: scratch.qkv) }
        if let queryNorm, let keyNorm {
            backend.normalizeHeads(
                scratch.qkv, firstHead: 0, heads: heads, headDim: headDim, weight: queryNorm, epsilon: epsilon)
            backend.normalizeHeads(
                scratch.qkv, firstHead: heads, heads: kvHeads, headDim: headDim, weight: keyNorm, epsilon: epsilon)
        }
        rotary?(scratch.qkv, heads: heads + kvHeads, positions: batch.positions, backend: backend)
        backend.storeKV(
            scratch.qkv, keyOffset: heads * headDim, valueOffset: (heads + kvHeads) * headDim, kvHeads: kvHeads,
            headDim: headDim, slots: batch.slotMapping, cache: cache)
        backend.attend(
            scratch.qkv, heads: heads, kvHeads: kvHeads, headDim: headDim, options: options, cache: cache, batch: batch,
            into: scratch.attended)
        output(scratch.attended, into: target, mode: mode, choices: scratch.adapters, backend: backend)
        if let outputBias { backend.addBias(outputBias, to: target) }
    }
}

extension ModelConfig {
    /// The rows of queries and keys that are rotated together, where that is all of a head.
    fileprivate var rotatedPairs: RowPairs {
        guard ropeDimension == headDim else { return .none }
        return ropeLayout == .interleaved ? .neighbours : .halves(of: headDim)
    }
}

extension WeightReader {
    /// The matrices of queries, keys and values, which Phi stores as one.
    fileprivate func queriesKeysValues(_ config: ModelConfig) throws(CheckpointError) -> [StoredTensor] {
        let (queries, keys) = (config.headCount * config.headDim, config.kvHeadCount * config.headDim)
        if contains("attn_qkv.weight") {
            return [try tensor("attn_qkv.weight", shape: [queries + 2 * keys, config.hiddenSize])]
        }
        return [
            try tensor("attn_q.weight", shape: [queries, config.hiddenSize]),
            try tensor("attn_k.weight", shape: [keys, config.hiddenSize]),
            try tensor("attn_v.weight", shape: [keys, config.hiddenSize]),
        ]
    }

    /// The same matrices as adapters name them.
    fileprivate func adaptedParts(_ config: ModelConfig) -> [AdaptedPart] {
        let (queries, keys) = (config.headCount * config.headDim, config.kvHeadCount * config.headDim)
        if contains("attn_qkv.weight") {
            return [AdaptedPart(module: "self_attn.qkv_proj", rowCount: queries + 2 * keys)]
        }
        let rotated = config.ropeLayout == .interleaved ? config.headDim : nil
        return [
            AdaptedPart(module: "self_attn.q_proj", rowCount: queries, interleavedHeadDim: rotated),
            AdaptedPart(module: "self_attn.k_proj", rowCount: keys, interleavedHeadDim: rotated),
            AdaptedPart(module: "self_attn.v_proj", rowCount: keys),
        ]
    }
}
