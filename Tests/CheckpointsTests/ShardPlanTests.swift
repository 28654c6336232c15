// Which part of each tensor a rank reads, that it reads no more, and what cannot be cut.

import Checkpoints
import Foundation
import JSON
import Tensors
import Testing

/// Tensors whose elements are their own indices.
@safe
private final class CountingSource: TensorSource {
    let path = "counting.gguf"
    let tensorNames: [String]
    private let shapes: [String: [Int]]
    private let dtype: DType
    private let memory: [UInt8]

    init(_ shapes: [String: [Int]], dtype: DType = .f32) {
        self.shapes = shapes
        self.dtype = dtype
        tensorNames = shapes.keys.sorted()
        let count = shapes.values.map { $0.reduce(1, *) }.max() ?? 0
        memory = (0..<count / dtype.blockElementCount).flatMap { index in
            (0..<dtype.blockByteCount).map { UInt8(truncatingIfNeeded: index * 31 + $0 * 7) }
        }
    }

    func storedTensor(_ name: String) -> SourceTensor? {
        guard let shape = shapes[name] else { return nil }
        let byteCount = shape.reduce(1, *) / dtype.blockElementCount * dtype.blockByteCount
        let file = MappedFile(copying: Array(memory.prefix(byteCount)), path: path)
        let tensor = unsafe StoredTensor(name: name, dtype: dtype, shape: shape, bytes: file.bytes, owner: file)
        return SourceTensor(tensor: tensor, infoOffset: 64)
    }

    func requireUnchanged() {}
}

/// 8 heads of 8, 2 of keys and values, 96 features, 40 tokens.
private func config(
    heads: Int = 8, kvHeads: Int = 2, ffn: Int = 96, vocab: Int = 40, headDim: Int = 8, architecture: String = "llama"
) -> ModelConfig {
    ModelConfig(
        architecture: architecture, name: nil, layerCount: 1, hiddenSize: 32, ffnSize: ffn, headCount: heads,
        kvHeadCount: kvHeads, headDim: headDim, vocabSize: vocab, contextLength: 64, ropeTheta: 10_000,
        ropeLayout: .halves, rmsEpsilon: 1e-5, hasTiedEmbeddings: false)
}

/// The elements of `whole` at some indices of one axis.
private func taken(_ whole: StoredTensor, axis: Int, _ indices: [Int]) -> [UInt8] {
    let block = axis == whole.shape.count - 1 ? whole.dtype.blockElementCount : 1
    let stack = whole.shape[..<axis].reduce(1, *)
    let bytes = unsafe Array(whole.bytes)
    let unit = bytes.count / stack / (whole.shape[axis] / block)
    return (0..<stack).flatMap { first in
        indices.filter { $0 % block == 0 }.flatMap { index in
            let start = (first * (whole.shape[axis] / block) + index / block) * unit
            return bytes[start..<start + unit]
        }
    }
}

