// Hyper-parameters from the metadata of a GGUF file. A key that is not known for its architecture is refused.

import Tensors

extension ModelConfig {
    /// Reads the hyper-parameters of `file`, whose architecture must be a known one.
    package init(_ file: GGUFFile) throws(CheckpointError) {
        guard let name = try file.string("general.architecture") else {
            throw .missingMetadata(file: file.path, key: "general.architecture")
        }
        guard let family = GGUFFamily(rawValue: name) else {
            throw .unsupported(
                file: file.path, offset: file[key: "general.architecture"]?.offset ?? 0, field: "the architecture",
                actual: printable(name),
                supported: GGUFFamily.allCases.map(\.rawValue).sorted().joined(separator: ", "))
        }
        let parameters = GGUFParameters(file: file, family: family)
        try parameters.requireKnown()
        let layerCount = try parameters.required("block_count", in: 1...1024)
        let hiddenSize = try parameters.required("embedding_length", in: 1...131_072)
        let ffnSize = try parameters.required("feed_forward_length", in: 1...1_048_576)
        let headCount = try parameters.required("attention.head_count", in: 1...1024)
        let kvHeadCount = try parameters.optional("attention.head_count_kv", in: 1...headCount) ?? headCount
        guard headCount % kvHeadCount == 0 else {
            throw parameters.contradiction(
                "attention.head_count_kv", "\(kvHeadCount)", expected: "a divisor of the head count \(headCount)")
        }
        let headDim = try parameters.headDim(hiddenSize: hiddenSize, headCount: headCount)
        let vocabSize = try parameters.vocabSize()
        let contextLength = try parameters.required("context_length", in: 1...16_777_216)
        let rope = try parameters.rope(headDim: headDim, contextLength: contextLength)
        guard let epsilon = try parameters.number("attention.layer_norm_rms_epsilon", in: 1e-12...0.1) else {
            throw parameters.missing("attention.layer_norm_rms_epsilon")
        }
        self.init(
            architecture: name, name: try file.string("general.name"), layerCount: layerCount, hiddenSize: hiddenSize,
            ffnSize: ffnSize, headCount: headCount, kvHeadCount: kvHeadCount, headDim: headDim, vocabSize: vocabSize,
            contextLength: contextLength, rope: rope, rmsEpsilon: Float(epsilon),
            hasTiedEmbeddings: file.tensorInfo("output.weight") == nil)
        try parameters.readOwn(into: &self)
    }
}

/// The architectures that GGUF files of text models name.
enum GGUFFamily: String, CaseIterable {
    case llama, qwen2, qwen3, qwen3moe, gemma2, gemma3, phi3, smollm3
    case gptOSS = "gpt-oss"

    /// llama.cpp reorders the rows of queries and keys of these; the others keep the order of Hugging Face.
    var ropeLayout: RotaryLayout { self == .llama || self == .smollm3 ? .interleaved : .halves }

    var hasExperts: Bool { [.llama, .qwen3moe, .gptOSS].contains(self) }
    var hasWindow: Bool { [.llama, .gemma2, .gemma3, .phi3, .gptOSS].contains(self) }

    /// Keys that only this family has.
    fileprivate var ownKeys: Set<String> {
        switch self {
        case .gemma2: ["attn_logit_softcapping", "final_logit_softcapping"]
        case .gemma3: ["rope.freq_base_swa", "attention.sliding_window_pattern"]
        case .qwen3moe, .gptOSS: ["expert_feed_forward_length"]
        case .llama, .qwen2, .qwen3, .phi3, .smollm3: []
        }
    }
}

/// The metadata under one architecture's prefix.
struct GGUFParameters {
    let file: GGUFFile
    let family: GGUFFamily

    /// Keys that are read below, or that do not change what the model computes.
    private static let known: Set<String> = [
        "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
        "attention.layer_norm_rms_epsilon", "attention.causal", "attention.sliding_window",
        "rope.freq_base", "rope.dimension_count", "rope.scale_linear", "rope.scaling.type", "rope.scaling.factor",
        "rope.scaling.attn_factor", "rope.scaling.original_context_length", "rope.scaling.finetuned",
        "expert_count", "expert_used_count", "tensor_data_layout", "use_parallel_residual",
    ]

