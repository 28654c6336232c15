// The fields of request bodies as JSON Schema, made from the table that validates them. null means the default
// everywhere, so every type allows it.

import JSON

/// One field of a request body.
struct FieldSchema: Sendable {
    let name: String
    /// The members of its JSON Schema.
    let schema: String
    let sentence: String

    init(_ name: String, _ schema: String, _ sentence: String) {
        self.name = name
        self.schema = schema
        self.sentence = sentence
    }

    /// The member that describes it among an object's properties.
    var property: String {
        #""\#(name)":{\#(schema),"description":\#(JSONValue.quoted(sentence))}"#
    }

    // MARK: From the table

    private init(_ field: RequestField, limit: Int?) {
        self.init(field.key, Self.schema(field.kind, limit: limit), field.sentence + " Default: \(field.standard).")
    }

    /// The table's fields of one endpoint; those with a dotted name inside their object.
    private static func table(
        _ scope: RequestField.Scope, _ configuration: ServingConfiguration
    ) -> [FieldSchema] {
        if scope == .embeddings || scope == .rerank {
            return RequestField.all.filter { $0.scope == scope }.map { FieldSchema($0, limit: nil) } + pooled
        }
        let fields = RequestField.all.filter { $0.scope == .both || $0.scope == scope }
        var objects: [String: [FieldSchema]] = [:]
        for field in fields where field.key != field.name {
            let parent = String(field.name.dropLast(field.key.count + 1))
            objects[parent, default: []].append(FieldSchema(field, limit: nil))
        }
        var schemas = fields.filter { $0.key == $0.name && objects[$0.name] == nil }.map { field in
            FieldSchema(field, limit: field.name == RequestField.n.name ? configuration.maxChoices : nil)
        }
        for (name, members) in objects.sorted(by: { $0.key < $1.key }) {
            let sentence = fields.first { $0.name == name }?.sentence ?? "Options of \(name.prefix { $0 != "_" })."
            let properties = members.map(\.property).joined(separator: ",")
            schemas.append(
                FieldSchema(name, #""type":["object","null"],"properties":{\#(properties)}"#, sentence))
        }
        return schemas
    }

    private static func schema(_ kind: RequestField.Kind, limit: Int?) -> String {
        switch kind {
        case .bool: return boolean
        case .integer(let range): return integer(range, limit: limit)
        case .number(let range, let isOpen):
            let upper = range.upperBound == .greatestFiniteMagnitude ? "" : #","maximum":\#(range.upperBound)"#
            return #""type":["number","null"],"\#(isOpen ? "exclusiveMinimum" : "minimum")":\#(range.lowerBound)"#
                + upper
        case .text(let characters):
            return
                #""type":["string","null"],"minLength":\#(characters.lowerBound),"maxLength":\#(characters.upperBound)"#
        case .choice(let words): return oneOf(words)
        case .strings(let count, let bytes, let isSingle):
            let string = #""minLength":\#(bytes.lowerBound),"maxLength":\#(bytes.upperBound)"#
            return #""type":[\#(isSingle ? "\"string\"," : "")"array","null"],"#
                + (isSingle ? string + "," : "") + items(count) + #","items":{"type":"string",\#(string)}"#
        case .tokens(let count): return #""type":["array","null"],\#(items(count)),"items":\#(token)"#
        case .biases(let count):
            return #""type":["object","null"],"maxProperties":\#(count.upperBound),"#
                + #""propertyNames":{"pattern":"^[0-9]+$"},"additionalProperties":{"type":"number"}"#
        case .object(let members): return #""type":["object","null"],"maxProperties":\#(members.upperBound)"#
        case .objects(let count): return #""type":["array","null"],\#(items(count)),"items":{"type":"object"}"#
        case .other(_, let schema): return schema
        }
    }

    private static func items(_ count: ClosedRange<Int>) -> String {
        #""minItems":\#(count.lowerBound)"# + (count.upperBound == .max ? "" : #","maxItems":\#(count.upperBound)"#)
    }

    private static func integer(_ range: ClosedRange<Int>, limit: Int?) -> String {
        let upper = limit ?? range.upperBound
        return #""type":["integer","null"],"minimum":\#(range.lowerBound),"maximum":\#(upper)"#
    }

    private static let boolean = #""type":["boolean","null"]"#
    private static let token = #"{"type":"integer","minimum":0}"#

    private static func oneOf(_ words: [String]) -> String {
        #""type":["string","null"],"enum":["# + words.map { JSONValue.quoted($0) + "," }.joined() + "null]"
    }

    // MARK: Bodies

    private static func model(_ configuration: ServingConfiguration) -> FieldSchema {
        guard configuration.adapters == nil else {
            return FieldSchema("model", #""type":["string","null"]"#, "One of the served names, or an adapter's.")
        }
        return FieldSchema("model", oneOf(configuration.servedModelNames), "One of the served names.")
    }

    /// The body of /v1/load_lora_adapter or of /v1/unload_lora_adapter.
    static func adapter(isLoaded: Bool) -> [FieldSchema] {
        let text = #""type":"string","minLength":1"#
        let name = FieldSchema("lora_name", text, "The name that requests give as their model.")
        guard isLoaded else { return [name] }
        return [
            name, FieldSchema("lora_path", text, "Its folder, within the folder of adapters."),
            FieldSchema("load_inplace", boolean, "Whether an adapter of that name gives way."),
        ]
    }

    /// The body of /v1/completions.
    static func completions(_ configuration: ServingConfiguration) -> [FieldSchema] {
        [model(configuration), texts("prompt", limit: configuration.maxPrompts)] + table(.completions, configuration)
    }

    /// The body of /v1/embeddings and /pooling.
    static func embeddings(_ configuration: ServingConfiguration) -> [FieldSchema] {
        [model(configuration), texts("input", limit: PoolingFields.maxInputs)] + table(.embeddings, configuration)
    }

    /// The body of /score.
    static func score(_ configuration: ServingConfiguration) -> [FieldSchema] {
        [model(configuration), pairs("text_1"), pairs("text_2")] + pooled
    }

    /// The body of /rerank.
    static func rerank(_ configuration: ServingConfiguration) -> [FieldSchema] {
        [
            model(configuration), FieldSchema("query", #""type":"string","minLength":1"#, "What is looked for."),
            pairs("documents"),
        ] + table(.rerank, configuration)
    }

    /// What all requests for vectors read besides.
    private static let pooled = [
        RequestField.truncate, .truncationSide, .addsSpecialTokens, .cacheSalt, .requestID, .priority, .timeout,
    ].map { FieldSchema($0, limit: nil) }

    private static func pairs(_ name: String) -> FieldSchema {
        let text = #"{"type":"string","minLength":1}"#
        let list = #"{"type":"array","minItems":1,"maxItems":\#(PoolingFields.maxInputs),"items":\#(text)}"#
        return FieldSchema(name, #""anyOf":[\#(text),\#(list)]"#, "A text, or a list of texts.")
    }

    private static func texts(_ name: String, limit: Int) -> FieldSchema {
        let prompts = #""minItems":1,"maxItems":\#(limit)"#
        let text = #"{"type":"string","minLength":1}"#
        return FieldSchema(
            name,
            #""anyOf":[\#(text),{"type":"array",\#(prompts),"items":\#(text)},"#
                + #"{"type":"array","minItems":1,"items":\#(token)},"#
                + #"{"type":"array",\#(prompts),"items":{"type":"array","minItems":1,"items":\#(token)}}]"#,
            "Text, token ids below the vocabulary's size, or a list of either.")
    }

    /// The body of /v1/chat/completions.
    static func chat(_ configuration: ServingConfiguration) -> [FieldSchema] {
        [model(configuration), FieldSchema("messages", conversation, "The conversation.")] + table(.chat, configuration)
    }

    private static let conversation =
        #""type":"array","minItems":1,"items":{"type":"object","required":["role","content"],"properties":{"#
        + #""role":{"type":"string","enum":["system","developer","user","assistant","tool"]},"content":{"anyOf":["#
        + #"{"type":"string"},{"type":"array","items":{"type":"object","required":["type","text"],"properties":{"#
        + #""type":{"type":"string","enum":["text"]},"text":{"type":"string"}}}}]}}}"#

    /// A field of the table in the body of another API.
    private static func field(_ field: RequestField, as name: String? = nil) -> FieldSchema {
        FieldSchema(name ?? field.key, schema(field.kind, limit: nil), field.sentence)
    }

    /// The body of /v1/responses.
    static func responses(_ configuration: ServingConfiguration) -> [FieldSchema] {
        [
            model(configuration),
            FieldSchema("input", #""type":"string""#, "What to answer: a text, or a list of items."),
            FieldSchema("instructions", #""type":["string","null"]"#, "What the model is told first."),
            field(.maxTokens, as: "max_output_tokens"), field(.temperature), field(.topP), field(.stream),
            field(.tools),
            field(.toolChoice), field(.parallelToolCalls), field(.topLogprobs),
            FieldSchema("text", #""type":["object","null"]"#, "The form of the answer."),
            FieldSchema("reasoning", #""type":["object","null"]"#, "An effort."),
            FieldSchema(
                "truncation", oneOf(["auto", "disabled"]), "Whether what is too long loses its first tokens."),
        ]
    }

    /// The body of /v1/messages.
    static func messages(_ configuration: ServingConfiguration) -> [FieldSchema] {
        [
            model(configuration),
            FieldSchema(
                "messages",
                #""type":"array","minItems":1,"items":{"type":"object","required":["role","content"],"properties":{"#
                    + #""role":{"type":"string","enum":["user","assistant"]},"content":{"type":"string"}}}"#,
                "The conversation; content may be a list of text, thinking, tool_use and tool_result blocks as well."),
            FieldSchema("system", #""type":["string","null"]"#, "What the model is told first; or text blocks."),
            field(.maxTokens), field(.temperature), field(.topP), field(.topK), field(.stop, as: "stop_sequences"),
            field(.stream),
            FieldSchema("tools", #""type":["array","null"]"#, "Functions that the model may call."),
            FieldSchema("tool_choice", #""type":["object","null"]"#, "Whether it calls them: auto, any, tool, none."),
            FieldSchema("thinking", #""type":["object","null"]"#, "Whether it thinks first, and its budget."),
            FieldSchema("output_config", #""type":["object","null"]"#, "An effort, and the form of the answer."),
        ]
    }

    /// The body of /tokenize.
    static func tokenize(_ configuration: ServingConfiguration) -> [FieldSchema] {
        [
            model(configuration), FieldSchema("prompt", #""type":"string""#, "The text to tokenize."),
            FieldSchema("add_special_tokens", boolean, "Puts the tokenizer's own first token before the text."),
            FieldSchema("return_token_strs", boolean, "Shows the text of each token."),
        ]
    }

    /// The body of /detokenize.
    static func detokenize(_ configuration: ServingConfiguration) -> [FieldSchema] {
        [
            model(configuration),
            FieldSchema("tokens", #""type":"array","items":\#(token)"#, "Token ids below the vocabulary's size."),
        ]
    }
}
