// From what a request says about its answer's form to what holds the answer to it: the grammar, and the parsers that
// take the text apart.

import Grammars
import JSON
import Scheduling
import Tokenization

/// What a request says about the form of its answer.
struct OutputFields: Sendable {
    var shape = ShapeFields()
    var tools = ToolFields()
    /// Whether the answer shows the reasoning.
    var showsReasoning = true
    /// Tokens of reasoning after which the model must answer.
    var reasoningBudget: Int?

    init(shape: ShapeFields) { self.shape = shape }

    /// Reads the fields of a conversation.
    init(_ fields: JSONFields) throws(ServingError) {
        shape = try ShapeFields(fields)
        tools = try ToolFields(fields)
        showsReasoning = try fields.bool(.includesReasoning) ?? true
        reasoningBudget = try fields.integer(.reasoningBudget)
    }

    /// The calls that the answer must or may hold, where a grammar guarantees them.
    func mandate(_ form: ToolCallForm) -> ToolMandate? {
        func signatures(_ tools: [Tool]) -> [ToolMandate.Signature] {
            tools.map { .init(name: $0.name, parameters: $0.parameters) }
        }
        let maxCalls = tools.isParallel ? ToolMandate.maxCalls : 1
        switch tools.choice {
        case .none: return nil
        case .required:
            return ToolMandate(form: form, functions: signatures(tools.tools), maxCalls: maxCalls, isFree: false)
        case .function(let name):
            let named = tools.tools.filter { $0.name == name }
            return ToolMandate(form: form, functions: signatures(named), maxCalls: 1, isFree: false)
        case .auto:
            // With a shape the text is either of that shape or calls, so all calls are held to their schemas.
            guard shape.shape != nil || tools.tools.contains(where: \.isStrict) else { return nil }
            let functions = tools.tools.map { tool in
                ToolMandate.Signature(
                    name: tool.name,
                    parameters: tool.isStrict || shape.shape != nil ? tool.parameters : ToolMandate.anyParameters)
            }
            return ToolMandate(form: form, functions: functions, maxCalls: maxCalls, isFree: shape.shape == nil)
        }
    }

    /// Whether calls take the place of the shape.
    private var demandsCalls: Bool {
        switch tools.choice {
        case .none, .auto: false
        case .required, .function: true
        }
    }

    /// What the grammar is made from; nil where the text is free.
    func source(_ form: ToolCallForm, reasoning: ReasoningPrefix) -> ConstraintSource? {
        let mandate = mandate(form)
        let shape = demandsCalls ? nil : shape.shape
        guard mandate != nil || shape != nil else { return nil }
        return ConstraintSource(
            shape: shape, isCompact: self.shape.isCompact, calls: mandate, reasoning: reasoning,
            field: shape != nil ? self.shape.field : "tools")
    }

    /// How the text is taken apart.
    func parts(_ form: ToolCallForm, reasoning: ReasoningPrefix) -> AnswerParts {
        var parts = AnswerParts()
        if reasoning != .none { parts.reasoning = reasoning }
        parts.showsReasoning = showsReasoning
        guard tools.choice != .none else { return parts }
        parts.form = form
        parts.tools = Set(tools.tools.map(\.name))
        if case .function = tools.choice { parts.isNamed = true }
        parts.isSingle = !tools.isParallel
        return parts
    }
}

extension ServingState {
    /// The constraint of an answer and how its text is taken apart.
    /// - Parameter reasoning: what the rendered conversation says about reasoning.
    func plan(
        _ output: OutputFields, reasoning: ReasoningPrefix
    ) async throws(ServingError) -> (parts: AnswerParts, constraint: GrammarConstraint?) {
        let form = configuration.toolCallForm ?? model.toolCallForm
        var constraint = GrammarConstraint()
        if let source = output.source(form, reasoning: reasoning) {
            constraint.grammar = try await constraints.constraint(for: source)
        }
        if let limit = output.reasoningBudget, reasoning != .none {
            let tokenizer = model.tokenizer
            let closing = TextRun(text: ServedModel.reasoningEnd, allowsControlTokens: true)
            constraint.budget = ReasoningBudget(
                limit: limit, isOpen: reasoning == .begun,
                closing: try encoder.encodeAll([closing], addSpecialTokens: false),
                bytes: { Array(tokenizer.bytes(of: $0) ?? []) })
        }
        let isNeeded = constraint.grammar != nil || constraint.budget != nil
        return (output.parts(form, reasoning: reasoning), isNeeded ? constraint : nil)
    }
}

extension ServedModel {
    static let reasoningStart = "<think>"
    static let reasoningEnd = "</think>"

    /// How the model writes calls; the form that most models know where its template says nothing.
    var toolCallForm: ToolCallForm {
        chatTemplate.flatMap { ToolCallForm.detect(template: $0.source) } ?? .hermes
    }

    /// Whether the template shows the functions on offer.
    var templateKnowsTools: Bool { chatTemplate?.source.contains("tools") ?? false }

    /// Whether the model thinks before it answers.
    var mayReason: Bool { chatTemplate?.source.contains(Self.reasoningStart) ?? false }

    /// Texts that the grammar of an answer may hold and that may be control tokens.
    var markers: [String] {
        [
            Self.reasoningStart, Self.reasoningEnd, "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>",
            "<|python_start|>", "<|python_end|>",
        ]
    }

    /// What a rendered prompt leaves of the reasoning to come.
    func reasoning(after prompt: String) -> ReasoningPrefix {
        guard mayReason else { return .none }
        if ReasoningParser.isOpen(prompt: prompt) { return .begun }
        // A template that closes the reasoning before it began has turned it off.
        return ReasoningParser.isOpen(prompt: prompt, opener: Self.reasoningEnd) ? .none : .possible
    }
}
