// A Hugging Face checkpoint under the names that models ask for, which are GGUF's.
//
// Names are only exchanged; rows of queries and keys keep their order, which the configuration's rotary layout states.
// A name without a counterpart stays as it is, so that an unread tensor is reported as the file spells it.

import Tensors

/// A tensor source with Hugging Face's names behind GGUF's.
package struct HuggingFaceTensors: TensorSource, Sendable {
    private let source: any TensorSource & Sendable
    /// By the name that models ask for.
    private let origins: [String: TensorOrigin]
    package let tensorNames: [String]

    /// - Parameter config: of the same checkpoint; the names of some tensors depend on the architecture.
    package init(_ source: any TensorSource & Sendable, config: ModelConfig) {
        self.source = source
        var origins: [String: TensorOrigin] = [:]
        var names: [String] = []
        for name in source.tensorNames {
            // A head that is the embedding table is sometimes stored a second time.
            if config.hasTiedEmbeddings && name == "lm_head.weight" { continue }
            for (target, origin) in TensorOrigin.targets(of: name, architecture: config.architecture) {
                origins[target] = origin
                names.append(target)
            }
        }
        self.origins = origins
        tensorNames = names
    }

    package var path: String { source.path }

    package func storedTensor(_ name: String) -> SourceTensor? {
        guard let origin = origins[name], let found = source.storedTensor(origin.name) else { return nil }
        guard let choice = origin.columns else { return found }
        let tensor = found.tensor
        let picked: StoredTensor?
        if let rows = choice.rows(of: TensorForm(dtype: tensor.dtype, shape: tensor.shape), shard: .whole) {
            picked = tensor.part(rows)
        } else {
            picked = tensor.transposed(choice, name: name, cut: nil)
        }
        return picked.map { SourceTensor(tensor: $0, infoOffset: found.infoOffset) }
    }

    package func storedTensor(_ name: String, cut: TensorCut) throws(CheckpointError) -> SourceTensor? {
        guard let origin = origins[name] else { return nil }
        guard let choice = origin.columns else { return try source.storedTensor(origin.name, cut: cut) }
        guard let form = source.form(of: origin.name), let shape = choice.shape(of: form) else { return nil }
        try cut.require(shape, of: name, file: path, offset: 0)
        if let rows = choice.rows(of: form, shard: cut.shard) {
            // What is cut are rows, of which some are chosen already, or blocks of all of them.
            if cut.axis == 1 { return try source.storedTensor(origin.name, cut: rows.taking(cut.ranges)) }
            if rows.count == rows.extent { return try source.storedTensor(origin.name, cut: cut) }
            return try storedTensor(name)?.part(cut, file: path)
        }
        guard let found = source.storedTensor(origin.name) else { return nil }
        return found.tensor.transposed(choice, name: name, cut: cut).map {
            SourceTensor(tensor: $0, infoOffset: found.infoOffset)
        }
    }

    package func form(of name: String) -> TensorForm? {
        guard let origin = origins[name], let form = source.form(of: origin.name) else { return nil }
        guard let choice = origin.columns else { return form }
        return choice.shape(of: form).map { TensorForm(dtype: form.dtype, shape: $0) }
    }

    package func requireUnchanged() throws(CheckpointError) { try source.requireUnchanged() }
}

/// Which outputs of a stack's matrices a tensor consists of: those from `first` on, `stride` apart. Plain matrices have
/// them as columns, quantized ones as rows.
struct ColumnChoice: Equatable {
    var first: Int
    var stride: Int

    /// Of so many.
    private func count(of extent: Int) -> Int { (extent - first + stride - 1) / stride }

    /// The shape of what is chosen of a stack of matrices, or of vectors; nil for anything else.
    func shape(of form: TensorForm) -> [Int]? {
        let stored = form.shape
        switch (stored.count, form.dtype.isQuantized) {
        case (3, true): return [stored[0], count(of: stored[1]), stored[2]]
        case (3, false): return [stored[0], count(of: stored[2]), stored[1]]
        case (2, false): return [stored[0], count(of: stored[1])]
        default: return nil
        }
    }

    /// The rows that are chosen of a stack of quantized matrices; nil of what is to be turned over.
    func rows(of form: TensorForm, shard: Shard) -> TensorCut? {
        guard form.dtype.isQuantized, form.shape.count == 3 else { return nil }
        let extent = form.shape[1]
        let ranges =
            stride == 1
            ? [first..<extent] : Swift.stride(from: first, to: extent, by: stride).map { $0..<$0 + 1 }
        return TensorCut(shard: shard, axis: 1, extent: extent, ranges: ranges)
    }
}

/// Where a tensor of a model comes from.
struct TensorOrigin: Equatable {
    /// In the file.
    let name: String
    /// For gpt-oss, which stores its experts transposed, gates and others alternating.
    var columns: ColumnChoice?

