// The conversation of /v1/responses: a list of items, each a message, a call, its result or what the model thought.

import JSON

/// Reads `instructions` and `input`.
enum ResponseItems {
    /// The messages as /v1/chat/completions takes them.
    static func messages(_ fields: JSONFields) throws(ServingError) -> [JSONValue] {
        var conversation = Conversation()
        if let instructions = try fields.string("instructions") {
            conversation.add(role: "system", content: instructions)
        }
        switch fields["input"] {
        case .string(let text): conversation.add(role: "user", content: text)
        case .array(let items):
            guard (1...ChatMessages.maxCount).contains(items.count) else {
                throw fields.invalid(
                    "input", .array(items), "a string or a list of 1 to \(ChatMessages.maxCount) items")
            }
            for (index, item) in items.enumerated() {
                guard case .object(let members) = item else {
                    throw fields.mismatch("input.\(index)", item, "an object with a type or a role")
                }
                try add(JSONFields(path: "input.\(index).", members: members), to: &conversation)
            }
        case nil: throw .missingField(field: "input", requirement: "a string or a list of items")
        case .some(let value): throw fields.mismatch("input", value, "a string or a list of items")
        }
        return conversation.finished()
    }

    private static func add(_ item: JSONFields, to conversation: inout Conversation) throws(ServingError) {
        switch try item.string("type") ?? "message" {
        case "message":
            let roles = ["user", "assistant", "system", "developer"]
            guard let role = try item.string("role"), roles.contains(role) else {
                throw item.invalid("role", item["role"] ?? .null, "one of " + roles.joined(separator: ", "))
            }
            conversation.add(role: role, content: try text(item, "content", of: ["input_text", "output_text", "text"]))
        case "function_call":
            let arguments = try item.required("arguments")
            do {
                guard case .object = try JSONParser.parse(Array((arguments.isEmpty ? "{}" : arguments).utf8)) else {
                    throw item.invalid("arguments", .string(arguments), "a JSON object, as text")
                }
            } catch let error as ServingError {
                throw error
            } catch {
                throw item.invalid("arguments", .string(arguments), "a JSON object, as text")
            }
            conversation.add(
                call: .object([
                    "id": .string(try item.required("call_id")), "type": .string("function"),
                    "function": .object([
                        "name": .string(try item.required("name")), "arguments": .string(arguments),
                    ]),
                ]))
        case "function_call_output":
            conversation.add(
                result: try text(item, "output", of: ["input_text", "output_text", "text"]),
                to: try item.required("call_id"))
        case "reasoning":
            guard item["content"] != nil else { return }
            conversation.add(reasoning: try text(item, "content", of: ["reasoning_text"]))
        case let type:
            throw .unsupportedField(
                field: item.path + "type", value: JSONValue.quoted(type),
                advice: "Only messages, function calls, their outputs and reasoning are accepted.")
        }
    }

    /// A text, or parts of text of these types joined by line feeds.
    private static func text(
        _ item: JSONFields, _ name: String, of types: [String]
    ) throws(ServingError) -> String {
        switch item[name] {
        case .string(let text): return text
        case .array(let parts):
            guard parts.count <= ChatMessages.maxParts else {
                throw item.invalid(name, .array(parts), "a string or a list of at most \(ChatMessages.maxParts) parts")
            }
            var texts: [String] = []
            for (index, part) in parts.enumerated() {
                guard case .object(let members) = part else {
                    throw item.mismatch("\(name).\(index)", part, "an object with type and text")
                }
                let part = JSONFields(path: item.path + "\(name).\(index).", members: members)
                let type = try part.required("type")
                guard types.contains(type) else {
                    throw .unsupportedField(
                        field: part.path + "type", value: JSONValue.quoted(type), advice: "Only text is accepted.")
                }
                texts.append(try part.required("text"))
            }
            return texts.joined(separator: "\n")
        case nil: throw .missingField(field: item.path + name, requirement: "a string or a list of text parts")
        case .some(let value): throw item.mismatch(name, value, "a string or a list of text parts")
        }
    }
}

/// Messages in the making: what the model thought and called belongs to one message of the assistant's.
private struct Conversation {
    private var messages: [JSONValue] = []
    private var reasoning: [String] = []
    private var content = ""
    private var calls: [JSONValue] = []
    private var isAssistant = false

    mutating func add(role: String, content: String) {
        guard role == "assistant" else {
            flush()
            messages.append(.object(["role": .string(role), "content": .string(content)]))
            return
        }
        if isAssistant { flush() }
        self.content = content
        isAssistant = true
    }

    mutating func add(call: JSONValue) {
        calls.append(call)
        isAssistant = true
    }

    mutating func add(reasoning text: String) {
        flush()
        reasoning.append(text)
    }

    mutating func add(result: String, to call: String) {
        flush()
        messages.append(
            .object(["role": .string("tool"), "tool_call_id": .string(call), "content": .string(result)]))
    }

    mutating func finished() -> [JSONValue] {
        flush()
        return messages
    }

    /// Ends the assistant's message, if there is one.
    private mutating func flush() {
        guard isAssistant else { return }
        var members: [JSONValue.Member] = [
            .init(name: "role", value: .string("assistant")), .init(name: "content", value: .string(content)),
        ]
        if !reasoning.isEmpty {
            members.append(.init(name: "reasoning_content", value: .string(reasoning.joined(separator: "\n"))))
        }
        if !calls.isEmpty { members.append(.init(name: "tool_calls", value: .array(calls))) }
        messages.append(.object(members))
        (reasoning, content, calls, isAssistant) = ([], "", [], false)
    }
}

extension JSONFields {
    fileprivate func required(_ name: String) throws(ServingError) -> String {
        guard let text = try string(name) else { throw .missingField(field: path + name, requirement: "a string") }
        return text
    }
}
