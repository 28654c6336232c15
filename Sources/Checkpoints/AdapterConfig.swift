// adapter_config.json: what a PEFT folder says about how its matrices change a model.
//
// Most of its fields tell how the adapter was trained. Those that change what it computes are read or refused, and so
// is a field that nobody here knows, unless it is off: ignoring it would serve a different adapter.

import JSON

/// What is needed to apply a LoRA adapter.
package struct AdapterConfig: Sendable, Equatable {
    /// The most bytes the file may have.
    package static let maxBytes = 1 << 20

    /// Rows of the inner matrices.
    package let rank: Int
    /// What the product of an adapter's matrices is multiplied by.
    package let scale: Double

    /// Fields that say how the adapter was made or is to be trained on.
    private static let irrelevant: Set<String> = [
        "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version",
        "peft_type",
        "r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "lora_dropout", "layers_to_transform",
        "layers_pattern", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_config",
        "megatron_core", "qalora_group_size", "runtime_config", "ensure_weight_tying", "monteclora_config",
    ]
    /// Initial values that leave the model's own weights alone.
    private static let plainInitializations: [JSONValue] = [
        .null, .bool(true), .bool(false), .string("gaussian"), .string("eva"), .string("orthogonal"),
    ]

    /// Reads the file whose content is `json`.
    /// - Parameters:
    ///   - file: its path, for messages.
    ///   - maxRank: the largest rank there is room for.
    package init(json: [UInt8], file: String, maxRank: Int) throws(CheckpointError) {
        let members = try JSONValue.members(of: json, file: file, limit: Self.maxBytes)
        func value(_ name: String) -> JSONValue { members.first { $0.name == name }?.value ?? .null }
        func wrong(_ name: String, _ expected: String) -> CheckpointError {
            .wrongSetting(file: file, field: name, actual: value(name).summary, expected: expected)
        }
        guard value("peft_type") == .string("LORA") else { throw wrong("peft_type", "\"LORA\"") }
        guard let rank = value("r").exactInteger, (1...maxRank).contains(rank) else {
            throw wrong("r", "a rank from 1 to \(maxRank), which is max-lora-rank")
        }
        let alpha: Double
        switch value("lora_alpha") {
        case .integer(let integer): alpha = Double(integer)
        case .number(let number): alpha = number
        default: throw wrong("lora_alpha", "a number")
        }
        let isStabilized: Bool
        switch value("use_rslora") {
        case .bool(let isOn): isStabilized = isOn
        case .null: isStabilized = false
        default: throw wrong("use_rslora", "true or false")
        }
        for member in members where !Self.irrelevant.contains(member.name) {
            try Self.check(member, file: file)
        }
        self.rank = rank
        scale = alpha / (isStabilized ? Double(rank).squareRoot() : Double(rank))
    }

    /// Refuses what changes the result in a way that is not implemented.
    private static func check(_ member: JSONValue.Member, file: String) throws(CheckpointError) {
        let isOff: Bool
        let expected: String
        switch member.name {
        case "bias": (isOff, expected) = ([.null, .string("none")].contains(member.value), "\"none\"")
        case "init_lora_weights":
            isOff = plainInitializations.contains(member.value)
            expected = "a start that leaves the model's weights alone"
        default:
            expected = "that it is off: adapters are plain LoRA"
            switch member.value {
            case .null, .bool(false): isOff = true
            case .array(let elements): isOff = elements.isEmpty
            case .object(let members): isOff = members.isEmpty
            default: isOff = false
            }
        }
        guard isOff else {
            throw .wrongSetting(
                file: file, field: printable(member.name), actual: member.value.summary, expected: expected)
        }
    }
}
