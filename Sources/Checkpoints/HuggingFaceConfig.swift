// Hyper-parameters from the config.json of a Hugging Face folder. Whatever is absent, out of range, in contradiction
// with another field or not known is refused with its name: a field that is ignored might be one that changes results.

import JSON
import Tensors

extension ModelConfig {
    /// The most bytes a config.json may have.
    package static let maxConfigBytes = 1 << 20

    /// Reads the config.json whose content is `json`.
    /// - Parameter file: its path, for messages.
    package init(json: [UInt8], file: String) throws(CheckpointError) {
        let fields = try HuggingFaceFields(json: json, file: file)
        let family = try HuggingFaceFamily(fields)
        try fields.requireKnown(family)
        let layerCount = try fields.required("num_hidden_layers", in: 1...1024)
        let hiddenSize = try fields.required("hidden_size", in: 1...131_072)
        let headCount = try fields.required("num_attention_heads", in: 1...1024)
        let kvHeadCount = try fields.integer("num_key_value_heads", in: 1...headCount) ?? headCount
        guard headCount % kvHeadCount == 0 else {
            throw fields.wrong("num_key_value_heads", "a divisor of the head count \(headCount)")
        }
        let stated = try fields.integer("head_dim", in: 2...256)
        guard stated != nil || hiddenSize % headCount == 0 else {
            throw fields.wrong("num_attention_heads", "a divisor of the hidden size \(hiddenSize)")
        }
        let headDim = stated ?? hiddenSize / headCount
        guard headDim % 2 == 0, (2...256).contains(headDim) else {
            throw fields.wrong(
                stated == nil ? "num_attention_heads" : "head_dim", "heads of an even size from 2 to 256")
        }
        let contextLength = try fields.required("max_position_embeddings", in: 1...16_777_216)
        guard let epsilon = try fields.number("rms_norm_eps", in: 1e-12...0.1) else {
            throw fields.wrong("rms_norm_eps", "a number from 1e-12 to 0.1")
        }
        self.init(
            architecture: family.architecture, name: nil, layerCount: layerCount, hiddenSize: hiddenSize,
            ffnSize: try fields.required("intermediate_size", in: 1...1_048_576), headCount: headCount,
            kvHeadCount: kvHeadCount, headDim: headDim,
            vocabSize: try fields.required("vocab_size", in: 1...1_048_576), contextLength: contextLength,
            rope: try fields.rope(family, headDim: headDim, contextLength: contextLength),
            rmsEpsilon: Float(epsilon),
            hasTiedEmbeddings: try fields.boolean("tie_word_embeddings") ?? family.tiesByDefault)
        try fields.readOwn(family, into: &self)
    }
}

/// The values of `model_type` that are known.
enum HuggingFaceFamily: String, CaseIterable {
    case llama, mistral, mixtral, qwen2, qwen3, gemma2, phi3, smollm3
    case qwen3MoE = "qwen3_moe"
    case gemma3 = "gemma3_text"
    case gptOSS = "gpt_oss"

    init(_ fields: HuggingFaceFields) throws(CheckpointError) {
        let known = Self.allCases.map(\.rawValue).sorted().joined(separator: ", ")
        guard let name = try fields.string("model_type"), let family = Self(rawValue: name) else {
            throw fields.wrong("model_type", "one of \(known)")
        }
        self = family
    }

    /// The name in `Registry`, which is GGUF's.
    var architecture: String {
        switch self {
        case .llama, .mistral, .mixtral: "llama"
        case .qwen3MoE: "qwen3moe"
        case .gemma3: "gemma3"
        case .gptOSS: "gpt-oss"
        default: rawValue
        }
    }

    var isGemma: Bool { self == .gemma2 || self == .gemma3 }
    var tiesByDefault: Bool { isGemma || self == .smollm3 }
    var hasExperts: Bool { [.mixtral, .qwen3MoE, .gptOSS].contains(self) }

    /// Fields that only this family has and that are read.
    var ownFields: Set<String> {
        switch self {
        case .llama, .mistral: []
        case .mixtral: ["num_local_experts", "num_experts_per_tok"]
        case .qwen2, .qwen3: ["max_window_layers"]
        case .qwen3MoE:
            [
                "max_window_layers", "num_experts", "num_local_experts", "num_experts_per_tok", "moe_intermediate_size",
                "norm_topk_prob", "decoder_sparse_step", "mlp_only_layers",
            ]
        case .gemma2, .gemma3:
            [
                "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping", "rope_local_base_freq",
                "sliding_window_pattern", "_sliding_window_pattern", "use_bidirectional_attention",
            ]
        case .phi3: ["original_max_position_embeddings", "embd_pdrop", "resid_pdrop"]
        case .smollm3: ["no_rope_layers", "no_rope_layer_interval", "max_window_layers"]
        case .gptOSS:
            [
                "num_local_experts", "num_experts_per_tok", "swiglu_limit", "swiglu_alpha", "experts_per_token",
                "initial_context_length",
            ]
        }
    }
}

/// The members of a config.json.
struct HuggingFaceFields {
    let file: String
    private let members: [String: JSONValue]

