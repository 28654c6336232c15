// Hyper-parameters, tokenizer metadata and weights: what is accepted, what is refused and in which words.

import Checkpoints
import Tensors
import Testing

/// The config of a tiny model with some metadata replaced.
private func config(_ changes: [(String, GGUFWriter.Value?)] = []) throws -> ModelConfig {
    var writer = GGUFWriter.tinyLlama()
    for (key, value) in changes { writer.set(key, value) }
    return try ModelConfig(parse(writer.write()))
}

/// The sentence with which the config of a changed tiny model is refused.
private func refusal(_ changes: (String, GGUFWriter.Value?)...) -> String {
    do {
        _ = try config(changes)
        return "accepted"
    } catch {
        return "\(error)"
    }
}

@Suite struct ModelConfigTests {
    @Test func `a llama's hyper-parameters are read`() throws {
        let config = try config()
        #expect(config.architecture == "llama")
        #expect(config.name == "Tiny")
        #expect(config.layerCount == 2)
        #expect(config.hiddenSize == 32)
        #expect(config.ffnSize == 64)
        #expect(config.headCount == 2)
        #expect(config.kvHeadCount == 1)
        #expect(config.headDim == 16)
        #expect(config.vocabSize == 4)
        #expect(config.contextLength == 128)
        #expect(config.ropeTheta == 10_000)
        #expect(config.ropeDimension == 16)
        #expect(config.ropeLayout == .interleaved)
        #expect(config.ropeScaling == .none)
        #expect(config.rmsEpsilon == 1e-5)
        #expect(config.hasTiedEmbeddings)
    }

    @Test func `absent optional values have their defaults`() throws {
        let config = try config([
            ("llama.attention.head_count_kv", nil), ("llama.rope.freq_base", nil), ("llama.rope.dimension_count", nil),
            ("llama.vocab_size", nil),
        ])
        #expect(config.kvHeadCount == 2)
        #expect(config.ropeTheta == 10_000)
        #expect(config.ropeDimension == 16)
        #expect(config.vocabSize == 4)
    }

    @Test(arguments: [
        "general.architecture", "llama.block_count", "llama.context_length", "llama.embedding_length",
        "llama.feed_forward_length", "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
    ])
    func `a missing hyper-parameter is named`(key: String) {
        #expect(refusal((key, nil)) == "test.gguf has no metadata \(key), without which the model cannot be built.")
    }

