// The grammar of forced calls describes what the parser of the same form reads: texts made from one are found by the
// other.

import Grammars
import Serving
import Testing

struct ToolCallGrammarTests {
    /// A text that the expression describes.
    private func sample(_ expression: Expression, _ state: inout UInt64) -> [UInt8] {
        func random(_ count: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % count
        }
        switch expression {
        case .bytes(let bytes): return bytes
        case .sequence(let parts): return parts.flatMap { sample($0, &state) }
        case .choice(let options): return sample(options[random(options.count)], &state)
        case .repetition(let inner, let atLeast, let atMost):
            return (0..<atLeast + random((atMost ?? atLeast) - atLeast + 1)).flatMap { _ in sample(inner, &state) }
        default:
            Issue.record("\(expression) is not used here")
            return []
        }
    }

    @Test(arguments: ToolCallForm.allCases, [1, 4])
    func `a forced call is a call that is found`(_ form: ToolCallForm, atMost: Int) {
        let arguments = [#"{"a": "]}</tool_call>", "b": [1, null]}"#, "{}", #"{"c": {"d": -1e5}}"#]
        let tools = ["f", "get-weather_2"].map { name in
            ToolGrammar(name: name, arguments: .choice(arguments.map { .text($0) }))
        }
        var counts: Set<Int> = []
        for seed in 1...200 as ClosedRange<UInt64> {
            var state = seed
            let text = String(decoding: sample(form.grammar(tools, atMost: atMost), &state), as: UTF8.self)
            var parser = form.parser(ToolCallContext(tools: ["f", "get-weather_2"]) { "\($0)" })
            let events = text.unicodeScalars.flatMap { parser.append(String($0)) } + parser.finish()
            var found: [String] = []
            for event in events {
                switch event {
                case .content(let content): Issue.record("\(content) in \(text)")
                case .start(_, _, let name): #expect(text.contains(name))
                case .arguments(let call, let piece):
                    if found.count == call { found.append("") }
                    found[call] += piece
                case .end(_, let isComplete): #expect(isComplete)
                }
            }
            #expect((1...atMost).contains(found.count) && found.allSatisfy(arguments.contains), "\(text)")
            counts.insert(found.count)
        }
        #expect(counts == Set(1...atMost))
    }
}
