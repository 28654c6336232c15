// config.json of every family: what is read, what is refused and in which words, and what damage does to it.

import Checkpoints
import Foundation
import JSON
import Tensors
import Testing

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Fixtures/checkpoints")

private func text(_ name: String) throws -> [UInt8] {
    try Array(Data(contentsOf: fixtures.appendingPathComponent("\(name)/config.json")))
}

/// The config of a fixture with some members replaced (removed when nil).
private func config(_ name: String, _ changes: [(String, JSONValue?)] = []) throws -> ModelConfig {
    guard case .object(var members) = try JSONParser.parse(text(name)) else { throw CancellationError() }
    for (key, value) in changes {
        members.removeAll { $0.name == key }
        if let value { members.append(JSONValue.Member(name: key, value: value)) }
    }
    return try ModelConfig(json: Array(JSONValue.object(members).text.utf8), file: "config.json")
}

private func refusal(_ name: String, _ changes: (String, JSONValue?)...) -> String {
    do {
        _ = try config(name, changes)
        return "accepted"
    } catch {
        return "\(error)"
    }
}

private func object(_ members: (String, JSONValue)...) -> JSONValue {
    .object(members.map { JSONValue.Member(name: $0.0, value: $0.1) })
}

@Suite struct HuggingFaceConfigTests {
    @Test func `common hyper-parameters are read`() throws {
        let config = try config("qwen3")
        #expect(config.architecture == "qwen3" && config.layerCount == 2 && config.hiddenSize == 32)
        #expect(config.ffnSize == 48 && config.headCount == 2 && config.kvHeadCount == 1 && config.headDim == 64)
        #expect(config.vocabSize == 160 && config.contextLength == 256 && config.ropeTheta == 1e6)
        #expect(config.ropeLayout == .halves && config.ropeDimension == 64 && config.rmsEpsilon == 1e-6)
        #expect(!config.hasTiedEmbeddings && config.slidingWindow == nil && config.experts == nil)
    }

    @Test func `what older files call rope_theta and rope_scaling is read`() throws {
        let scaling = object(
            ("rope_type", .string("llama3")), ("factor", .integer(32)), ("low_freq_factor", .integer(1)),
            ("high_freq_factor", .integer(4)), ("original_max_position_embeddings", .integer(8192)))
        let llama = try config(
            "llama3", [("rope_parameters", nil), ("rope_theta", .integer(500_000)), ("rope_scaling", scaling)])
        #expect(llama.ropeTheta == 500_000)
        #expect(llama.ropeScaling == .llama3(factor: 32, low: 1, high: 4, originalContext: 8192))
        let gemma = try config(
            "gemma3",
            [
                ("rope_parameters", nil), ("rope_theta", .integer(1_000_000)), ("layer_types", nil),
                ("rope_local_base_freq", .integer(20_000)), ("_sliding_window_pattern", .integer(2)),
            ])
        #expect(gemma.localRopeTheta == 20_000 && gemma.windowedLayers == [0, 2] && gemma.ropeScaling == .none)
        #expect(gemma.normOffset == 1)
    }

    @Test func `windows are where a family has them`() throws {
        #expect(try config("mistral").commonWindow == 9)
        #expect(try config("gemma2").windowedLayers == [0])
        let qwen: [(String, JSONValue?)] = [
            ("layer_types", nil), ("sliding_window", .integer(5)), ("max_window_layers", .integer(1)),
        ]
        #expect(try config("qwen2", qwen).slidingWindow == nil)
        #expect(try config("qwen2", qwen + [("use_sliding_window", .bool(true))]).windowedLayers == [1])
        #expect(refusal("llama3", ("sliding_window", .integer(7))).contains("sliding_window is 7; expected no window"))
    }

