// Reasoning and answer told apart in every cutting, and the count against the budget.

import Serving
import Testing

struct ReasoningParserTests {
    private func split(_ text: String, isOpen: Bool = false) -> (reasoning: String, content: String) {
        func split(_ size: Int) -> (String, String) {
            var parser = ReasoningParser(isOpen: isOpen)
            var parts = (reasoning: "", content: "")
            var rest = text.unicodeScalars[...]
            var pieces: [ReasoningPiece] = []
            while !rest.isEmpty {
                pieces += parser.append(String(String.UnicodeScalarView(rest.prefix(size))))
                rest = rest.dropFirst(size)
            }
            for piece in pieces + parser.finish() {
                switch piece {
                case .reasoning(let text):
                    #expect(parts.content.isEmpty)
                    parts.reasoning += text
                case .content(let text): parts.content += text
                }
            }
            return parts
        }
        let whole = split(.max)
        for size in [1, 2, 3, 5, 8] { #expect(split(size) == whole, "\(text) by \(size)") }
        return whole
    }

    @Test func `the first section is reasoning, the rest is content`() {
        #expect(split("<think>\nWhy?\n</think>\n\nBecause.") == ("\nWhy?\n", "\n\nBecause."))
        #expect(split("\n <think>é</think>🦅") == ("é", "🦅"))
        #expect(split("Why?</think>Because.", isOpen: true) == ("Why?", "Because."))
        #expect(split("<think></think>") == ("", ""))
    }

    @Test func `what only looks like a marker is text`() {
        for text in ["", " ", "<", "<thin", "<thinking>", "No.", "No. <think>a</think>b", " <b>", "</think>"] {
            #expect(split(text) == ("", text))
        }
        let nested = "a<think>b</thinking></thin"
        #expect(split("<think>\(nested)</think>c<think>d</think>") == (nested, "c<think>d</think>"))
        #expect(split("a <</think>b", isOpen: true) == ("a <", "b"))
    }

    @Test func `reasoning that is not closed stays reasoning`() {
        #expect(split("<think>Why? </thi") == ("Why? </thi", ""))
        #expect(split("Why?", isOpen: true) == ("Why?", ""))
        #expect(split("<think>") == ("", ""))
    }

    @Test func `pieces and markers together are the text`() {
        let parts = ["<think>", "</think>", "<thi", "nk>", "</", "think>", "a", "é", "\n", " ", "<"]
        for seed in 0..<2000 {
            var state = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 &+ 1
            var text = ""
            for _ in 0..<(seed % 12) {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                text += parts[Int(state >> 33) % parts.count]
            }
            let (reasoning, content) = split(text)
            if reasoning.isEmpty, content == text { continue }
            let body = text.drop { $0 == "\n" || $0 == " " }
            let isClosed = reasoning.utf8.count + 7 < body.utf8.count
            #expect("<think>" + reasoning + (isClosed ? "</think>" : "") + content == body, "\(text)")
        }
    }

    @Test func `the state says when the answer begins`() {
        var parser = ReasoningParser()
        #expect(parser.isReasoning)
        _ = parser.append("<think>a")
        #expect(parser.isReasoning)
        #expect(parser.append("b</think>c") == [.reasoning("b"), .content("c")])
        #expect(!parser.isReasoning)
        #expect(ReasoningParser.isOpen(prompt: "<|im_start|>assistant\n<think>\n"))
        #expect(!ReasoningParser.isOpen(prompt: "<think></think>\n") && !ReasoningParser.isOpen(prompt: ""))
    }

    @Test func `the budget counts reasoning only`() {
        var budget = ThinkingBudget(limit: 2)
        budget.count(isReasoning: true)
        #expect(!budget.isExhausted)
        budget.count(isReasoning: false)
        #expect(!budget.isExhausted && budget.used == 1)
        budget.count(isReasoning: true)
        #expect(budget.isExhausted)
        #expect(!ThinkingBudget(limit: nil).isExhausted && ThinkingBudget(limit: 0).isExhausted)
    }
}
