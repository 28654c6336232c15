// Writes GGUF files for tests, well-formed or not, and remembers where every field landed.

import Checkpoints
import Tensors

/// Builds a GGUF file in memory, field by field.
struct GGUFWriter {
    /// A field of the file: where it is and how many bytes it has.
    struct Field {
        let name: String
        let offset: Int
        let size: Int
    }

    struct TensorSpec {
        var name: String
        /// Extents, outermost first.
        var shape: [Int]
        /// The type's number in the file.
        var type: UInt32 = 0
        /// Overrides the offset that follows from the tensors before.
        var offset: UInt64?
        var bytes: [UInt8] = []
    }

    enum Value {
        case u8(UInt8), i8(Int8), u16(UInt16), i16(Int16), u32(UInt32), i32(Int32), f32(Float), bool(UInt8)
        case string(String), u64(UInt64), i64(Int64), f64(Double)
        case strings([String]), i32s([Int32]), f32s([Float])
        /// An array of one empty array.
        case nested
    }

    var version: UInt32 = 3
    var metadata: [(String, Value)] = []
    var tensors: [TensorSpec] = []
    var alignment = 32
    /// Overrides the counts that follow from the arrays above.
    var metadataCount: UInt64?
    var tensorCount: UInt64?
    /// Bytes added after the last tensor.
    var trailing = 0

    private(set) var bytes: [UInt8] = []
    private(set) var fields: [Field] = []

    /// The file. `fields` then tells where things are.
    mutating func write() -> [UInt8] {
        bytes = []
        fields = []
        put("magic", UInt32(0x4655_4747))
        put("version", version)
        put("tensor count", tensorCount ?? UInt64(tensors.count))
        put("metadata count", metadataCount ?? UInt64(metadata.count))
        for (key, value) in metadata {
            put(key: key, value)
        }
        var next = 0
        for tensor in tensors {
            put("\(tensor.name) name", tensor.name)
            put("\(tensor.name) dimension count", UInt32(tensor.shape.count))
            for extent in tensor.shape.reversed() { put("\(tensor.name) dimension", UInt64(bitPattern: Int64(extent))) }
            put("\(tensor.name) type", tensor.type)
            put("\(tensor.name) offset", tensor.offset ?? UInt64(next))
            next += (tensor.bytes.count + alignment - 1) / alignment * alignment
        }
        for tensor in tensors {
            pad()
            bytes += tensor.bytes
        }
        if tensors.isEmpty { pad() }
        bytes += [UInt8](repeating: 0, count: trailing)
        return bytes
    }

    private mutating func pad() { while bytes.count % alignment != 0 { bytes.append(0) } }

    private mutating func put<Number: FixedWidthInteger>(_ name: String, _ value: Number) {
        fields.append(Field(name: name, offset: bytes.count, size: MemoryLayout<Number>.size))
        unsafe withUnsafeBytes(of: value.littleEndian) { unsafe bytes.append(contentsOf: $0) }
    }

    private mutating func put(_ name: String, _ text: String) {
        put("\(name) length", UInt64(text.utf8.count))
        bytes += Array(text.utf8)
    }

    private mutating func put(key: String, _ value: Value) {
        put("\(key) key", key)
        switch value {
        case .u8(let value): put("\(key) type", UInt32(0)); put(key, value)
        case .i8(let value): put("\(key) type", UInt32(1)); put(key, value)
        case .u16(let value): put("\(key) type", UInt32(2)); put(key, value)
        case .i16(let value): put("\(key) type", UInt32(3)); put(key, value)
        case .u32(let value): put("\(key) type", UInt32(4)); put(key, value)
        case .i32(let value): put("\(key) type", UInt32(5)); put(key, value)
        case .f32(let value): put("\(key) type", UInt32(6)); put(key, value.bitPattern)
        case .bool(let value): put("\(key) type", UInt32(7)); put(key, value)
        case .string(let value): put("\(key) type", UInt32(8)); put(key, value)
        case .u64(let value): put("\(key) type", UInt32(10)); put(key, value)
        case .i64(let value): put("\(key) type", UInt32(11)); put(key, value)
        case .f64(let value): put("\(key) type", UInt32(12)); put(key, value.bitPattern)
        case .strings(let values):
            putArray(key, elementType: 8, count: values.count)
            for value in values { put("\(key) element", value) }
        case .i32s(let values):
            putArray(key, elementType: 5, count: values.count)
            for value in values { put("\(key) element", value) }
        case .f32s(let values):
            putArray(key, elementType: 6, count: values.count)
            for value in values { put("\(key) element", value.bitPattern) }
        case .nested:
            putArray(key, elementType: 9, count: 1)
            put("\(key) element type", UInt32(5))
            put("\(key) element count", UInt64(0))
        }
    }

