// Calls and reasoning taken out of the text, whole and streamed; the fake engine says what the model writes, a byte a
// token, so that every marker is cut everywhere.

import Foundation
import Scheduling
import Serving
import Testing
import Tokenization

@Suite struct AnswerFormTests {
    private let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"é\"]}}\n</tool_call>"
    private let tools = #""tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#
    private let messages = #""messages":[{"role":"user","content":"x"}]"#

    /// What a streamed answer's deltas come to.
    private struct Joined: Equatable {
        var text = ""
        var reasoning = ""
        var calls: [String] = []
        var finish: String?
    }

    private func joined(_ body: String) throws -> Joined {
        var result = Joined()
        for line in body.split(separator: "\n") where line.hasPrefix("data: {") {
            let event = try JSONSerialization.jsonObject(with: Data(line.dropFirst(6).utf8)) as? [String: Any]
            let choice = try #require((event?["choices"] as? [[String: Any]])?.first)
            let delta = try #require(choice["delta"] as? [String: Any])
            result.text += delta["content"] as? String ?? ""
            result.reasoning += delta["reasoning"] as? String ?? ""
            #expect(delta["reasoning"] as? String == delta["reasoning_content"] as? String)
            for piece in delta["tool_calls"] as? [[String: Any]] ?? [] {
                let index = try #require(piece["index"] as? Int)
                let function = try #require(piece["function"] as? [String: Any])
                if piece["id"] != nil {
                    #expect(index == result.calls.count)
                    result.calls.append(try #require(function["name"] as? String))
                }
                result.calls[index] += try #require(function["arguments"] as? String)
            }
            if let reason = choice["finish_reason"] as? String { result.finish = reason }
        }
        return result
    }

    private func whole(_ body: String) throws -> Joined {
        let answer = try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any]
        let choice = try #require((answer?["choices"] as? [[String: Any]])?.first)
        let message = try #require(choice["message"] as? [String: Any])
        let calls = (message["tool_calls"] as? [[String: Any]] ?? []).compactMap { $0["function"] as? [String: String] }
        return Joined(
            text: message["content"] as? String ?? "", reasoning: message["reasoning"] as? String ?? "",
            calls: calls.map { ($0["name"] ?? "") + ($0["arguments"] ?? "") },
            finish: choice["finish_reason"] as? String)
    }

    /// The answer of a model that writes `text`, which is the same whole and streamed.
    private func answer(
        _ text: String, _ fields: String, model: ServedModel = Vocabulary.model(maxModelLength: 8192)
    ) async throws -> Joined {
        var result = Joined()
        try await withServer(FakeEngine(text), model: model) { server in
            let body = "{\(messages),\(fields)"
            let once = try await server.post("/v1/chat/completions", body + "}")
            #expect(once.status == 200, "\(once.body)")
            let streamed = try await server.post("/v1/chat/completions", body + #","stream":true}"#)
            result = try whole(once.body)
            #expect(try joined(streamed.body) == result)
        }
        return result
    }

    @Test func `a call in the text is a call of the answer`() async throws {
        let answer = try await answer("Let me look.\n" + call, tools)
        #expect(answer == Joined(text: "Let me look.", calls: [#"f{"a": [1, "é"]}"#], finish: "tool_calls"))
    }

    @Test func `several calls are numbered, and the white space between them is no text`() async throws {
        let answer = try await answer(call + "\n" + call + "\n", tools)
        #expect(answer.text.isEmpty)
        #expect(answer.calls.count == 2)
        let single = try await self.answer(call + "\n" + call, tools + #","parallel_tool_calls":false"#)
        #expect(single.calls.count == 1)
    }

    @Test func `a named call ends as any answer`() async throws {
        let named = #","tool_choice":{"type":"function","function":{"name":"f"}}"#
        #expect(try await answer(call, tools + named).finish == "stop")
    }

    @Test func `without tools, or with tool_choice none, the same text is text`() async throws {
        #expect(try await answer(call, #""n":1"#) == Joined(text: call, finish: "stop"))
        #expect(try await answer(call, tools + #","tool_choice":"none""#) == Joined(text: call, finish: "stop"))
    }

    @Test func `a call that breaks off is text, to the last character`() async throws {
        let broken = "  <tool_call>\n{\"name\": \"g"
        #expect(try await answer(broken, tools) == Joined(text: broken, finish: "stop"))
        #expect(try await answer("ends in space \n", tools).text == "ends in space \n")
    }

    private func model(opens: Bool) throws -> ServedModel {
        let source =
            "{% for message in messages %}{{ message.content }}{% endfor %}"
            + "{% if add_generation_prompt %}{{ '\(opens ? "<think>" : "")' }}{% endif %}{# <think> #}"
        return Vocabulary.model(maxModelLength: 8192, chatTemplate: try ChatTemplate(source: source))
    }

    @Test func `reasoning is told apart from the answer`() async throws {
        let closed = try model(opens: false)
        let thought = Joined(text: "4", reasoning: "2 + 2 …", finish: "stop")
        #expect(try await answer("<think>2 + 2 …</think>\n\n4", #""n":1"#, model: closed) == thought)
        #expect(try await answer("2 + 2 …</think>\n4", #""n":1"#, model: try model(opens: true)) == thought)
        #expect(try await answer("just 4", #""n":1"#, model: closed) == Joined(text: "just 4", finish: "stop"))
        let hidden = try await answer("<think>a</think>b", #""include_reasoning":false"#, model: closed)
        #expect(hidden == Joined(text: "b", finish: "stop"))
        let called = try await answer("<think>a</think>\n" + call, tools, model: closed)
        #expect(called == Joined(reasoning: "a", calls: [#"f{"a": [1, "é"]}"#], finish: "tool_calls"))
    }

    @Test func `a template without tools is told of them in the system message`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine, model: Vocabulary.model(maxModelLength: 8192)) { server in
            let messages =
                #""messages":[{"role":"system","content":"Be kind."},{"role":"assistant","content":null,"tool_calls":"#
                + #"[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"#
                + #"{"role":"tool","tool_call_id":"1","content":"seven"}]"#
            let answer = try await server.post("/v1/chat/completions", "{\(messages),\(tools)}")
            #expect(answer.status == 200, "\(answer.body)")
        }
        let prompt = try #require(engine.submitted.first).prompt
        let bytes = prompt.flatMap { Array(Vocabulary.tokenizer.bytes(of: $0) ?? []) }
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(text.contains("Be kind.\n\nYou can call functions."))
        #expect(text.contains(#"{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}"#))
        #expect(text.contains("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"))
        #expect(text.contains("<tool_response>\nseven\n</tool_response>"))
    }
}
