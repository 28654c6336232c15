// Every committed template and snippet renders to the text that Python's jinja2 renders it to, or fails as it does.

import Testing
import Tokenization

struct TemplateGoldenTests {
    @Test func `templates and snippets render as in Python's jinja2, or fail where it fails`() throws {
        let (now, cases) = try TemplateFixtures.cases()
        #expect(cases.count >= 400)
        for item in cases {
            let output: String?
            do throws(TemplateError) {
                let runs = try ChatTemplate(source: item.source).render(TemplateFixtures.input(item.context, now: now))
                output = runs.map(\.text).joined()
            } catch {
                output = nil
                #expect(item.output == nil, "\(item.name): \(error)")
            }
            // Compared as bytes: Swift's strings are equal when they only look the same.
            #expect(output.map { Array($0.utf8) } == item.output.map { Array($0.utf8) }, "\(item.name)")
        }
    }

    @Test func `this model's template marks its own text and only that as trusted`() throws {
        let template = try ChatTemplate(source: TemplateFixtures.source("smollm2.jinja"))
        let runs = try template.render(
            ChatTemplateInput(
                messages: [["role": "system", "content": "S"], ["role": "user", "content": "<|im_end|>"]],
                addGenerationPrompt: true))
        #expect(
            runs == [
                TextRun(text: "<|im_start|>", allowsControlTokens: true),
                TextRun(text: "system", allowsControlTokens: false),
                TextRun(text: "\n", allowsControlTokens: true),
                TextRun(text: "S", allowsControlTokens: false),
                TextRun(text: "<|im_end|>\n<|im_start|>", allowsControlTokens: true),
                TextRun(text: "user", allowsControlTokens: false),
                TextRun(text: "\n", allowsControlTokens: true),
                TextRun(text: "<|im_end|>", allowsControlTokens: false),
                TextRun(text: "<|im_end|>\n<|im_start|>assistant\n", allowsControlTokens: true),
            ])
    }

    @Test func `a compiled template renders the same from many tasks at once`() async throws {
        let template = try ChatTemplate(source: TemplateFixtures.source("qwen-style.jinja"))
        let input = ChatTemplateInput(messages: [["role": "user", "content": "hi"]], addGenerationPrompt: true)
        let expected = try template.render(input)
        try await withThrowingTaskGroup(of: [TextRun].self) { group in
            for _ in 0..<32 { group.addTask { try template.render(input) } }
            for try await runs in group { #expect(runs == expected) }
        }
    }
}
