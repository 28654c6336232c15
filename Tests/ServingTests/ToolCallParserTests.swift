// Calls of functions found in text: the forms that models write, in every cutting, whole, broken and hostile.

import JSON
import Serving
import Testing

/// What a text came to.
private struct Outcome: Equatable {
    struct Call: Equatable {
        var id: String
        var name: String
        var arguments = ""
        var isComplete: Bool?
    }

    var content = ""
    var calls: [Call] = []
    /// Content and arguments in their order.
    var pieces: [String] = []

    mutating func take(_ events: [ToolCallEvent]) {
        for event in events {
            switch event {
            case .content(let text):
                content += text
                pieces.append(text)
            case .start(let call, let id, let name):
                #expect(call == calls.count)
                calls.append(Call(id: id, name: name))
            case .arguments(let call, let text):
                #expect(call == calls.count - 1 && calls[call].isComplete == nil)
                calls[call].arguments += text
                pieces.append(text)
            case .end(let call, let isComplete):
                #expect(call == calls.count - 1 && calls[call].isComplete == nil)
                calls[call].isComplete = isComplete
            }
        }
    }

    /// Everything but how it was cut.
    static func == (left: Outcome, right: Outcome) -> Bool {
        left.content == right.content && left.calls == right.calls
    }
}

private struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}

struct ToolCallParserTests {
    private static let context = ToolCallContext(tools: ["get_weather", "add", "f", "tools.list-all"]) { "call_\($0)" }

    private func parse(_ form: ToolCallForm, _ pieces: [String], context: ToolCallContext = context) -> Outcome {
        var parser = form.parser(context)
        var outcome = Outcome()
        for piece in pieces { outcome.take(parser.append(piece)) }
        outcome.take(parser.finish())
        return outcome
    }

    /// The outcome of a text, which is the same whole, in scalars and in two random cuttings.
    private func parse(_ form: ToolCallForm, _ text: String, seed: UInt64 = 1) -> Outcome {
        let whole = parse(form, [text])
        #expect(parse(form, text.unicodeScalars.map { String($0) }) == whole, "\(text)")
        var random = Generator(state: seed)
        for most in [3, 12] {
            var pieces: [String] = []
            var rest = text.unicodeScalars[...]
            while !rest.isEmpty {
                let count = Int.random(in: 1...most, using: &random)
                pieces.append(String(String.UnicodeScalarView(rest.prefix(count))))
                rest = rest.dropFirst(count)
            }
            #expect(parse(form, pieces) == whole, "\(text)")
        }
        return whole
    }

    private func expect(
        _ form: ToolCallForm, _ text: String, content: String = "", _ calls: [(name: String, arguments: String)],
        location: SourceLocation = #_sourceLocation
    ) {
        let outcome = parse(form, text)
        #expect(outcome.content == content, "\(text)", sourceLocation: location)
        #expect(outcome.calls.map(\.name) == calls.map(\.name), "\(text)", sourceLocation: location)
        #expect(outcome.calls.map(\.arguments) == calls.map(\.arguments), "\(text)", sourceLocation: location)
        #expect(outcome.calls.map(\.id) == calls.indices.map { "call_\($0)" }, sourceLocation: location)
        #expect(outcome.calls.allSatisfy { $0.isComplete == true }, "\(text)", sourceLocation: location)
    }

    // MARK: What models write

