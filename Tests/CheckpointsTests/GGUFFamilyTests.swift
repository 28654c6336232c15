// What the families of GGUF files say beside what all say, and what llama.cpp takes for granted.

import Checkpoints
import Tensors
import Testing

/// The config of a tiny model of a family: a tiny llama's metadata under another name, with additions.
private func config(
    _ family: String, _ additions: [(String, GGUFWriter.Value?)] = []
) throws -> ModelConfig {
    var writer = GGUFWriter.tinyLlama()
    for key in [
        "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
        "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.dimension_count",
        "vocab_size",
    ] {
        let value = writer.value("llama.\(key)")
        writer.set("llama.\(key)", nil)
        writer.set("\(family).\(key)", value)
    }
    writer.set("general.architecture", .string(family))
    for (key, value) in additions { writer.set("\(family).\(key)", value) }
    return try ModelConfig(parse(writer.write()))
}

@Suite struct GGUFFamilyTests {
    @Test(arguments: ["qwen2", "qwen3", "phi3", "gemma2", "gemma3"])
    func `all but llama and smollm3 keep the order of Hugging Face`(_ family: String) throws {
        #expect(try config(family).ropeLayout == .halves)
        #expect(try config("smollm3").ropeLayout == .interleaved)
    }

    @Test func `gemma 2 has caps and a window in every other layer`() throws {
        let gemma = try config(
            "gemma2",
            [("attention.sliding_window", .u32(9)), ("attn_logit_softcapping", .f32(40)), ("block_count", .u32(4))])
        #expect(gemma.attentionSoftCap == 40 && gemma.logitSoftCap == 30)
        #expect(gemma.slidingWindow == 9 && gemma.windowedLayers == [0, 2] && gemma.commonWindow == nil)
        #expect(gemma.activation == .geluTanh && gemma.embeddingScale == Float(32).squareRoot())
        #expect(gemma.normOffset == 0 && gemma.attentionScale == nil)
        #expect(try config("gemma2", [("block_count", .u32(46))]).attentionScale == Float(0.25))
    }

    @Test func `gemma 3 rotates its windowed layers with a base of their own`() throws {
        let gemma = try config(
            "gemma3",
            [
                ("attention.sliding_window", .u32(512)), ("block_count", .u32(7)), ("rope.freq_base", .f32(1e6)),
                ("rope.scaling.type", .string("linear")), ("rope.scaling.factor", .f32(8)),
            ])
        #expect(gemma.windowedLayers == [0, 1, 2, 3, 4, 6] && gemma.localRopeTheta == 10_000)
        #expect(gemma.ropeTheta == 1e6 && gemma.ropeScaling == .linear(factor: 8))
        #expect(gemma.attentionSoftCap == nil && gemma.logitSoftCap == nil)
    }

    @Test func `experts are read where a family has them and refused elsewhere`() throws {
        let keys: [(String, GGUFWriter.Value?)] = [("expert_count", .u32(8)), ("expert_used_count", .u32(2))]
        let mixtral = try config("llama", keys)
        #expect(mixtral.experts?.count == 8 && mixtral.experts?.ffnSize == 64)
        #expect(mixtral.experts?.routing == ExpertRouting(usedCount: 2, isNormalized: true))
        let qwen = try config("qwen3moe", keys + [("expert_feed_forward_length", .u32(24))])
        #expect(qwen.experts?.ffnSize == 24)
        #expect(throws: CheckpointError.self) { try config("qwen3moe") }
        #expect { try config("qwen2", keys) } throws: { "\($0)".contains("supported: 0, a dense model") }
        #expect { try config("llama", keys + [("expert_used_count", .u32(9))]) } throws: {
            "\($0)".contains("llama.expert_used_count is 9; expected an integer from 1 to 8")
        }
    }

    @Test func `gpt-oss has windows, clamped gates and yarn`() throws {
        let model = try config(
            "gpt-oss",
            [
                ("expert_count", .u32(4)), ("expert_used_count", .u32(2)), ("attention.sliding_window", .u32(128)),
                ("rope.scaling.type", .string("yarn")), ("rope.scaling.factor", .f32(32)),
                ("rope.scaling.original_context_length", .u32(4096)),
            ])
        #expect(model.activation == .clamped(limit: 7) && model.windowedLayers == [0])
        guard case .yarn(let yarn) = model.ropeScaling else { return #expect(Bool(false), "no YaRN") }
        #expect(yarn.factor == 32 && yarn.originalContext == 4096 && !yarn.isTruncated)
        #expect(abs(yarn.magnitude - 1.3465735902799727) < 1e-12)
    }

    @Test func `mistral's window is every layer's, and smollm3's fourth layers do not rotate`() throws {
        let mistral = try config("llama", [("attention.sliding_window", .u32(4096))])
        #expect(mistral.commonWindow == 4096 && mistral.windowedLayers == [0, 1])
        #expect(try config("smollm3", [("block_count", .u32(9))]).unrotatedLayers == [3, 7])
        #expect { try config("qwen2", [("attention.sliding_window", .u32(4096))]) } throws: {
            "\($0)".contains("supported: 0, full attention")
        }
    }

    @Test func `one family's key in another's file is refused`() {
        #expect { try config("qwen2", [("attn_logit_softcapping", .f32(50))]) } throws: {
            "\($0)".contains("qwen2.attn_logit_softcapping is 50.0, which is not supported")
        }
    }
}

extension GGUFWriter {
    fileprivate func value(_ key: String) -> Value? { metadata.first { $0.0 == key }?.1 }
}
