// HTTP itself: paths, methods, bodies, labels, connections.

import Execution
import NIOCore
import Scheduling
import ServiceLifecycle
import Serving
import Testing

@Suite struct TransportTests {
    /// The head of a request whose body the test sends by itself.
    private func head(_ fields: String, type: String = "application/json") -> String {
        "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: \(type)\r\n\(fields)\r\n\r\n"
    }

    @Test func `unknown paths and wrong methods have an error body`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let client = try await server.connect()
            try await client.get("/nothing?x=1")
            let missing = try await client.answer()
            #expect(missing.status == 404)
            #expect(
                missing.body == #"{"error":{"message":"There is nothing at \"/nothing\".","type":"NotFoundError","#
                    + #""param":null,"code":404}}"#)
            try await client.get("/v1/completions")
            let wrong = try await client.answer()
            #expect(wrong.status == 405)
            #expect(wrong.headers["allow"] == "POST")
            #expect(wrong.body.contains(#""code":405"#))
            try await client.post("/v1/models", "{}")
            #expect(try await client.answer().headers["allow"] == "GET, HEAD")
            try await client.send("HEAD /v1/models HTTP/1.1\r\nHost: t\r\n\r\n")
            #expect(try await client.answer(hasBody: false).status == 200)
            try await client.get("/v1/models")
            #expect(try await client.answer().status == 200)
        }
    }

    @Test(arguments: [
        ("text/plain", "Unsupported Media Type: the request has Content-Type \\\"text/plain\\\""),
        ("", "Unsupported Media Type: the request has Content-Type"),
    ])
    func `a body that is not declared as JSON is refused`(type: String, message: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let client = try await server.connect()
            try await client.send(
                head("Content-Length: 14", type: type) + #"{"prompt":"x"}"#
            )
            let answer = try await client.answer()
            #expect(answer.status == 400)
            #expect(answer.body.contains(message), "\(answer.body)")
            try await client.send(
                "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: Application/JSON ; charset=utf-8\r\n"
                    + "Content-Length: 14\r\n\r\n{\"prompt\":\"x\"}")
            #expect(try await client.answer().status == 200)
        }
    }

    @Test(arguments: [
        ("", "is not valid JSON: the text ends where a value should be (byte 0)"), ("{", "is not valid JSON"),
        ("[]", "must be a JSON object, but it is a list"), ("\\\"x\\\"", "is not valid JSON"),
        ("null", "but it is null"),
        (#"{"prompt":"x","prompt":"y"}"#, "occurs twice in one object"), (#"{"prompt":NaN}"#, "is not valid JSON"),
    ])
    func `a body that is not an object is refused`(body: String, message: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post("/v1/completions", body)
            #expect(answer.status == 400)
            #expect(answer.body.contains(message), "\(answer.body)")
            #expect(answer.body.contains(#""type":"Bad Request""#))
        }
    }

    @Test func `a body beyond the limit is refused before it is read and the connection ends`() async throws {
        try await withServer(FakeEngine("ok"), configure: { $0.maxBodyBytes = 100 }) { server in
            let declared = try await server.connect()
            try await declared.send(
                head("Content-Length: 101")
            )
            let answer = try await declared.answer()
            #expect(answer.status == 413)
            #expect(answer.headers["connection"] == "close")
            #expect(answer.body.contains("larger than 100 bytes"))
            #expect(await declared.remainder() == "")

            let chunked = try await server.connect()
            try await chunked.send(
                "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                    + "Transfer-Encoding: chunked\r\n\r\n" + String(repeating: "9\r\n[[[[[[[[[\r\n", count: 12))
            #expect(try await chunked.answer().status == 413)

            let fitting = try await server.post(
                "/v1/completions", #"{"prompt":"\#(String(repeating: "x", count: 87))"}"#)
            #expect(fitting.status == 200)
            let beyond = try await server.post(
                "/v1/completions", #"{"prompt":"\#(String(repeating: "x", count: 88))"}"#)
            #expect(beyond.status == 413)
        }
    }

    @Test func `bodies being read are limited together`() async throws {
        try await withServer(FakeEngine("ok"), configure: { $0.maxBodyBytesTotal = 1000 }) { server in
            let slow = try await server.connect()
            try await slow.send(
                head("Content-Length: 990") + "{"
            )
            #expect(try await eventually { try await server.post("/v1/completions", #"{"prompt":"x"}"#).status == 503 })
            try await slow.close()
            #expect(try await eventually { try await server.post("/v1/completions", #"{"prompt":"x"}"#).status == 200 })
        }
    }

    @Test func `a client that expects to be asked is asked`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let client = try await server.connect()
            try await client.send(
                "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
                    + "Content-Length: 14\r\n\r\n")
            try await client.wait(for: "HTTP/1.1 100 Continue\r\n\r\n")
            try await client.send(#"{"prompt":"x"}"#)
            #expect(try await client.answer().status == 100)
            #expect(try await client.answer().status == 200)
        }
    }

    @Test(arguments: ["ok-1", String(repeating: "x", count: 128), "~!\"\\"])
    func `a client's label is echoed and names the answer`(label: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post(
                "/v1/completions", #"{"prompt":"x"}"#, headers: "X-Request-Id: \(label)\r\n")
            #expect(answer.headers["x-request-id"] == label)
            let escaped = label.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
            #expect(answer.body.hasPrefix(#"{"id":"cmpl-\#(escaped)","#))
        }
    }

    @Test(arguments: [String(repeating: "x", count: 129), "two words", "é", ""])
    func `a label that is long or not visible ASCII is replaced`(label: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await server.post(
                "/v1/completions", #"{"prompt":"x"}"#, headers: "X-Request-Id: \(label)\r\n")
            let given = try #require(answer.headers["x-request-id"])
            #expect(given.count == 32 && given.allSatisfy(\.isHexDigit))
        }
    }

    @Test func `a connection serves request after request, streams included`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let client = try await server.connect()
            for index in 0..<50 {
                let streamed = index % 2 == 1
                try await client.post("/v1/completions", #"{"prompt":"x","stream":\#(streamed)}"#)
                let answer = try await client.answer()
                #expect(answer.status == 200)
                #expect(answer.body.hasSuffix(streamed ? "data: [DONE]\n\n" : "}"))
            }
        }
    }

    @Test func `pipelined requests are answered in order and garbage ends the connection`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let client = try await server.connect()
            let request = "GET /version HTTP/1.1\r\nHost: t\r\n\r\n"
            try await client.send(request + request + "\u{0}\u{1}garbage\r\n\r\n")
            #expect(try await client.answer().body == #"{"version":"1.2.3"}"#)
            #expect(try await client.answer().status == 200)
            #expect(try await client.answer().status == 400)
            _ = await client.remainder()
            #expect(try await server.get("/health").status == 200)
        }
    }

    @Test(arguments: [
        "GET /\r\n\r\n", "\r\n\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nZZ\r\n",
        "GET / HTTP/1.1\r\nA: \(String(repeating: "x", count: 100_000))\r\n\r\n",
        "GET / HTTP/1.1\r\n\(String(repeating: "A: x\r\n", count: 500))\r\n",
    ])
    func `whatever arrives, the next connection is served`(bytes: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let client = try await server.connect()
            try? await client.send(bytes)
            try await Task.sleep(for: .milliseconds(20))
            try? await client.close()
            #expect(try await server.get("/health").status == 200)
        }
    }

    @Test func `a request sent ahead may wait for its turn longer than it may take to arrive`() async throws {
        let engine = FakeEngine { _ in .init(Array(repeating: 97, count: 16), pace: .milliseconds(80)) }
        try await withServer(engine, configure: { $0.requestReadTimeout = .milliseconds(500) }) { server in
            let client = try await server.connect()
            try await client.post("/v1/completions", #"{"prompt":"x","stream":true}"#)
            try await client.wait(for: "\"text\":\"a\"")
            try await client.send(head("Content-Length: 14") + "{")
            let first = try await client.answer()
            #expect(first.events.last == "[DONE]")
            try await client.send(#""prompt":"x"}"#)
            #expect(try await client.answer().status == 200)
        }
    }

    @Test func `a request that does not arrive in time is given up`() async throws {
        try await withServer(FakeEngine("ok"), configure: { $0.requestReadTimeout = .milliseconds(50) }) { server in
            let client = try await server.connect()
            try await client.send(
                head("Content-Length: 14") + "{"
            )
            let began = ContinuousClock.now
            let refused = try await client.answer()
            #expect(refused.status == 408)
            #expect(refused.body.contains("The request's body did not arrive within 0.05 s."))
            #expect(refused.headers["connection"] == "close")
            _ = await client.remainder()
            #expect(began.duration(to: .now) < .seconds(3))
        }
    }

    @Test func `an idle connection is closed and a busy one is not`() async throws {
        let engine = FakeEngine { _ in .init(Vocabulary.bytes("ok"), prefill: .milliseconds(1200)) }
        try await withServer(engine, configure: { $0.keepAliveTimeout = .milliseconds(500) }) { server in
            let client = try await server.connect()
            try await client.post("/v1/completions", #"{"prompt":"x"}"#)
            #expect(try await client.answer().status == 200)
            #expect(await client.remainder() == "")
        }
    }

    @Test func `a silent stream carries comments`() async throws {
        let engine = FakeEngine { _ in .init(Vocabulary.bytes("ok"), prefill: .milliseconds(250)) }
        try await withServer(engine, configure: { $0.heartbeatInterval = .milliseconds(50) }) { server in
            let answer = try await server.post("/v1/completions", #"{"prompt":"x","stream":true}"#)
            #expect(answer.events.count { $0 == ": " } >= 2)
            #expect(answer.events.filter { $0 != ": " }.count == 4)
        }
    }

    @Test func `tokens and text go both ways`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let plain = try await server.post("/tokenize", #"{"prompt":"ab<|im_end|>","return_token_strs":true}"#)
            #expect(plain.body.hasPrefix(#"{"count":12,"max_model_len":256,"tokens":[97,98,60,"#))
            #expect(plain.body.contains(#""token_strs":["a","b","<","#))
            let chat = try await server.post(
                "/tokenize", #"{"messages":[{"role":"user","content":"a"}],"add_generation_prompt":false}"#)
            #expect(
                chat.body
                    == #"{"count":9,"max_model_len":256,"tokens":[257,117,115,101,114,10,97,258,10],"token_strs":null}"#
            )
            let text = try await server.post("/detokenize", #"{"tokens":[104,270,258]}"#)
            #expect(text.body == "{\"prompt\":\"hé<|im_end|>\"}")
            for tokens in ["[-1]", "[271]", "[9223372036854775808]", "5", "[\"a\"]", "[1.5]"] {
                let refused = try await server.post("/detokenize", #"{"tokens":\#(tokens)}"#)
                #expect(refused.status == 400)
                #expect(refused.body.contains(#""param":"tokens""#))
            }
            #expect(try await server.post("/tokenize", "{}").body.contains(#""param":"prompt""#))
        }
    }

    @Test func `what the model is made of is told with it and in the metrics`() async throws {
        var model = Vocabulary.model()
        model.digests = ServedDigests(model: "sha256:aa", tokenizer: "sha256:bb", template: nil)
        try await withServer(FakeEngine("ok"), model: model) { server in
            let card = try await server.get("/v1/models/tiny").body
            #expect(
                card.contains(
                    #""digests":{"model":"sha256:aa","tokenizer":"sha256:bb","chat_template":null},"permission":["#))
            let label = #"model_digest="sha256:aa",tokenizer_digest="sha256:bb",chat_template_digest="""#
            #expect(try await server.metric("apus:model_info", label) == 1)
        }
    }

    @Test func `models are listed by every name`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let list = try await server.get("/v1/models")
            func card(_ name: String) -> String {
                #"{"id":"\#(name)","object":"model","created":0,"owned_by":"apus","root":"tiny","parent":null,"#
                    + #""max_model_len":256,"permission":[{"id":"modelperm-\#(name)","object":"model_permission","#
                    + #""created":0,"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"#
                    + #""allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"#
                    + #""organization":"*","group":null,"is_blocking":false}]}"#
            }
            #expect(list.timeless == #"{"object":"list","data":[\#(card("tiny")),\#(card("org/tiny"))]}"#)
            for path in ["/v1/models/org/tiny", "/v1/models/org%2Ftiny"] {
                #expect(try await server.get(path).timeless == card("org/tiny"))
            }
            for path in ["other", "%", "%4", "%zz", "%+1", "%ff"] {
                #expect(try await server.get("/v1/models/\(path)").status == 404)
            }
            #expect(try await server.get("/ping").status == 200)
        }
    }

    @Test func `probes tell a server that drains from one that failed`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            func probe() async throws -> [Int] {
                [
                    try await server.get("/health").status, try await server.get("/ready").status,
                    try await server.get("/health/ready").status,
                ]
            }
            #expect(try await probe() == [200, 200, 200])
            #expect(try await server.get("/health").body == "")
            engine.set(health: .draining)
            #expect(try await probe() == [200, 503, 503])
            let refused = try await server.post("/v1/completions", #"{"prompt":"x"}"#)
            #expect(refused.status == 503)
            #expect(refused.headers["connection"] == "close")
            #expect(refused.headers["retry-after"] == "5")
            engine.set(health: .stalled("the engine has completed no step for 60.0 s"))
            #expect(try await probe() == [503, 503, 503])
            #expect(try await server.get("/ready").body.contains("no step for 60.0 s"))
            #expect(try await server.get("/live").status == 200)
            engine.set(health: .failed("device lost at 0xdeadbeef"))
            #expect(try await probe() == [503, 503, 503])
            #expect(try await !server.get("/ready").body.contains("0x"))
        }
    }
}

@Suite struct OpenAPITests {
    @Test func `the document has every field of the table and every path answers as it says`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let document = try await server.get("/openapi.json")
            #expect(document.status == 200)
            for field in RequestField.all {
                let name = field.name.split(separator: ".").last ?? ""
                #expect(document.body.contains("\"\(name)\":{\"type\":"), "\(field.name)")
            }
            #expect(document.body.contains(##""n":{"type":["integer","null"],"minimum":1,"maximum":128,"##))
            let paths = document.body.matches(of: /"(\/[^"]*)":\{("get"|"post")/)
            #expect(paths.count == 25)
            for path in paths where path.2 == "\"get\"" {
                let answer = try await server.get(String(path.1.replacing("{model}", with: "tiny")))
                #expect(answer.status == 200, "\(path.1)")
            }
        }
    }
}
