// /v1/messages: what reaches the engine, what comes back, byte for byte, and what is refused by this API's names.

import Scheduling
import Testing
import Tokenization

@Suite struct MessagesTests {
    private static let user = #"{"role":"user","content":"hi"}"#

    @Test func `an answer is a message of blocks`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post(
                "/v1/messages", #"{"model":"tiny","max_tokens":9,"messages":[\#(Self.user)]}"#,
                headers: "X-Request-Id: a\r\n")
            #expect(answer.status == 200)
            #expect(
                answer.body == #"{"id":"msg_a","type":"message","role":"assistant","model":"tiny","content":["#
                    + #"{"type":"text","text":"ok"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"#
                    + #""input_tokens":21,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"#
                    + #""output_tokens":3}}"#)
        }
    }

    @Test func `a stream names its events and has a start, pieces and an end`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post(
                "/v1/messages", #"{"max_tokens":9,"stream":true,"messages":[\#(Self.user)]}"#,
                headers: "X-Request-Id: a\r\n")
            #expect(answer.status == 200)
            let usage = #""cache_creation_input_tokens":0,"cache_read_input_tokens":0,"#
            let expected = [
                (
                    "message_start",
                    #""message":{"id":"msg_a","type":"message","role":"assistant","model":"tiny","content":[],"#
                        + #""stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":21,"#
                        + usage + #""output_tokens":0}}"#
                ),
                ("content_block_start", #""index":0,"content_block":{"type":"text","text":""}"#),
                ("content_block_delta", #""index":0,"delta":{"type":"text_delta","text":"o"}"#),
                ("content_block_delta", #""index":0,"delta":{"type":"text_delta","text":"k"}"#),
                ("content_block_stop", #""index":0"#),
                (
                    "message_delta",
                    #""delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":21,"#
                        + usage + #""output_tokens":3}"#
                ),
            ].map { "event: \($0)\ndata: {\"type\":\"\($0)\",\($1)}\n\n" }.joined()
            #expect(answer.body == expected + "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
        }
    }

    @Test(arguments: [
        (#""max_tokens":1"#, #""stop_reason":"max_tokens","stop_sequence":null"#),
        (#""max_tokens":9,"stop_sequences":["k"]"#, #""stop_reason":"stop_sequence","stop_sequence":"k""#),
    ])
    func `the reason of the end is told in this API's words`(members: String, reason: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post("/v1/messages", #"{"messages":[\#(Self.user)],\#(members)}"#)
            #expect(answer.body.contains(reason), "\(answer.body)")
        }
    }

    @Test func `blocks become a conversation`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            let answer = try await server.post(
                "/v1/messages",
                #"{"max_tokens":9,"system":[{"type":"text","text":"be"},{"type":"text","text":"brief"}],"messages":["#
                    + #"{"role":"user","content":[{"type":"text","text":"weather?"}]},"#
                    + #"{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""},"#
                    + #"{"type":"text","text":"so"},"#
                    + #"{"type":"tool_use","id":"t1","name":"look","input":{"at":"x"}}]},"#
                    + #"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":["#
                    + #"{"type":"text","text":"rain"}]},{"type":"text","text":"and now?"}]}]}"#)
            #expect(answer.status == 200, "\(answer.body)")
        }
        let text = try Vocabulary.tokenizer.decode(engine.submitted.first?.prompt ?? [])
        for turn in [
            "system\nbe\nbrief<", "user\nweather?<", "assistant\nso\n", "rain\n", "user\nand now?<",
        ] { #expect(text.contains(turn), "\(text)") }
        #expect(text.hasSuffix("<|im_start|>assistant\n"))
        #expect(engine.submitted.first?.maxNewTokens == 9)
    }

    @Test func `the answer goes on with what was put into the model's mouth`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            _ = try await server.post(
                "/v1/messages",
                #"{"max_tokens":9,"messages":[\#(Self.user),{"role":"assistant","content":"Well,"}]}"#)
        }
        let text = try Vocabulary.tokenizer.decode(engine.submitted.first?.prompt ?? [])
        #expect(text.hasSuffix("<|im_start|>assistant\nWell,"))
    }

    @Test func `tokens are counted without max_tokens`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post("/v1/messages/count_tokens", #"{"messages":[\#(Self.user)]}"#)
            #expect(answer.body == #"{"input_tokens":21}"#)
        }
    }

    @Test(arguments: [
        (#""messages":[{"role":"user","content":"x"}]"#, "max_tokens is missing"),
        (#""max_tokens":0,"messages":[{"role":"user","content":"x"}]"#, "max_tokens is 0"),
        (#""max_tokens":1"#, "messages is missing"),
        (#""max_tokens":1,"messages":[]"#, "messages is a list of 0"),
        (#""max_tokens":1,"messages":[{"role":"system","content":"x"}]"#, "messages.0.role is"),
        (#""max_tokens":1,"messages":[{"role":"user"}]"#, "messages.0.content is missing"),
        (#""max_tokens":1,"messages":[{"role":"user","content":[]}]"#, "messages.0.content is"),
        (#""max_tokens":1,"messages":[{"role":"user","content":[{"type":"image"}]}]"#, "messages.0.content.0.type is"),
        (#""max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result"}]}]"#, "tool_use_id is missing"),
        (#""max_tokens":1,"stop_sequences":[""],"messages":[{"role":"user","content":"x"}]"#, "stop_sequences is"),
        (
            #""max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":[{"name":"a b","input_schema":{}}]"#,
            "tools.0.name is"
        ),
        (
            #""max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":[{"type":"bash_20250124"}]"#,
            "tools.0.type is"
        ),
        (
            #""max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":[{"name":"a","input_schema":{"type":7}}],"#
                + #""tool_choice":{"type":"any"}"#, "tools cannot"
        ),
        (
            #""max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":[{"name":"a","input_schema":{}}],"#
                + #""tool_choice":{"type":"tool","name":"b"}"#, "tool_choice.name is"
        ),
        (#""max_tokens":1,"messages":[{"role":"user","content":"x"}],"thinking":{"type":"enabled"}"#, "budget_tokens"),
        (
            #""max_tokens":1,"messages":[{"role":"user","content":"x"}],"output_config":{"format":{"#
                + #""type":"json_schema","schema":{"type":"string","minLength":2,"maxLength":1}}}"#,
            "output_config.format.schema cannot"
        ),
        (#""max_tokens":1,"messages":[{"role":"user","content":"x"}],"mcp_servers":[{}]"#, "mcp_servers is"),
    ])
    func `what is wrong is refused by this API's names`(members: String, words: String) async throws {
        try await withServer(FakeEngine("ok"), model: Vocabulary.model(maxModelLength: 4096)) { server in
            let answer = try await server.post("/v1/messages", "{\(members)}")
            #expect(answer.status == 400, "\(answer.body)")
            #expect(
                answer.body.hasPrefix(#"{"type":"error","error":{"type":"invalid_request_error","message":"#)
                    && answer.body.contains(words), "\(answer.body)")
        }
    }

    @Test func `an unknown model, a wrong method and a missing key have this API's shape`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let unknown = try await server.post(
                "/v1/messages", #"{"model":"big","max_tokens":1,"messages":[\#(Self.user)]}"#)
            #expect(unknown.status == 404)
            #expect(unknown.body.hasPrefix(#"{"type":"error","error":{"type":"not_found_error","message":"The model"#))
            let method = try await server.get("/v1/messages")
            #expect(method.status == 405 && method.body.hasPrefix(#"{"type":"error""#))
        }
    }
}
