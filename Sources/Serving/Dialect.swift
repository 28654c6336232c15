// The APIs that share the engine's one conversation: each has names of its own for the same fields, and a shape of its
// own for errors. Requests are said in the words of /v1/chat/completions on the way in; refusals are said back here.

/// In which API's words a route speaks.
enum Dialect: Sendable {
    /// /v1/completions, /v1/chat/completions and the small routes.
    case completions
    /// /v1/responses.
    case responses
    /// /v1/messages.
    case messages

    /// The name that this API has for a field of /v1/chat/completions.
    fileprivate func name(of field: String) -> String {
        switch (self, field) {
        case (.completions, _): return field
        case (.messages, "stop"): return "stop_sequences"
        case (.messages, "thinking_token_budget"): return "thinking.budget_tokens"
        case (.messages, "response_format.json_schema.schema"): return "output_config.format.schema"
        case (.messages, "reasoning_effort"): return "output_config.effort"
        case (.responses, "max_tokens"): return "max_output_tokens"
        case (.responses, "response_format.json_schema.schema"): return "text.format.schema"
        case (.responses, "reasoning_effort"): return "reasoning.effort"
        case (.responses, "messages"): return "input"
        case (_, "tool_choice.function.name"): return "tool_choice.name"
        default:
            guard field.hasPrefix("tools.") else { return field }
            let schema = self == .messages ? ".input_schema" : ".parameters"
            return field.replacing(".function.parameters", with: schema).replacing(".function", with: "")
        }
    }
}

extension ServingError {
    /// The same, with the field by the name that `dialect` has for it.
    func said(in dialect: Dialect) -> ServingError {
        switch self {
        case .invalidType(let field, let value, let requirement):
            .invalidType(field: dialect.name(of: field), value: value, requirement: requirement)
        case .invalidValue(let field, let value, let requirement):
            .invalidValue(field: dialect.name(of: field), value: value, requirement: requirement)
        case .missingField(let field, let requirement):
            .missingField(field: dialect.name(of: field), requirement: requirement)
        case .unsupportedField(let field, let value, let advice):
            .unsupportedField(field: dialect.name(of: field), value: value, advice: advice)
        case .constraint(let field, let error): .constraint(field: dialect.name(of: field), error)
        default: self
        }
    }
}
