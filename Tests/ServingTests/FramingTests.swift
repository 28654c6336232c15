// What is no request, or could be read as two: refused with an error body, and the connection ends. Versions and
// connection headers decide when it ends otherwise.

import Execution
import Scheduling
import Serving
import Testing

@Suite struct FramingTests {
    private static let body = #"{"prompt":"x"}"#
    private static let post = "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
    private static let length = "Content-Length: 14\r\n"
    private static let chunks = "e\r\n\(body)\r\n0\r\n\r\n"

    @Test(arguments: [
        post + length + "Transfer-Encoding: chunked\r\n\r\n" + chunks,
        post + "Transfer-Encoding: chunked\r\n" + length + "\r\n" + chunks,
        post + length + length + "\r\n" + body,
        post + length + "Content-Length: 3\r\n\r\n" + body,
        post + "Content-Length: 14, 14\r\n\r\n" + body,
        post + "Content-Length: +14\r\n\r\n" + body,
        post + "Content-Length : 14\r\n\r\n" + body,
        post + "Content-Length: 0xe\r\n\r\n" + body,
        post + "Transfer-Encoding: identity\r\n\r\n" + body,
        post + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks,
        post + "Transfer-Encoding: chunked, gzip\r\n\r\n" + chunks,
        post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
        post + "Transfer-Encoding: \u{B}chunked\r\n\r\n" + chunks,
        post + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunks,
        post + "X-A: a\r\n b\r\n" + length + "\r\n" + body,
        post + "X-A: a\n" + length + "\r\n" + body,
        post + "X-A: a\rX-B: b\r\n" + length + "\r\n" + body,
        post + "X-A: a\0b\r\n" + length + "\r\n" + body,
        post + "X A: a\r\n" + length + "\r\n" + body,
        post + length + "\n" + body,
        post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        post + "Transfer-Encoding: chunked\r\n\r\n0xe\r\n\(body)\r\n0\r\n\r\n",
        post + "Transfer-Encoding: chunked\r\n\r\ne\n\(body)\r\n0\r\n\r\n",
        post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        post + "Transfer-Encoding: chunked\r\n\r\ne\r\n\(body)0\r\n\r\n",
        post.replacing("Host: t\r\n", with: "") + length + "\r\n" + body,
        post + "Host: u\r\n" + length + "\r\n" + body,
        post.replacing("HTTP/1.1", with: "HTTP/1.0") + "Transfer-Encoding: chunked\r\n\r\n" + chunks,
        "GET /version HTTP/2.0\r\nHost: t\r\n\r\n", "BREW /version HTTP/1.1\r\nHost: t\r\n\r\n",
        "CONNECT t:80 HTTP/1.1\r\nHost: t\r\n\r\n", "GET /ver\u{1}sion HTTP/1.1\r\nHost: t\r\n\r\n",
    ])
    func `what two readers could read differently is refused and nothing after it is read`(bytes: String) async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            let client = try await server.connect()
            try await client.send(bytes + "GET /version HTTP/1.1\r\nHost: t\r\n\r\n")
            let refused = try await client.answer()
            #expect(refused.status == 400)
            #expect(refused.headers["connection"] == "close")
            #expect(refused.headers["content-type"] == "application/json")
            #expect(
                refused.body.hasPrefix(#"{"error":{"message":"The request is not valid HTTP/1.1: "#), "\(refused.body)")
            #expect(refused.body.hasSuffix(#","type":"Bad Request","param":null,"code":400}}"#))
            #expect(await client.remainder() == "")
        }
        #expect(engine.submitted.isEmpty)
    }

    @Test(arguments: [
        "A: \(String(repeating: "x", count: 9000))\r\n",
        String(repeating: "A: \(String(repeating: "x", count: 900))\r\n", count: 50),
        String(repeating: "A: x\r\n", count: 101),
    ])
    func `a head beyond the limits is answered 431`(fields: String) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let client = try await server.connect()
            try await client.send("GET /version HTTP/1.1\r\nHost: t\r\n\(fields)\r\n")
            let refused = try await client.answer()
            #expect(refused.status == 431)
            #expect(refused.body.contains(#""type":"RequestHeaderFieldsTooLargeError","param":null,"code":431"#))
            #expect(await client.remainder() == "")
        }
    }

    @Test func `a head that does not end in time is answered 408`() async throws {
        try await withServer(FakeEngine("ok"), configure: { $0.requestHeadTimeout = .milliseconds(150) }) { server in
            let client = try await server.connect()
            for character in "GET /version" {
                try await client.send(String(character))
                try await Task.sleep(for: .milliseconds(20))
            }
            let refused = try await client.answer()
            #expect(refused.status == 408)
            #expect(refused.body.contains("The request's headers did not arrive within 0.15 s."))
            #expect(await client.remainder() == "")
        }
    }

    @Test func `a connection that says nothing is not a request that is late`() async throws {
        try await withServer(FakeEngine("ok"), configure: { $0.requestHeadTimeout = .milliseconds(50) }) { server in
            let client = try await server.connect()
            for _ in 0..<3 {
                try await Task.sleep(for: .milliseconds(100))
                try await client.get("/version")
                #expect(try await client.answer().status == 200)
            }
        }
    }

    @Test(arguments: [
        ("GET /version HTTP/1.1\r\nHost: t\r\nConnection: Close\r\n\r\n", false),
        ("GET /version HTTP/1.1\r\nHost: t\r\nConnection: x, close\r\n\r\n", false),
        ("GET /version HTTP/1.1\r\nHost: t\r\n\r\n", true), ("GET /version HTTP/1.0\r\n\r\n", false),
        ("GET /version HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
    ])
    func `the connection ends when its version and its header say so`(request: String, stays: Bool) async throws {
        try await withServer(FakeEngine("ok")) { server in
            let client = try await server.connect()
            try await client.send(request)
            let first = try await client.answer()
            #expect(first.status == 200)
            #expect((first.headers["connection"] == "close") == !stays)
            if stays {
                try await client.send(request)
                #expect(try await client.answer().status == 200)
            } else {
                #expect(await client.remainder() == "")
            }
        }
    }

    @Test func `a stream for HTTP 1.0 has no chunks and ends with the connection`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let client = try await server.connect()
            try await client.send(
                "POST /v1/completions HTTP/1.0\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
                    + "Content-Length: 28\r\n\r\n" + #"{"prompt":"x","stream":true}"#)
            let answer = await client.remainder()
            #expect(answer.hasPrefix("HTTP/1.0 200 OK\r\n"))
            #expect(!answer.lowercased().contains("transfer-encoding"))
            #expect(answer.contains("\r\n\r\ndata: {"))
            #expect(answer.hasSuffix("\n\ndata: [DONE]\n\n"))
        }
    }

    @Test func `a refusal waits for the stream before it`() async throws {
        let engine = FakeEngine { _ in .init(Array(repeating: 97, count: 10), pace: .milliseconds(20)) }
        try await withServer(engine) { server in
            let client = try await server.connect()
            try await client.post("/v1/completions", #"{"prompt":"x","stream":true}"#)
            try await client.wait(for: "\"text\":\"a\"")
            try await client.send("garbage\r\n\r\n")
            let stream = try await client.answer()
            #expect(stream.events.count == 12)
            #expect(stream.events.last == "[DONE]")
            #expect(try await client.answer().status == 400)
            #expect(await client.remainder() == "")
        }
        #expect(engine.statistics.finished.abort == 0)
    }

    @Test func `a body that breaks off in a bad chunk gives its share of memory back`() async throws {
        try await withServer(FakeEngine("ok"), configure: { $0.maxBodyBytesTotal = $0.maxBodyBytes + 100 }) { server in
            for _ in 0..<5 {
                let client = try await server.connect()
                try await client.send(Self.post + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nZZ\r\n")
                #expect(try await client.answer().status == 400)
            }
            #expect(try await eventually { try await server.post("/v1/completions", Self.body).status == 200 })
        }
    }
}