    private mutating func putArray(_ key: String, elementType: UInt32, count: Int) {
        put("\(key) type", UInt32(9))
        put("\(key) element type", elementType)
        put("\(key) count", UInt64(count))
    }
}

extension GGUFWriter {
    /// A complete, tiny Llama: two layers, hidden 32, two heads over one key/value head, four tokens.
    static func tinyLlama() -> GGUFWriter {
        var writer = GGUFWriter()
        writer.metadata = [
            ("general.architecture", .string("llama")), ("general.name", .string("Tiny")),
            ("general.alignment", .u32(32)),
            ("llama.block_count", .u32(2)), ("llama.context_length", .u32(128)), ("llama.embedding_length", .u32(32)),
            ("llama.feed_forward_length", .u32(64)), ("llama.attention.head_count", .u32(2)),
            ("llama.attention.head_count_kv", .u32(1)), ("llama.rope.freq_base", .f32(10_000)),
            ("llama.rope.dimension_count", .u32(16)), ("llama.attention.layer_norm_rms_epsilon", .f32(1e-5)),
            ("llama.vocab_size", .u32(4)), ("tokenizer.ggml.model", .string("gpt2")),
            ("tokenizer.ggml.pre", .string("smollm")), ("tokenizer.ggml.tokens", .strings(["<s>", "a", "b", "ab"])),
            ("tokenizer.ggml.token_type", .i32s([3, 1, 1, 1])), ("tokenizer.ggml.merges", .strings(["a b"])),
            ("tokenizer.ggml.bos_token_id", .u32(0)), ("tokenizer.ggml.eos_token_id", .u32(0)),
            ("tokenizer.ggml.add_bos_token", .bool(0)), ("tokenizer.chat_template", .string("{{ messages }}")),
        ]
        writer.tensors = [tensor("token_embd.weight", [4, 32], type: 8), tensor("output_norm.weight", [32])]
        for layer in 0..<2 {
            let shapes: [(String, [Int], UInt32)] = [
                ("attn_norm", [32], 0), ("attn_q", [32, 32], 3), ("attn_k", [16, 32], 2), ("attn_v", [16, 32], 1),
                ("attn_output", [32, 32], 30), ("ffn_norm", [32], 0), ("ffn_gate", [64, 32], 8),
                ("ffn_up", [64, 32], 8), ("ffn_down", [32, 64], 3),
            ]
            writer.tensors += shapes.map { tensor("blk.\(layer).\($0).weight", $1, type: $2) }
        }
        return writer
    }

    /// A tensor of zeros of the right size.
    static func tensor(_ name: String, _ shape: [Int], type: UInt32 = 0) -> TensorSpec {
        let blocks: [UInt32: (Int, Int)] = [0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34), 30: (1, 2)]
        let (elements, size) = blocks[type] ?? (1, 4)
        return TensorSpec(
            name: name, shape: shape, type: type,
            bytes: [UInt8](repeating: 0, count: shape.reduce(1, *) / elements * size))
    }

    /// Replaces or adds a metadata value.
    mutating func set(_ key: String, _ value: Value?) {
        let index = metadata.firstIndex { $0.0 == key }
        if let value {
            if let index { metadata[index].1 = value } else { metadata.append((key, value)) }
        } else if let index {
            metadata.remove(at: index)
        }
    }
}
