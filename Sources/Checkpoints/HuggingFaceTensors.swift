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
        guard let columns = origin.columns else { return found }
        let tensor = found.tensor
        let isQuantized = tensor.dtype.isQuantized
        let picked = isQuantized ? tensor.rows(columns, name: name) : tensor.transposed(columns, name: name)
        guard let picked else { return nil }
        return SourceTensor(tensor: picked, infoOffset: found.infoOffset)
    }

    package func storedTensor(_ name: String, cut: TensorCut) throws(CheckpointError) -> SourceTensor? {
        guard let origin = origins[name], origin.columns == nil else {
            // Stacks that are turned over or picked from are small beside the rest, or one of few a layer has.
            return try storedTensor(name)?.part(cut, file: path)
        }
        return try source.storedTensor(origin.name, cut: cut)
    }

    package func requireUnchanged() throws(CheckpointError) { try source.requireUnchanged() }
}

/// Which outputs of a stack's matrices a tensor consists of: those from `first` on, `stride` apart. Plain matrices have
/// them as columns, quantized ones as rows.
struct ColumnChoice: Equatable {
    var first: Int
    var stride: Int
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

/// Bytes that a tensor made here keeps alive.
@safe
private final class OwnedBytes {
    let bytes: UnsafeMutableRawBufferPointer

    init(count: Int) {
        unsafe bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
    }

    deinit { unsafe bytes.deallocate() }
}

extension StoredTensor {
    /// Some rows of each matrix of a stack, as they are stored.
    func rows(_ choice: ColumnChoice, name: String) -> StoredTensor? {
        guard shape.count == 3, let rowBytes = dtype.rowByteCount(elementCount: shape[2]) else { return nil }
        let (stack, rows) = (shape[0], shape[1])
        let count = (rows - choice.first + choice.stride - 1) / choice.stride
        let owned = OwnedBytes(count: stack * count * rowBytes)
        for row in 0..<stack * count {
            let from = (row / count * rows + choice.first + row % count * choice.stride) * rowBytes
            let source = unsafe UnsafeRawBufferPointer(rebasing: bytes[from..<from + rowBytes])
            let target = unsafe UnsafeMutableRawBufferPointer(
                rebasing: owned.bytes[row * rowBytes..<(row + 1) * rowBytes])
            unsafe target.copyMemory(from: source)
        }
        return unsafe StoredTensor(
            name: name, dtype: dtype, shape: [stack, count, shape[2]], bytes: UnsafeRawBufferPointer(owned.bytes),
            owner: owned)
    }

    /// Some columns of a vector or of each matrix of a stack; matrices are turned over. Nil for block formats.
    func transposed(_ columns: ColumnChoice, name: String) -> StoredTensor? {
        guard !dtype.isQuantized, (2...3).contains(shape.count), let last = shape.last else { return nil }
        let (size, count) = (dtype.blockByteCount, (last - columns.first + columns.stride - 1) / columns.stride)
        let isStack = shape.count == 3
        let (stack, rows) = isStack ? (shape[0], shape[1]) : (1, shape[0])
        let owned = OwnedBytes(count: stack * rows * count * size)
        for matrix in 0..<stack {
            for row in 0..<rows {
                for column in 0..<count {
                    let from = (matrix * rows + row) * last + columns.first + column * columns.stride
                    let to = isStack ? (matrix * count + column) * rows + row : row * count + column
                    for byte in 0..<size { unsafe owned.bytes[to * size + byte] = bytes[from * size + byte] }
                }
            }
        }
        return unsafe StoredTensor(
            name: name, dtype: dtype, shape: isStack ? [stack, count, rows] : [rows, count],
            bytes: UnsafeRawBufferPointer(owned.bytes), owner: owned)
    }
}
