// The table itself, in the order of the documentation.

extension RequestField {
    /// Alternatives for one token at most.
    package static let maxLogprobs = 20
    /// Tokens of all bad words together at most.
    package static let maxBadWordTokens = 1024

    // How much to generate.
    static let maxTokens = RequestField(
        "max_tokens", .integer(1 ... .max), default: "16 for completions, the rest of the context for chats",
        "Most tokens to generate; clipped to the room in the context. Completions accept 0 together with echo.")
    static let maxCompletionTokens = RequestField(
        "max_completion_tokens", .integer(1 ... .max), default: "max_tokens", "The newer name of max_tokens; it wins.")
    static let minTokens = RequestField(
        "min_tokens", .integer(0 ... .max), default: "0",
        "Tokens before which no end token, stop token or stop string ends the answer; at most max_tokens.")
    static let n = RequestField(
        "n", .integer(1...16384), default: "1",
        "Choices for each prompt; the server's limit may be lower. More than 1 needs a temperature above 0.")

    // How to choose a token.
    static let temperature = RequestField(
        "temperature", .number(0...2), default: "the model's, else 1",
        "Divides the logits. Below 0.00001 it is greedy; from there to 0.01 it counts as 0.01.")
    static let topP = RequestField(
        "top_p", .number(0...1, isOpen: true), default: "the model's, else 1",
        "Keeps the most likely tokens up to this probability.")
    static let topK = RequestField(
        "top_k", .integer(-1...Int(Int32.max)), default: "the model's, else off",
        "Keeps this many of the most likely tokens; 0 and -1 are off.")
    static let minP = RequestField(
        "min_p", .number(0...1), default: "the model's, else 0",
        "Drops tokens less likely than this share of the most likely one.")
    static let seed = RequestField(
        "seed", .integer(.min ... .max), default: "a new one",
        "Makes draws repeatable; choice i of a prompt uses seed + i. -1 is a new one.")
    static let presencePenalty = RequestField(
        "presence_penalty", .number(-2...2), default: "0", "Subtracted from the logits of tokens generated before.")
    static let frequencyPenalty = RequestField(
        "frequency_penalty", .number(-2...2), default: "0",
        "Subtracted once for each time that the token was generated before.")
    static let repetitionPenalty = RequestField(
        "repetition_penalty", .number(0 ... .greatestFiniteMagnitude, isOpen: true), default: "1",
        "Divides the positive and multiplies the negative logits of tokens in the prompt or generated before.")
    static let logitBias = RequestField(
        "logit_bias", .biases(count: 0...1024), default: "none",
        "Added to the logits of the named tokens; clamped to -100 and 100.")
    static let allowedTokens = RequestField(
        "allowed_token_ids", .tokens(count: 1 ... .max), default: "all", "The only tokens that may be generated.")
    static let badWords = RequestField(
        "bad_words", .strings(count: 0...128, bytes: 1...1024), default: "none",
        "Words that are not generated, with or without a space before them; \(maxBadWordTokens) tokens in all at most.")

    // How to end.
    static let stop = RequestField(
        "stop", .strings(count: 0...16, bytes: 1...256, isSingle: true), default: "none",
        "Text that ends the answer; it may straddle tokens.")
    static let stopTokens = RequestField(
        "stop_token_ids", .tokens(count: 0...1024), default: "none", "Further tokens that end the answer.")
    static let includesStop = RequestField(
        "include_stop_str_in_output", .bool, default: "false", "Whether the text of what ended the answer is in it.")
    static let ignoreEOS = RequestField(
        "ignore_eos", .bool, default: "false", "Goes on after the model's own end tokens.")
    static let repetitionDetection = RequestField(
        "repetition_detection", .object(members: 0...16), default: "off",
        "Ends an answer that repeats itself, with finish_reason repetition.")
    static let maxPatternSize = RequestField(
        "repetition_detection.max_pattern_size", .integer(0...256), default: "0, which is off",
        "The longest pattern looked for, in tokens.")
    static let minPatternSize = RequestField(
        "repetition_detection.min_pattern_size", .integer(0...256), default: "1",
        "The shortest pattern looked for; at most max_pattern_size.")
    static let minPatternCount = RequestField(
        "repetition_detection.min_count", .integer(2...1024), default: "required",
        "Times in a row that the pattern must stand at the end.")
    static let timeout = RequestField(
        "timeout_ms", .integer(1...86_400_000), default: "none",
        "Milliseconds after which the answer ends where it is, with finish_reason abort. The headers "
            + "x-request-timeout-ms and x-envoy-expected-rq-timeout-ms mean the same; the earliest counts.")