    @Test(
        arguments: [
            ("llama.block_count", 1024, "1 to 1024"), ("llama.embedding_length", 131_072, "1 to 131072"),
            ("llama.feed_forward_length", 1_048_576, "1 to 1048576"), ("llama.vocab_size", 1_048_576, "1 to 1048576"),
            ("llama.context_length", 16_777_216, "1 to 16777216"),
        ] as [(String, UInt32, String)])
    func `sizes have closed ranges`(key: String, limit: UInt32, range: String) {
        let widened: (String, GGUFWriter.Value?) = ("llama.attention.key_length", .u32(16))
        #expect(refusal((key, .u32(limit)), widened) == "accepted")
        #expect(
            refusal((key, .u32(limit + 1)), widened).contains(
                "\(key) is \(limit + 1); expected an integer from \(range)"))
        #expect(refusal((key, .u32(0)), widened).contains("\(key) is 0; expected an integer from \(range)"))
        #expect(refusal((key, .u64(.max)), widened).contains("\(key) is 18446744073709551615"))
        #expect(refusal((key, .i32(-1)), widened).contains("\(key) is -1"))
        #expect(refusal((key, .string("7")), widened).contains("\(key) is \"7\""))
    }

    @Test func `heads divide the width and each other`() {
        #expect(
            refusal(("llama.attention.head_count", .u32(3)), ("llama.attention.head_count_kv", .u32(3)))
                .contains("llama.attention.head_count is 3; expected a divisor of the embedding length 32"))
        #expect(
            refusal(
                ("llama.attention.head_count", .u32(4)), ("llama.attention.head_count_kv", .u32(3)),
                ("llama.rope.dimension_count", nil)
            ).contains("llama.attention.head_count_kv is 3; expected a divisor of the head count 4"))
        #expect(refusal(("llama.attention.head_count_kv", .u32(0))).contains("is 0; expected an integer from 1 to 2"))
        #expect(
            refusal(("llama.attention.key_length", .u32(256)), ("llama.attention.value_length", .u32(256)))
                == "accepted")
        #expect(refusal(("llama.attention.key_length", .u32(257))).contains("expected an integer from 2 to 256"))
        #expect(refusal(("llama.attention.key_length", .u32(17))).contains("heads of an even size"))
        #expect(refusal(("llama.embedding_length", .u32(514)), ("llama.rope.dimension_count", nil)).contains("not 257"))
        #expect(refusal(("llama.attention.value_length", .u32(8))).contains("supported: 16, the length of the keys"))
    }

    @Test func `rotary dimensions are even and within a head`() {
        #expect(refusal(("llama.rope.dimension_count", .u32(15))).contains("expected an even number"))
        #expect(refusal(("llama.rope.dimension_count", .u32(18))).contains("expected an integer from 2 to 16"))
        #expect(refusal(("llama.rope.freq_base", .f32(.nan))).contains("llama.rope.freq_base is nan"))
        #expect(refusal(("llama.rope.freq_base", .f32(-1))).contains("expected a float from 1.0"))
        #expect(refusal(("llama.attention.layer_norm_rms_epsilon", .f32(0))).contains("layer_norm_rms_epsilon is 0.0"))
    }

    @Test func `linear rope scaling is read and other kinds are refused by name`() throws {
        #expect(
            try config([("llama.rope.scaling.type", .string("linear")), ("llama.rope.scaling.factor", .f32(4))])
                .ropeScaling == .linear(factor: 4))
        #expect(try config([("llama.rope.scale_linear", .f32(2))]).ropeScaling == .linear(factor: 2))
        #expect(try config([("llama.rope.scaling.type", .string("none"))]).ropeScaling == .none)
        #expect(
            refusal(("llama.rope.scaling.type", .string("ntk")))
                .contains("llama.rope.scaling.type is ntk, which is not supported; supported: none, linear, yarn"))
        #expect(
            refusal(("llama.rope.scaling.type", .string("linear"))).contains("no metadata llama.rope.scaling.factor"))
    }

    @Test func `another architecture or another kind of llama is refused`() {
        #expect(
            refusal(("general.architecture", .string("mamba")))
                .contains("the architecture is mamba, which is not supported; supported: gemma2, gemma3, gpt-oss, "))
        #expect(refusal(("llama.expert_count", .u32(8))).contains("no metadata llama.expert_used_count"))
        #expect(refusal(("llama.expert_count", .u32(0))) == "accepted")
        #expect(refusal(("llama.logit_scale", .f32(2))).contains("llama.logit_scale is 2.0, which is not supported"))
    }

    @Test func `the tokenizer's metadata is read`() throws {
        let tokenizer = try TokenizerMetadata(parse(GGUFWriter.tinyLlama().withBytes()), vocabSize: 4)
        #expect(tokenizer.model == "gpt2")
        #expect(tokenizer.pre == "smollm")
        #expect(
            (0..<tokenizer.tokens.count).map { String(decoding: tokenizer.tokens[$0], as: UTF8.self) }
                == ["<s>", "a", "b", "ab"])
        #expect(tokenizer.merges?.bytes == Array("a b".utf8))
        #expect(tokenizer.tokenTypes == [3, 1, 1, 1])
        #expect(tokenizer.scores == nil)
        #expect(tokenizer.bosID == 0)
        #expect(tokenizer.addsBOS == false)
        #expect(tokenizer.addsSpacePrefix == nil)
        #expect(tokenizer.chatTemplate == "{{ messages }}")
    }

    @Test(
        arguments: [
            ("tokenizer.ggml.bos_token_id", .u32(4), "is 4; expected an integer from 0 to 3"),
            ("tokenizer.ggml.eos_token_id", .i32(-1), "is -1; expected an integer from 0 to 3"),
            ("tokenizer.ggml.token_type", .i32s([1, 1, 1]), "expected 4 elements, one per token"),
            ("tokenizer.ggml.token_type", .i32s([1, 1, 9, 1]), "element 2 of tokenizer.ggml.token_type is 9"),
            ("tokenizer.ggml.scores", .f32s([1]), "expected 4 elements, one per token"),
            ("tokenizer.ggml.tokens", .strings(["1", "2", "3", "4", "5"]), "expected 1 to 4 strings"),
            ("tokenizer.ggml.merges", .i32s([1]), "expected an array of strings"),
        ] as [(String, GGUFWriter.Value, String)])
    func `a tokenizer that contradicts itself is refused`(key: String, value: GGUFWriter.Value, sentence: String) {
        var writer = GGUFWriter.tinyLlama()
        writer.set(key, value)
        let bytes = writer.write()
        let error = #expect(throws: CheckpointError.self) { try TokenizerMetadata(parse(bytes), vocabSize: 4) }
        #expect(error?.description.contains(sentence) == true)
    }

    @Test func `recommended sampling is read`() throws {
        var writer = GGUFWriter.tinyLlama()
        writer.set("general.sampling.temp", .f32(0.5))
        writer.set("general.sampling.top_k", .i32(20))
        let defaults = try GenerationDefaults(parse(writer.write()))
        #expect(defaults.temperature == 0.5)
        #expect(defaults.topK == 20)
        #expect(defaults.topP == nil)
        writer.set("general.sampling.temp", .f32(-0.5))
        #expect(throws: CheckpointError.self) { try GenerationDefaults(parse(writer.write())) }
    }
}

