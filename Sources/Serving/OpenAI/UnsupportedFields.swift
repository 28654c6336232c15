// Fields of the API and its dialects that would change the answer and that this server does not have. A value that
// changes nothing is accepted, for clients send defaults; any other is refused by name, never ignored.

import JSON

/// The fields that are refused, and the values that are not.
enum UnsupportedFields {
    /// A field and the values that ask for nothing.
    private struct Rule {
        let name: String
        let neutral: [JSONValue]

        init(_ name: String, _ neutral: JSONValue...) {
            self.name = name
            self.neutral = neutral
        }
    }

    /// Throws for the first field of `fields` that asks for what is not there.
    static func check(_ fields: JSONFields, isChat: Bool) throws(ServingError) {
        try check(fields, common + (isChat ? chat : completions))
    }

    /// The same for requests that reduce prompts to vectors.
    static func check(pooling fields: JSONFields) throws(ServingError) { try check(fields, pooling) }

    private static func check(_ fields: JSONFields, _ rules: [Rule]) throws(ServingError) {
        for rule in rules {
            guard let value = fields[rule.name], !rule.neutral.contains(where: { $0.means(value) }) else { continue }
            throw .unsupportedField(
                field: fields.path + rule.name, value: value.summary,
                advice: rule.neutral.isEmpty
                    ? "Leave it out." : "Leave it out or send \(rule.neutral.map(\.literal).joined(separator: " or "))."
            )
        }
    }

    private static let pooling: [Rule] = [
        Rule("normalize", .bool(true)), Rule("task", .string("embed")), Rule("padding", .string("do_not_pad")),
        Rule("embed_dtype", .string("float32")), Rule("endianness", .string("native"), .string("little")),
        Rule("chat_template"), Rule("instruction"), Rule("max_tokens_per_doc", .integer(0)),
        Rule("max_tokens_per_query", .integer(0)), Rule("lora_path"), Rule("stream", .bool(false)),
    ]

    private static let common: [Rule] = [
        // Ways to change the distribution, and to end.
        Rule("repeat_penalty", .integer(1)),
        Rule("typical_p", .integer(1)), Rule("mirostat", .integer(0)), Rule("dry_multiplier", .integer(0)),
        Rule("xtc_probability", .integer(0)), Rule("dynatemp_range", .integer(0)), Rule("top_n_sigma", .integer(-1)),
        Rule("no_repeat_ngram_size", .integer(0)), Rule("stop_regex", .array([])), Rule("no_stop_trim", .bool(false)),
        Rule("use_beam_search", .bool(false)), Rule("length_penalty", .integer(1)),
        Rule("early_stopping", .bool(false)),
        // Other names of structured_outputs.
        Rule("guided_whitespace_pattern"), Rule("json_schema"), Rule("regex"), Rule("ebnf"), Rule("grammar"),
        Rule("structural_tag"),
        // Prompt and cache.
        Rule("truncate"), Rule("prompt_embeds"), Rule("kv_transfer_params"), Rule("vllm_xargs", .object([])),
        Rule("lora_path"),
        // What the answer holds.
        Rule("n_probs", .integer(0)),
        Rule("return_hidden_states", .bool(false)), Rule("detokenize", .bool(true)),
        // Other servers' names for what has another name here, and their hooks.
        Rule("max_new_tokens"), Rule("n_predict"), Rule("min_new_tokens", .integer(0)), Rule("stop_sequences"),
        Rule("num_beams", .integer(1)), Rule("tfs_z", .integer(1)), Rule("top_a", .integer(0)),
        Rule("logits_processors", .array([])), Rule("custom_logit_processor"), Rule("extra_args", .object([])),
        Rule("prompt_token_ids"), Rule("input_embeds"), Rule("lora_request"), Rule("lora_name"),
    ]

    private static let completions: [Rule] = [
        Rule("suffix", .string("")), Rule("top_logprobs"), Rule("tools"), Rule("messages"),
        Rule("thinking_token_budget"), Rule("reasoning_effort", .string("none")),
    ]

    private static let chat: [Rule] = [
        Rule("functions"), Rule("function_call", .string("none")), Rule("chat_template"),
        Rule("prompt"), Rule("suffix", .string("")), Rule("audio"),
        Rule("web_search_options"),
    ]
}

extension JSONValue {
    /// Whether two values are the same, 1 and 1.0 included.
    fileprivate func means(_ other: JSONValue) -> Bool {
        if let left = exactInteger, let right = other.exactInteger { return left == right }
        return self == other
    }

    /// The value as JSON, for the few kinds that stand in the tables above.
    fileprivate var literal: String {
        switch self {
        case .array: "[]"
        case .object: "{}"
        default: summary
        }
    }
}
