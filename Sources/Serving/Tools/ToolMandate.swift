// Calls that a grammar guarantees: those that a request demands, and those of strict functions.

import Grammars
import JSON

/// What calls must look like.
struct ToolMandate: Sendable, Hashable {
    /// One function.
    struct Signature: Sendable, Hashable {
        let name: String
        /// JSON Schema of its arguments.
        let parameters: JSONValue
    }

    var form: ToolCallForm
    var functions: [Signature]
    /// Calls in one answer at most.
    var maxCalls: Int
    /// Whether there may be text around the calls, or instead of them.
    var isFree: Bool

    /// Calls that one answer may be made to hold.
    static let maxCalls = 16

    /// The schema of arguments that are not held to theirs.
    static let anyParameters = JSONValue.object([.init(name: "type", value: .string("object"))])

    /// Whether `form` is one whose calls can begin anywhere in a text, and with what.
    private var opener: String? {
        switch form {
        case .hermes: "<tool_call>"
        case .mistral: "[TOOL_CALLS]"
        case .llama3JSON, .pythonic: nil
        }
    }

    /// The grammar of the text.
    func expression(_ composer: inout GrammarComposer) throws(GrammarError) -> Expression {
        var tools: [ToolGrammar] = []
        for function in functions {
            // A function may take anything where its schema does not say that it takes an object.
            let grammar = try JSONSchema.grammar(for: function.parameters.asObjectSchema)
            tools.append(ToolGrammar(name: function.name, arguments: composer.add(grammar)))
        }
        let calls = form.grammar(tools, atMost: maxCalls)
        guard isFree else { return calls }
        let anything = Expression.repetition(.scalar(Expression.anyScalar), atLeast: 0, atMost: nil)
        guard let opener else {
            // Such a call is the whole text, so a text that begins like one is one.
            let space = Expression.repetition(.byte(ByteSet(" \n\r\t".utf8)), atLeast: 0, atMost: nil)
            let sign = Expression.text(form == .pythonic ? "[" : "{")
            return .choice([calls, .difference(anything, .sequence([space, sign, anything]))])
        }
        let text = Expression.difference(anything, .sequence([anything, .text(opener), anything]))
        return .sequence([text, .optional(.sequence([calls, text]))])
    }
}

extension Expression {
    /// All of Unicode.
    static let anyScalar: [ClosedRange<Unicode.Scalar>] = ["\u{0}"..."\u{D7FF}", "\u{E000}"..."\u{10FFFF}"]
}

extension JSONValue {
    /// A schema of parameters that says what every schema of parameters means: the arguments are one object.
    fileprivate var asObjectSchema: JSONValue {
        guard case .object(let members) = self, !members.contains(where: { $0.name == "type" }) else { return self }
        return .object([Member(name: "type", value: .string("object"))] + members)
    }
}
