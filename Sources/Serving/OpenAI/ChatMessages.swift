// The messages of a conversation, checked and made plain data for the chat template, which sees every string in them as
// a user's text.

import JSON
import Tokenization

/// Reads `messages`.
enum ChatMessages {
    static let maxCount = 1024
    /// Text parts of one message.
    static let maxParts = 64
    private static let roles = ["system", "developer", "user", "assistant", "tool"]

    /// The conversation as the template's `messages`.
    static func read(_ fields: JSONFields) throws(ServingError) -> [TemplateValue] {
        guard let elements = try fields.array("messages", orElse: "a list of messages") else {
            throw .missingField(field: "messages", requirement: "a list of messages")
        }
        guard (1...maxCount).contains(elements.count) else {
            throw fields.invalid("messages", .array(elements), "a list of 1 to \(maxCount) messages")
        }
        var messages: [TemplateValue] = []
        for (index, element) in elements.enumerated() {
            guard case .object(let members) = element else {
                throw fields.mismatch("messages.\(index)", element, "an object")
            }
            messages.append(try message(JSONFields(path: "messages.\(index).", members: members)))
        }
        return messages
    }

    private static func message(_ fields: JSONFields) throws(ServingError) -> TemplateValue {
        guard let role = try fields.string("role") else {
            throw .missingField(
                field: fields.path + "role", requirement: "one of " + roles.joined(separator: ", "))
        }
        guard roles.contains(role) else {
            throw fields.invalid("role", .string(role), "one of " + roles.joined(separator: ", "))
        }
        if let value = fields["function_call"] {
            throw .unsupportedField(
                field: fields.path + "function_call", value: value.summary, advice: "Use tool_calls.")
        }
        var members = [
            // Models know the role by its older name.
            TemplateValue.Member("role", .string(role == "developer" ? "system" : role)),
            TemplateValue.Member("content", .string(try content(fields, role: role))),
        ]
        for name in ["name", "tool_call_id"] {
            if let text = try fields.string(name) { members.append(TemplateValue.Member(name, .string(text))) }
        }
        if role == "assistant" {
            // Both names are in use; templates know the longer one.
            let older = try fields.string("reasoning")
            if let text = try fields.string("reasoning_content") ?? older {
                members.append(TemplateValue.Member("reasoning_content", .string(text)))
            }
            let calls = try toolCalls(fields)
            if !calls.isEmpty { members.append(TemplateValue.Member("tool_calls", .array(calls))) }
        } else if let value = fields["tool_calls"], value != .array([]) {
            throw fields.invalid("tool_calls", value, "absent where the role is not assistant")
        }
        return .object(members)
    }

    /// The calls of an assistant's message; templates want their arguments as an object and not as its text.
    private static func toolCalls(_ fields: JSONFields) throws(ServingError) -> [TemplateValue] {
        guard let elements = try fields.array("tool_calls") else { return [] }
        guard elements.count <= ToolFields.maxTools else {
            throw fields.invalid("tool_calls", .array(elements), "a list of at most \(ToolFields.maxTools) calls")
        }
        var calls: [TemplateValue] = []
        for (index, element) in elements.enumerated() {
            guard case .object(let members) = element else {
                throw fields.mismatch("tool_calls.\(index)", element, "an object")
            }
            let call = JSONFields(path: fields.path + "tool_calls.\(index).", members: members)
            guard let function = try call.object("function") else {
                throw .missingField(field: call.path + "function", requirement: "an object with name and arguments")
            }
            guard let name = try function.string("name") else {
                throw .missingField(field: function.path + "name", requirement: "a string")
            }
            var value = [
                TemplateValue.Member("type", "function"),
                TemplateValue.Member(
                    "function",
                    .object([
                        TemplateValue.Member("name", .string(name)),
                        TemplateValue.Member("arguments", try arguments(function)),
                    ])),
            ]
            if let id = try call.string("id") { value.insert(TemplateValue.Member("id", .string(id)), at: 0) }
            calls.append(.object(value))
        }
        return calls
    }

    private static func arguments(_ function: JSONFields) throws(ServingError) -> TemplateValue {
        let requirement = "a JSON object, as text"
        switch function["arguments"] {
        case nil, .string(""): return .object([])
        case .object(let members): return TemplateValue(.object(members))
        case .string(let text):
            let value: JSONValue
            do {
                value = try JSONParser.parse(Array(text.utf8))
            } catch {
                throw function.invalid("arguments", .string(text), requirement + ": \(error.reason)")
            }
            guard case .object = value else { throw function.invalid("arguments", .string(text), requirement) }
            return TemplateValue(value)
        case .some(let value): throw function.mismatch("arguments", value, requirement)
        }
    }

    /// The text of a message: a string, or text parts, which are joined by line feeds.
    private static func content(_ fields: JSONFields, role: String) throws(ServingError) -> String {
        switch fields["content"] {
        case .string(let text): return text
        case .array(let parts):
            guard (1...maxParts).contains(parts.count) else {
                throw fields.invalid("content", .array(parts), "a string or a list of 1 to \(maxParts) text parts")
            }
            var texts: [String] = []
            for (index, part) in parts.enumerated() {
                guard case .object(let members) = part else {
                    throw fields.mismatch("content.\(index)", part, "an object with type and text")
                }
                texts.append(try partText(JSONFields(path: fields.path + "content.\(index).", members: members)))
            }
            return texts.joined(separator: "\n")
        case nil:
            guard role == "assistant" else {
                throw .missingField(field: fields.path + "content", requirement: "a string or a list of text parts")
            }
            return ""
        case .some(let value): throw fields.mismatch("content", value, "a string or a list of text parts")
        }
    }

    private static func partText(_ fields: JSONFields) throws(ServingError) -> String {
        guard let type = try fields.string("type") else {
            throw .missingField(field: fields.path + "type", requirement: "\"text\"")
        }
        guard type == "text" else {
            throw .unsupportedField(
                field: fields.path + "type", value: JSONValue.quoted(type), advice: "Only text parts are accepted.")
        }
        guard let text = try fields.string("text") else {
            throw .missingField(field: fields.path + "text", requirement: "a string")
        }
        return text
    }
}

extension TemplateValue {
    /// A value of the request as the template's data.
    init(_ value: JSONValue) {
        switch value {
        case .null: self = .null
        case .bool(let value): self = .bool(value)
        case .integer(let value): self = .int(value)
        case .number(let value): self = .float(value)
        case .string(let value): self = .string(value)
        case .array(let elements): self = .array(elements.map { TemplateValue($0) })
        case .object(let members): self = .object(members.map { Member($0.name, TemplateValue($0.value)) })
        }
    }
}
