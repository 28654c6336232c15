// Streams and answers byte for byte, the time of day aside. What clients parse is written out here in full.

import Execution
import Scheduling
import Serving
import Testing

@Suite struct StreamGoldenTests {
    private let head = #"{"id":"cmpl-r1","object":"text_completion","created":0,"model":"tiny","choices":["#
    private let chatHead =
        #"{"id":"chatcmpl-r1","object":"chat.completion.chunk","created":0,"model":"tiny","choices":["#

    /// A stream of a token for each event that `chunks` shows.
    private func stream(_ chunks: [String]) -> String {
        (chunks + ["[DONE]"]).map { "data: \($0)\n\n" }.joined()
    }

    private func chunk(_ members: String) -> String { head + "{" + members + "}]}" }
    private func chatChunk(_ members: String) -> String { chatHead + "{" + members + "}]}" }

    @Test func `a completion streams one chunk for each token and ends with the last token's`() async throws {
        try await withServer(FakeEngine("hi")) { server in
            let answer = try await server.post("/v1/completions", #"{"model":"tiny","prompt":"x","stream":true}"#)
            #expect(answer.status == 200)
            #expect(answer.headers["content-type"] == "text/event-stream; charset=utf-8")
            #expect(answer.headers["x-request-id"] == "r1")
            let open = #""finish_reason":null,"stop_reason":null"#
            #expect(
                answer.timeless
                    == stream([
                        chunk(#""index":0,"text":"h","logprobs":null,"# + open),
                        chunk(#""index":0,"text":"i","logprobs":null,"# + open),
                        chunk(#""index":0,"text":"","logprobs":null,"finish_reason":"stop","stop_reason":null"#),
                    ]))
        }
    }

    @Test func `the token that reaches the limit carries the finish reason`() async throws {
        try await withServer(FakeEngine("abcdef")) { server in
            let answer = try await server.post(
                "/v1/completions",
                #"{"prompt":"x","max_tokens":2,"stream":true,"stream_options":{"include_usage":true}}"#)
            #expect(
                answer.timeless
                    == stream([
                        chunk(#""index":0,"text":"a","logprobs":null,"finish_reason":null,"stop_reason":null"#),
                        chunk(#""index":0,"text":"b","logprobs":null,"finish_reason":"length","stop_reason":null"#),
                        head
                            + #"],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"#
                            + #""prompt_tokens_details":null}}"#,
                    ]))
        }
    }

    @Test func `continuous usage is on every chunk and ends at the totals`() async throws {
        try await withServer(FakeEngine("ab"), configure: { $0.reportsCachedTokens = true }) { server in
            let answer = try await server.post(
                "/v1/completions",
                #"{"prompt":"xyz","max_tokens":2,"stream":true,"#
                    + #""stream_options":{"include_usage":true,"continuous_usage_stats":true}}"#
            )
            func usage(_ completion: Int) -> String {
                #","usage":{"prompt_tokens":3,"completion_tokens":\#(completion),"total_tokens":\#(3 + completion),"#
                    + #""prompt_tokens_details":{"cached_tokens":0}}}"#
            }
            #expect(
                answer.timeless
                    == stream([
                        head + #"{"index":0,"text":"a","logprobs":null,"finish_reason":null,"stop_reason":null}]"#
                            + usage(1),
                        head + #"{"index":0,"text":"b","logprobs":null,"finish_reason":"length","stop_reason":null}]"#
                            + usage(2),
                        head + "]" + usage(2),
                    ]))
        }
    }

    @Test func `a chat streams the role, the text and a finish of its own`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post(
                "/v1/chat/completions",
                #"{"model":"tiny","messages":[{"role":"user","content":"x"}],"stream":true}"#)
            let open = #""logprobs":null,"finish_reason":null"#
            #expect(
                answer.timeless
                    == stream([
                        chatChunk(#""index":0,"delta":{"role":"assistant","content":""},"# + open),
                        chatChunk(#""index":0,"delta":{"content":"o"},"# + open),
                        chatChunk(#""index":0,"delta":{"content":"k"},"# + open),
                        chatChunk(#""index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null"#),
                    ]))
        }
    }

    @Test func `a chat answer has all of its members`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post(
                "/v1/chat/completions", #"{"messages":[{"role":"user","content":"x"}],"max_completion_tokens":1}"#)
            #expect(answer.headers["content-type"] == "application/json")
            #expect(
                answer.timeless
                    == #"{"id":"chatcmpl-r1","object":"chat.completion","created":0,"model":"tiny","#
                    + #""choices":[{"index":0,"#
                    + #""message":{"role":"assistant","content":"o","refusal":null,"annotations":null,"audio":null,"#
                    + #""function_call":null,"reasoning":null},"#
                    + #""logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}],"#
                    + #""usage":{"prompt_tokens":20,"completion_tokens":1,"total_tokens":21,"#
                    + #""prompt_tokens_details":null},"#
                    + #""system_fingerprint":null,"service_tier":null,"kv_transfer_params":null,"#
                    + #""prompt_logprobs":null,"prompt_token_ids":null}"#)
        }
    }

    @Test func `a completion answer has its choices in order, prompt by prompt`() async throws {
        let engine = FakeEngine { request in .init(Vocabulary.bytes("\(request.prompt.count)\(request.sampling.seed)"))
        }
        try await withServer(engine) { server in
            let answer = try await server.post(
                "/v1/completions", #"{"prompt":["a","bb"],"n":2,"seed":7,"max_tokens":9}"#)
            func choice(_ index: Int, _ text: String) -> String {
                #"{"index":\#(index),"text":"\#(text)","logprobs":null,"finish_reason":"stop","stop_reason":null,"#
                    + #""prompt_logprobs":null,"token_ids":null,"prompt_token_ids":null}"#
            }
            #expect(
                answer.timeless
                    == head
                    + [choice(0, "17"), choice(1, "18"), choice(2, "27"), choice(3, "28")].joined(separator: ",")
                    + #"],"usage":{"prompt_tokens":3,"completion_tokens":12,"total_tokens":15,"#
                    + #""prompt_tokens_details":null},"#
                    + #""system_fingerprint":null,"service_tier":null,"kv_transfer_params":null}"#)
        }
    }

    @Test func `several choices interleave, each with one finish`() async throws {
        try await withServer(FakeEngine("abc", pace: .milliseconds(1))) { server in
            let answer = try await server.post(
                "/v1/completions",
                #"{"prompt":"x","n":2,"stream":true,"stream_options":{"include_usage":true}}"#)
            for index in 0..<2 {
                let own = answer.events.filter { $0.contains("\"index\":\(index)") }
                #expect(own.count == 4)
                #expect(own.count { $0.contains(#""finish_reason":"stop""#) } == 1)
                #expect(own.last?.contains(#""finish_reason":"stop""#) == true)
            }
            #expect(
                answer.events.suffix(2).first?.contains(
                    #""choices":[],"usage":{"prompt_tokens":1,"completion_tokens":8,"#) == true)
            #expect(answer.events.last == "[DONE]")
        }
    }

    @Test func `bytes of an unfinished character are held back and their chunks are empty`() async throws {
        let tokens = [
            Vocabulary.token([0xE6, 0x97]), Vocabulary.token([0xA5, 0x20]), Vocabulary.token([0xF0, 0x9F]),
        ]
        try await withServer(FakeEngine { _ in .init(tokens) }) { server in
            let answer = try await server.post(
                "/v1/completions", #"{"prompt":"x","max_tokens":3,"stream":true}"#)
            #expect(
                answer.timeless
                    == stream([
                        chunk(#""index":0,"text":"","logprobs":null,"finish_reason":null,"stop_reason":null"#),
                        chunk(#""index":0,"text":"日 ","logprobs":null,"finish_reason":null,"stop_reason":null"#),
                        chunk(
                            #""index":0,"text":"\#u{FFFD}","logprobs":null,"finish_reason":"length","stop_reason":null"#
                        ),
                    ]))
        }
    }

    @Test func `a stop string ends the choice, is cut and is named`() async throws {
        try await withServer(FakeEngine("one\n\ntwo")) { server in
            let answer = try await server.post("/v1/completions", #"{"prompt":"x","stop":["\n\n"],"stream":true}"#)
            let texts = answer.events.compactMap { $0.firstMatch(of: /"text":"([^"]*)"/)?.1 }
            #expect(texts == ["o", "n", "e", "", ""])
            #expect(answer.events.suffix(2).first?.contains(#""finish_reason":"stop","stop_reason":"\n\n""#) == true)
        }
    }

    @Test func `log-probabilities of a completion are parallel lists`() async throws {
        let samples = [
            TokenSample(
                token: 97, logprob: -0.5,
                topLogprobs: [TokenLogprob(token: 98, logprob: -0.25), TokenLogprob(token: 99, logprob: -.infinity)]),
            TokenSample(token: 98, logprob: -1, topLogprobs: [TokenLogprob(token: 98, logprob: -1)]),
        ]
        let engine = FakeEngine { _ in
            var script = FakeEngine.Script([])
            script.samples = samples
            return script
        }
        try await withServer(engine) { server in
            let answer = try await server.post(
                "/v1/completions", #"{"prompt":"x","logprobs":2,"max_tokens":2,"stream":true}"#)
            #expect(
                answer.timeless
                    == stream([
                        chunk(
                            #""index":0,"text":"a","logprobs":{"text_offset":[0],"token_logprobs":[-0.5],"#
                                + #""tokens":["a"],"top_logprobs":[{"b":-0.25,"c":-9999.0,"a":-0.5}]},"#
                                + #""finish_reason":null,"stop_reason":null"#
                        ),
                        chunk(
                            #""index":0,"text":"b","logprobs":{"text_offset":[1],"token_logprobs":[-1.0],"#
                                + #""tokens":["b"],"#
                                + #""top_logprobs":[{"b":-1.0}]},"finish_reason":"length","stop_reason":null"#),
                    ]))
            #expect(engine.submitted.first?.sampling.logprobCount == 2)
        }
    }

    @Test func `log-probabilities of a chat show bytes`() async throws {
        let samples = [
            TokenSample(
                token: Vocabulary.token([0xE6, 0x97]), logprob: -0.5,
                topLogprobs: [TokenLogprob(token: 98, logprob: -0.25)])
        ]
        let engine = FakeEngine { _ in
            var script = FakeEngine.Script([])
            script.samples = samples
            return script
        }
        try await withServer(engine) { server in
            let answer = try await server.post(
                "/v1/chat/completions",
                #"{"messages":[{"role":"user","content":"x"}],"logprobs":true,"top_logprobs":1,"max_tokens":1}"#)
            #expect(
                answer.body.contains(
                    "\"logprobs\":{\"content\":[{\"token\":\"\u{FFFD}\",\"logprob\":-0.5,\"bytes\":[230,151],"
                        + "\"top_logprobs\":[{\"token\":\"b\",\"logprob\":-0.25,\"bytes\":[98]}]}]}"))
        }
    }

    /// A prompt of two tokens that was scored, and one token generated.
    private var scored: FakeEngine {
        FakeEngine { _ in
            var script = FakeEngine.Script([])
            script.samples = [TokenSample(token: 99, logprob: -0.5, topLogprobs: [.init(token: 99, logprob: -0.5)])]
            script.scores = [
                TokenSample(token: 98, logprob: -2, topLogprobs: [.init(token: 97, logprob: -0.25)], rank: 7)
            ]
            return script
        }
    }

    @Test func `an echo comes with the first token, its log-probabilities and ids in front`() async throws {
        try await withServer(scored) { server in
            let answer = try await server.post(
                "/v1/completions",
                #"{"prompt":"ab","max_tokens":1,"echo":true,"logprobs":1,"return_token_ids":true,"stream":true}"#)
            #expect(
                answer.timeless
                    == stream([
                        chunk(
                            #""index":0,"text":"abc","logprobs":{"text_offset":[0,1,2],"token_logprobs":[null,-2.0,-0.5],"#
                                + #""tokens":["a","b","c"],"top_logprobs":[null,{"a":-0.25,"b":-2.0},{"c":-0.5}]},"#
                                + #""finish_reason":"length","stop_reason":null,"prompt_token_ids":[97,98],"#
                                + #""token_ids":[99]"#)
                    ]))
        }
    }

    @Test func `a scored prompt without new tokens is an answer of its own`() async throws {
        try await withServer(scored) { server in
            let answer = try await server.post(
                "/v1/completions",
                #"{"prompt":"ab","max_tokens":0,"echo":true,"prompt_logprobs":1,"return_tokens_as_token_ids":true,"#
                    + #""logprobs":0}"#)
            #expect(
                answer.timeless
                    == head
                    + #"{"index":0,"text":"ab","logprobs":{"text_offset":[0,1],"token_logprobs":[null,-2.0],"#
                    + #""tokens":["token_id:97","token_id:98"],"top_logprobs":[null,{"token_id:98":-2.0}]},"#
                    + #""finish_reason":"length","stop_reason":null,"prompt_logprobs":[null,"#
                    + #"{"98":{"logprob":-2.0,"rank":7,"decoded_token":"b"},"#
                    + #""97":{"logprob":-0.25,"rank":1,"decoded_token":"a"}}],"#
                    + #""token_ids":null,"prompt_token_ids":null}],"#
                    + #""usage":{"prompt_tokens":2,"completion_tokens":0,"total_tokens":2,"#
                    + #""prompt_tokens_details":null},"#
                    + #""system_fingerprint":null,"service_tier":null,"kv_transfer_params":null}"#)
        }
    }

    @Test func `a stop token is named, and the model's own end is not`() async throws {
        try await withServer(FakeEngine("abc")) { server in
            let chat = #"{"messages":[{"role":"user","content":"x"}],"stop_token_ids":[98],"#
            let answer = try await server.post(
                "/v1/chat/completions", chat + #""return_token_ids":true,"stream":true}"#)
            let open = #""logprobs":null,"finish_reason":null"#
            let prompt = try #require(answer.events.first?.firstMatch(of: /,"prompt_token_ids":\[[0-9,]+\]/)).0
            #expect(
                answer.timeless
                    == stream([
                        chatHead + #"{"index":0,"delta":{"role":"assistant","content":""},"# + open + "}]\(prompt)}",
                        chatChunk(#""index":0,"delta":{"content":"a"},"# + open + #","token_ids":[97]"#),
                        chatChunk(#""index":0,"delta":{"content":""},"# + open + #","token_ids":[98]"#),
                        chatChunk(#""index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":98"#),
                    ]))
            let kept = try await server.post("/v1/chat/completions", chat + #""include_stop_str_in_output":true}"#)
            #expect(kept.body.contains(#""content":"ab""#) && kept.body.contains(#""stop_reason":98"#))
            let plain = try await server.post(
                "/v1/chat/completions", #"{"messages":[{"role":"user","content":"x"}],"skip_special_tokens":false}"#)
            #expect(plain.body.contains(#""content":"abc""#) && plain.body.contains(#""stop_reason":null"#))
        }
    }

    @Test func `a chat's echo is the message that it goes on with`() async throws {
        try await withServer(FakeEngine(" there")) { server in
            let answer = try await server.post(
                "/v1/chat/completions",
                #"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"hello"}],"echo":true,"#
                    + #""continue_final_message":true}"#)
            #expect(answer.body.contains(#""content":"hello there""#))
            let other = try await server.post(
                "/v1/chat/completions", #"{"messages":[{"role":"user","content":"x"}],"echo":true}"#)
            #expect(other.body.contains(#""content":" there""#))
        }
    }

    @Test func `before the least length stop strings are text`() async throws {
        try await withServer(FakeEngine("xaxbxc")) { server in
            let answer = try await server.post("/v1/completions", #"{"prompt":"p","stop":"x","min_tokens":3}"#)
            #expect(answer.body.contains(#""text":"xaxb","logprobs":null,"finish_reason":"stop","stop_reason":"x""#))
        }
    }

    @Test func `an error after the start is an event, and the stream still ends`() async throws {
        let engine = FakeEngine { _ in .init(Vocabulary.bytes("a"), failure: .numericalError) }
        try await withServer(engine) { server in
            let answer = try await server.post("/v1/completions", #"{"prompt":"x","stream":true}"#)
            #expect(answer.status == 200)
            #expect(
                answer.timeless
                    == stream([
                        chunk(#""index":0,"text":"a","logprobs":null,"finish_reason":null,"stop_reason":null"#),
                        #"{"error":{"message":"The model's output for this request was not a number. Try again.","#
                            + #""type":"InternalServerError","param":null,"code":500}}"#,
                    ]))
            let whole = try await server.post("/v1/completions", #"{"prompt":"x"}"#)
            #expect(whole.status == 500)
        }
    }

    @Test func `the pieces of a stream joined are the whole answer`() async throws {
        // 500 random cases: tokens that end inside characters, and stop strings that straddle them.
        let ids = Array(97...99) + Array(259..<TokenID(259 + Vocabulary.longer.count))
        let stops = ["ab", "aab", "日本", "\n\n", "é", "b日", "ca"]
        let engine = FakeEngine { request in
            var random = StopStringsTests.Random(state: request.sampling.seed)
            return .init((0..<30).map { _ in ids[Int.random(in: 0..<ids.count, using: &random)] })
        }
        try await withServer(engine) { server in
            let client = try await server.connect()
            for seed in 1...500 {
                let chosen = stops.indices.filter { seed >> $0 & 1 == 1 }.map { stops[$0].debugDescription }
                let body = #"{"prompt":"x","max_tokens":25,"seed":\#(seed),"stop":[\#(chosen.joined(separator: ","))]"#
                try await client.post("/v1/completions", body + "}")
                let whole = try #require(try await client.answer().body.firstMatch(of: /"text":"((?:[^"\\]|\\.)*)"/)).1
                try await client.post("/v1/completions", body + #","stream":true}"#)
                let pieces = try await client.answer().body.matches(of: /"text":"((?:[^"\\]|\\.)*)"/).map(\.1)
                #expect(pieces.joined() == whole, "seed \(seed)")
            }
        }
    }
}