    func key(_ name: String) -> String { "\(family.rawValue).\(name)" }

    func required(_ name: String, in range: ClosedRange<Int>) throws(CheckpointError) -> Int {
        guard let value = try optional(name, in: range) else { throw missing(name) }
        return value
    }

    func optional(_ name: String, in range: ClosedRange<Int>) throws(CheckpointError) -> Int? {
        try file.integer(key(name), in: range)
    }

    func number(_ name: String, in range: ClosedRange<Double>) throws(CheckpointError) -> Double? {
        try file.number(key(name), in: range)
    }

    func missing(_ name: String) -> CheckpointError { .missingMetadata(file: file.path, key: key(name)) }

    func contradiction(_ name: String, _ actual: String, expected: String) -> CheckpointError {
        .malformed(
            file: file.path, offset: file[key: key(name)]?.offset ?? 0, field: key(name), actual: actual,
            expected: expected)
    }

    func unsupported(_ name: String, _ actual: String, supported: String) -> CheckpointError {
        .unsupported(
            file: file.path, offset: file[key: key(name)]?.offset ?? 0, field: key(name), actual: actual,
            supported: supported)
    }

    /// Refuses what would make this a model of another kind.
    func requireKnown() throws(CheckpointError) {
        for fullKey in file.keys where fullKey.hasPrefix(family.rawValue + ".") {
            let name = String(fullKey.dropFirst(family.rawValue.utf8.count + 1))
            guard Self.known.contains(name) || family.ownKeys.contains(name) else {
                throw unsupported(
                    printable(name), file[key: fullKey]?.summary ?? "there",
                    supported: "models without this hyper-parameter")
            }
        }
        if !family.hasExperts, let experts = try optional("expert_count", in: 0...65_536), experts > 0 {
            throw unsupported("expert_count", "\(experts)", supported: "0, a dense model")
        }
        if !family.hasWindow, let window = try window() {
            throw unsupported("attention.sliding_window", "\(window)", supported: "0, full attention")
        }
        if try file.boolean(key("attention.causal")) == false {
            throw unsupported("attention.causal", "false", supported: "true")
        }
        if try file.boolean(key("use_parallel_residual")) == true {
            throw unsupported("use_parallel_residual", "true", supported: "false")
        }
    }

    func window() throws(CheckpointError) -> Int? {
        guard let window = try optional("attention.sliding_window", in: 0...Int(Int32.max)), window > 0 else {
            return nil
        }
        return window
    }

    func headDim(hiddenSize: Int, headCount: Int) throws(CheckpointError) -> Int {
        let stated = try optional("attention.key_length", in: 2...256)
        if stated == nil, hiddenSize % headCount != 0 {
            throw contradiction(
                "attention.head_count", "\(headCount)", expected: "a divisor of the embedding length \(hiddenSize)")
        }
        let headDim = stated ?? hiddenSize / headCount
        guard headDim % 2 == 0, (2...256).contains(headDim) else {
            throw contradiction(
                stated == nil ? "attention.head_count" : "attention.key_length", "\(stated ?? headCount)",
                expected: "one that makes heads of an even size from 2 to 256, not \(headDim)")
        }
        if let valueLength = try optional("attention.value_length", in: 1...65_536), valueLength != headDim {
            throw unsupported(
                "attention.value_length", "\(valueLength)", supported: "\(headDim), the length of the keys")
        }
        return headDim
    }

    /// The stated size, or the size of the vocabulary where none is stated.
    func vocabSize() throws(CheckpointError) -> Int {
        let sizes = 1...1_048_576
        if let stated = try optional("vocab_size", in: sizes) { return stated }
        guard let entry = file[key: "tokenizer.ggml.tokens"] else { throw missing("vocab_size") }
        guard case .array(let tokens) = entry.value, sizes.contains(tokens.count) else {
            throw file.wrongValue(
                entry, "tokenizer.ggml.tokens", expected: "an array of 1 to \(sizes.upperBound) strings")
        }
        return tokens.count
    }
}
