// A request to /v1/chat/completions, decoded and checked. Messages become plain data for the chat template, which sees
// every string in them as a user's text.

import JSON
import Tokenization

/// What a client of /v1/chat/completions asks for.
struct ChatRequest: Sendable {
    let model: String?
    /// The conversation as the template's `messages`.
    let messages: [TemplateValue]
    let sampling: SamplingFields
    let streaming: StreamFields
    let answer: AnswerFields
    var promptFields: PromptFields
    let template: TemplateFields

    static let maxMessages = 1024
    static let maxParts = 64
    private static let roles = ["system", "developer", "user", "assistant", "tool"]

    init(_ fields: JSONFields, model served: ServedModel, configuration: ServingConfiguration) throws(ServingError) {
        try UnsupportedFields.check(fields, isChat: true)
        model = try fields.string("model")
        messages = try Self.messages(fields)
        let wantsLogprobs = try fields.bool(.chatLogprobs) ?? false
        let topLogprobs = try fields.integer(.topLogprobs)
        if let topLogprobs, topLogprobs > 0, !wantsLogprobs {
            throw .invalidValue(
                field: "top_logprobs", value: "\(topLogprobs)", requirement: "absent unless logprobs is true")
        }
        sampling = try SamplingFields(
            fields, maxTokens: SamplingFields.maxTokens(fields), logprobs: wantsLogprobs ? topLogprobs ?? 0 : nil,
            model: served, configuration: configuration)
        streaming = try StreamFields(fields)
        answer = try AnswerFields(fields, isStreamed: streaming.isStreamed)
        promptFields = try PromptFields(fields, model: served)
        template = try TemplateFields(fields)
    }

    /// What `echo` puts in front: the last message, where the answer goes on with it.
    var echo: String? {
        guard answer.echoes, case .object(let members) = messages.last,
            members.contains(where: { $0.name == "role" && $0.value == .string("assistant") }),
            case .string(let text) = members.first(where: { $0.name == "content" })?.value
        else { return nil }
        return text
    }

    /// The conversation; also used by /tokenize.
    static func messages(_ fields: JSONFields) throws(ServingError) -> [TemplateValue] {
        guard let elements = try fields.array("messages", orElse: "a list of messages") else {
            throw .missingField(field: "messages", requirement: "a list of messages")
        }
        guard (1...maxMessages).contains(elements.count) else {
            throw fields.invalid("messages", .array(elements), "a list of 1 to \(maxMessages) messages")
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
        for name in ["tool_calls", "function_call"] {
            if let value = fields[name], value != .array([]) {
                throw .unsupportedField(field: fields.path + name, value: value.summary, advice: "Leave it out.")
            }
        }
        var members = [
            // Models know the role by its older name.
            TemplateValue.Member("role", .string(role == "developer" ? "system" : role)),
            TemplateValue.Member("content", .string(try content(fields, role: role))),
        ]
        for name in ["name", "tool_call_id"] {
            if let text = try fields.string(name) { members.append(TemplateValue.Member(name, .string(text))) }
        }
        return .object(members)
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

/// How a conversation is rendered.
struct TemplateFields: Sendable, Equatable {
    /// Whether the template begins the assistant's turn.
    var addsGenerationPrompt = true
    /// Whether the rendering ends with the last message's text.
    var continuesFinalMessage = false
    /// Further names for the template.
    var arguments: [TemplateValue.Member] = []

    init() {}

    init(_ fields: JSONFields) throws(ServingError) {
        continuesFinalMessage = try fields.bool(.continuesFinalMessage) ?? false
        let addsGenerationPrompt = try fields.bool(.addsGenerationPrompt)
        if continuesFinalMessage, addsGenerationPrompt == true {
            throw .invalidValue(
                field: "continue_final_message", value: "true",
                requirement: "false where add_generation_prompt is true")
        }
        self.addsGenerationPrompt = addsGenerationPrompt ?? !continuesFinalMessage
        arguments = (try fields.object(.templateArguments)?.members ?? []).map {
            TemplateValue.Member($0.name, TemplateValue($0.value))
        }
    }
}

extension TemplateValue {
    /// A value of the request as the template's data.
    fileprivate init(_ value: JSONValue) {
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
