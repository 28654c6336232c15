// How a model is cut into equal parts, by the names of its tensors. arXiv 1909.08053.
//
// A layer's matrices go in pairs. The first of a pair is cut by its outputs (heads, features of the feed-forward
// network), so that each rank computes whole features; the second by its inputs, so that each rank needs only its own,
// and the sum of what the ranks make of them is the layer's. Embedding and head are cut by tokens. Everything else is
// small, and every rank has it.

import Tensors

/// What one rank has of a model.
package struct ShardPlan: Sendable {
    /// The hyper-parameters of the part: fewer heads and a narrower feed-forward network. Hidden size and vocabulary
    /// are the model's, and so is the size of a head.
    package let config: ModelConfig
    /// Whose part it is.
    package private(set) var shard: Shard
    private let whole: ModelConfig

    /// - Parameter file: the checkpoint's path, for messages.
    /// - Throws: `CheckpointError.indivisible` where a rank's part would not be as large as another's.
    package init(_ whole: ModelConfig, _ shard: Shard, file: String) throws(CheckpointError) {
        let (kvHeads, count) = (whole.kvHeadCount, shard.count)
        func require(_ what: String, _ extent: Int) throws(CheckpointError) {
            guard extent % count == 0 else {
                throw .indivisible(file: file, what: what, count: extent, ranks: count)
            }
        }
        try require("attention heads", whole.headCount)
        // Where there are more ranks than key and value heads, several have the same.
        if count % kvHeads != 0 { try require("key and value heads", kvHeads) }
        try require("features in its feed-forward networks", whole.experts?.ffnSize ?? whole.ffnSize)
        try require("rows in its embedding table", whole.vocabSize)
        var part = whole
        part.headCount = whole.headCount / count
        part.kvHeadCount = max(1, kvHeads / count)
        if let experts = whole.experts {
            part.experts?.ffnSize = experts.ffnSize / count
        } else {
            part.ffnSize = whole.ffnSize / count
        }
        config = part
        self.shard = shard
        self.whole = whole
    }

    /// [ranks] What each has: as much as this one, from another place.
    package var ofAllRanks: [ShardPlan] {
        (0..<shard.count).map { rank in
            var plan = self
            plan.shard = Shard(rank: rank, of: shard.count)
            return plan
        }
    }

    /// What the rank reads of the tensor `name`, by GGUF's names, or PEFT's for adapters; nil where it reads all.
    /// - Parameter shape: of what it reads, which tells a gate and its other half in one matrix from the half alone.
    func cut(_ name: String, shape: [Int]) -> TensorCut? {
        guard !shard.isWhole else { return nil }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        if parts.count > 3, ["lora_A", "lora_B"].contains(parts[parts.count - 2]) {
            return adapterCut(parts[parts.count - 3], isFirst: parts[parts.count - 2] == "lora_A")
        }
        let own = parts.first == "blk" ? parts.dropFirst(2) : parts[...]
        let isBias = own.last == "bias"
        switch own.first {
        case "token_embd", "output": return cut(axis: 0, [vocabulary])
        case "attn_q": return cut(axis: 0, [queries])
        case "attn_k", "attn_v": return cut(axis: 0, [keys])
        case "attn_qkv": return cut(axis: 0, [queries, keys, keys])
        case "attn_sinks": return cut(axis: 0, [heads])
        case "attn_output": return isBias ? nil : cut(axis: 1, [queries])
        case "ffn_gate": return cut(axis: 0, [features])
        case "ffn_up":
            return cut(axis: 0, Array(repeating: features, count: shape.first == 2 * features.part.count ? 2 : 1))
        case "ffn_down": return isBias ? nil : cut(axis: 1, [features])
        // Stacks of the experts' matrices, and of their biases.
        case "ffn_gate_exps", "ffn_up_exps": return cut(axis: 1, [features])
        case "ffn_down_exps": return isBias ? nil : cut(axis: 2, [features])
        default: return nil
        }
    }

    /// What the rank reads of the two matrices by which an adapter changes another: of one that is cut by outputs those
    /// of the second, of one that is cut by inputs those of the first.
    private func adapterCut(_ module: Substring, isFirst: Bool) -> TensorCut? {
        switch module {
        case "q_proj": isFirst ? nil : cut(axis: 0, [queries])
        case "k_proj", "v_proj": isFirst ? nil : cut(axis: 0, [keys])
        case "qkv_proj": isFirst ? nil : cut(axis: 0, [queries, keys, keys])
        case "gate_proj", "up_proj": isFirst ? nil : cut(axis: 0, [features])
        case "gate_up_proj": isFirst ? nil : cut(axis: 0, [features, features])
        case "o_proj": isFirst ? cut(axis: 1, [queries]) : nil
        case "down_proj": isFirst ? cut(axis: 1, [features]) : nil
        default: nil
        }
    }

    // MARK: What is cut

    /// The rank's part of something, and how much there is of it.
    private typealias Piece = (part: Range<Int>, extent: Int)

    /// Cuts an axis on which `pieces` lie one after another.
    private func cut(axis: Int, _ pieces: [Piece]) -> TensorCut {
        var ranges: [Range<Int>] = []
        var extent = 0
        for piece in pieces {
            ranges.append(extent + piece.part.lowerBound..<extent + piece.part.upperBound)
            extent += piece.extent
        }
        return TensorCut(shard: shard, axis: axis, extent: extent, ranges: ranges)
    }

    private func piece(_ extent: Int) -> Piece {
        let size = extent / shard.count
        return (shard.rank * size..<(shard.rank + 1) * size, extent)
    }

    private var vocabulary: Piece { piece(whole.vocabSize) }
    private var heads: Piece { piece(whole.headCount) }
    private var queries: Piece { piece(whole.headCount * whole.headDim) }
    private var features: Piece { piece(whole.experts?.ffnSize ?? whole.ffnSize) }

    /// Those that the rank's queries look at.
    private var keys: Piece {
        let first = shard.rank * whole.kvHeadCount / shard.count
        let part = first * whole.headDim..<(first + config.kvHeadCount) * whole.headDim
        return (part, whole.kvHeadCount * whole.headDim)
    }
}