struct ShardPlanTests {
    /// Name, whole shape, axis, and what rank 1 of 2 takes of it.
    private static let cuts: [(name: String, shape: [Int], axis: Int, taken: [Range<Int>])] = [
        ("token_embd.weight", [40, 32], 0, [20..<40]), ("output.weight", [40, 32], 0, [20..<40]),
        ("blk.0.attn_q.weight", [64, 32], 0, [32..<64]), ("blk.0.attn_q.bias", [64], 0, [32..<64]),
        ("blk.0.attn_k.weight", [16, 32], 0, [8..<16]), ("blk.0.attn_v.bias", [16], 0, [8..<16]),
        ("blk.0.attn_qkv.weight", [96, 32], 0, [32..<64, 72..<80, 88..<96]),
        ("blk.0.attn_output.weight", [32, 64], 1, [32..<64]), ("blk.0.attn_output.bias", [32], 0, [0..<32]),
        ("blk.0.attn_sinks.weight", [8], 0, [4..<8]), ("blk.0.attn_q_norm.weight", [8], 0, [0..<8]),
        ("blk.0.ffn_gate.weight", [96, 32], 0, [48..<96]), ("blk.0.ffn_up.weight", [96, 32], 0, [48..<96]),
        ("blk.1.ffn_up.weight", [192, 32], 0, [48..<96, 144..<192]),
        ("blk.0.ffn_down.weight", [32, 96], 1, [48..<96]), ("blk.0.ffn_norm.weight", [32], 0, [0..<32]),
        ("blk.0.ffn_gate_exps.weight", [3, 96, 32], 1, [48..<96]),
        ("blk.0.ffn_up_exps.bias", [3, 96], 1, [48..<96]),
        ("blk.0.ffn_down_exps.weight", [3, 32, 96], 2, [48..<96]),
        ("blk.0.ffn_down_exps.bias", [3, 32], 0, [0..<3]),
        ("blk.0.ffn_down.2.weight", [32, 96], 1, [48..<96]), ("blk.0.ffn_up.2.weight", [96, 32], 0, [48..<96]),
        ("blk.0.ffn_gate_inp.weight", [3, 32], 0, [0..<3]), ("output_norm.weight", [32], 0, [0..<32]),
        // Of an adapter's two matrices one goes with what is cut, and the other is whole.
        ("layers.0.self_attn.q_proj.lora_A.weight", [4, 32], 0, [0..<4]),
        ("layers.0.self_attn.q_proj.lora_B.weight", [64, 4], 0, [32..<64]),
        ("layers.0.self_attn.v_proj.lora_B.weight", [16, 4], 0, [8..<16]),
        ("layers.0.self_attn.qkv_proj.lora_B.weight", [96, 4], 0, [32..<64, 72..<80, 88..<96]),
        ("layers.0.self_attn.o_proj.lora_A.weight", [4, 64], 1, [32..<64]),
        ("layers.0.self_attn.o_proj.lora_B.weight", [32, 4], 0, [0..<32]),
        ("layers.0.mlp.gate_up_proj.lora_B.weight", [192, 4], 0, [48..<96, 144..<192]),
        ("layers.0.mlp.up_proj.lora_B.weight", [96, 4], 0, [48..<96]),
        ("layers.0.mlp.down_proj.lora_A.weight", [4, 96], 1, [48..<96]),
        ("layers.0.mlp.down_proj.lora_B.weight", [32, 4], 0, [0..<32]),
    ]

    @Test(arguments: cuts)
    func `a rank reads its part of each tensor`(
        _ cut: (name: String, shape: [Int], axis: Int, taken: [Range<Int>])
    ) throws {
        let source = CountingSource([cut.name: cut.shape])
        let reader = WeightReader(source).sharded(
            try ShardPlan(config(), Shard(rank: 1, of: 2), file: source.path))
        var shape = cut.shape
        shape[cut.axis] = cut.taken.reduce(0) { $0 + $1.count }
        let part = try reader.tensor(cut.name, shape: shape)
        let whole = try #require(source.storedTensor(cut.name)).tensor
        #expect(part.shape == shape)
        #expect(unsafe Array(part.bytes) == taken(whole, axis: cut.axis, cut.taken.flatMap { Array($0) }))
        try reader.requireAllRead()
    }

    @Test func `all ranks together read every row once, and a head of keys as often as it is needed`() throws {
        for (ranks, kvHeads) in [(2, 2), (4, 2), (8, 2), (8, 8), (8, 1)] {
            var rows: [String: [UInt8]] = [:]
            let source = CountingSource(["blk.0.attn_q.weight": [64, 32], "blk.0.attn_k.weight": [8 * kvHeads, 32]])
            for rank in 0..<ranks {
                let plan = try ShardPlan(config(kvHeads: kvHeads), Shard(rank: rank, of: ranks), file: "f")
                let reader = WeightReader(source).sharded(plan).scoped("blk.0")
                #expect(plan.config.headCount % plan.config.kvHeadCount == 0)
                for (name, heads) in [("attn_q", plan.config.headCount), ("attn_k", plan.config.kvHeadCount)] {
                    let part = try reader.tensor("\(name).weight", shape: [8 * heads, 32])
                    rows[name, default: []] += unsafe Array(part.bytes)
                }
            }
            let queries = try #require(source.storedTensor("blk.0.attn_q.weight")).tensor
            let keys = try #require(source.storedTensor("blk.0.attn_k.weight")).tensor
            #expect(unsafe rows["attn_q"] == Array(queries.bytes))
            let copies = max(1, ranks / kvHeads)
            let expected = (0..<kvHeads).flatMap { head in
                (0..<copies).flatMap { _ in taken(keys, axis: 0, Array(8 * head..<8 * head + 8)) }
            }
            #expect(rows["attn_k"] == expected, "\(ranks) ranks, \(kvHeads) heads of keys")
        }
    }

