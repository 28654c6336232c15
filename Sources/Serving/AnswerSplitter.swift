// What of a choice's text is reasoning, what is a call of a function, and what is meant to be read.

/// How the text of a choice is taken apart; the same for all choices of a request.
struct AnswerParts: Sendable {
    /// nil: the model's text has no reasoning of its own.
    var reasoning: ReasoningPrefix?
    /// Whether the reasoning is shown; else it is left out.
    var showsReasoning = true
    /// nil: calls are not looked for.
    var form: ToolCallForm?
    /// Names of the functions on offer.
    var tools: Set<String> = []
    /// Whether one function was demanded by name: such an answer ends with `stop`, as any other.
    var isNamed = false
    /// Calls beyond the first are left out.
    var isSingle = false

    /// Whether the text is given out as it is.
    var isWhole: Bool { reasoning == nil && form == nil }
}

/// Takes one choice's text apart as it grows. However the text is cut, its parts joined are the same.
struct AnswerSplitter: Sendable {
    private let parts: AnswerParts
    private var reasoning: ReasoningParser?
    private var calls: (any ToolCallParser)?
    /// White space that belongs to the text only if text follows.
    private var space = ""
    /// Whether what stands before `space` is no text: reasoning or a call.
    private var isApart = false
    /// Whether the model completed a call.
    private(set) var hasCalls = false

    init(_ parts: AnswerParts) {
        self.parts = parts
        reasoning = parts.reasoning.flatMap { $0 == .none ? nil : ReasoningParser(isOpen: $0 == .begun) }
        calls = parts.form.map { form in
            form.parser(ToolCallContext(tools: parts.tools) { _ in Self.makeID(form) })
        }
    }

    /// A name for a call that no other has. The templates of one family take nine characters and no others.
    private static func makeID(_ form: ToolCallForm) -> String {
        let characters = Array("abcdefghijklmnopqrstuvwxyz0123456789")
        let random = String((0..<(form == .mistral ? 9 : 24)).map { _ in characters[.random(in: characters.indices)] })
        return form == .mistral ? random : "call_" + random
    }

    /// Adds the parts of the next piece to `delta`.
    mutating func append(_ text: String, to delta: inout Delta) {
        guard !text.isEmpty else { return }
        guard var parser = reasoning else { return content(text, to: &delta) }
        let pieces = parser.append(text)
        reasoning = parser
        add(pieces, to: &delta)
    }

    /// Ends the text.
    mutating func finish(to delta: inout Delta) {
        if var parser = reasoning {
            let pieces = parser.finish()
            reasoning = parser
            add(pieces, to: &delta)
        }
        if var parser = calls {
            let events = parser.finish()
            calls = parser
            add(events, to: &delta)
        }
        if !isApart { delta.text += space }
        space = ""
    }

    private mutating func add(_ pieces: [ReasoningPiece], to delta: inout Delta) {
        for piece in pieces {
            switch piece {
            case .reasoning(let text):
                isApart = true
                if parts.showsReasoning { delta.reasoning += text }
            case .content(let text): content(text, to: &delta)
            }
        }
    }

    private mutating func content(_ text: String, to delta: inout Delta) {
        guard var parser = calls else { return readable(text, to: &delta) }
        let events = parser.append(text)
        calls = parser
        add(events, to: &delta)
    }

    private mutating func add(_ events: [ToolCallEvent], to delta: inout Delta) {
        for event in events {
            switch event {
            case .content(let text): readable(text, to: &delta)
            case .start(let call, _, _):
                isApart = true
                space = ""
                if isShown(call) { delta.calls.append(event) }
            case .arguments(let call, _): if isShown(call) { delta.calls.append(event) }
            case .end(let call, let isComplete):
                if isShown(call) { delta.calls.append(event) }
                if isComplete { hasCalls = true }
            }
        }
    }

    /// Adds text that is meant to be read. White space around reasoning and calls only sets them apart.
    private mutating func readable(_ text: String, to delta: inout Delta) {
        if parts.isWhole {
            delta.text += text
            return
        }
        let end = text.lastIndex { !$0.isWhitespace }
        guard let end else {
            space += text
            return
        }
        let following = text.index(after: end)
        let words = text[..<following]
        delta.text += isApart ? words.drop { $0.isWhitespace } : space + words
        space = String(text[following...])
        isApart = false
    }

    private func isShown(_ call: Int) -> Bool { call == 0 || !parts.isSingle }
}
