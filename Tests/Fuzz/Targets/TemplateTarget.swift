// Bytes as a chat template: its source up to the first zero byte, a user's message after it. The conversation's own
// text carries a mark, so that a rendering in which it could become a control token shows.

import Tokenization

enum TemplateTarget {
    private static let limits = TemplateLimits(
        sourceBytes: 16 << 10, steps: 5000, textBytes: 1 << 16, nesting: 32, recursion: 96, elements: 5000)
    /// A character that no template is likely to spell.
    private static let mark = "\u{E0A5}"

    static func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        let source = bytes.prefix { $0 != 0 }
        let message = String(decoding: bytes.dropFirst(source.count + 1), as: UTF8.self)
        let text = String(decoding: source, as: UTF8.self)
        let runs: [TextRun]
        do throws(TemplateError) {
            runs = try ChatTemplate(source: text, limits: limits).render(input(message + mark))
        } catch {
            try BrokenPromise.check(
                error.location.line >= 1 && error.location.column >= 1, "an error is at \(error.location)")
            // A template's own message may have 1000 characters.
            return try BrokenPromise.check(refusal: error.description, limit: 4096 + 128)
        }
        let size = runs.reduce(0) { $0 + $1.text.utf8.count }
        try BrokenPromise.check(size <= limits.textBytes, "a rendering has \(size) bytes")
        // Escapes in the source can spell the mark too.
        guard !text.contains(mark), !text.contains("\\") else { return }
        try BrokenPromise.check(
            !runs.contains { $0.allowsControlTokens && $0.text.contains(mark) }, "a user's text became the template's")
    }

    private static func input(_ message: String) -> ChatTemplateInput {
        let call: TemplateValue = ["name": .string("f" + mark), "arguments": ["x": 1, "y": [true, nil, 2.5]]]
        return ChatTemplateInput(
            messages: [
                ["role": "system", "content": "Be brief."],
                ["role": "user", "content": .string(message)],
                ["role": "assistant", "content": nil, "tool_calls": [["type": "function", "function": call]]],
                ["role": "tool", "tool_call_id": "c1", "content": .string(mark)],
            ],
            addGenerationPrompt: true, bosToken: "<s>", eosToken: "</s>",
            tools: [["type": "function", "function": ["name": "f", "parameters": ["type": "object"]]]],
            arguments: [.init("enable_thinking", false), .init("s", .string("a b" + mark)), .init("n", 7)],
            now: TemplateClock(secondsSince1970: 1_700_000_000))
    }
}