    @Test func `rows are a slice of the file, and only a rank's columns are copied from it`() throws {
        let bytes = [UInt8](repeating: 7, count: 96 * 96 * 4)
        let file = MappedFile(copying: bytes, path: "f")
        let whole = unsafe StoredTensor(name: "t", dtype: .f32, shape: [96, 96], bytes: file.bytes, owner: file)
        struct Source: TensorSource {
            let path = "f"
            let tensorNames = ["blk.0.ffn_up.weight", "blk.0.ffn_down.weight"]
            let tensor: StoredTensor
            func storedTensor(_ name: String) -> SourceTensor? { SourceTensor(tensor: tensor, infoOffset: 0) }
            func requireUnchanged() {}
        }
        let shape = ModelConfig(
            architecture: "llama", name: nil, layerCount: 1, hiddenSize: 96, ffnSize: 96, headCount: 8, kvHeadCount: 8,
            headDim: 12, vocabSize: 96, contextLength: 64, ropeTheta: 1, ropeLayout: .halves, rmsEpsilon: 1,
            hasTiedEmbeddings: true)
        let plan = try ShardPlan(shape, Shard(rank: 3, of: 4), file: "f")
        let reader = WeightReader(Source(tensor: whole)).sharded(plan).scoped("blk.0")
        let up = try reader.tensor("ffn_up.weight", shape: [24, 96])
        #expect(unsafe up.bytes.baseAddress == file.bytes.baseAddress?.advanced(by: 72 * 96 * 4))
        let down = try reader.tensor("ffn_down.weight", shape: [96, 24])
        #expect(unsafe up.bytes.count == bytes.count / 4 && down.bytes.count == bytes.count / 4)
    }

