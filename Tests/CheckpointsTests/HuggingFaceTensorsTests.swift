// Hugging Face's tensors under the names that models ask for.

import Checkpoints
import Foundation
import Tensors
import Testing

/// Tensors of consecutive bytes.
// Unchecked: the memory is written once, before anybody else sees it.
@safe
private final class NumberedSource: TensorSource, @unchecked Sendable {
    let path = "numbered"
    let tensors: [String: (DType, [Int])]
    private let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 14, alignment: 64)

    init(_ tensors: [String: (DType, [Int])]) {
        self.tensors = tensors
        for index in unsafe memory.indices { unsafe memory[index] = UInt8(truncatingIfNeeded: index / 18) }
    }

    deinit { unsafe memory.deallocate() }

    var tensorNames: [String] { tensors.keys.sorted() }

    func storedTensor(_ name: String) -> SourceTensor? {
        guard let (dtype, shape) = tensors[name] else { return nil }
        let count = dtype.rowByteCount(elementCount: shape.reduce(1, *)) ?? 0
        return SourceTensor(
            tensor: unsafe StoredTensor(
                name: name, dtype: dtype, shape: shape, bytes: UnsafeRawBufferPointer(rebasing: memory[..<count]),
                owner: self), infoOffset: 0)
    }

    func requireUnchanged() {}
}

@Suite struct HuggingFaceTensorsTests {
    private func config(_ name: String) throws -> ModelConfig {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let file = folder.appendingPathComponent("Fixtures/checkpoints/\(name)/config.json")
        return try ModelConfig(json: Array(Data(contentsOf: file)), file: "config.json")
    }

    @Test func `names are exchanged and unknown ones stay as they are`() throws {
        let names = [
            "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
            "model.layers.1.self_attn.q_proj.weight", "model.layers.1.post_attention_layernorm.weight",
            "model.layers.0.mlp.experts.3.up_proj.weight", "model.layers.0.mlp.gate.weight",
            "model.layers.2.self_attn.rotary_emb.inv_freq", "score.weight",
        ]
        let source = NumberedSource(Dictionary(uniqueKeysWithValues: names.map { ($0, (DType.f32, [2, 2])) }))
        #expect(
            Set(HuggingFaceTensors(source, config: try config("qwen3-moe")).tensorNames) == [
                "token_embd.weight", "output_norm.weight", "output.weight", "blk.1.attn_q.weight",
                "blk.1.ffn_norm.weight", "blk.0.ffn_up.3.weight", "blk.0.ffn_gate_inp.weight",
                "model.layers.2.self_attn.rotary_emb.inv_freq", "score.weight",
            ])
        // Gemma norms after attention; its head is the table.
        let gemma = HuggingFaceTensors(source, config: try config("gemma3"))
        #expect(gemma.tensorNames.contains("blk.1.post_attention_norm.weight"))
        #expect(!gemma.tensorNames.contains("output.weight"))
    }

    @Test func `quantized experts of gpt-oss are parted row by row`() throws {
        let name = "model.layers.0.mlp.experts.gate_up_proj"
        // Rows of one block of 18 bytes each, all bytes of a row its number.
        let source = NumberedSource([name: (.q4_0, [2, 6, 32])])
        let tensors = HuggingFaceTensors(source, config: try config("gpt-oss"))
        for (target, first) in [("ffn_gate_exps", UInt8(0)), ("ffn_up_exps", 1)] {
            let tensor = try #require(tensors.storedTensor("blk.0.\(target).weight")?.tensor)
            #expect(tensor.shape == [2, 3, 32])
            let rows = (0..<6).map { unsafe tensor.bytes[$0 * 18] }
            #expect(rows == [0, 2, 4, 6, 8, 10].map { $0 + first })
        }
    }
}