    // What the answer holds.
    static let logprobs = RequestField(
        "logprobs", .integer(0...maxLogprobs), .completions, default: "none",
        "Log-probabilities of the tokens and of this many of the most likely ones.")
    static let chatLogprobs = RequestField(
        "logprobs", .bool, .chat, default: "false", "Whether there are log-probabilities.")
    static let topLogprobs = RequestField(
        "top_logprobs", .integer(0...maxLogprobs), .chat, default: "0",
        "Most likely tokens to show at each place; needs logprobs.")
    static let logprobTokens = RequestField(
        "logprob_token_ids", .tokens(count: 1...128), default: "none",
        "Tokens whose log-probabilities are shown at each place, in place of the most likely ones; needs logprobs.")
    static let promptLogprobs = RequestField(
        "prompt_logprobs", .integer(0...maxLogprobs), default: "none",
        "The same for the tokens of the prompt. Not with stream; the prompt takes nothing from the prefix cache.")
    static let echo = RequestField(
        "echo", .bool, default: "false",
        "Puts the prompt in front, with its log-probabilities where there are any; for chats, the last message if it "
            + "is the assistant's.")
    static let skipsSpecialTokens = RequestField(
        "skip_special_tokens", .bool, default: "true", "Leaves control tokens out of the text.")
    static let spacesBetweenSpecialTokens = RequestField(
        "spaces_between_special_tokens", .bool, default: "true", "Accepted; the tokenizers here put none.")
    static let returnsTokenIDs = RequestField(
        "return_token_ids", .bool, default: "false", "Adds token_ids and prompt_token_ids.")
    static let showsTokenIDs = RequestField(
        "return_tokens_as_token_ids", .bool, default: "false", "Shows tokens in log-probabilities as token_id:N.")
    static let stream = RequestField("stream", .bool, default: "false", "Whether the answer is a stream of events.")
    static let streamInterval = RequestField(
        "stream_interval", .integer(1...Int(Int32.max)), default: "1",
        "Tokens in each event of a stream; the first one has one.")
    static let includesUsage = RequestField(
        "stream_options.include_usage", .bool, default: "false", "A last event with the usage; needs stream.")
    static let continuousUsage = RequestField(
        "stream_options.continuous_usage_stats", .bool, default: "false",
        "Running usage on every event; needs include_usage.")

    // The prompt.
    static let truncate = RequestField(
        "truncate_prompt_tokens", .integer(-1 ... .max), default: "off",
        "Keeps this many tokens of the prompt, at most what leaves room for max_tokens; -1 keeps as many as that.")
    static let truncationSide = RequestField(
        "truncation_side", .choice(["left", "right"]), default: "left",
        "Where tokens are left out: left keeps the last ones.")
    static let addsSpecialTokens = RequestField(
        "add_special_tokens", .bool, default: "true for completions, false for chats",
        "Whether the tokenizer puts its own first token before the text.")
    static let cacheSalt = RequestField(
        "cache_salt", .text(characters: 1...128), default: "none",
        "Prompts share cached prefixes only with those of the same salt.")
    static let requestID = RequestField(
        "request_id", .text(characters: 1...128), default: "the header X-Request-Id, else a new one",
        "What the answer's id is made of; the header wins.")
    static let priority = RequestField(
        "priority", .integer(-1_000_000_000...1_000_000_000), default: "0",
        "Lower is served first; other than 0 only under the scheduling policy priority.")
    static let addsGenerationPrompt = RequestField(
        "add_generation_prompt", .bool, .chat, default: "true", "Whether the template begins the assistant's turn.")
    static let continuesFinalMessage = RequestField(
        "continue_final_message", .bool, .chat, default: "false",
        "Whether the model goes on with the last message; not with add_generation_prompt.")
    static let templateArguments = RequestField(
        "chat_template_kwargs", .object(members: 0...64), .chat, default: "none",
        "Further names for the chat template.")
    static let documents = RequestField(
        "documents", .objects(count: 0...64), .chat, default: "none",
        "Texts that the answer is to rest on, for templates that know documents.")
    static let reasoningEffort = RequestField(
        "reasoning_effort", .choice(["none", "minimal", "low", "medium", "high", "xhigh"]), .chat,
        default: "the template's",
        "For the chat template, as reasoning_effort; none is enable_thinking false as well. chat_template_kwargs wins.")

