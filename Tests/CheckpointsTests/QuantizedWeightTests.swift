// Quantized Hugging Face folders against what their own tools say the weights are, bit for bit
// (Tests/Fixtures/weights/make_quantized.py), and what is refused.

import Checkpoints
import Foundation
import JSON
import Tensors
import Testing

/// The `quantization_config` of a folder's config.json.
private func config(_ folder: String) throws -> QuantizationConfig {
    let path = folder + "/config.json"
    let value = try JSONParser.parse([UInt8](Data(contentsOf: URL(filePath: path))))
    guard case .object(let members) = value, let field = members.first(where: { $0.name == "quantization_config" })
    else { throw CheckpointError.missingMetadata(file: path, key: "quantization_config") }
    return try QuantizationConfig(field.value, file: path)
}

private func parsed(_ text: String) throws -> QuantizationConfig {
    try QuantizationConfig(JSONParser.parse(Array(text.utf8)), file: "config.json")
}

struct QuantizedWeightTests {
    @Test(
        arguments: [
            ("gptq", ["l.weight": DType.int4]), ("gptq_v2_shuffled", ["l.weight": .f32]),
            ("gptq8", ["l.weight": .int8]),
            ("gptq8_wide", ["l.weight": .f32]), ("awq", ["l.weight": .int4]),
            (
                "compressed",
                [
                    "group4.weight": .int4, "group4_asymmetric.weight": .int4, "channel8.weight": .int8,
                    "int8_channel.weight": .int8, "int8_asymmetric.weight": .int8, "group4_ordered.weight": .f32,
                ]
            ),
            (
                "fp8",
                ["tensor.weight": .e4m3, "channel.weight": .e4m3, "channel_bf16.weight": .e4m3, "block.weight": .e4m3]
            ),
        ] as [(String, [String: DType])])
    func `a folder's weights are what its tool says`(name: String, types: [String: DType]) throws {
        let folder = weightFixture("quantized/\(name)")
        let checkpoint = try SafetensorsCheckpoint(path: folder, quantization: config(folder))
        let expected = try SafetensorsCheckpoint(path: folder + "/expected.safetensors")
        let plain = name.hasPrefix("gptq") ? ["l.bias"] : []
        #expect(Set(checkpoint.tensorNames) == Set(expected.tensorNames + plain))
        #expect(Set(types.keys) == Set(expected.tensorNames))
        for (weight, dtype) in types {
            let tensor = try #require(checkpoint.storedTensor(weight)).tensor
            let reference = try #require(expected.storedTensor(weight)).tensor
            #expect(tensor.dtype == dtype, "\(weight)")
            #expect(tensor.shape == reference.shape, "\(weight)")
            #expect(tensor.dequantized() == reference.dequantized(), "\(weight)")
        }
    }

    @Test func `inputs are quantized where the folder says that they are, as they come and to 8-bit floats`() throws {
        func method(_ scheme: String) -> String { #"{"quant_method":"fp8","activation_scheme":"\#(scheme)"}"# }
        #expect(try parsed(method("dynamic")).quantizesInputs)
        #expect(try !parsed(method("static")).quantizesInputs)
        #expect(try !parsed(#"{"quant_method":"fp8"}"#).quantizesInputs)
        func groups(_ inputs: String...) throws -> Bool {
            let list = inputs.enumerated().map { #""group_\#($0)":{"input_activations":\#($1)}"# }
            return try parsed(
                #"{"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"#
                    + list.joined(separator: ",") + "}}"
            ).quantizesInputs
        }
        let dynamic = #"{"dynamic":true,"num_bits":8,"type":"float","strategy":"token"}"#
        #expect(try groups(dynamic))
        #expect(try groups(dynamic, dynamic))
        #expect(try !groups(dynamic, "null"))
        #expect(try !groups())
        #expect(try !groups(#"{"dynamic":false,"num_bits":8,"type":"float"}"#))
        #expect(try !groups(#"{"dynamic":true,"num_bits":8,"type":"int"}"#))
        let folder = weightFixture("quantized/fp8")
        for (scheme, expected) in [("dynamic", true), ("static", false)] {
            let checkpoint = try SafetensorsCheckpoint(path: folder, quantization: parsed(method(scheme)))
            for name in ["tensor.weight", "channel.weight", "block.weight"] {
                #expect(checkpoint.storedTensor(name)?.tensor.quantizesInput == expected)
            }
        }
    }

    @Test func `experts of four-bit floats are GGUF's MXFP4 in another order`() throws {
        let header =
            #"{"e_blocks":{"dtype":"U8","shape":[1,2,1,16],"data_offsets":[0,32]},"#
            + #""e_scales":{"dtype":"U8","shape":[1,2,1],"data_offsets":[32,34]}}"#
        let data: [UInt8] = [
            0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE, 0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE,
        ]
        let file = try parseSafetensors(safetensors(header, data: data + data + [127, 128]))
        let checkpoint = try SafetensorsCheckpoint(path: "t", [file], index: nil)
        #expect(checkpoint.tensorNames == ["e"])
        let tensor = try #require(checkpoint.storedTensor("e")).tensor
        let floats: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]
        #expect(tensor.dtype == .mxfp4 && tensor.shape == [1, 2, 32])
        #expect(tensor.dequantizedRow(0) == floats + floats)
        #expect(tensor.dequantizedRow(1) == (floats + floats).map { 2 * $0 })
    }

    @Test func `a NaN among 8-bit floats stays one`() throws {
        let header =
            #"{"l.weight":{"dtype":"F8_E4M3","shape":[2,32],"data_offsets":[0,64]},"#
            + #""l.weight_scale":{"dtype":"F32","shape":[1],"data_offsets":[64,68]}}"#
        var data = [UInt8](repeating: 0x38, count: 64)
        data[5] = 0x7F
        let file = try parseSafetensors(safetensors(header, data: data + [0, 0, 0, 0x3F]))
        let tensor = try #require(
            SafetensorsCheckpoint(path: "t", [file], index: nil).storedTensor("l.weight")
        ).tensor
        #expect(tensor.dequantizedRow(0).contains { $0.isNaN })
        #expect(tensor.dequantizedRow(1) == [Float](repeating: 0.5, count: 32))
    }

