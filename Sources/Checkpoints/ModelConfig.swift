// The hyper-parameters of a transformer, read from a checkpoint and checked once.
//
// Everything after this point may divide by, allocate from and index with these numbers, so a value that is absent,
// out of range or in contradiction with another is refused here, by name. A hyper-parameter this reader does not know
// is refused as well: ignoring it would load a different model.

import Tensors

/// How positions are stretched beyond the context a model was trained with.
package enum RopeScaling: Sendable, Equatable {
    case none
    /// Positions are divided by `factor`.
    case linear(factor: Double)
}

/// What defines a decoder-only transformer of the Llama family.
package struct ModelConfig: Sendable, Equatable {
    /// The architecture's name in the checkpoint, such as "llama".
    package let architecture: String
    /// The name its publisher gave the model, if any.
    package let name: String?
    /// Transformer blocks.
    package let layerCount: Int
    /// Features of the residual stream.
    package let hiddenSize: Int
    /// Features of the feed-forward network's inner layer.
    package let ffnSize: Int
    /// Query heads per layer.
    package let headCount: Int
    /// Key and value heads per layer; divides `headCount`.
    package let kvHeadCount: Int
    /// Features per head; even.
    package let headDim: Int
    /// Rows of the embedding table. Token ids are below this; the tokenizer may know fewer.
    package let vocabSize: Int
    /// Tokens the model was trained to attend over.
    package let contextLength: Int
    /// Base of the rotary frequencies.
    package let ropeTheta: Double
    /// Leading features of each head that rotate; even, at most `headDim`.
    package let ropeDimension: Int
    /// Which pairs of features rotate together.
    package let ropeLayout: RotaryLayout
    /// How positions are stretched. Per-frequency factors, where a model has them, are the tensor `rope_freqs.weight`.
    package let ropeScaling: RopeScaling
    /// Added to the mean square inside every RMS norm.
    package let rmsEpsilon: Float
    /// Whether the embedding table also maps hidden states to logits.
    package let hasTiedEmbeddings: Bool

    /// Hyper-parameters that are known to fit together; nothing is checked.
    package init(
        architecture: String, name: String?, layerCount: Int, hiddenSize: Int, ffnSize: Int, headCount: Int,
        kvHeadCount: Int, headDim: Int, vocabSize: Int, contextLength: Int, ropeTheta: Double, ropeLayout: RotaryLayout,
        rmsEpsilon: Float, hasTiedEmbeddings: Bool
    ) {
        self.architecture = architecture
        self.name = name
        self.layerCount = layerCount
        self.hiddenSize = hiddenSize
        self.ffnSize = ffnSize
        self.headCount = headCount
        self.kvHeadCount = kvHeadCount
        self.headDim = headDim
        self.vocabSize = vocabSize
        self.contextLength = contextLength
        self.ropeTheta = ropeTheta
        ropeDimension = headDim
        self.ropeLayout = ropeLayout
        ropeScaling = .none
        self.rmsEpsilon = rmsEpsilon
        self.hasTiedEmbeddings = hasTiedEmbeddings
    }

    /// Reads the hyper-parameters of `file`, whose architecture must be one of `architectures`.
    package init(
        _ file: GGUFFile, architectures: [String: RotaryLayout] = ["llama": .interleaved]
    ) throws(CheckpointError) {
        guard let architecture = try file.string("general.architecture") else {
            throw .missingMetadata(file: file.path, key: "general.architecture")
        }
        guard let layout = architectures[architecture] else {
            throw .unsupported(
                file: file.path, offset: file[key: "general.architecture"]?.offset ?? 0, field: "the architecture",
                actual: printable(architecture), supported: architectures.keys.sorted().joined(separator: ", "))
        }
        let parameters = HyperParameters(file: file, architecture: architecture)
        try parameters.requireKnown()
        self.architecture = architecture
        name = try file.string("general.name")
        layerCount = try parameters.required("block_count", in: 1...1024)
        hiddenSize = try parameters.required("embedding_length", in: 1...131_072)
        ffnSize = try parameters.required("feed_forward_length", in: 1...1_048_576)
        headCount = try parameters.required("attention.head_count", in: 1...1024)
        kvHeadCount = try parameters.optional("attention.head_count_kv", in: 1...headCount) ?? headCount
        guard headCount % kvHeadCount == 0 else {
            throw parameters.contradiction(
                "attention.head_count_kv", "\(kvHeadCount)", expected: "a divisor of the head count \(headCount)")
        }
        headDim = try parameters.headDim(hiddenSize: hiddenSize, headCount: headCount)
        vocabSize = try parameters.vocabSize()
        contextLength = try parameters.required("context_length", in: 1...16_777_216)
        ropeTheta = try parameters.number("rope.freq_base", in: 1...1e12) ?? 10_000
        ropeDimension = try parameters.optional("rope.dimension_count", in: 2...headDim) ?? headDim
        guard ropeDimension % 2 == 0 else {
            throw parameters.contradiction("rope.dimension_count", "\(ropeDimension)", expected: "an even number")
        }
        ropeLayout = layout
        ropeScaling = try parameters.ropeScaling()
        guard let epsilon = try parameters.number("attention.layer_norm_rms_epsilon", in: 1e-12...0.1) else {
            throw parameters.missing("attention.layer_norm_rms_epsilon")
        }
        rmsEpsilon = Float(epsilon)
        hasTiedEmbeddings = file.tensorInfo("output.weight") == nil
    }
}

