// Vectors on the wire: their shapes, their order, and how many prompts of one request wait at a time.

import Execution
import Foundation
import Scheduling
import Serving
import Testing

/// Elements of the vectors that `FakeEngine` makes.
private func numbers(_ body: String) throws -> [[Double]] {
    let object = try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any]
    let data = object?["data"] as? [[String: Any]] ?? []
    return data.map { ($0["embedding"] ?? $0["data"]) as? [Double] ?? [] }
}

@Suite struct EmbeddingTests {
    @Test func `a text becomes a vector of length 1`() async throws {
        try await withServer(FakeEngine("")) { server in
            let answer = try await server.post("/v1/embeddings", #"{"input":"aaabbbb"}"#)
            #expect(answer.status == 200)
            let body = answer.body.replacing(/"created":\d+/, with: #""created":0"#)
            #expect(
                body
                    == #"{"id":"embd-r1","object":"list","created":0,"model":"tiny","data":[{"index":0,"#
                    + #""object":"embedding","embedding":[0.6,0.8,0.0,0.0,0.0,0.0,0.0,0.0]}],"usage":{"#
                    + #""prompt_tokens":7,"completion_tokens":0,"total_tokens":7,"prompt_tokens_details":null}}"#)
        }
    }

    @Test(arguments: [
        (#""ab""#, 1), (#"["ab","aab"]"#, 2), ("[97,98]", 1), ("[[97],[98,98],[99]]", 3), (#"["ab",[97]]"#, 2),
    ])
    func `input has the four shapes of a prompt`(input: String, count: Int) async throws {
        try await withServer(FakeEngine("")) { server in
            let answer = try await server.post("/v1/embeddings", #"{"input":\#(input),"use_activation":false}"#)
            #expect(answer.status == 200)
            #expect(try numbers(answer.body).count == count)
            #expect(try numbers(answer.body)[0].prefix(1) == [1])
        }
    }

    @Test func `base64 is the bytes of 32-bit floats`() async throws {
        try await withServer(FakeEngine("")) { server in
            let answer = try await server.post(
                "/v1/embeddings", #"{"input":"ab","encoding_format":"base64","use_activation":false}"#)
            #expect(answer.body.contains(#""embedding":"AACAPwAAgD8"#), "\(answer.body)")
            let text = try #require(answer.body.firstMatch(of: /"embedding":"([^"]*)"/)?.1)
            #expect(Data(base64Encoded: String(text))?.count == 32)
        }
    }

    @Test func `dimensions keeps the first elements and normalizes what is kept`() async throws {
        try await withServer(FakeEngine("")) { server in
            let answer = try await server.post("/v1/embeddings", #"{"input":"aaabbbbccccccccc","dimensions":2}"#)
            let vector = try numbers(answer.body)[0]
            #expect(vector.count == 2)
            #expect(abs(vector[0] - 0.6) < 1e-6 && abs(vector[1] - 0.8) < 1e-6)
            for dimensions in [0, 9] {
                let refused = try await server.post("/v1/embeddings", #"{"input":"a","dimensions":\#(dimensions)}"#)
                #expect(refused.status == 400 && refused.body.contains(#""param":"dimensions""#))
            }
        }
    }

    @Test(arguments: [
        ("{}", "input"), (#"{"input":""}"#, "input"), (#"{"input":[]}"#, "input"), (#"{"input":["a",""]}"#, "input.1"),
        (#"{"input":[271]}"#, "input"), (#"{"input":[[-1]]}"#, "input.0"), (#"{"input":5}"#, "input"),
        (#"{"input":null}"#, "input"), (#"{"input":"a","encoding_format":"bytes"}"#, "encoding_format"),
        (#"{"input":"a","normalize":false}"#, "normalize"), (#"{"input":"a","task":"classify"}"#, "task"),
        (#"{"input":"a","stream":true}"#, "stream"), (#"{"input":"a","chat_template":"x"}"#, "chat_template"),
        (#"{"input":"a","messages":[{"role":"user","content":"x"}]}"#, "input"),
        (#"{"input":"a","truncate_prompt_tokens":257}"#, "truncate_prompt_tokens"),
    ])
    func `what cannot be read is refused by name`(body: String, field: String) async throws {
        try await withServer(FakeEngine("")) { server in
            let answer = try await server.post("/v1/embeddings", body)
            #expect(answer.status == 400)
            #expect(answer.body.contains(#""param":"\#(field)""#), "\(answer.body)")
        }
    }

    @Test func `a text may fill the context, and one token more is refused or cut`() async throws {
        let engine = FakeEngine("")
        try await withServer(engine) { server in
            func post(_ count: Int, _ more: String = "") async throws -> RawClient.Answer {
                try await server.post(
                    "/v1/embeddings", #"{"input":"\#(String(repeating: "a", count: count))"\#(more)}"#)
            }
            #expect(try await post(256).status == 200)
            let refused = try await post(257)
            #expect(refused.status == 400)
            #expect(refused.body.contains("This model's maximum context length is 256 tokens"))
            #expect(try await post(300, #","truncate_prompt_tokens":-1"#).status == 200)
            #expect(engine.submitted.last?.prompt.count == 256)
            #expect(try await post(300, #","truncate_prompt_tokens":5"#).status == 200)
            #expect(engine.submitted.last?.prompt.count == 5)
        }
    }

    @Test func `a conversation is read as its template writes it, without a turn to come`() async throws {
        let engine = FakeEngine("")
        try await withServer(engine) { server in
            let messages = #""messages":[{"role":"user","content":"abc"}]"#
            #expect(try await server.post("/v1/embeddings", "{\(messages)}").status == 200)
            let plain = try #require(engine.submitted.last?.prompt.count)
            let answer = try await server.post("/v1/embeddings", "{\(messages),\"add_generation_prompt\":true}")
            #expect(answer.status == 200)
            #expect(try #require(engine.submitted.last?.prompt.count) > plain)
        }
    }

    @Test func `of many texts only some are in the engine at a time, and the answer has all in order`() async throws {
        let engine = FakeEngine(maxRunning: 3) { _ in .init([], prefill: .milliseconds(1)) }
        try await withServer(engine) { server in
            let texts = (0..<300).map { #""\#(String(repeating: "a", count: $0 % 7))b""# }.joined(separator: ",")
            async let answer = server.post("/v1/embeddings", #"{"input":[\#(texts)],"use_activation":false}"#)
            var most = 0
            while engine.submitted.count < 300 {
                let statistics = engine.statistics
                most = max(most, statistics.running + statistics.waiting)
                try await Task.sleep(for: .milliseconds(1))
            }
            #expect(most <= 64)
            let vectors = try numbers(try await answer.body)
            #expect(vectors.map(\.first) == (0..<300).map { Double($0 % 7) })
        }
    }

    @Test func `a batch waits for places in the queue, and a batch that finds none is told so`() async throws {
        let engine = FakeEngine(maxRunning: 1, queue: 65) { _ in .init([], prefill: .milliseconds(1)) }
        try await withServer(engine) { server in
            let texts = Array(repeating: #""a""#, count: 150).joined(separator: ",")
            async let batch = server.post("/v1/embeddings", #"{"input":[\#(texts)]}"#)
            #expect(try await eventually { engine.submitted.count >= 64 })
            let refused = try await server.post("/v1/embeddings", #"{"input":["a","b","c","d"]}"#)
            #expect(refused.status == 503 && refused.headers["retry-after"] == "7")
            let answer = try await batch
            #expect(answer.status == 200)
            #expect(answer.body.contains(#""index":149"#))
        }
    }

    @Test func `who leaves takes all texts with them`() async throws {
        let engine = FakeEngine(maxRunning: 2) { _ in .init([], prefill: .seconds(30)) }
        try await withServer(engine) { server in
            let texts = Array(repeating: #""a""#, count: 100).joined(separator: ",")
            let client = try await server.connect()
            try await client.post("/v1/embeddings", #"{"input":[\#(texts)]}"#)
            #expect(try await eventually { engine.statistics.running == 2 })
            try await client.close()
            #expect(try await eventually { engine.statistics.running + engine.statistics.waiting == 0 })
            #expect(engine.submitted.count == 64)
        }
    }

    @Test func `a failure is an error and not a vector`() async throws {
        let engine = FakeEngine { _ in .init([], failure: .numericalError) }
        try await withServer(engine) { server in
            let answer = try await server.post("/v1/embeddings", #"{"input":["a","b"]}"#)
            #expect(answer.status == 500 && answer.body.contains("InternalServerError"))
        }
    }

    @Test func `pooling is embeddings in another shape`() async throws {
        try await withServer(FakeEngine("")) { server in
            let answer = try await server.post("/pooling", #"{"input":"aaabbbb","task":"embed"}"#)
            #expect(answer.status == 200)
            #expect(answer.body.contains(#""id":"pool-r1""#))
            #expect(answer.body.contains(#"{"index":0,"object":"pooling","data":[0.6,0.8,"#))
        }
    }

    @Test(arguments: [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")])
    func `texts are scored one to many or in pairs`(one: String, other: String) async throws {
        try await withServer(FakeEngine("")) { server in
            for path in ["/score", "/v1/score"] {
                let many = try await server.post(path, #"{"\#(one)":"a","\#(other)":["aa","b","aaabbbb"]}"#)
                #expect(many.status == 200)
                let scores = many.body.matches(of: /"score":([-.0-9e]+)/).compactMap { Double($0.1) }
                #expect(scores.count == 3)
                #expect(scores[0] == 1 && scores[1] == 0 && abs(scores[2] - 0.6) < 1e-6)
                let pairs = try await server.post(path, #"{"\#(one)":["a","b"],"\#(other)":["b","b"]}"#)
                #expect(pairs.body.contains(#""data":[{"index":0,"object":"score","score":0.0},{"index":1"#))
                #expect(pairs.body.contains(#""usage":{"prompt_tokens":4,"#))
                let refused = try await server.post(path, #"{"\#(one)":["a","b"],"\#(other)":["b"]}"#)
                #expect(refused.status == 400 && refused.body.contains(#""param":"\#(one)""#))
            }
        }
    }

    @Test func `documents come in the order of their likeness`() async throws {
        try await withServer(FakeEngine("")) { server in
            let body = #"{"query":"a","documents":["b",{"text":"aaabbbb"},"a","aa"]"#
            for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
                let answer = try await server.post(path, body + "}")
                #expect(answer.status == 200)
                let order = answer.body.matches(of: /"index":(\d)/).map { String($0.1) }
                #expect(order == ["2", "3", "1", "0"])
                #expect(answer.body.contains(#""document":{"text":"aaabbbb"},"relevance_score":0.6"#))
                #expect(answer.body.contains(#""usage":{"prompt_tokens":12,"total_tokens":12}"#))
            }
            let two = try await server.post("/rerank", body + #","top_n":2,"return_documents":false}"#)
            #expect(two.body.matches(of: /"index"/).count == 2 && !two.body.contains("document"))
            for refused in [#"{"query":"a"}"#, #"{"documents":["a"]}"#, #"{"query":"a","documents":[]}"#] {
                #expect(try await server.post("/rerank", refused).status == 400)
            }
        }
    }

    @Test func `render tells what would be generated from`() async throws {
        let engine = FakeEngine("never")
        try await withServer(engine) { server in
            let two = try await server.post(
                "/v1/completions/render", #"{"prompt":["ab",[97]],"max_tokens":5,"temperature":0,"stop":"x"}"#)
            #expect(two.status == 200)
            #expect(
                two.body.hasPrefix(
                    #"[{"request_id":"cmpl-r1-0","model":"tiny","token_ids":[97,98],"prompt":"ab","#))
            #expect(two.body.contains(#""max_tokens":5"#) && two.body.contains(#""stop":["x"]"#))
            let chat = try await server.post(
                "/v1/chat/completions/render", #"{"messages":[{"role":"user","content":"hi"}]}"#)
            #expect(chat.status == 200)
            #expect(chat.body.hasPrefix(#"{"request_id":"chatcmpl-r1","model":"tiny","token_ids":[257,"#))
            #expect(chat.body.contains(#""prompt":"<|im_start|>"#))
            #expect(try await server.post("/v1/completions/render", #"{"prompt":""}"#).status == 400)
            #expect(try await server.post("/v1/completions/render", #"{"prompt":"a","model":"x"}"#).status == 404)
            #expect(engine.submitted.isEmpty && engine.reservations == 0)
        }
    }

    @Test func `traces are recorded only where the operator allows it`() async throws {
        try await withServer(FakeEngine("")) { server in
            for path in ["/start_profile", "/stop_profile"] {
                let answer = try await server.post(path, "{}")
                #expect(answer.status == 404 && answer.body.contains("--profile-dir"))
            }
        }
        try await withServer(FakeEngine(""), configure: { $0.profileFolder = "/nowhere" }) { server in
            let answer = try await server.post("/stop_profile", "{}")
            #expect(answer.status == 409 && answer.body.contains("No trace is being recorded"))
        }
    }
}