    @Test func `what would change results is refused by name`() {
        #expect(
            refusal("llama3", ("model_type", .string("mamba")))
                == "config.json cannot be served: model_type is \"mamba\"; expected one of gemma2, gemma3_text, gpt_oss, "
                + "llama, mistral, mixtral, phi3, qwen2, qwen3, qwen3_moe, smollm3.")
        #expect(
            refusal("llama3", ("logit_scale", .number(0.5)))
                == "config.json cannot be served: logit_scale is 0.5; expected a field that is known for llama.")
        #expect(refusal("llama3", ("logit_scale", .null)) == "accepted")
        #expect(refusal("qwen2", ("attn_logit_softcapping", .integer(50))).contains("known for qwen2"))
        #expect(refusal("llama3", ("attention_bias", .bool(true))).contains("attention_bias is true; expected false"))
        #expect(refusal("llama3", ("hidden_act", .string("relu"))).contains("hidden_act is \"relu\"; expected silu"))
        #expect(refusal("qwen3-moe", ("mlp_only_layers", .array([.integer(0)]))).contains("expected no layers"))
        #expect(refusal("gpt-oss", ("swiglu_alpha", .number(1.5))).contains("expected 1.702"))
        #expect(
            refusal("llama3", ("rope_parameters", object(("rope_type", .string("dynamic")))))
                == "config.json, rope_parameters cannot be served: rope_type is \"dynamic\"; expected default, linear, "
                + "llama3, yarn or longrope.")
        #expect(
            refusal("llama-yarn", ("rope_parameters", object(("rope_type", .string("yarn")), ("mscale", .integer(2)))))
                .contains("mscale is 2; expected a field that is known for yarn scaling"))
    }

    @Test func `values out of range, of the wrong kind and in contradiction are refused`() {
        #expect(refusal("llama3", ("hidden_size", nil)).contains("hidden_size is absent; expected an integer from"))
        #expect(refusal("llama3", ("hidden_size", .string("32"))).contains("is \"32\"; expected an integer from 1"))
        #expect(refusal("llama3", ("num_key_value_heads", .integer(3))).contains("expected an integer from 1 to 2"))
        #expect(refusal("llama3", ("head_dim", .integer(63))).contains("heads of an even size from 2 to 256"))
        #expect(refusal("gpt-oss", ("num_experts_per_tok", .integer(5))).contains("expected an integer from 1 to 4"))
        #expect(refusal("gemma3", ("layer_types", .array([]))).contains("expected a list of 4 sliding_attention or"))
        #expect(refusal("smollm3", ("no_rope_layers", .array([.integer(2)]))).contains("a list of 3 zeros and ones"))
    }

    @Test func `text that is no object, or too much of it, is refused`() {
        func refusal(_ bytes: [UInt8]) -> String {
            do {
                return "\(try ModelConfig(json: bytes, file: "config.json"))"
            } catch {
                return "\(error)"
            }
        }
        #expect(refusal(Array("[1]".utf8)).contains("byte 0 is no JSON (it is not an object)"))
        #expect(refusal(Array("{\"a\": ".utf8)).contains("byte 6 is no JSON"))
        #expect(refusal(Array(repeating: 0x20, count: 1 << 20) + [0x20]).contains("its size is 1048577 bytes"))
    }

    @Test(arguments: ["gemma3", "gpt-oss", "phi3", "qwen3-moe"])
    func `2500 damaged files of a family are refused by field or make sense`(_ name: String) throws {
        let original = try text(name)
        var generator = SplitMix64(state: UInt64(original.count))
        var refused = 0
        for _ in 0..<2_500 {
            var bytes = original
            for _ in 0...Int(generator.next() % 3) {
                let place = Int(generator.next() % UInt64(bytes.count))
                let digits = bytes.indices.filter { (0x30...0x39).contains(bytes[$0]) }
                switch generator.next() % 5 {
                case 0: bytes[place] = UInt8(truncatingIfNeeded: generator.next())
                case 1: bytes.removeSubrange(place..<min(bytes.count, place + Int(generator.next() % 40)))
                case 2: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 20)], at: place)
                case 3: bytes[digits[place % digits.count]] = 0x30 + UInt8(generator.next() % 10)
                default: bytes[digits[place % digits.count]] = [0x2D, 0x2E, 0x65, 0x6E][Int(generator.next() % 4)]
                }
                if bytes.isEmpty { bytes = original }
            }
            do {
                let config = try ModelConfig(json: bytes, file: "config.json")
                #expect(config.headCount % config.kvHeadCount == 0 && config.ropeDimension <= config.headDim)
                #expect(config.experts.map { $0.routing.usedCount <= $0.count } ?? true)
                #expect(config.windowedLayers.allSatisfy { $0 < config.layerCount })
            } catch {
                refused += 1
                #expect(error.field != nil && error.file.hasPrefix("config.json"), "\(error)")
                #expect(error.description.utf8.count < 1_024)
            }
        }
        #expect(refused > 1_000)
    }
}
