// A model's chat template: compiled once at load, rendered for every conversation, from any thread.
// The rendering is a list of runs: what the template itself spells may become control tokens, what its caller gave
// it never does, whatever the template did to it on the way.

/// What one rendering is given. Everything but the two tokens is the caller's data, and untrusted.
package struct ChatTemplateInput: Sendable {
    /// The conversation, one object a message. [messages]
    package var messages: [TemplateValue]
    /// Whether the rendering ends where the model's answer begins.
    package var addGenerationPrompt: Bool
    /// The text of the token that begins a sequence; the vocabulary's, so trusted.
    package var bosToken: String
    /// The text of the token that ends a sequence; the vocabulary's, so trusted.
    package var eosToken: String
    /// The tools on offer, or nil, which the template sees as `none`.
    package var tools: TemplateValue?
    /// Further names for the template. They cannot replace the ones above.
    package var arguments: [TemplateValue.Member]
    /// The time that `strftime_now` prints; without it, a template that asks fails.
    package var now: TemplateClock?

    package init(
        messages: [TemplateValue], addGenerationPrompt: Bool, bosToken: String = "", eosToken: String = "",
        tools: TemplateValue? = nil, arguments: [TemplateValue.Member] = [], now: TemplateClock? = nil
    ) {
        self.messages = messages
        self.addGenerationPrompt = addGenerationPrompt
        self.bosToken = bosToken
        self.eosToken = eosToken
        self.tools = tools
        self.arguments = arguments
        self.now = now
    }
}

/// A compiled chat template.
package struct ChatTemplate: Sendable {
    /// The template as written; what it mentions tells which forms the model was trained on.
    package let source: String
    private let program: Jinja.Program
    private let limits: TemplateLimits

    /// Compiles `source`; a construct that this engine does not have is an error here, not when rendering.
    package init(source: String, limits: TemplateLimits = TemplateLimits()) throws(TemplateError) {
        self.source = source
        program = try Jinja.Parser.parse(source, limits: limits)
        self.limits = limits
    }

    /// Renders a conversation.
    package func render(_ input: ChatTemplateInput) throws(TemplateError) -> [TextRun] {
        var interpreter = Jinja.Interpreter(program: program, limits: limits, now: input.now)
        for argument in input.arguments {
            interpreter.define(argument.name, try interpreter.value(argument.value))
        }
        interpreter.define("messages", try interpreter.value(.array(input.messages)))
        interpreter.define("add_generation_prompt", .bool(input.addGenerationPrompt))
        interpreter.define("bos_token", .text(input.bosToken, trusted: true))
        interpreter.define("eos_token", .text(input.eosToken, trusted: true))
        interpreter.define("tools", try interpreter.value(input.tools ?? .null))
        let text = try interpreter.run()
        return text.runs.map { run in
            TextRun(text: String(decoding: text.bytes[run.range], as: UTF8.self), allowsControlTokens: run.trusted)
        }
    }
}

extension Jinja.Interpreter {
    /// The caller's data as a value of the language, all its text untrusted.
    mutating func value(_ data: TemplateValue, level: Int = 0) throws(TemplateError) -> Jinja.Value {
        guard level <= limits.nesting else { throw exceeded(.nesting) }
        switch data {
        case .null: return .none
        case .bool(let value): return .bool(value)
        case .int(let value): return .int(value)
        case .float(let value): return .float(value)
        case .string(let text):
            try checkRoom(for: text.utf8.count)
            return .text(text)
        case .array(let elements):
            var values: [Jinja.Value] = []
            values.reserveCapacity(elements.count)
            for element in elements { values.append(try value(element, level: level + 1)) }
            return try sequence(.list, values)
        case .object(let members):
            var values: [(key: Jinja.Value, value: Jinja.Value)] = []
            values.reserveCapacity(members.count)
            for member in members {
                values.append((.text(member.name), try value(member.value, level: level + 1)))
            }
            return try mapping(values)
        }
    }
}
