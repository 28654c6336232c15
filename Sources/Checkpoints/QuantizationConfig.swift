// What a folder's config.json says about how its weights are quantized: `quantization_config`.
//
// The tensors say most by their names, types and shapes. This is for what they do not, and for refusing in a sentence
// what is not read.

import JSON

/// How a folder's weights are quantized.
package struct QuantizationConfig: Sendable, Equatable {
    /// Who made the weights.
    package enum Method: String, Sendable, CaseIterable {
        case gptq, awq, fp8
        case fbgemmFP8 = "fbgemm_fp8"
        case compressedTensors = "compressed-tensors"
        case mxfp4
    }

    package let method: Method
    /// Bits of a weight, where the method has several; else 8.
    package let bits: Int
    /// Whether GPTQ's zeros are stored one too small, as its first format does.
    package let storesZerosMinusOne: Bool
    /// Rows and columns that share a scale, where scales are of blocks.
    package let blockShape: [Int]
    /// Whether inputs are quantized to 8-bit floats as they come, each row by itself, as the weights are.
    package let quantizesInputs: Bool

    /// What tensors tell by themselves.
    static let implied = QuantizationConfig(method: .fp8, bits: 8, storesZerosMinusOne: false, blockShape: [128, 128])

    private init(method: Method, bits: Int, storesZerosMinusOne: Bool, blockShape: [Int]) {
        quantizesInputs = false
        self.method = method
        self.bits = bits
        self.storesZerosMinusOne = storesZerosMinusOne
        self.blockShape = blockShape
    }

    /// - Parameters:
    ///   - value: the `quantization_config` of config.json, or its `compression_config`.
    ///   - file: the path of config.json, for messages.
    package init(_ value: JSONValue, file: String) throws(CheckpointError) {
        let fields = Fields(value, file: file)
        let name = try fields.string("quant_method") ?? ""
        guard let method = Method(rawValue: name) else {
            throw fields.unsupported(
                "quant_method", JSONValue.quoted(name), Method.allCases.map(\.rawValue).joined(separator: ", "))
        }
        self.method = method
        let widths = method == .gptq ? [4, 8] : method == .awq ? [4] : []
        let (named, other) = (try fields.integer("bits"), try fields.integer("w_bit"))
        let bits = named ?? other ?? widths.first ?? 8
        guard widths.isEmpty || widths.contains(bits) else {
            throw fields.unsupported(
                "bits", "\(bits)", "\(widths.map(String.init).joined(separator: " and ")) with \(method.rawValue)")
        }
        self.bits = widths.isEmpty ? 8 : bits
        let format = try fields.string(method == .awq ? "version" : "checkpoint_format") ?? ""
        storesZerosMinusOne = method == .gptq && format != "gptq_v2"
        switch method {
        case .gptq where !["", "gptq", "gptq_v2"].contains(format):
            throw fields.unsupported("checkpoint_format", JSONValue.quoted(format), "gptq and gptq_v2")
        case .awq where !["", "gemm"].contains(format.lowercased()):
            throw fields.unsupported("version", JSONValue.quoted(format), "gemm")
        case .compressedTensors: try Self.check(compressed: fields)
        default: break
        }
        let shape = try fields.integers("weight_block_size") ?? [128, 128]
        guard shape.count == 2, shape.allSatisfy({ (32...4096).contains($0) }), shape[1] % 32 == 0 else {
            throw fields.unsupported("weight_block_size", "\(shape)", "two multiples of 32")
        }
        blockShape = shape
        switch method {
        case .fp8: quantizesInputs = try fields.string("activation_scheme") == "dynamic"
        case .compressedTensors: quantizesInputs = fields.quantizesInputs
        default: quantizesInputs = false
        }
    }

    private static func check(compressed fields: Fields) throws(CheckpointError) {
        let known = ["pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "dense"]
        let format = try fields.string("format") ?? "dense"
        guard known.contains(format) else {
            throw fields.unsupported("format", JSONValue.quoted(format), known.joined(separator: ", "))
        }
    }

    /// The members of the object, by name.
    private struct Fields {
        let file: String
        private var members: [String: JSONValue] = [:]

        init(_ value: JSONValue, file: String) {
            self.file = file
            guard case .object(let list) = value else { return }
            for member in list { members[member.name] = member.value }
        }

        func string(_ name: String) throws(CheckpointError) -> String? {
            switch members[name] {
            case nil, .null: return nil
            case .string(let text): return text
            case .some(let other): throw wrong(name, other, "a string")
            }
        }

        func integer(_ name: String) throws(CheckpointError) -> Int? {
            switch members[name] {
            case nil, .null: return nil
            case .integer(let number): return number
            case .some(let other): throw wrong(name, other, "an integer")
            }
        }

        func integers(_ name: String) throws(CheckpointError) -> [Int]? {
            switch members[name] {
            case nil, .null: return nil
            case .array(let elements):
                var result: [Int] = []
                for element in elements.prefix(8) {
                    guard case .integer(let number) = element else { throw wrong(name, element, "integers") }
                    result.append(number)
                }
                return result
            case .some(let other): throw wrong(name, other, "a list of integers")
            }
        }

        /// Whether all groups of compressed-tensors say that their inputs become 8-bit floats as they come.
        var quantizesInputs: Bool {
            guard case .object(let groups)? = members["config_groups"], !groups.isEmpty else { return false }
            return groups.allSatisfy { group in
                guard case .object(let parts) = group.value,
                    case .object(let inputs)? = parts.first(where: { $0.name == "input_activations" })?.value
                else { return false }
                func value(_ name: String) -> JSONValue? { inputs.first { $0.name == name }?.value }
                return value("dynamic") == .bool(true) && value("type") == .string("float")
                    && value("num_bits") == .integer(8)
            }
        }

        func unsupported(_ name: String, _ actual: String, _ supported: String) -> CheckpointError {
            .unsupported(
                file: file, offset: 0, field: "quantization_config.\(name)", actual: actual, supported: supported)
        }

        private func wrong(_ name: String, _ value: JSONValue, _ expected: String) -> CheckpointError {
            .malformed(
                file: file, offset: 0, field: "quantization_config.\(name)", actual: value.summary, expected: expected)
        }
    }
}