    @Test(arguments: [
        (#"{"quant_method":"bitsandbytes"}"#, #"quantization_config.quant_method is "bitsandbytes""#),
        (
            #"{"quant_method":"gptq","bits":3}"#,
            "quantization_config.bits is 3, which is not supported; supported: 4 and 8"
        ),
        (#"{"quant_method":"gptq","bits":"4"}"#, #"quantization_config.bits is "4"; expected an integer"#),
        (#"{"quant_method":"gptq","checkpoint_format":"marlin"}"#, #"checkpoint_format is "marlin""#),
        (#"{"quant_method":"awq","version":"gemv"}"#, #"quantization_config.version is "gemv""#),
        (#"{"quant_method":"compressed-tensors","format":"nvfp4-pack-quantized"}"#, "quantization_config.format is"),
        (#"{"quant_method":"fp8","weight_block_size":[128]}"#, "two multiples of 32"),
        (#"{"quant_method":1}"#, "quantization_config.quant_method is 1; expected a string"),
        ("[]", "quantization_config.quant_method is \"\""),
    ])
    func `what is not read is refused in a sentence`(text: String, sentence: String) {
        #expect { try parsed(text) } throws: { "\($0)".contains(sentence) }
    }

    @Test(arguments: [
        ("l.scales", "", "has no tensor l.scales"), ("l.qzeros", "", "has no tensor l.qzeros"),
        ("l.scales", #"{"dtype":"F16","shape":[3,8],"data_offsets":[68,116]}"#, "tensor l.scales is of [3, 8]"),
        ("l.qzeros", #"{"dtype":"I32","shape":[2,2],"data_offsets":[68,84]}"#, "tensor l.qzeros is of [2, 2]"),
        ("l.g_idx", #"{"dtype":"I32","shape":[2],"data_offsets":[68,76]}"#, "tensor l.g_idx is of [2]; expected [8]"),
        ("l.weight", #"{"dtype":"F32","shape":[],"data_offsets":[68,72]}"#, "there as it is and quantized"),
    ])
    func `parts that do not fit are refused by name`(part: String, changed: String, sentence: String) throws {
        var entries = [
            "l.qweight": #"{"dtype":"I32","shape":[1,8],"data_offsets":[0,32]}"#,
            "l.qzeros": #"{"dtype":"I32","shape":[1,1],"data_offsets":[32,36]}"#,
            "l.scales": #"{"dtype":"F16","shape":[1,8],"data_offsets":[36,52]}"#,
            "pad": #"{"dtype":"U8","shape":[16],"data_offsets":[52,68]}"#,
        ]
        var size = 68
        entries[part] = nil
        if !changed.isEmpty {
            entries[part] = changed
            size = ["l.scales": 116, "l.qzeros": 84, "l.g_idx": 76][part] ?? 72
        }
        // What a removed or moved part leaves is bytes of no meaning.
        let gaps = ["l.scales": (36, 52), "l.qzeros": (32, 36)]
        if let (start, end) = gaps[part] {
            entries["gap"] = #"{"dtype":"U8","shape":[\#(end - start)],"data_offsets":[\#(start),\#(end)]}"#
        }
        let header = "{" + entries.map { "\"\($0)\":\($1)" }.sorted().joined(separator: ",") + "}"
        let file = try parseSafetensors(safetensors(header, data: [UInt8](repeating: 0, count: size)))
        let gptq = try parsed(#"{"quant_method":"gptq","bits":4,"group_size":-1}"#)
        #expect {
            try SafetensorsCheckpoint(path: "t", [file], index: nil, quantization: gptq)
        } throws: {
            "\($0)".contains(sentence)
        }
        #expect(throws: CheckpointError.self) { try SafetensorsCheckpoint(path: "t", [file], index: nil) }
    }

    @Test func `a group that is not there is refused before it is looked up`() throws {
        let header =
            #"{"l.g_idx":{"dtype":"I32","shape":[8],"data_offsets":[0,32]},"#
            + #""l.qweight":{"dtype":"I32","shape":[1,8],"data_offsets":[32,64]},"#
            + #""l.qzeros":{"dtype":"I32","shape":[2,1],"data_offsets":[64,72]},"#
            + #""l.scales":{"dtype":"F16","shape":[2,8],"data_offsets":[72,104]}}"#
        let gptq = try parsed(#"{"quant_method":"gptq","bits":4}"#)
        for (group, isThere) in [(UInt8(1), true), (2, false), (0xFF, false)] {
            var data = [UInt8](repeating: 0, count: 104)
            data[4] = group
            let file = try parseSafetensors(safetensors(header, data: data))
            if isThere {
                let checkpoint = try SafetensorsCheckpoint(path: "t", [file], index: nil, quantization: gptq)
                #expect(checkpoint.storedTensor("l.weight")?.tensor.dequantized().count == 64)
            } else {
                #expect { try SafetensorsCheckpoint(path: "t", [file], index: nil, quantization: gptq) } throws: {
                    "\($0)".contains("naming a group that is not there; expected groups 0 to 1")
                }
            }
        }
    }
}
