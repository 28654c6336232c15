// /v1/responses: the events of a stream byte for byte, what reaches the engine, and what is refused by this API's names.

import Scheduling
import Testing
import Tokenization

@Suite struct ResponsesTests {
    /// What each response says of a request that asks for nothing special.
    private static let echo =
        #""background":false,"store":false,"instructions":null,"max_output_tokens":9,"metadata":{},"#
        + #""parallel_tool_calls":true,"previous_response_id":null,"reasoning":null,"temperature":null,"#
        + #""text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":null,"#
        + #""truncation":"disabled","user":null"#

    private static func response(_ status: String, _ output: String, usage: String) -> String {
        #"{"id":"resp_a","object":"response","created_at":1,"status":"\#(status)","error":null,"#
            + #""incomplete_details":null,"model":"tiny","output":[\#(output)],\#(echo),"usage":\#(usage)}"#
    }

    private static let usage =
        #"{"input_tokens":20,"input_tokens_details":{"cached_tokens":0},"output_tokens":3,"#
        + #""output_tokens_details":{"reasoning_tokens":0},"total_tokens":23}"#

    /// The item of the answer "ok".
    private static let item =
        #"{"id":"msg_a_0","type":"message","role":"assistant","content":["#
        + #"{"type":"output_text","text":"ok","annotations":[],"logprobs":[]}],"status":"completed"}"#

    /// The time of day is another in each run.
    private static func timeless(_ text: String) -> String {
        text.replacing(/"created_at":\d+/, with: #""created_at":1"#)
    }

    @Test func `an answer is a response of items`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post(
                "/v1/responses", #"{"model":"tiny","max_output_tokens":9,"input":"x"}"#, headers: "X-Request-Id: a\r\n")
            #expect(answer.status == 200)
            #expect(Self.timeless(answer.body) == Self.response("completed", Self.item, usage: Self.usage))
        }
    }

    @Test func `a stream tells of each item piece by piece and whole`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post(
                "/v1/responses", #"{"max_output_tokens":9,"input":"x","stream":true}"#,
                headers: "X-Request-Id: a\r\n")
            let part = #"{"type":"output_text","text":"TEXT","annotations":[],"logprobs":[]}"#
            let place = #""item_id":"msg_a_0","output_index":0,"content_index":0"#
            let begun = Self.response("in_progress", "", usage: "null")
            let events: [(String, String)] = [
                ("response.created", #""response":\#(begun)"#),
                ("response.in_progress", #""response":\#(begun)"#),
                (
                    "response.output_item.added",
                    #""output_index":0,"item":{"id":"msg_a_0","type":"message","role":"assistant","content":[],"#
                        + #""status":"in_progress"}"#
                ),
                ("response.content_part.added", place + #","part":"# + part.replacing("TEXT", with: "")),
                ("response.output_text.delta", place + #","delta":"o","logprobs":[]"#),
                ("response.output_text.delta", place + #","delta":"k","logprobs":[]"#),
                ("response.output_text.done", place + #","text":"ok","logprobs":[]"#),
                ("response.content_part.done", place + #","part":"# + part.replacing("TEXT", with: "ok")),
                ("response.output_item.done", #""output_index":0,"item":"# + Self.item),
                (
                    "response.completed",
                    #""response":\#(Self.response("completed", Self.item, usage: Self.usage))"#
                ),
            ]
            let expected = events.enumerated().map { number, event in
                "event: \(event.0)\ndata: {\"type\":\"\(event.0)\",\"sequence_number\":\(number),\(event.1)}\n\n"
            }
            #expect(Self.timeless(answer.body) == expected.joined())
        }
    }

    @Test func `items become a conversation`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine, model: Vocabulary.model(maxModelLength: 1024)) { server in
            let answer = try await server.post(
                "/v1/responses",
                #"{"instructions":"be brief","input":[{"role":"user","content":[{"type":"input_text","text":"sky?"}]},"#
                    + #"{"type":"reasoning","id":"r","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},"#
                    + #"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"so"}]},"#
                    + #"{"type":"function_call","call_id":"c1","name":"look","arguments":"{\"at\":\"x\"}"},"#
                    + #"{"type":"function_call_output","call_id":"c1","output":"rain"},"#
                    + #"{"role":"user","content":"and now?"}]}"#)
            #expect(answer.status == 200, "\(answer.body)")
        }
        let text = try Vocabulary.tokenizer.decode(engine.submitted.first?.prompt ?? [])
        for turn in [
            "system\nbe brief<", "user\nsky?<", "assistant\nso\n", "look", "rain\n", "user\nand now?<",
        ] { #expect(text.contains(turn), "\(text)") }
    }

    @Test(arguments: [
        (#""model":"tiny""#, "input"), (#""input":3"#, "input"), (#""input":[]"#, "input"),
        (#""input":[{"role":"tool","content":"x"}]"#, "input.0.role"),
        (#""input":[{"role":"user"}]"#, "input.0.content"),
        (#""input":[{"role":"user","content":[{"type":"input_image"}]}]"#, "input.0.content.0.type"),
        (#""input":[{"type":"item_reference","id":"x"}]"#, "input.0.type"),
        (
            #""input":[{"type":"function_call","call_id":"c","name":"f","arguments":"[1]"}]"#, "input.0.arguments"
        ),
        (#""input":[{"type":"function_call_output","output":"x"}]"#, "input.0.call_id"),
        (#""input":"x","max_output_tokens":0"#, "max_output_tokens"),
        (#""input":"x","previous_response_id":"r""#, "previous_response_id"),
        (#""input":"x","conversation":"c""#, "conversation"), (#""input":"x","background":true"#, "background"),
        (#""input":"x","tools":[{"type":"web_search"}]"#, "tools.0.type"),
        (#""input":"x","tools":[{"type":"function","name":"a b"}]"#, "tools.0.name"),
        (#""input":"x","truncation":"some""#, "truncation"),
        (#""input":"x","reasoning":{"effort":"most"}"#, "reasoning.effort"),
        (#""input":"x","text":{"format":{"type":"xml"}}"#, "text.format.type"),
        (
            #""input":"x","text":{"format":{"type":"json_schema","name":"a","schema":{"type":"string","minLength":2,"#
                + #""maxLength":1}}}"#, "text.format.schema"
        ),
    ])
    func `what is wrong is refused by this API's names`(members: String, field: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post("/v1/responses", "{\(members)}")
            #expect(answer.status == 400, "\(answer.body)")
            #expect(answer.body.contains(#""param":"\#(field)""#), "\(answer.body)")
        }
    }
}