@Suite struct WeightReaderTests {
    @Test func `all weights of a llama are read`() throws {
        let file = try parse(GGUFWriter.tinyLlama().withBytes())
        #expect(try readLlamaWeights(file, ModelConfig(file)).count == 20)
    }

    @Test func `a missing tensor is named with similar ones`() throws {
        let file = try parse(GGUFWriter.tinyLlama().withBytes())
        let layer = WeightReader(file).scoped("blk.1")
        #expect(
            throws: CheckpointError.missingTensor(
                file: "test.gguf", name: "blk.1.attn_norms.weight",
                similar: ["blk.1.attn_norm.weight", "blk.0.attn_norm.weight", "blk.1.ffn_norm.weight"])
        ) { try layer.tensor("attn_norms.weight", shape: [32]) }
        #expect(try layer.optionalTensor("attn_q.bias", shape: [32])?.name == nil)
        #expect(layer.contains("attn_q.weight"))
        #expect(!layer.contains("attn_q.bias"))
    }

    @Test func `a wrong shape is refused with both shapes`() throws {
        let file = try parse(GGUFWriter.tinyLlama().withBytes())
        let error = #expect(throws: CheckpointError.self) {
            try WeightReader(file).tensor("token_embd.weight", shape: [5, 32])
        }
        #expect(
            error?.description.hasSuffix(
                "tensor token_embd.weight has shape [4, 32]; the metadata calls for [5, 32].") == true)
        #expect(error?.offset != nil)
    }

    @Test func `an unread tensor is an error`() throws {
        var writer = GGUFWriter.tinyLlama()
        writer.tensors.append(GGUFWriter.tensor("blk.0.attn_q.bias", [32]))
        let file = try parse(writer.write())
        #expect(throws: CheckpointError.unreadTensors(file: "test.gguf", names: ["blk.0.attn_q.bias"])) {
            try readLlamaWeights(file, ModelConfig(file))
        }
    }
}
