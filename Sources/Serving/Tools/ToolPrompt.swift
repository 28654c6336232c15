// Tools for models whose chat template knows nothing of them: the functions are described in the system message, and
// calls and their results become text, all in the Hermes form, which small models have seen most.

import JSON
import Tokenization

/// Rewrites conversations for templates without tools.
enum ToolPrompt {
    /// `messages` with `tools` described, and with calls and results as text.
    static func rewritten(_ messages: [TemplateValue], tools: [Tool]) -> [TemplateValue] {
        var result: [TemplateValue] = []
        for message in messages {
            guard case .object(let members) = message else { continue }
            let role = members.text("role")
            let content = members.text("content")
            switch role {
            case "assistant":
                var text = content
                if case .array(let calls) = members.first(where: { $0.name == "tool_calls" })?.value {
                    for call in calls { text += (text.isEmpty ? "" : "\n") + callText(call) }
                }
                result.append(Self.message(role: role, text))
            case "tool": result.append(Self.message(role: "user", "<tool_response>\n\(content)\n</tool_response>"))
            default: result.append(message)
            }
        }
        guard !tools.isEmpty else { return result }
        let description = Self.description(of: tools)
        if case .object(let members) = result.first, members.text("role") == "system" {
            result[0] = message(role: "system", members.text("content") + "\n\n" + description)
        } else {
            result.insert(message(role: "system", description), at: 0)
        }
        return result
    }

    private static func message(role: String, _ content: String) -> TemplateValue {
        .object([TemplateValue.Member("role", .string(role)), TemplateValue.Member("content", .string(content))])
    }

    private static func description(of tools: [Tool]) -> String {
        var text = """
            You can call functions. These are their signatures, in <tools> and </tools>:
            <tools>

            """
        for tool in tools { text += tool.source.text + "\n" }
        text += """
            </tools>
            For each call, write a JSON object with the function's name and arguments in <tool_call> and </tool_call>:
            <tool_call>
            {"name": "the function", "arguments": {"the argument": "its value"}}
            </tool_call>
            """
        return text
    }

    private static func callText(_ call: TemplateValue) -> String {
        guard case .object(let members) = call,
            case .object(let function) = members.first(where: { $0.name == "function" })?.value
        else { return "" }
        let arguments = function.first { $0.name == "arguments" }?.value ?? .object([])
        let object = JSONValue.object([
            .init(name: "name", value: .string(function.text("name"))),
            .init(name: "arguments", value: JSONValue(arguments)),
        ])
        return "<tool_call>\n\(object.text)\n</tool_call>"
    }
}

extension [TemplateValue.Member] {
    /// The text of a member; empty where there is none.
    fileprivate func text(_ name: String) -> String {
        guard case .string(let text) = first(where: { $0.name == name })?.value else { return "" }
        return text
    }
}

extension JSONValue {
    /// A template's data as JSON.
    fileprivate init(_ value: TemplateValue) {
        switch value {
        case .null: self = .null
        case .bool(let value): self = .bool(value)
        case .int(let value): self = .integer(value)
        case .float(let value): self = .number(value)
        case .string(let text): self = .string(text)
        case .array(let elements): self = .array(elements.map { JSONValue($0) })
        case .object(let members):
            self = .object(members.map { Member(name: $0.name, value: JSONValue($0.value)) })
        }
    }
}