    // What the answer must look like: structured-output.md.
    static let responseFormat = RequestField(
        "response_format",
        .other("an object with type text, json_object or json_schema", schema: #""type":["object","null"]"#),
        default: "text", "The form of the answer; a json_schema has a name and a schema.")
    static let structuredOutputs = RequestField(
        "structured_outputs",
        .other(
            "an object with exactly one of json, regex, choice, grammar, json_object",
            schema: #""type":["object","null"]"#),
        default: "none",
        "The form of the answer: a JSON Schema, a regular expression, texts to choose from, or a grammar. "
            + "disable_any_whitespace leaves out spaces between the parts of JSON. Its members are also known by older "
            + "names: guided_json, guided_regex, guided_choice, guided_grammar, guided_json_object.")
    static let tools = RequestField(
        "tools", .other("a list of 1 to \(ToolFields.maxTools) functions", schema: #""type":["array","null"]"#), .chat,
        default: "none", "Functions that the model may call.")
    static let toolChoice = RequestField(
        "tool_choice",
        .other(
            "none, auto, required or an object that names a function", schema: #""type":["string","object","null"]"#),
        .chat, default: "auto where there are tools", "Whether the model calls functions, and which.")
    static let parallelToolCalls = RequestField(
        "parallel_tool_calls", .bool, .chat, default: "true", "Whether one answer may hold several calls.")
    static let includesReasoning = RequestField(
        "include_reasoning", .bool, .chat, default: "true", "Whether the answer shows the model's reasoning.")
    static let reasoningBudget = RequestField(
        "thinking_token_budget", .integer(0...Int(Int32.max)), .chat, default: "none",
        "Tokens of reasoning after which the model is made to answer.")

    // What prompts are reduced to.
    static let encodingFormat = RequestField(
        "encoding_format", .choice(["float", "base64"]), .embeddings, default: "float",
        "How vectors are written: numbers, or the base64 of 32-bit floats, the lowest byte first.")
    static let dimensions = RequestField(
        "dimensions", .integer(1...Int(Int32.max)), .embeddings, default: "the model's hidden size",
        "Keeps the first of a vector's elements, before it is normalized; at most as many as there are.")
    static let normalizes = RequestField(
        "use_activation", .bool, .embeddings, default: "true", "Whether vectors have length 1.")
    static let topDocuments = RequestField(
        "top_n", .integer(0 ... .max), .rerank, default: "0, which is all", "How many documents to answer with.")
    static let returnsDocuments = RequestField(
        "return_documents", .bool, .rerank, default: "true", "Whether the answer repeats their texts.")

    // Traces.
    static let maxIterations = RequestField(
        "max_iterations", .integer(1 ... .max), .both, default: "as many as are kept",
        "Steps to record; the recording still ends with /stop_profile.")

    /// All of them.
    package static let all = [
        maxTokens, maxCompletionTokens, minTokens, n, temperature, topP, topK, minP, seed, presencePenalty,
        frequencyPenalty, repetitionPenalty, logitBias, allowedTokens, badWords, stop, stopTokens, includesStop,
        ignoreEOS, repetitionDetection, maxPatternSize, minPatternSize, minPatternCount, timeout, logprobs,
        chatLogprobs, topLogprobs, logprobTokens, promptLogprobs, echo, skipsSpecialTokens,
        spacesBetweenSpecialTokens, returnsTokenIDs, showsTokenIDs, stream, streamInterval, includesUsage,
        continuousUsage, truncate, truncationSide, addsSpecialTokens, cacheSalt, requestID, priority,
        addsGenerationPrompt, continuesFinalMessage, templateArguments, documents, reasoningEffort, responseFormat,
        structuredOutputs,
        tools, toolChoice, parallelToolCalls, includesReasoning, reasoningBudget, encodingFormat, dimensions,
        normalizes, topDocuments, returnsDocuments,
    ]

    /// docs/requests.md.
    package static var documentation: String {
        var text = """
            # Fields of a request

            Written from `RequestFieldTable.swift`; a test compares. `/v1/completions` and `/v1/chat/completions` read
            these fields besides `model`, `prompt` (a string, a list of at most \(CompletionRequest.maxPrompts)
            strings, token ids, or lists of them) and `messages` (\(ChatMessages.maxCount) at most, of
            \(ChatMessages.maxParts) text parts each).

            `null` means the default. A value of the wrong type or outside its range is refused with status 400, and
            `param` names the field. Unknown fields are ignored; those of other servers that would change the answer
            are refused by name.

            `/v1/responses` and `/v1/messages` take conversations in the shapes of their own clients, and these fields
            of a chat besides, where they have no other name for them. They keep nothing between requests.

            `/v1/embeddings` and `/pooling` read `input` (the same shapes as `prompt`, at most
            \(PoolingFields.maxInputs)) or `messages`; `/score` reads `text_1` and `text_2` (or `queries` and
            `documents`), each a string or a list, one to many or in pairs; `/rerank` reads `query` and `documents`.
            All of them read `truncate_prompt_tokens`, `truncation_side`, `add_special_tokens`, `cache_salt`,
            `request_id`, `priority` and `timeout_ms` besides the fields marked below. See embeddings.md.

            | Field | Endpoint | Must be | Default | Meaning |
            |---|---|---|---|---|

            """
        for field in all {
            text += "| `\(field.name)` | \(field.scope.rawValue) | \(field.requirement) | \(field.standard) "
            text += "| \(field.sentence) |\n"
        }
        text += """

            Penalties, and bad words of more than one token, need the last token before the next one can be chosen. On
            a device that works ahead, such an answer takes part in every second step; others are not slowed. A prompt
            that is scored (`prompt_logprobs`, or `echo` with `logprobs`) is computed in the rows of logits that no
            running answer needs, so on a full server it takes one step for each token.

            Log-probabilities are those of the model, before temperature, penalties, biases and filters.

            """
        return text
    }
}
