// A request to /v1/responses, said as one to /v1/chat/completions. Nothing is kept between requests, so what refers to
// an earlier response is refused; fields of the other endpoint that are not in this API pass as they are.

import JSON

/// A body of /v1/responses.
struct ResponsesRequest {
    /// The body that asks the same of /v1/chat/completions.
    let chatFields: JSONFields
    /// What the answer says of the request, member by member.
    let echo: [JSONValue.Member]

    init(_ fields: JSONFields) throws(ServingError) {
        try Self.refuseState(fields)
        var members = fields.members.filter { !Self.own.contains($0.name) }
        func add(_ name: String, _ value: JSONValue) { members.append(JSONValue.Member(name: name, value: value)) }

        add("messages", .array(try ResponseItems.messages(fields)))
        if let limit = fields["max_output_tokens"] { add("max_tokens", limit) }
        if try fields.bool("stream") ?? false {
            add("stream", .bool(true))
            add("stream_options", .object(["include_usage": .bool(true), "continuous_usage_stats": .bool(true)]))
        }
        let tools = try Self.tools(fields)
        if !tools.isEmpty { add("tools", .array(tools)) }
        if let choice = try Self.toolChoice(fields) { add("tool_choice", choice) }
        if let format = try Self.format(fields) { add("response_format", format) }
        if let reasoning = try fields.object("reasoning"), let effort = reasoning["effort"] {
            add("reasoning_effort", effort)
        }
        switch try fields.string("truncation") {
        case nil, "disabled": break
        case "auto": add("truncate_prompt_tokens", .integer(-1))
        case .some(let word): throw fields.invalid("truncation", .string(word), "\"auto\" or \"disabled\"")
        }
        let included = try fields.array("include") ?? []
        if included.contains(.string("message.output_text.logprobs")) || fields["top_logprobs"] != nil {
            add("logprobs", .bool(true))
            if let count = fields["top_logprobs"] { add("top_logprobs", count) }
        }
        chatFields = JSONFields(members: members)
        echo = Self.echo(fields)
    }

    /// What is said in another way there, and what changes nothing here.
    private static let own: Set = [
        "input", "instructions", "max_output_tokens", "stream", "stream_options", "tools", "tool_choice", "text",
        "reasoning", "truncation", "include", "top_logprobs", "background", "previous_response_id", "conversation",
        "prompt", "store", "max_tool_calls", "context_management",
    ]

    private static func refuseState(_ fields: JSONFields) throws(ServingError) {
        for name in ["previous_response_id", "conversation", "prompt"] {
            guard let value = fields[name] else { continue }
            throw .unsupportedField(
                field: name, value: value.summary, advice: "Nothing is kept here. Send the whole conversation as input."
            )
        }
        if try fields.bool("background") ?? false {
            throw .unsupportedField(field: "background", value: "true", advice: "Leave it out.")
        }
    }

    // MARK: Tools and form

    private static func tools(_ fields: JSONFields) throws(ServingError) -> [JSONValue] {
        var tools: [JSONValue] = []
        for (index, element) in (try fields.array("tools", orElse: "a list of functions") ?? []).enumerated() {
            guard case .object(let members) = element else {
                throw fields.mismatch("tools.\(index)", element, "an object with type, name and parameters")
            }
            let tool = JSONFields(path: "tools.\(index).", members: members)
            let type = try tool.string("type")
            guard type == "function" else {
                throw .unsupportedField(
                    field: tool.path + "type", value: tool["type"]?.summary ?? "null",
                    advice: "Only functions are accepted.")
            }
            let function = members.filter { $0.name != "type" && $0.value != .null }
            tools.append(.object(["type": .string("function"), "function": .object(function)]))
        }
        return tools
    }

    private static func toolChoice(_ fields: JSONFields) throws(ServingError) -> JSONValue? {
        guard case .object(let members) = fields["tool_choice"] else { return fields["tool_choice"] }
        let choice = JSONFields(path: "tool_choice.", members: members)
        guard try choice.string("type") == "function" else {
            throw choice.invalid("type", choice["type"] ?? .null, "\"function\"")
        }
        guard let name = choice["name"] else {
            throw .missingField(field: "tool_choice.name", requirement: "the name of one of the tools")
        }
        return .object(["type": .string("function"), "function": .object(["name": name])])
    }

    private static func format(_ fields: JSONFields) throws(ServingError) -> JSONValue? {
        guard let format = try fields.object("text")?.object("format") else { return nil }
        let types = "\"text\", \"json_object\" or \"json_schema\""
        guard let type = try format.string("type") else {
            throw .missingField(field: "text.format.type", requirement: types)
        }
        switch type {
        case "text", "json_object": return .object(["type": .string(type)])
        case "json_schema":
            guard format["schema"] != nil else {
                throw .missingField(field: "text.format.schema", requirement: "a JSON Schema")
            }
            let schema = format.members.filter { $0.name != "type" }
            return .object(["type": .string(type), "json_schema": .object(schema)])
        default: throw format.invalid("type", .string(type), types)
        }
    }

    // MARK: The answer's own words

    private static func echo(_ fields: JSONFields) -> [JSONValue.Member] {
        let text = JSONValue.object(["format": .object(["type": .string("text")])])
        let standards: KeyValuePairs<String, JSONValue> = [
            "instructions": .null, "max_output_tokens": .null, "metadata": .object([]),
            "parallel_tool_calls": .bool(true),
            "previous_response_id": .null, "reasoning": .null, "temperature": .null, "text": text,
            "tool_choice": .string("auto"), "tools": .array([]), "top_logprobs": .integer(0), "top_p": .null,
            "truncation": .string("disabled"), "user": .null,
        ]
        return [.init(name: "background", value: .bool(false)), .init(name: "store", value: .bool(false))]
            + standards.map { .init(name: $0.key, value: fields[$0.key] ?? $0.value) }
    }
}