    /// Read for every family.
    private static let read: Set<String> = [
        "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps", "hidden_act",
        "hidden_activation", "tie_word_embeddings", "rope_theta", "rope_scaling", "rope_parameters",
        "partial_rotary_factor", "sliding_window", "use_sliding_window", "layer_types", "attention_bias", "mlp_bias",
    ]
    /// Of training, of sampling, of other programs, or of the tokenizer: no result of a forward pass depends on them.
    private static let neutral: Set<String> = [
        "architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "use_cache", "bos_token_id",
        "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "decoder_start_token_id", "initializer_range",
        "attention_dropout", "hidden_dropout", "embd_pdrop", "resid_pdrop", "pretraining_tp", "_name_or_path",
        "_model_name_or_path", "_attn_implementation", "_attn_implementation_autoset", "output_router_logits",
        "router_aux_loss_coef", "router_jitter_noise", "output_attentions", "output_hidden_states", "output_scores",
        "return_dict", "return_dict_in_generate", "cache_implementation", "quantization_config", "id2label",
        "label2id", "problem_type", "finetuning_task", "task_specific_params", "is_decoder", "is_encoder_decoder",
        "tie_encoder_decoder", "add_cross_attention", "cross_attention_hidden_size", "rope_interleaved",
        "is_llama_config", "transformers.js_config", "tokenizer_class", "prefix", "torchscript", "use_bfloat16",
        "tf_legacy_loss", "pruned_heads", "chunk_size_feed_forward", "unsloth_fixed", "unsloth_version", "max_length",
        "min_length", "do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
        "length_penalty", "diversity_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
        "early_stopping", "num_beams", "num_beam_groups", "num_return_sequences", "bad_words_ids",
        "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
        "suppress_tokens", "begin_suppress_tokens",
    ]

    init(json: [UInt8], file: String) throws(CheckpointError) {
        guard json.count <= ModelConfig.maxConfigBytes else {
            throw .wrongSetting(
                file: file, field: "its size", actual: "\(json.count) bytes",
                expected: "at most \(ModelConfig.maxConfigBytes)")
        }
        do throws(JSONError) {
            guard case .object(let members) = try JSONParser.parse(json) else {
                throw JSONError(offset: 0, reason: "it is not an object")
            }
            self.init(file: file, members: members)
        } catch {
            throw .wrongSetting(
                file: file, field: "byte \(error.offset)", actual: "no JSON (\(error.reason))",
                expected: "one JSON object")
        }
    }

    private init(file: String, members: [JSONValue.Member]) {
        self.file = file
        self.members = Dictionary(members.map { ($0.name, $0.value) }) { first, _ in first }
    }

    /// The members of the object `name`, or nil where there is none.
    func object(_ name: String) throws(CheckpointError) -> HuggingFaceFields? {
        switch members[name] {
        case nil, .null: return nil
        case .object(let inner):
            let named = inner.map { JSONValue.Member(name: $0.name, value: $0.value) }
            return HuggingFaceFields(file: "\(file), \(name)", members: named)
        default: throw wrong(name, "an object")
        }
    }

    var names: [String] { members.keys.sorted() }
    /// The value of the first of `names` that is there.
    func first<Value>(
        _ names: [String], _ read: (String) throws(CheckpointError) -> Value?
    ) throws(CheckpointError) -> Value? {
        for name in names {
            if let value = try read(name) { return value }
        }
        return nil
    }

    func has(_ name: String) -> Bool { members[name].map { $0 != .null } ?? false }

    /// The error of a field that is not what it should be.
    func wrong(_ name: String, _ expected: String) -> CheckpointError {
        .wrongSetting(
            file: file, field: printable(name), actual: members[name]?.summary ?? "absent", expected: expected)
    }

    /// Refuses fields that might mean something.
    func requireKnown(_ family: HuggingFaceFamily) throws(CheckpointError) {
        for (name, value) in members.sorted(by: { $0.key < $1.key }) {
            if Self.read.contains(name) || Self.neutral.contains(name) || family.ownFields.contains(name) { continue }
            if value == .null || value == .bool(false) { continue }
            throw wrong(name, "a field that is known for \(family.rawValue)")
        }
        if try boolean("attention_bias") == true, family != .gptOSS { throw wrong("attention_bias", "false") }
        if try boolean("mlp_bias") == true { throw wrong("mlp_bias", "false") }
    }

    func required(_ name: String, in range: ClosedRange<Int>) throws(CheckpointError) -> Int {
        guard let value = try integer(name, in: range) else {
            throw wrong(name, "an integer from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    func integer(_ name: String, in range: ClosedRange<Int>) throws(CheckpointError) -> Int? {
        switch members[name] {
        case nil, .null: return nil
        case .integer(let value) where range.contains(value): return value
        default: throw wrong(name, "an integer from \(range.lowerBound) to \(range.upperBound)")
        }
    }

    func number(_ name: String, in range: ClosedRange<Double>) throws(CheckpointError) -> Double? {
        switch members[name] {
        case nil, .null: return nil
        case .integer(let value) where range.contains(Double(value)): return Double(value)
        case .number(let value) where range.contains(value): return value
        default: throw wrong(name, "a number from \(range.lowerBound) to \(range.upperBound)")
        }
    }

    func boolean(_ name: String) throws(CheckpointError) -> Bool? {
        switch members[name] {
        case nil, .null: return nil
        case .bool(let value): return value
        default: throw wrong(name, "true or false")
        }
    }

    func string(_ name: String) throws(CheckpointError) -> String? {
        switch members[name] {
        case nil, .null: return nil
        case .string(let value): return value
        default: throw wrong(name, "a string")
        }
    }

    /// The list `name` of `count` elements (of any number when nil), each as `element` reads it.
    func list<Element>(
        _ name: String, count: Int? = nil, of expected: String, _ element: (JSONValue) -> Element?
    ) throws(CheckpointError) -> [Element]? {
        switch members[name] {
        case nil, .null: return nil
        case .array(let values):
            let elements = values.compactMap(element)
            guard elements.count == values.count, values.count == count ?? values.count else {
                throw wrong(name, "a list of \(count.map { "\($0) " } ?? "")\(expected)")
            }
            return elements
        default: throw wrong(name, "a list of \(expected)")
        }
    }
}
