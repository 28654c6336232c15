// A request to /v1/messages, said as one to /v1/chat/completions: the two differ in how they put things, not in what
// can be asked for. Fields of the other endpoint that are not in this API pass as they are. What is wrong is told by
// the names of this API.

import JSON

/// Reads bodies of /v1/messages and of /v1/messages/count_tokens.
enum MessagesRequest {
    /// The body that asks the same of /v1/chat/completions.
    /// - Parameter isCounted: for counting tokens, which needs no `max_tokens`.
    static func chatFields(_ fields: JSONFields, isCounted: Bool = false) throws(ServingError) -> JSONFields {
        var members = fields.members.filter { !own.contains($0.name) }
        func add(_ name: String, _ value: JSONValue) { members.append(JSONValue.Member(name: name, value: value)) }

        if let limit = fields["max_tokens"] {
            add("max_tokens", limit)
        } else if !isCounted {
            throw .missingField(field: "max_tokens", requirement: RequestField.maxTokens.requirement)
        }
        let messages = try MessageBlocks.messages(fields)
        add("messages", .array(messages.list))
        // The answer goes on with what is put into the model's mouth.
        if messages.endsWithAnswer { add("continue_final_message", .bool(true)) }
        if let stop = fields["stop_sequences"] { add("stop", stop) }
        if try fields.bool("stream") ?? false {
            add("stream", .bool(true))
            add("stream_options", .object(["include_usage": .bool(true), "continuous_usage_stats": .bool(true)]))
        }
        try addTools(fields, add)
        try addThinking(fields, add)
        try addOutput(fields, add)
        for name in ["container", "mcp_servers"] {
            guard let value = fields[name], value != .array([]) else { continue }
            throw .unsupportedField(field: name, value: value.summary, advice: "Leave it out.")
        }
        return JSONFields(members: members)
    }

    /// What is said in another way there, and what is said to nobody here.
    private static let own: Set = [
        "messages", "system", "max_tokens", "stop_sequences", "stream", "tools", "tool_choice", "thinking",
        "output_config", "metadata", "service_tier", "container", "mcp_servers",
    ]

    // MARK: Tools

    private static func addTools(
        _ fields: JSONFields, _ add: (String, JSONValue) -> Void
    ) throws(ServingError) {
        if let elements = try fields.array("tools", orElse: "a list of tools"), !elements.isEmpty {
            var tools: [JSONValue] = []
            for (index, element) in elements.enumerated() {
                guard case .object(let members) = element else {
                    throw fields.mismatch("tools.\(index)", element, "an object with name and input_schema")
                }
                tools.append(try tool(JSONFields(path: "tools.\(index).", members: members)))
            }
            add("tools", .array(tools))
        }
        guard let choice = try fields.object("tool_choice") else { return }
        let types = "\"auto\", \"any\", \"tool\" or \"none\""
        guard let type = try choice.string("type") else {
            throw .missingField(field: "tool_choice.type", requirement: types)
        }
        switch type {
        case "auto", "none": add("tool_choice", .string(type))
        case "any": add("tool_choice", .string("required"))
        case "tool":
            guard let name = try choice.string("name") else {
                throw .missingField(field: "tool_choice.name", requirement: "the name of one of the tools")
            }
            add("tool_choice", .object(["type": .string("function"), "function": .object(["name": .string(name)])]))
        default: throw choice.invalid("type", .string(type), types)
        }
        if try choice.bool("disable_parallel_tool_use") ?? false { add("parallel_tool_calls", .bool(false)) }
    }

    private static func tool(_ fields: JSONFields) throws(ServingError) -> JSONValue {
        let type = try fields.string("type")
        guard type == nil || type == "custom" else {
            throw .unsupportedField(
                field: fields.path + "type", value: JSONValue.quoted(type ?? ""),
                advice: "Only tools of the client's own are accepted.")
        }
        var function: [JSONValue.Member] = []
        for (name, other) in [
            ("name", "name"), ("description", "description"), ("input_schema", "parameters"), ("strict", "strict"),
        ] {
            if let value = fields[name] { function.append(JSONValue.Member(name: other, value: value)) }
        }
        return .object(["type": .string("function"), "function": .object(function)])
    }

    // MARK: Thinking, and the form of the answer

    private static func addThinking(
        _ fields: JSONFields, _ add: (String, JSONValue) -> Void
    ) throws(ServingError) {
        guard let thinking = try fields.object("thinking") else { return }
        let types = "\"enabled\", \"adaptive\" or \"disabled\""
        guard let type = try thinking.string("type") else {
            throw .missingField(field: "thinking.type", requirement: types)
        }
        switch type {
        case "enabled":
            guard let budget = thinking["budget_tokens"] else {
                throw .missingField(
                    field: "thinking.budget_tokens", requirement: RequestField.reasoningBudget.requirement)
            }
            add("thinking_token_budget", budget)
        case "adaptive": break
        case "disabled": if fields["reasoning_effort"] == nil { add("reasoning_effort", .string("none")) }
        default: throw thinking.invalid("type", .string(type), types)
        }
    }

    private static func addOutput(
        _ fields: JSONFields, _ add: (String, JSONValue) -> Void
    ) throws(ServingError) {
        guard let output = try fields.object("output_config") else { return }
        if let effort = try output.string("effort"), fields["reasoning_effort"] == nil {
            let efforts = ["low", "medium", "high", "xhigh", "max"]
            guard efforts.contains(effort) else {
                throw output.invalid("effort", .string(effort), "one of " + efforts.joined(separator: ", "))
            }
            add("reasoning_effort", .string(effort == "max" ? "xhigh" : effort))
        }
        guard let format = try output.object("format") else { return }
        guard try format.string("type") == "json_schema" else {
            throw format.invalid("type", format["type"] ?? .null, "\"json_schema\"")
        }
        guard let schema = format["schema"] else {
            throw .missingField(field: "output_config.format.schema", requirement: "a JSON Schema")
        }
        let named = JSONValue.object(["name": .string("answer"), "schema": schema])
        add("response_format", .object(["type": .string("json_schema"), "json_schema": named]))
    }
}

extension JSONValue {
    /// An object of these members, in their order.
    static func object(_ members: KeyValuePairs<String, JSONValue>) -> JSONValue {
        .object(members.map { Member(name: $0.key, value: $0.value) })
    }
}
