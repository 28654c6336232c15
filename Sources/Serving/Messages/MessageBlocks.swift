// The conversation of /v1/messages: messages of content blocks, which become messages of text, calls and results.

import JSON

/// Reads `system` and `messages`.
enum MessageBlocks {
    /// A conversation as /v1/chat/completions takes it.
    struct Conversation {
        var list: [JSONValue] = []
        /// Whether its last message is the beginning of the answer.
        var endsWithAnswer = false
    }

    static func messages(_ fields: JSONFields) throws(ServingError) -> Conversation {
        var conversation = Conversation()
        if let system = fields["system"] {
            let text = try text(of: system, "system", fields)
            conversation.list.append(.object(["role": .string("system"), "content": .string(text)]))
        }
        guard let elements = try fields.array("messages", orElse: "a list of messages") else {
            throw .missingField(field: "messages", requirement: "a list of messages")
        }
        guard (1...ChatMessages.maxCount).contains(elements.count) else {
            throw fields.invalid("messages", .array(elements), "a list of 1 to \(ChatMessages.maxCount) messages")
        }
        for (index, element) in elements.enumerated() {
            guard case .object(let members) = element else {
                throw fields.mismatch("messages.\(index)", element, "an object with role and content")
            }
            let message = try Message(JSONFields(path: "messages.\(index).", members: members))
            conversation.list += message.chatMessages
            conversation.endsWithAnswer = message.role == "assistant" && message.calls.isEmpty && message.text != ""
        }
        return conversation
    }

    /// A text, or text blocks joined by line feeds.
    fileprivate static func text(
        of value: JSONValue, _ name: String, _ fields: JSONFields
    ) throws(ServingError) -> String {
        let requirement = "a string or a list of text blocks"
        switch value {
        case .string(let text): return text
        case .array(let blocks):
            guard blocks.count <= ChatMessages.maxParts else {
                throw fields.invalid(name, value, "\(requirement), \(ChatMessages.maxParts) at most")
            }
            var texts: [String] = []
            for (index, block) in blocks.enumerated() {
                guard case .object(let members) = block else {
                    throw fields.mismatch("\(name).\(index)", block, "an object with type and text")
                }
                let block = JSONFields(path: fields.path + "\(name).\(index).", members: members)
                let type = try block.type()
                guard type == "text" else { throw block.unsupportedType(type, "Only text blocks are accepted here.") }
                texts.append(try block.required("text"))
            }
            return texts.joined(separator: "\n")
        default: throw fields.mismatch(name, value, requirement)
        }
    }
}

/// One message.
private struct Message {
    let role: String
    private(set) var texts: [String] = []
    private(set) var reasoning: [String] = []
    private(set) var calls: [JSONValue] = []
    private var results: [JSONValue] = []

    var text: String { texts.joined(separator: "\n") }

    init(_ fields: JSONFields) throws(ServingError) {
        let roles = "\"user\" or \"assistant\""
        guard let role = try fields.string("role") else {
            throw .missingField(field: fields.path + "role", requirement: roles)
        }
        guard role == "user" || role == "assistant" else { throw fields.invalid("role", .string(role), roles) }
        self.role = role
        let requirement = "a string or a list of 1 to \(ChatMessages.maxParts) blocks"
        switch fields["content"] {
        case .string(let text): texts = [text]
        case .array(let blocks):
            guard (1...ChatMessages.maxParts).contains(blocks.count) else {
                throw fields.invalid("content", .array(blocks), requirement)
            }
            for (index, block) in blocks.enumerated() {
                guard case .object(let members) = block else {
                    throw fields.mismatch("content.\(index)", block, "an object with a type")
                }
                try add(JSONFields(path: fields.path + "content.\(index).", members: members))
            }
        case nil: throw .missingField(field: fields.path + "content", requirement: requirement)
        case .some(let value): throw fields.mismatch("content", value, requirement)
        }
    }

    private mutating func add(_ block: JSONFields) throws(ServingError) {
        let type = try block.type()
        switch (role, type) {
        case (_, "text"): texts.append(try block.required("text"))
        case ("assistant", "thinking"): reasoning.append(try block.required("thinking"))
        case ("assistant", "redacted_thinking"): break
        case ("assistant", "tool_use"):
            let function: JSONValue = .object([
                "name": .string(try block.required("name")),
                "arguments": .object(try block.object("input")?.members ?? []),
            ])
            calls.append(
                .object([
                    "id": .string(try block.required("id")), "type": .string("function"), "function": function,
                ]))
        case ("user", "tool_result"):
            let text = try block["content"].map { (value) throws(ServingError) in
                try MessageBlocks.text(of: value, "content", block)
            }
            results.append(
                .object([
                    "role": .string("tool"), "tool_call_id": .string(try block.required("tool_use_id")),
                    "content": .string(text ?? ""),
                ]))
        default:
            throw block.unsupportedType(
                type,
                role == "user"
                    ? "Only text and tool_result blocks are accepted here."
                    : "Only text, thinking and tool_use blocks are accepted here.")
        }
    }

    /// Results are messages of their own, before what the user says to them.
    var chatMessages: [JSONValue] {
        if texts.isEmpty && !results.isEmpty { return results }
        var members: [JSONValue.Member] = [
            .init(name: "role", value: .string(role)), .init(name: "content", value: .string(text)),
        ]
        if !reasoning.isEmpty {
            members.append(.init(name: "reasoning_content", value: .string(reasoning.joined(separator: "\n"))))
        }
        if !calls.isEmpty { members.append(.init(name: "tool_calls", value: .array(calls))) }
        return results + [.object(members)]
    }
}

extension JSONFields {
    /// The kind of a content block.
    fileprivate func type() throws(ServingError) -> String { try required("type") }

    fileprivate func required(_ name: String) throws(ServingError) -> String {
        guard let text = try string(name) else { throw .missingField(field: path + name, requirement: "a string") }
        return text
    }

    fileprivate func unsupportedType(_ type: String, _ advice: String) -> ServingError {
        .unsupportedField(field: path + "type", value: JSONValue.quoted(type), advice: advice)
    }
}
