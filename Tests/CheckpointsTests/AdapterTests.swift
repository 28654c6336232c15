// adapter_config.json and the folder around it: what is read, and the sentence for everything that is refused.

import Checkpoints
import Foundation
import Testing

struct AdapterConfigTests {
    private func config(_ changes: String..., maxRank: Int = 16) throws -> AdapterConfig {
        var members = [
            "\"peft_type\"": "\"LORA\"", "\"r\"": "8", "\"lora_alpha\"": "16", "\"bias\"": "\"none\"",
            "\"modules_to_save\"": "null", "\"use_dora\"": "false", "\"target_modules\"": "[\"q_proj\"]",
            "\"rank_pattern\"": "{}", "\"lora_dropout\"": "0.05", "\"peft_version\"": "\"9.9.9\"",
        ]
        for change in changes {
            let parts = change.split(separator: ":", maxSplits: 1).map(String.init)
            members["\"\(parts[0])\""] = parts[1]
        }
        let text = "{" + members.map { "\($0.key):\($0.value)" }.joined(separator: ",") + "}"
        return try AdapterConfig(json: Array(text.utf8), file: "adapter_config.json", maxRank: maxRank)
    }

    private func sentence(_ change: String, maxRank: Int = 16) -> String {
        do {
            _ = try config(change, maxRank: maxRank)
            return "nothing was refused"
        } catch { return "\(error)" }
    }

    @Test func `the scale is alpha by rank, or by its root where that is asked for`() throws {
        #expect(try config().scale == 2)
        #expect(try config("lora_alpha:3.5").scale == 3.5 / 8)
        #expect(try config("use_rslora:true", "r:4", "lora_alpha:6").scale == 3)
        #expect(try config("r:16").rank == 16)
    }

    @Test func `a rank has room up to the limit`() {
        #expect(sentence("r:16") == "nothing was refused")
        #expect(
            sentence("r:17")
                == "adapter_config.json cannot be served: r is 17; expected a rank from 1 to 16, which is "
                + "max-lora-rank.")
        #expect(sentence("r:0").contains("r is 0;"))
        #expect(sentence("r:8.5").contains("r is 8.5;"))
    }

    @Test(arguments: [
        ("use_dora:true", "use_dora is true"), ("modules_to_save:[\"lm_head\"]", "modules_to_save is a list of 1"),
        ("bias:\"all\"", "bias is \"all\"; expected \"none\""), ("peft_type:\"IA3\"", "peft_type is \"IA3\""),
        ("rank_pattern:{\"q_proj\":4}", "rank_pattern is an object of 1"),
        ("alpha_pattern:{\"q_proj\":4}", "alpha_pattern is an object of 1"), ("fan_in_fan_out:true", "fan_in_fan_out"),
        ("lora_bias:true", "lora_bias is true"), ("alora_invocation_tokens:[5]", "alora_invocation_tokens"),
        ("target_parameters:[\"experts\"]", "target_parameters is a list of 1"),
        ("init_lora_weights:\"pissa\"", "init_lora_weights is \"pissa\""),
        ("lora_alpha:\"8\"", "lora_alpha is \"8\"; expected a number"), ("use_rslora:1", "use_rslora is 1"),
        ("a_field_of_the_future:true", "a_field_of_the_future is true"),
    ])
    func `what would change the result and is not implemented is refused by name`(_ change: String, _ part: String) {
        #expect(sentence(change).hasPrefix("adapter_config.json cannot be served: "))
        #expect(sentence(change).contains(part))
    }

    @Test(arguments: [
        "use_dora:null", "modules_to_save:[]", "init_lora_weights:true", "init_lora_weights:\"gaussian\"",
        "a_field_of_the_future:false", "a_field_of_the_future:{}", "layers_to_transform:[0,1]",
    ])
    func `what is off, or tells of training, is no obstacle`(_ change: String) {
        #expect(sentence(change) == "nothing was refused")
    }

    @Test func `a file that is no JSON object, or too long, is refused`() {
        for text in ["", "[]", "{", "{}"] {
            #expect(throws: CheckpointError.self) {
                try AdapterConfig(json: Array(text.utf8), file: "f", maxRank: 8)
            }
        }
        let long = Array("{\"peft_type\":\"LORA\"".utf8) + [UInt8](repeating: 32, count: AdapterConfig.maxBytes)
        #expect(throws: CheckpointError.self) { try AdapterConfig(json: long, file: "f", maxRank: 8) }
    }

    @Test func `no damage of a file is more than a refusal`() {
        let text = Array("{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":1.5,\"use_rslora\":true,\"x\":[1,{}]}".utf8)
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            var bytes = text
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0...2, using: &generator) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: place)
                default: bytes.insert(bytes[Int.random(in: 0..<bytes.count, using: &generator)], at: place)
                }
            }
            do {
                let config = try AdapterConfig(json: bytes, file: "f", maxRank: 64)
                #expect((1...64).contains(config.rank))
            } catch { #expect(!error.description.isEmpty) }
        }
    }

    @Test func `a pickle is refused, and so is a folder without weights`() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("adapter-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func sentence() -> String {
            do {
                _ = try AdapterCheckpoint(path: folder.path, maxRank: 8)
                return "nothing was refused"
            } catch { return "\(error)" }
        }
        #expect(sentence().contains("adapter_config.json"))
        let config = "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":2}"
        try config.write(to: folder.appendingPathComponent("adapter_config.json"), atomically: true, encoding: .utf8)
        #expect(sentence().contains("adapter_model.safetensors"))
        try Data([0x80, 2]).write(to: folder.appendingPathComponent("adapter_model.bin"))
        #expect(sentence().contains("a Python pickle"))
        try Data([0x80, 2]).write(to: folder.appendingPathComponent("adapter_model.safetensors"))
        #expect(sentence() != "nothing was refused")
    }
}
