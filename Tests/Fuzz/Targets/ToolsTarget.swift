// Bytes as a model's text with calls of functions in it. The first byte chooses the form and whether reasoning is open
// already, the second how the text is cut; the rest is the text.
//
// However it is cut, it means the same. What is passed on as content, and as arguments where the form writes JSON, is
// the text in its order; a text without calls is all content; and the arguments of complete calls are JSON objects.

import JSON
import Serving

enum ToolsTarget {
    private static let context = ToolCallContext(tools: ["f", "add"]) { "call\($0)" }

    static func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        guard bytes.count >= 2 else { return }
        let form = ToolCallForm.allCases[Int(bytes[0]) % ToolCallForm.allCases.count]
        let text = String(decoding: bytes[2...], as: UTF8.self)
        let pieces = cut(text, by: bytes[1])
        let whole = try heard([text], form)
        try BrokenPromise.check(whole == heard(pieces, form), "\(form) depends on how the text is cut")
        try check(whole, Array(text.utf8), form)
        let isOpen = bytes[0] & 0x80 != 0
        let thought = thoughts([text], isOpen: isOpen)
        try BrokenPromise.check(thought == thoughts(pieces, isOpen: isOpen), "reasoning depends on how the text is cut")
        try BrokenPromise.check(
            isOrderedPart(thought.reasoning + thought.content, of: Array(text.utf8)), "reasoning makes up text")
        let lost = text.utf8.count - thought.reasoning.count - thought.content.count
        try BrokenPromise.check(
            lost == 0 || !thought.reasoning.isEmpty || text.contains("think>"), "\(lost) bytes are lost to reasoning")
    }

    /// Pieces of one size, or of sizes that vary, in characters.
    private static func cut(_ text: String, by seed: UInt8) -> [String] {
        var pieces: [String] = []
        var rest = text.unicodeScalars[...]
        var size = Int(seed & 7) + 1
        while !rest.isEmpty {
            pieces.append(String(String.UnicodeScalarView(rest.prefix(size))))
            rest = rest.dropFirst(size)
            if seed >= 0x80 { size = (size * 5 + Int(seed >> 3)) % 13 + 1 }
        }
        return pieces
    }

    // MARK: Calls

    /// What was heard of a text. Bytes, because equal strings may be different texts.
    private struct Heard: Equatable {
        struct Call: Equatable {
            var name: [UInt8]
            var arguments: [UInt8] = []
            var isComplete: Bool?
        }

        var calls: [Call] = []
        var content: [UInt8] = []
        /// Content and arguments in the order in which they came.
        var all: [UInt8] = []
        /// The content before the first call, and the content since the last.
        var before: [UInt8] = []
        var after: [UInt8] = []

        mutating func take(_ events: [ToolCallEvent]) throws(BrokenPromise) {
            for event in events {
                switch event {
                case .content(let text):
                    try BrokenPromise.check(!text.isEmpty, "content is empty")
                    try BrokenPromise.check(calls.last.map { $0.isComplete != nil } ?? true, "content inside a call")
                    content += text.utf8
                    all += text.utf8
                    if calls.isEmpty { before += text.utf8 } else { after += text.utf8 }
                case .start(let call, let id, let name):
                    try BrokenPromise.check(call == calls.count && id == "call\(call)", "call \(call) is out of order")
                    try BrokenPromise.check(calls.last.map { $0.isComplete != nil } ?? true, "a call inside a call")
                    try BrokenPromise.check(ToolsTarget.context.tools.contains(name), "\(name) is no function")
                    calls.append(Call(name: Array(name.utf8)))
                    after = []
                case .arguments(let call, let text):
                    try checkOpen(call)
                    calls[call].arguments += text.utf8
                    all += text.utf8
                case .end(let call, let isComplete):
                    try checkOpen(call)
                    calls[call].isComplete = isComplete
                }
            }
        }

        private func checkOpen(_ call: Int) throws(BrokenPromise) {
            try BrokenPromise.check(
                call == calls.count - 1 && calls[call].isComplete == nil, "call \(call) is not the open one")
        }
    }

    private static func heard(_ pieces: [String], _ form: ToolCallForm) throws(BrokenPromise) -> Heard {
        var parser = form.parser(context)
        var heard = Heard()
        for piece in pieces { try heard.take(parser.append(piece)) }
        try heard.take(parser.finish())
        return heard
    }

    private static func check(_ heard: Heard, _ text: [UInt8], _ form: ToolCallForm) throws(BrokenPromise) {
        // Arguments that stand there as a string are passed on as what its escapes mean.
        let isWritten = form != .pythonic && !hasEscapes(text)
        try BrokenPromise.check(
            isOrderedPart(isWritten ? heard.all : heard.content, of: text), "\(form) makes up text")
        try BrokenPromise.check(!heard.calls.isEmpty || heard.content == text, "\(form) loses text without a call")
        try BrokenPromise.check(
            text.starts(with: heard.before) && text.reversed().starts(with: heard.after.reversed()),
            "\(form) loses text around calls")
        if isWritten, let last = heard.calls.last, last.isComplete == false {
            let rest = last.arguments + heard.after
            try BrokenPromise.check(
                text.reversed().starts(with: rest.reversed()), "\(form) loses text of a call that breaks off")
        }
        if isWritten, let last = heard.calls.last, last.isComplete == true {
            try BrokenPromise.check(
                closes(text.dropLast(heard.after.count), after: last.arguments), "\(form) loses text behind a call")
        }
        for call in heard.calls {
            guard let isComplete = call.isComplete else { throw BrokenPromise(description: "a call has no end") }
            guard isComplete else { continue }
            try checkObject(call.arguments, form)
        }
    }

    /// Checks that the arguments are an object, as far as our own parser, which is stricter than JSON, can tell.
    private static func checkObject(_ arguments: [UInt8], _ form: ToolCallForm) throws(BrokenPromise) {
        try BrokenPromise.check(arguments.first == UInt8(ascii: "{"), "\(form): arguments are no object")
        do throws(JSONError) {
            _ = try JSONParser.parse(arguments)
        } catch {
            // All of this JSON allows: a name twice, half of a surrogate pair, any number.
            let isStrict = ["occurs twice", "surrogate", "out of range", "400 characters"]
                .contains { error.reason.contains($0) }
            let spelled = String(decoding: arguments, as: UTF8.self)
            try BrokenPromise.check(isStrict, "\(form): \(spelled): \(error.reason)")
        }
    }

    /// Whether `text` has nothing behind the last call's arguments but what ends a call: the rest of its object, if
    /// that is closed, and the marks around calls. What breaks off instead is content, and not in `text`.
    private static func closes(_ text: ArraySlice<UInt8>, after arguments: [UInt8]) -> Bool {
        let found = text.indices.last { text[$0...].prefix(arguments.count).elementsEqual(arguments) }
        guard let found else { return true }
        var rest = text[(found + arguments.count)...]
        // The arguments are spelled in another way then, or stand before the name, and this is not their place.
        let keys = ["\"name\"", "\"arguments\"", "\"parameters\""]
        let isElsewhere = rest.indices.contains { index in keys.contains { rest[index...].starts(with: $0.utf8) } }
        if isElsewhere { return true }
        var isOpen = false
        while true {
            skipSpace(&rest)
            if rest.isEmpty { return !isOpen }
            if skip(",", &rest) {
                guard skipString(&rest), skip(":", &rest), skipString(&rest) else { return false }
                isOpen = true
            } else if skip("}", &rest) {
                isOpen = false
            } else {
                let marks = ["</tool_call>", "<|eom_id|>", "<|eot_id|>", "]"]
                guard !isOpen, marks.contains(where: { skip($0, &rest) }) else { return false }
            }
        }
    }

    private static func skipSpace(_ rest: inout ArraySlice<UInt8>) { rest = rest.drop { " \t\r\n".utf8.contains($0) } }

    private static func skip(_ mark: String, _ rest: inout ArraySlice<UInt8>) -> Bool {
        skipSpace(&rest)
        guard rest.starts(with: mark.utf8) else { return false }
        rest.removeFirst(mark.utf8.count)
        return true
    }

    private static func skipString(_ rest: inout ArraySlice<UInt8>) -> Bool {
        guard skip("\"", &rest) else { return false }
        while let byte = rest.popFirst(), byte != UInt8(ascii: "\"") {
            if byte == UInt8(ascii: "\\"), rest.popFirst() == nil { return false }
        }
        return true
    }

    /// Whether there is an escape that means another byte than the one behind the backslash.
    private static func hasEscapes(_ text: [UInt8]) -> Bool {
        zip(text, text.dropFirst()).contains { $0 == UInt8(ascii: "\\") && "bfnrtu".utf8.contains($1) }
    }

    /// Whether `part` is what is left of `text` when bytes are taken out of it.
    private static func isOrderedPart(_ part: [UInt8], of text: [UInt8]) -> Bool {
        var rest = part[...]
        for byte in text where rest.first == byte { rest.removeFirst() }
        return rest.isEmpty
    }

    // MARK: Reasoning

    private static func thoughts(_ pieces: [String], isOpen: Bool) -> (reasoning: [UInt8], content: [UInt8]) {
        var parser = ReasoningParser(isOpen: isOpen)
        var found: [ReasoningPiece] = []
        for piece in pieces { found += parser.append(piece) }
        found += parser.finish()
        var result: (reasoning: [UInt8], content: [UInt8]) = ([], [])
        for piece in found {
            switch piece {
            case .reasoning(let text): result.reasoning += text.utf8
            case .content(let text): result.content += text.utf8
            }
        }
        return result
    }
}