    @Test func `Hermes calls stand between tags, alone, in a row and behind text`() {
        let object = #"{"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}}"#
        let weather = "<tool_call>\n\(object)\n</tool_call>"
        expect(.hermes, weather, [("get_weather", #"{"city": "Zürich", "days": 3}"#)])
        expect(
            .hermes, "\n\(weather)\n<tool_call>{\"name\":\"f\"}</tool_call>\n",
            [
                ("get_weather", #"{"city": "Zürich", "days": 3}"#), ("f", "{}"),
            ])
        expect(
            .hermes, "I'll look.\n\(weather)\nDone <b>", content: "I'll look.\n\nDone <b>",
            [("get_weather", #"{"city": "Zürich", "days": 3}"#)])
        // Arguments first, as a string, and a tag that never came.
        expect(.hermes, #"<tool_call>{"arguments": {"a": [1]}, "name": "f"}"#, [("f", #"{"a": [1]}"#)])
        expect(.hermes, #"<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>"#, [("f", #"{"a": 1}"#)])
        expect(.hermes, #"<tool_call>{"name": "f", "arguments": null}</tool_call>"#, [("f", "{}")])
    }

    @Test func `Llama's calls are the whole answer or follow the tag`() {
        expect(.llama3JSON, #"{"name": "f", "parameters": {"x": 1}}"#, [("f", #"{"x": 1}"#)])
        expect(.llama3JSON, #" {"type": "function", "name": "f", "parameters": {}}<|eom_id|>"#, [("f", "{}")])
        expect(
            .llama3JSON, #"{"name": "f", "parameters": {}}; {"name": "add", "parameters": {"a": 2}}"#,
            [("f", "{}"), ("add", #"{"a": 2}"#)])
        expect(
            .llama3JSON, #"Let me see. <|python_tag|>{"name": "f", "parameters": {}}"#, content: "Let me see. ",
            [
                ("f", "{}")
            ])
        // An answer that is JSON is an answer.
        expect(.llama3JSON, #"{"name": "Ada", "age": 36}"#, content: #"{"name": "Ada", "age": 36}"#, [])
        expect(.llama3JSON, #"{"answer": 42}"#, content: #"{"answer": 42}"#, [])
        expect(.llama3JSON, #"Use {"name": "f"}"#, content: #"Use {"name": "f"}"#, [])
        expect(.llama3JSON, #"{"name": "f", "parameters": {}}, see?"#, content: ", see?", [("f", "{}")])
    }

    @Test func `Mistral's calls are a list or a name with arguments`() {
        expect(
            .mistral, #"[TOOL_CALLS] [{"name": "f", "arguments": {"a": "]"}}, {"name": "add", "arguments": {}}]"#,
            [("f", #"{"a": "]"}"#), ("add", "{}")])
        expect(.mistral, #"[TOOL_CALLS][{"name": "f", "arguments": {}, "id": "a1b2c3d4e"}]"#, [("f", "{}")])
        expect(
            .mistral, #"[TOOL_CALLS]f{"a": {"b": []}}[TOOL_CALLS]add{}"#, [("f", #"{"a": {"b": []}}"#), ("add", "{}")])
        expect(.mistral, #"Yes.[TOOL_CALLS]f[CALL_ID]x1[ARGS]{"a": 1}"#, content: "Yes.", [("f", #"{"a": 1}"#)])
        expect(.mistral, #"[TOOL_CALLS]tools.list-all[ARGS] {}"#, [("tools.list-all", "{}")])
        expect(.mistral, "[TOOL] [TOOL_CALLS] []", content: "[TOOL] [TOOL_CALLS] []", [])
    }

    @Test func `pythonic calls become JSON`() {
        expect(.pythonic, "[f(a=1, b=\"x\"), add()]", [("f", #"{"a": 1, "b": "x"}"#), ("add", "{}")])
        expect(
            .pythonic, "<|python_start|>[f(a=[1, (2,), {'k': None}], b=-1.5e3, c=True,)]<|python_end|>",
            [("f", #"{"a": [1, [2], {"k": null}], "b": -1.5e3, "c": true}"#)])
        expect(
            .pythonic, #"[f(s='it\'s "\x41\u00e9\n\d', t="a" 'b', u=.5, v=1., w=(3))]"#,
            [("f", #"{"s": "it's \"Aé\n\\d", "t": "ab", "u": 0.5, "v": 1.0, "w": 3}"#)])
        expect(
            .pythonic, #"[f(**{"a": [true, null]}), add(x = 1)]"#,
            [("f", #"{"a": [true, null]}"#), ("add", #"{"x": 1}"#)])
        for text in ["[1] see there", "[f] is", "[g(a=1)]", "[f(a=b)]", "[f(a=007)]", "[f(1)]", "[f(a={1: 2})]"] {
            expect(.pythonic, text, content: text, [])
        }
    }

    // MARK: What goes wrong

    @Test func `what is no call is content, to the last character`() {
        let texts: [(ToolCallForm, String)] = [
            (.hermes, "a <tool_cal"), (.hermes, "<tool_call>"), (.hermes, "<tool_call>{\"name\": \"f\""),
            (.hermes, "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>"), (.hermes, " \n "),
            (.hermes, "<tool_call>not JSON</tool_call>"), (.hermes, "<tool_call>{\"name\": 3}</tool_call>"),
            (.hermes, "<tool_call>{\"arguments\": {}}</tool_call>"), (.llama3JSON, "{"), (.llama3JSON, "{\"nam"),
            (.llama3JSON, "{\"name\": \"f\", \"parameters\": 7}"), (.mistral, "[TOOL_CALLS]nothing{}"),
            (.mistral, "[TOOL_CALLS]f[X]{}"), (.pythonic, "["), (.pythonic, "[f(a='"), (.pythonic, "]"),
        ]
        for (form, text) in texts { expect(form, text, content: text, []) }
        // A call may follow what was none.
        expect(.hermes, #"<tool_call><tool_call>{"name": "f"}</tool_call>"#, content: "<tool_call>", [("f", "{}")])
    }

    @Test func `a call that breaks off ends incomplete, and the rest is content`() {
        let cut = parse(.hermes, #"<tool_call>{"name": "f", "arguments": {"a": "b"#)
        #expect(cut.calls == [.init(id: "call_0", name: "f", arguments: #"{"a": "b"#, isComplete: false)])
        #expect(cut.content.isEmpty)
        let wrong = parse(.hermes, #"<tool_call>{"name": "f", "arguments": {"a": nul}}</tool_call> and on"#)
        #expect(wrong.calls == [.init(id: "call_0", name: "f", arguments: #"{"a": nul"#, isComplete: false)])
        #expect(wrong.content == "}}</tool_call> and on")
        // The arguments were complete; what stands behind them was not.
        let late = parse(.hermes, #"<tool_call>{"name": "f", "arguments": {}, oops"#)
        #expect(late.calls == [.init(id: "call_0", name: "f", arguments: "{}", isComplete: true)])
        #expect(late.content == ", oops")
        // So is what was held back when the object goes wrong a member later.
        let later = parse(.hermes, #"<tool_call>{"name": "f", "arguments": {} , "id": "x", "oops": 1}</tool_call> on"#)
        #expect(later.calls == late.calls)
        #expect(later.content == #" , "id": "x", "oops": 1}</tool_call> on"#)
        let python = parse(.pythonic, "[f(a=1, b=oops)] on")
        #expect(python.calls == [.init(id: "call_0", name: "f", arguments: #"{"a": 1"#, isComplete: false)])
        #expect(python.content == " b=oops)] on")
    }

    @Test func `nesting, size and number are bounded, at the limit and one beyond`() {
        var limits = ToolCallLimits()
        (limits.calls, limits.depth, limits.argumentBytes) = (2, 3, 12)
        let context = ToolCallContext(tools: ["f"], limits: limits) { "\($0)" }
        func outcome(_ form: ToolCallForm, _ text: String) -> Outcome { parse(form, [text], context: context) }
        func hermes(_ arguments: String) -> Outcome {
            outcome(.hermes, "<tool_call>{\"name\": \"f\", \"arguments\": \(arguments)}</tool_call>")
        }
        #expect(hermes(#"{"a":[[1]]}"#).calls[0].isComplete == true)
        #expect(hermes(#"{"a":[[[]]]}"#).calls[0].isComplete == false)
        #expect(hermes(#"{"a":123456}"#).calls[0].isComplete == true)
        #expect(hermes(#"{"a":1234567}"#).calls[0].isComplete == false)
        let call = #"[TOOL_CALLS]f{}"#
        #expect(outcome(.mistral, call + call).content == "")
        #expect(outcome(.mistral, call + call + call + "x").content == call + "x")
        #expect(outcome(.mistral, call + call + call).calls.count == 2)
    }

    @Test func `a thousand levels cost no stack`() {
        let deep = String(repeating: "[", count: 100_000)
        for form in ToolCallForm.allCases {
            let outcome = parse(form, ["[f(a=\(deep)", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \(deep)"])
            #expect(outcome.calls.allSatisfy { $0.isComplete == false })
        }
    }

    // MARK: Properties

    private func value(_ random: inout Generator, depth: Int) -> String {
        let kind = Int.random(in: 0...(depth == 0 ? 4 : 6), using: &random)
        switch kind {
        case 0: return "\(Int.random(in: -500...500, using: &random))"
        case 1: return ["true", "false", "null", "-0.5e-3", "12E+2"].randomElement(using: &random) ?? ""
        case 2, 3, 4:
            let parts = [
                "a", "é", "🦅", " ", "\\\"", "\\\\", "\\n", "\\u00e9", "{", "]", "<tool_call>", "</tool_call>", ";", "'",
            ]
            return "\""
                + (0..<Int.random(in: 0...6, using: &random)).map { _ in
                    parts.randomElement(using: &random) ?? ""
                }.joined() + "\""
        case 5:
            let elements = (0..<Int.random(in: 0...3, using: &random)).map { _ in value(&random, depth: depth - 1) }
            return "[" + elements.joined(separator: ", ") + "]"
        default: return object(&random, depth: depth - 1)
        }
    }

    private func object(_ random: inout Generator, depth: Int) -> String {
        let members = (0..<Int.random(in: 0...3, using: &random)).map { index in
            "\"k\(index)\":" + value(&random, depth: depth)
        }
        return "{" + members.joined(separator: ", ") + "}"
    }

    @Test(arguments: ToolCallForm.allCases)
    func `calls that were written are found, and their arguments parse`(_ form: ToolCallForm) throws {
        for seed in 0..<300 as Range<UInt64> {
            var random = Generator(state: seed)
            let calls = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                (["f", "add", "get_weather"].randomElement(using: &random) ?? "", object(&random, depth: 3))
            }
            let text =
                switch form {
                case .hermes:
                    calls.map { "<tool_call>\n{\"name\": \"\($0)\", \"arguments\": \($1)}\n</tool_call>" }
                        .joined(separator: "\n")
                case .llama3JSON:
                    calls.map { "{\"name\": \"\($0)\", \"parameters\": \($1)}" }.joined(separator: "; ")
                case .mistral where seed % 2 == 0: calls.map { "[TOOL_CALLS]\($0)\($1)" }.joined()
                case .mistral:
                    "[TOOL_CALLS] ["
                        + calls.map { "{\"name\": \"\($0)\", \"arguments\": \($1)}" }.joined(separator: ", ") + "]"
                case .pythonic: "[" + calls.map { "\($0)(**\($1))" }.joined(separator: ", ") + "]"
                }
            let outcome = parse(form, text, seed: seed)
            #expect(outcome.content == "" && outcome.calls.map(\.name) == calls.map(\.0), "\(text)")
            #expect(outcome.calls.map(\.arguments) == calls.map(\.1), "\(text)")
            for call in outcome.calls { _ = try JSONParser.parse(Array(call.arguments.utf8)) }
        }
    }

    @Test(arguments: ToolCallForm.allCases)
    func `garbage neither crashes nor loses text`(_ form: ToolCallForm) {
        let parts = [
            "<tool_call>", "</tool_call>", "<tool", "{", "}", "[", "]", "\"name\"", "\"arguments\"", ":", ": ", ",",
            "\"f\"",
            "\"", "\\", "f(", ")", "a=", "'", "**", "[TOOL_CALLS]", "[ARGS]", "[TOOL_", "f", "{\"a\": 1}", "1", "é",
            "🦅", "\n",
            " ", "<|python_tag|>", "<|python_start|>", ";", "{\"name\": \"f\", ", "\"parameters\": ", "null",
            "{\"name\": \"f\", \"arguments\": {\"x\": \"",
        ]
        let beginnings = [
            "<tool_call>{\"name\": \"f\", \"arguments\": ", "[TOOL_CALLS]f", "[TOOL_CALLS] [", "[f(a=", "[f(**",
            "{\"name\": \"f\", ",
        ]
        var started = 0
        for seed in 0..<1500 as Range<UInt64> {
            var random = Generator(state: seed)
            let beginning = seed % 2 == 0 ? "" : beginnings[Int(seed / 2) % beginnings.count]
            let text = (0..<Int.random(in: 1...25, using: &random)).reduce(into: beginning) { text, _ in
                text += parts.randomElement(using: &random) ?? ""
            }
            let outcome = parse(form, text, seed: seed)
            started += outcome.calls.count
            if outcome.calls.isEmpty {
                #expect(outcome.content == text)
                continue
            }
            #expect(outcome.calls.allSatisfy { $0.isComplete != nil })
            for call in outcome.calls where call.isComplete == true {
                #expect(throws: Never.self, "\(text)") { try JSONParser.parse(Array(call.arguments.utf8)) }
            }
            // What is passed on stands in the text, in this order. (Python's arguments are rewritten.)
            guard form != .pythonic else { continue }
            var rest = Array(text.utf8)[...]
            for piece in outcome.pieces.map({ Array($0.utf8) }) where piece != Array("{}".utf8) {
                while !rest.isEmpty, !rest.starts(with: piece) { rest.removeFirst() }
                #expect(rest.starts(with: piece), "\(text)")
                rest = rest.dropFirst(piece.count)
            }
        }
        #expect(started > 10)
    }

    // MARK: Templates

    @Test func `the form follows from the template`() {
        #expect(ToolCallForm.detect(template: "…<tool_call>\n{\"name\": <function-name>…") == .hermes)
        #expect(ToolCallForm.detect(template: "{{ '[TOOL_CALLS]' }}") == .mistral)
        #expect(ToolCallForm.detect(template: "{{ '<|python_tag|>' }}") == .llama3JSON)
        #expect(ToolCallForm.detect(template: "[func_name1(params_name1=params_value1)]") == .pythonic)
        #expect(ToolCallForm.detect(template: "{{ messages }}") == nil)
        #expect(ToolCallForm.detect(template: "<tool_call>\n<function=example>") == nil)
        #expect(ToolCallForm.allCases.map(\.rawValue) == ["hermes", "llama3_json", "mistral", "pythonic"])
    }
}
