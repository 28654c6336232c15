// The table of limits, from which these tests are made: at each limit, one beyond it, far beyond, of another type, and
// null. docs/requests.md is the same table.

import Foundation
import Serving
import Testing

@Suite struct RequestFieldTests {
    /// A body with `value` at a field's path, and what the value needs beside it to be accepted.
    private func body(_ field: RequestField, _ value: String) -> String {
        let path = field.name.split(separator: ".").map(String.init)
        var member = #""\#(path[path.count - 1])":\#(value)"#
        if path.count == 2 {
            let beside =
                switch path[1] {
                case "min_count": #""max_pattern_size":1,"#
                case "max_pattern_size": #""min_count":2,"#
                case "min_pattern_size": #""min_count":2,"max_pattern_size":256,"#
                default: ""
                }
            member = "\"\(path[0])\":{\(beside)\(member)}"
        }
        switch field.name {
        case "min_tokens": member += #","max_tokens":9223372036854775807"#
        case "top_logprobs": member += #","logprobs":true"#
        case "logprob_token_ids": member += #","logprobs":0"#
        case "stream_options.include_usage", "stream_options.continuous_usage_stats": member += #","stream":true"#
        default: break
        }
        let prompt =
            switch field.scope {
            case .chat: #""messages":[{"role":"assistant","content":"x"}]"#
            case .embeddings: #""input":"x""#
            case .rerank: #""query":"x","documents":["y"]"#
            case .both, .completions: #""prompt":"x""#
            }
        return "{\(prompt),\(member)}"
    }

    private func path(_ field: RequestField) -> String {
        switch field.scope {
        case .chat: "/v1/chat/completions"
        case .embeddings: "/v1/embeddings"
        case .rerank: "/rerank"
        case .both, .completions: "/v1/completions"
        }
    }

    /// Values at the limits, and values beyond them.
    private func values(_ field: RequestField) -> (accepted: [String], refused: [String]) {
        func list(_ element: String, _ count: Int) -> String {
            "[" + Array(repeating: element, count: count).joined(separator: ",") + "]"
        }
        let wrong = ["{}", "[]", #""x""#, "true", "1"]
        switch field.kind {
        case .bool: return (["true", "false"], wrong.filter { $0 != "true" })
        case .integer(let range):
            // Some ranges are narrowed by the model or the configuration; their upper ends are tested elsewhere.
            let isNarrowed = ["n", "priority", "truncate_prompt_tokens", "dimensions"].contains(field.name)
            var accepted = field.name == "priority" ? ["0"] : ["\(range.lowerBound)"]
            var refused = wrong.filter { $0 != "1" } + ["1.5", "9223372036854775808", "1e300"]
            if !isNarrowed { accepted.append("\(range.upperBound)") }
            if range.lowerBound != .min { refused.append("\(range.lowerBound - 1)") }
            if range.upperBound != .max { refused.append("\(range.upperBound + 1)") }
            return (accepted, refused)
        case .number(let range, let isOpen):
            let (low, high) = (range.lowerBound, range.upperBound)
            let refused = wrong.filter { $0 != "1" } + ["\(isOpen ? low : low.nextDown)", "-1e300"]
            return (
                ["\(isOpen ? low.nextUp : low)", "\(high)"],
                refused + (high < 1e300 ? ["\(high.nextUp)", "1e300"] : [])
            )
        case .text(let characters):
            func text(_ count: Int) -> String { "\"" + String(repeating: "é", count: count) + "\"" }
            return (
                [text(characters.lowerBound), text(characters.upperBound)],
                wrong.filter { $0 != #""x""# }
                    + [text(characters.lowerBound - 1), text(characters.upperBound + 1), text(100_000)]
            )
        case .choice(let words): return (words.map { "\"\($0)\"" }, wrong)
        case .strings(let count, let bytes, let isSingle):
            func text(_ count: Int) -> String { "\"" + String(repeating: "x", count: count) + "\"" }
            return (
                [list(text(1), count.lowerBound), list(text(1), count.upperBound), list(text(bytes.upperBound), 1)],
                wrong.filter { $0 != "[]" && !(isSingle && $0 == #""x""#) } + [
                    list(text(1), count.upperBound + 1), list(text(1), 10_000), list(text(bytes.upperBound + 1), 1),
                    list(text(0), 1), list("1", 1), list("null", 1),
                ]
            )
        case .tokens(let count):
            let least = list("7", count.lowerBound)
            return (
                [least, list("7", min(count.upperBound, 2000))],
                wrong.filter { $0 != "[]" || count.lowerBound > 0 } + [
                    list("-1", 1), list("271", 1), list("9223372036854775808", 1), list("1.5", 1), list("\"7\"", 1),
                ] + (count.upperBound < .max ? [list("7", count.upperBound + 1)] : [])
            )
        case .biases(let count):
            // The count's limit is also that of any object's members, which the parser refuses (JSONTests).
            #expect(count.upperBound == 1024)
            return (
                ["{}", #"{"0":-100,"270":100,"5":1e300}"#],
                wrong.filter { $0 != "{}" } + [#"{"271":1}"#, #"{"-1":1}"#, #"{"7":null}"#]
            )
        case .object(let members):
            let many = (0...members.upperBound).map { "\"k\($0)\":1" }.joined(separator: ",")
            return (["{}"], wrong.filter { $0 != "{}" } + ["{\(many)}"])
        case .objects(let count):
            return (
                ["[]", list(#"{"a":[1]}"#, count.upperBound)],
                wrong.filter { $0 != "[]" } + [list("{}", count.upperBound + 1), list("1", 1), list("null", 1)]
            )
        // Their forms are tested with what they do.
        case .other: return ([], wrong.filter { $0 != "{}" })
        }
    }

    @Test(arguments: RequestField.all.indices)
    func `a field is accepted at its limits and refused beyond them`(index: Int) async throws {
        let field = RequestField.all[index]
        let (accepted, refused) = values(field)
        try await withServer(FakeEngine("ok")) { server in
            for value in accepted + ["null"] {
                // A number of milliseconds that is over at once, and such, are still accepted.
                let answer = try await server.post(path(field), body(field, value))
                let isNeeded = field.name == "repetition_detection.min_count" && value == "null"
                #expect(
                    answer.status == (isNeeded ? 400 : 200), "\(field.name) \(value.prefix(80)) gave \(answer.body)")
            }
            for value in refused {
                let answer = try await server.post(path(field), body(field, value))
                #expect(answer.status == 400, "\(field.name) \(value.prefix(80)) gave \(answer.body.prefix(200))")
                #expect(
                    answer.body.contains(#""param":"\#(field.name)","code":400}}"#),
                    "\(field.name) \(value.prefix(80)) gave \(answer.body.prefix(200))")
            }
        }
    }

    @Test func `docs/requests.md is the table`() throws {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../docs/requests.md")
            .standardized
        if ProcessInfo.processInfo.environment["RECORD_GOLDENS"] != nil {
            try RequestField.documentation.write(to: file, atomically: true, encoding: .utf8)
        }
        #expect(try String(contentsOf: file, encoding: .utf8) == RequestField.documentation)
    }
}