/// The metadata under one architecture's prefix.
private struct HyperParameters {
    let file: GGUFFile
    let architecture: String

    /// Keys that are read below, or that do not change what the model computes.
    private static let known: Set<String> = [
        "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
        "attention.layer_norm_rms_epsilon", "attention.causal", "attention.sliding_window",
        "rope.freq_base", "rope.dimension_count", "rope.scale_linear", "rope.scaling.type", "rope.scaling.factor",
        "rope.scaling.attn_factor", "rope.scaling.original_context_length", "rope.scaling.finetuned",
        "expert_count", "expert_used_count", "tensor_data_layout", "use_parallel_residual",
    ]

    func key(_ name: String) -> String { "\(architecture).\(name)" }

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

    private func unsupported(_ name: String, _ actual: String, supported: String) -> CheckpointError {
        .unsupported(
            file: file.path, offset: file[key: key(name)]?.offset ?? 0, field: key(name), actual: actual,
            supported: supported)
    }

    /// Refuses what would make this a model of another kind.
    func requireKnown() throws(CheckpointError) {
        for fullKey in file.keys where fullKey.hasPrefix(architecture + ".") {
            let name = String(fullKey.dropFirst(architecture.count + 1))
            guard Self.known.contains(name) else {
                throw unsupported(
                    printable(name), file[key: fullKey]?.summary ?? "there",
                    supported: "models without this hyper-parameter")
            }
        }
        if let experts = try optional("expert_count", in: 0...65_536), experts > 0 {
            throw unsupported("expert_count", "\(experts)", supported: "0, a dense model")
        }
        if let window = try optional("attention.sliding_window", in: 0...Int(Int32.max)), window > 0 {
            throw unsupported("attention.sliding_window", "\(window)", supported: "0, full attention")
        }
        if try file.boolean(key("attention.causal")) == false {
            throw unsupported("attention.causal", "false", supported: "true")
        }
        if try file.boolean(key("use_parallel_residual")) == true {
            throw unsupported("use_parallel_residual", "true", supported: "false")
        }
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

    func ropeScaling() throws(CheckpointError) -> RopeScaling {
        if let factor = try number("rope.scaling.attn_factor", in: 0...1e6), factor != 1, factor != 0 {
            throw unsupported("rope.scaling.attn_factor", "\(factor)", supported: "1")
        }
        switch try file.string(key("rope.scaling.type")) {
        case "linear":
            guard let factor = try number("rope.scaling.factor", in: 1...1e6) else {
                throw missing("rope.scaling.factor")
            }
            return factor == 1 ? .none : .linear(factor: factor)
        case nil:
            // The key of older files.
            guard let factor = try number("rope.scale_linear", in: 1...1e6), factor != 1 else { return .none }
            return .linear(factor: factor)
        case "none": return .none
        case .some(let type):
            throw unsupported("rope.scaling.type", printable(type), supported: "none, linear")
        }
    }
}