    @Test(arguments: [DType.q8_0, .q4_1, .mxfp4])
    func `blocks of 32 columns stay whole`(_ dtype: DType) throws {
        let source = CountingSource(["blk.0.ffn_down.weight": [32, 192]], dtype: dtype)
        let plan = try ShardPlan(config(ffn: 192), Shard(rank: 1, of: 2), file: "f")
        let part = try WeightReader(source).sharded(plan).tensor("blk.0.ffn_down.weight", shape: [32, 96])
        let whole = try #require(source.storedTensor("blk.0.ffn_down.weight")).tensor
        #expect(unsafe Array(part.bytes) == taken(whole, axis: 1, Array(96..<192)))
        let four = try ShardPlan(config(ffn: 192), Shard(rank: 1, of: 4), file: "f")
        #expect(
            throws: CheckpointError.indivisible(
                file: "counting.gguf", what: "blocks of 32 columns in blk.0.ffn_down.weight (\(dtype.rawValue))",
                count: 6, ranks: 4)
        ) { _ = try WeightReader(source).sharded(four).tensor("blk.0.ffn_down.weight", shape: [32, 48]) }
    }

    @Test func `blocks of 256 columns stay whole, and the refusal says how many there are`() throws {
        let source = CountingSource(["blk.0.ffn_down.weight": [2, 1536]], dtype: .q4_k)
        let plan = try ShardPlan(config(ffn: 1536), Shard(rank: 0, of: 4), file: "f")
        let error = #expect(throws: CheckpointError.self) {
            _ = try WeightReader(source).sharded(plan).tensor("blk.0.ffn_down.weight", shape: [2, 384])
        }
        #expect(
            error?.description
                == "counting.gguf cannot be cut into 4 parts: it has 6 blocks of 256 columns in blk.0.ffn_down.weight "
                + "(q4_k). Choose a --tensor-parallel-size that divides 6.")
    }

    @Test(arguments: [
        (config(heads: 9, kvHeads: 3), 2, "9 attention heads"), (config(kvHeads: 4), 8, nil),
        (config(heads: 12, kvHeads: 6), 4, "6 key and value heads"),
        (config(ffn: 98), 4, "98 features in its feed-forward networks"),
        (config(vocab: 42), 4, "42 rows in its embedding table"), (config(heads: 9, kvHeads: 3, vocab: 39), 3, nil),
    ])
    func `what ranks cannot share evenly is refused by its number`(
        _ config: ModelConfig, ranks: Int, what: String?
    ) throws {
        let error = Result { try ShardPlan(config, Shard(rank: 0, of: ranks), file: "m.gguf") }
        guard let what else {
            #expect(throws: Never.self) { try error.get() }
            return
        }
        let sentence =
            "m.gguf cannot be cut into \(ranks) parts: it has \(what). Choose a --tensor-parallel-size that divides "
            + "\(what.prefix { $0 != " " })."
        #expect { try error.get() } throws: { "\($0)" == sentence }
    }

    @Test func `a tensor that is not as long as the model says is refused, even where a rank's part would be`() throws {
        let source = CountingSource(["blk.0.attn_q.weight": [32, 32]])
        let plan = try ShardPlan(config(), Shard(rank: 1, of: 2), file: "f")
        #expect(
            throws: CheckpointError.wrongShape(
                file: "counting.gguf", offset: 64, name: "blk.0.attn_q.weight", actual: [32, 32], expected: [64, 32])
        ) { _ = try WeightReader(source).sharded(plan).tensor("blk.0.attn_q.weight", shape: [32, 32]) }
    }

    @Test(arguments: ["gptq", "gptq_v2_shuffled", "gptq8", "awq", "compressed", "fp8"])
    func `parts of a quantized folder's weights are the whole's`(_ name: String) throws {
        let folder = weightFixture("quantized/\(name)")
        let json = try JSONParser.parse([UInt8](Data(contentsOf: URL(filePath: folder + "/config.json"))))
        guard case .object(let members) = json,
            let field = members.first(where: { $0.name == "quantization_config" })
        else { throw CheckpointError.missingMetadata(file: folder, key: "quantization_config") }
        let quantization = try QuantizationConfig(field.value, file: folder)
        let checkpoint = try SafetensorsCheckpoint(path: folder, quantization: quantization)
        for weight in checkpoint.tensorNames where weight.hasSuffix(".weight") {
            let whole = try #require(checkpoint.storedTensor(weight)).tensor
            let elements = whole.dequantized()
            let (rows, columns) = (whole.shape[0], whole.shape[1])
            for axis in [0, 1] {
                let extent = whole.shape[axis]
                let range = extent / 2..<extent
                let cut = TensorCut(shard: Shard(rank: 1, of: 2), axis: axis, extent: extent, ranges: [range])
                guard axis == 0 || extent / 2 % whole.dtype.blockElementCount == 0 else {
                    #expect(throws: CheckpointError.self) { try checkpoint.storedTensor(weight, cut: cut) }
                    continue
                }
                let part = try #require(try checkpoint.storedTensor(weight, cut: cut)).tensor
                let expected = (axis == 0 ? range : 0..<rows).flatMap { row in
                    (axis == 1 ? range : 0..<columns).map { elements[row * columns + $0] }
                }
                #expect(part.dtype == whole.dtype && part.dequantized() == expected, "\(weight), axis \(axis)")
            }
        }
    }

    // MARK: gpt-oss

    /// A checkpoint whose tensors are read in parts only.
    private struct PartsOnly: TensorSource {
        let source: SafetensorsCheckpoint
        var path: String { source.path }
        var tensorNames: [String] { source.tensorNames }

        func storedTensor(_ name: String) -> SourceTensor? {
            Issue.record("all of \(name) was converted for a part of it")
            return nil
        }
        func storedTensor(_ name: String, cut: TensorCut) throws(CheckpointError) -> SourceTensor? {
            try source.storedTensor(name, cut: cut)
        }
        func form(of name: String) -> TensorForm? { source.form(of: name) }
        func requireUnchanged() {}
    }

    /// Two experts of 64 features over 32: gates and others alternate, and down has two blocks a row.
    private func fourBitExperts() throws -> SafetensorsCheckpoint {
        var entries: [String] = []
        var offset = 0
        for (name, rows, groups) in [("gate_up_proj", 128, 1), ("down_proj", 32, 2)] {
            for (suffix, shape) in [("blocks", [2, rows, groups, 16]), ("scales", [2, rows, groups])] {
                let count = shape.reduce(1, *)
                entries.append(
                    #""model.layers.0.mlp.experts.\#(name)_\#(suffix)":{"dtype":"U8","shape":\#(shape),"#
                        + #""data_offsets":[\#(offset),\#(offset + count)]}"#)
                offset += count
            }
        }
        var random = SplitMix64(state: 5)
        let data = (0..<offset).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        let header = "{" + entries.joined(separator: ",").replacing(" ", with: "") + "}"
        return try SafetensorsCheckpoint(
            path: "t", [parseSafetensors(safetensors(header, data: data))], index: nil)
    }

    @Test func `a rank's part of gpt-oss's experts is the whole's, and of 4 bits nothing else is converted`() throws {
        let four = try fourBitExperts()
        let sixteen = try SafetensorsCheckpoint(path: weightFixture("../checkpoints/gpt-oss"))
        let shape = config(ffn: 64, architecture: "gpt-oss")
        let all: [(whole: HuggingFaceTensors, parts: HuggingFaceTensors, cuts: [(name: String, axis: Int)])] = [
            (
                HuggingFaceTensors(four, config: shape),
                HuggingFaceTensors(PartsOnly(source: four), config: shape),
                [("ffn_gate_exps.weight", 1), ("ffn_up_exps.weight", 1), ("ffn_down_exps.weight", 2)]
            ),
            (
                HuggingFaceTensors(sixteen, config: shape), HuggingFaceTensors(sixteen, config: shape),
                [
                    ("ffn_gate_exps.weight", 1), ("ffn_up_exps.weight", 1), ("ffn_down_exps.weight", 2),
                    ("ffn_gate_exps.bias", 1), ("ffn_up_exps.bias", 1),
                ]
            ),
        ]
        for (whole, parts, cuts) in all {
            for (name, axis) in cuts.map({ ("blk.0.\($0.name)", $0.axis) }) {
                let tensor = try #require(whole.storedTensor(name)).tensor
                let extent = tensor.shape[axis]
                #expect(try #require(parts.form(of: name)).shape == tensor.shape)
                let range = extent / 2..<extent
                let cut = TensorCut(shard: Shard(rank: 1, of: 2), axis: axis, extent: extent, ranges: [range])
                let part = try #require(try parts.storedTensor(name, cut: cut)).tensor
                #expect(unsafe Array(part.bytes) == taken(tensor, axis: axis, Array(range)), "\(name), \(tensor.dtype)")
                #expect(part.dtype == tensor.dtype && part.shape[axis] == range.count)
                let wrong = TensorCut(shard: Shard(rank: 1, of: 2), axis: axis, extent: extent + 2, ranges: [range])
                #expect(throws: CheckpointError.self) { try parts.storedTensor(name, cut: wrong) }
            }
        }
        let narrow = TensorCut(shard: Shard(rank: 1, of: 4), axis: 2, extent: 64, ranges: [16..<32])
        #expect(throws: CheckpointError.self) {
            try HuggingFaceTensors(four, config: shape).storedTensor("blk.0.ffn_down_exps.weight", cut: narrow)
        }
    }
}