    /// Parts of the names of a layer's tensors. The first that begins a name is exchanged.
    private static let parts: [(String, String)] = [
        ("input_layernorm.", "attn_norm."), ("self_attn.q_proj.", "attn_q."), ("self_attn.k_proj.", "attn_k."),
        ("self_attn.v_proj.", "attn_v."), ("self_attn.qkv_proj.", "attn_qkv."), ("self_attn.o_proj.", "attn_output."),
        ("self_attn.q_norm.", "attn_q_norm."), ("self_attn.k_norm.", "attn_k_norm."),
        ("self_attn.sinks", "attn_sinks.weight"), ("pre_feedforward_layernorm.", "ffn_norm."),
        ("post_feedforward_layernorm.", "post_ffw_norm."), ("mlp.gate_proj.", "ffn_gate."),
        ("mlp.up_proj.", "ffn_up."), ("mlp.down_proj.", "ffn_down."), ("mlp.gate_up_proj.", "ffn_up."),
        ("mlp.gate.", "ffn_gate_inp."), ("mlp.router.", "ffn_gate_inp."), ("block_sparse_moe.gate.", "ffn_gate_inp."),
    ]
    /// The matrices of one expert.
    private static let expertParts = [
        "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down", "w1": "ffn_gate", "w3": "ffn_up",
        "w2": "ffn_down",
    ]

    /// What the tensor `name` of a file is called in an architecture: one name, or two of which each has a part.
    static func targets(of name: String, architecture: String) -> [(String, TensorOrigin)] {
        let whole = TensorOrigin(name: name)
        switch name {
        case "model.embed_tokens.weight": return [("token_embd.weight", whole)]
        case "model.norm.weight": return [("output_norm.weight", whole)]
        case "lm_head.weight": return [("output.weight", whole)]
        default: break
        }
        let pieces = name.split(separator: ".", maxSplits: 3, omittingEmptySubsequences: false)
        guard pieces.count == 4, pieces[0] == "model", pieces[1] == "layers", let layer = Int(pieces[2]) else {
            return [(name, whole)]
        }
        let scope = "blk.\(layer).", own = String(pieces[3])
        if architecture == "gpt-oss", own.hasPrefix("mlp.experts.") {
            return stackedExperts(name, own.dropFirst("mlp.experts.".count)).map { (scope + $0.0, $0.1) }
        }
        if own.hasPrefix("post_attention_layernorm.") {
            let isAfter = architecture.hasPrefix("gemma") || architecture == "gpt-oss"
            return [(scope + (isAfter ? "post_attention_norm." : "ffn_norm.") + own.dropFirst(25), whole)]
        }
        if let expert = expert(own) { return [(scope + expert, whole)] }
        for (from, to) in parts where own.hasPrefix(from) {
            return [(scope + to + own.dropFirst(from.count), whole)]
        }
        return [(name, whole)]
    }

    /// "mlp.experts.3.up_proj.weight" is "ffn_up.3.weight".
    private static func expert(_ name: String) -> String? {
        let pieces = name.split(separator: ".", maxSplits: 4, omittingEmptySubsequences: false)
        guard pieces.count == 5, pieces[1] == "experts", let index = Int(pieces[2]),
            let part = expertParts[String(pieces[3])]
        else { return nil }
        return "\(part).\(index).\(pieces[4])"
    }

    private static func stackedExperts(_ name: String, _ part: Substring) -> [(String, TensorOrigin)] {
        func origin(_ first: Int, _ stride: Int) -> TensorOrigin {
            TensorOrigin(name: name, columns: ColumnChoice(first: first, stride: stride))
        }
        switch part {
        case "gate_up_proj": return [("ffn_gate_exps.weight", origin(0, 2)), ("ffn_up_exps.weight", origin(1, 2))]
        case "gate_up_proj_bias": return [("ffn_gate_exps.bias", origin(0, 2)), ("ffn_up_exps.bias", origin(1, 2))]
        case "down_proj": return [("ffn_down_exps.weight", origin(0, 1))]
        case "down_proj_bias": return [("ffn_down_exps.bias", origin(0, 1))]
        default: return [("mlp.experts.\(part)", TensorOrigin(name: name))]
        }
    }
}

extension StoredTensor {
    /// Some columns of a vector or of each matrix of a stack, and of those what `cut` takes; matrices are turned over.
    /// Nil for block formats.
    func transposed(_ choice: ColumnChoice, name: String, cut: TensorCut?) -> StoredTensor? {
        let form = TensorForm(dtype: dtype, shape: shape)
        guard !dtype.isQuantized, let turned = choice.shape(of: form) else { return nil }
        func indices(_ axis: Int) -> [Int] { cut?.indices(of: axis, extent: turned[axis]) ?? Array(0..<turned[axis]) }
        let isStack = shape.count == 3
        let (stack, columns, rows) = isStack ? (indices(0), indices(1), indices(2)) : ([0], indices(1), indices(0))
        let (size, last, rowCount) = (dtype.blockByteCount, shape[shape.count - 1], shape[shape.count - 2])
        let count = stack.count * columns.count * rows.count
        let memory = unsafe MappedFile(byteCount: count * size, path: name) { target in
            for (matrix, source) in stack.enumerated() {
                for (row, sourceRow) in rows.enumerated() {
                    for (column, chosen) in columns.enumerated() {
                        let from = (source * rowCount + sourceRow) * last + choice.first + chosen * choice.stride
                        let to =
                            isStack
                            ? (matrix * columns.count + column) * rows.count + row : row * columns.count + column
                        for byte in 0..<size { unsafe target[to * size + byte] = bytes[from * size + byte] }
                    }
                }
            }
        }
        let part = isStack ? [stack.count, columns.count, rows.count] : [rows.count, columns.count]
        return memory.tensor(name, dtype, shape: part, in: 0..<count * size)
    }
}
