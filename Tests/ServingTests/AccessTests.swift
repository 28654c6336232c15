// Keys and origins: every path that is not a probe needs a key where there are keys, and browsers are told about other
// origins only what the operator decided.

import Execution
import Scheduling
import Serving
import Testing

@Suite struct AccessTests {
    private static let key = "sk-0123456789abcdef"
    private static let other = "sk-fedcba9876543210"

    /// Two keys: one as it is, one as its digest in a file.
    private static func keys() throws -> APIKeys {
        var keys = APIKeys()
        keys.insert(key)
        var hash = SHA256()
        hash.update(Array(other.utf8).span)
        #expect(keys.insert(file: "# the second\n\nsha256:\(hash.finalize())  a comment\n") == nil)
        #expect(keys.count == 2)
        return keys
    }

    @Test(
        arguments: [
            "/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/score", "/rerank", "/pooling",
            "/v1/completions/render", "/start_profile", "/stop_profile", "/v1/models", "/v1/models/tiny", "/tokenize",
            "/detokenize",
            "/version", "/load", "/openapi.json", "/nothing", "//v1/models", "/v1/../v1/models", "/v1/models/",
            "/V1/models",
            "/%76%31/models", "/health/", "/health/../v1/models", "/health%2F..%2Fv1/models", "/metrics/", "/ping?x",
            "*",
            "http://t/v1/models", "http://health/v1/models", "/health#/v1/models",
        ], ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"])
    func `without a key nothing but probes answers`(path: String, method: String) async throws {
        let engine = FakeEngine("ok")
        let keys = try Self.keys()
        try await withServer(engine, configure: { $0.keys = keys }) { server in
            let client = try await server.connect()
            try await client.send("\(method) \(path) HTTP/1.1\r\nHost: health\r\nContent-Length: 0\r\n\r\n")
            let answer = try await client.answer(hasBody: method != "HEAD")
            #expect(
                answer.status == (path == "/ping?x" && ["GET", "HEAD", "POST"].contains(method) ? 200 : answer.status))
            guard path != "/ping?x" else { return }
            // A fragment never reaches a server; the parser may refuse it first.
            #expect(answer.status == 401 || (path.contains("#") && answer.status == 400), "\(answer.body)")
        }
    }

    @Test func `a key is accepted where clients put it and refused when it is not one`() async throws {
        let keys = try Self.keys()
        try await withServer(FakeEngine("ok"), configure: { $0.keys = keys }) { server in
            func status(_ header: String) async throws -> Int {
                try await server.post("/v1/completions", #"{"prompt":"x"}"#, headers: header).status
            }
            #expect(try await status("Authorization: Bearer \(Self.key)\r\n") == 200)
            #expect(try await status("authorization: bearer  \(Self.other)\r\n") == 200)
            #expect(try await status("X-API-Key: \(Self.key)\r\n") == 200)
            for header in [
                "", "Authorization: Bearer\r\n", "Authorization: \(Self.key)\r\n",
                "Authorization: Basic \(Self.key)\r\n",
                "Authorization: Bearer \(Self.key)x\r\n", "Authorization: Bearer \(Self.key.dropLast())\r\n",
                "X-API-Key: \(Self.key.uppercased())\r\n", "Cookie: \(Self.key)\r\n",
            ] { #expect(try await status(header) == 401, "\(header)") }
            let refused = try await server.post("/v1/completions", "{", headers: "Authorization: Bearer nobody\r\n")
            #expect(refused.headers["www-authenticate"] == "Bearer")
            #expect(refused.headers["connection"] == "close")
            #expect(
                refused.body
                    == #"{"error":{"message":"A valid API key is needed. Send it as 'Authorization: Bearer KEY'.","#
                    + #""type":"authentication_error","param":null,"code":401}}"#)
            for path in ["/health", "/ready", "/health/ready", "/live", "/health/live", "/ping", "/metrics"] {
                #expect(try await server.get(path).status == 200, "\(path)")
            }
        }
    }

    @Test func `the figures are guarded where that is asked for`() async throws {
        let keys = try Self.keys()
        try await withServer(
            FakeEngine("ok"),
            configure: { configuration in
                configuration.keys = keys
                configuration.guardsMetrics = true
            }
        ) { server in
            let figures = try await server.get("/metrics").status
            #expect(figures == 401)
            let health = try await server.get("/health").status
            #expect(health == 200)
        }
    }

    @Test func `a body of someone without a key is not read`() async throws {
        let keys = try Self.keys()
        try await withServer(FakeEngine("ok"), configure: { $0.keys = keys }) { server in
            let client = try await server.connect()
            try await client.send("POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000000\r\n\r\n{")
            #expect(try await client.answer().status == 401)
            #expect(await client.remainder() == "")
        }
    }

    @Test(arguments: [
        ("a\nb\r\n# c\n\n", nil), ("sha256:12", 1), ("ok\nsha256:" + String(repeating: "g", count: 64), 2),
        ("ok\nkéy", 2), ("\u{7F}", 1),
    ])
    func `a key file is lines of keys or digests`(text: String, faultyLine: Int?) {
        var keys = APIKeys()
        #expect(keys.insert(file: text) == faultyLine)
        if faultyLine == nil { #expect(keys.contains("a") && keys.contains("b") && !keys.contains("# c")) }
    }

    @Test func `SHA-256 has the standard's values`() {
        func digest(_ text: String) -> String {
            var hash = SHA256()
            hash.update(Array(text.utf8).span)
            return hash.finalize()
        }
        #expect(digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }

    // MARK: Origins

    private func ask(_ server: TestServer, origin: String, preflight: Bool) async throws -> RawClient.Answer {
        let client = try await server.connect()
        let line = preflight ? "OPTIONS" : "GET"
        let asked = preflight ? "Access-Control-Request-Method: POST\r\n" : ""
        try await client.send("\(line) /v1/models HTTP/1.1\r\nHost: t\r\nOrigin: \(origin)\r\n\(asked)\r\n")
        return try await client.answer()
    }

    @Test func `pages of other origins are told nothing unless they are allowed`() async throws {
        try await withServer(FakeEngine("ok")) { server in
            let answer = try await ask(server, origin: "https://a.example", preflight: false)
            #expect(answer.headers.keys.allSatisfy { !$0.hasPrefix("access-control") })
            #expect(try await ask(server, origin: "https://a.example", preflight: true).status == 405)
        }
        try await withServer(
            FakeEngine("ok"),
            configure: {
                $0.crossOrigin.origins = ["https://a.example"]
                $0.crossOrigin.allowsCredentials = true
                $0.keys.insert(Self.key)
            }
        ) { server in
            let preflight = try await ask(server, origin: "https://a.example", preflight: true)
            #expect(preflight.status == 204)
            #expect(preflight.headers["access-control-allow-origin"] == "https://a.example")
            #expect(preflight.headers["access-control-allow-methods"] == "GET, POST")
            #expect(preflight.headers["access-control-allow-credentials"] == "true")
            // The page sees why it was refused.
            let refused = try await ask(server, origin: "https://a.example", preflight: false)
            #expect(refused.status == 401)
            #expect(refused.headers["access-control-allow-origin"] == "https://a.example")
            #expect(refused.headers["vary"] == "Origin")
            for origin in ["https://b.example", "null", "https://a.example.evil", "http://a.example"] {
                let stranger = try await ask(server, origin: origin, preflight: true)
                #expect(stranger.headers["access-control-allow-origin"] == nil)
                #expect(stranger.headers["access-control-allow-methods"] == nil)
            }
        }
        try await withServer(FakeEngine("ok"), configure: { $0.crossOrigin.origins = ["*"] }) { server in
            let answer = try await ask(server, origin: "https://b.example", preflight: false)
            #expect(answer.headers["access-control-allow-origin"] == "*")
        }
    }

    // MARK: Hosts

    /// The status of a request with these headers.
    private static func status(
        _ hosts: AllowedHosts, _ host: String, _ headers: String = "", path: String = "/v1/models"
    ) async throws -> Int {
        var status = 0
        try await withServer(FakeEngine("ok"), configure: { $0.allowedHosts = hosts }) { server in
            let client = try await server.connect()
            try await client.send("GET \(path) HTTP/1.1\r\nHost: \(host)\r\n\(headers)\r\n")
            status = try await client.answer().status
        }
        return status
    }

    @Test(arguments: [
        ("api.example.org", 200), ("API.Example.org:8443", 200), ("api.example.org.", 200), ("a.b.example.net", 200),
        ("[::1]:8000", 200), ("example.net", 403), ("notexample.net", 403), ("api.example.org.evil.net", 403),
        ("localhost", 403), ("127.0.0.1:8000", 403),
    ])
    func `only the names that are allowed may be used, whoever asks`(host: String, expected: Int) async throws {
        var hosts = AllowedHosts()
        hosts.names = ["api.example.org", "*.example.net", "::1"]
        #expect(try await Self.status(hosts, host) == expected)
        // A probe of an orchestrator uses whatever address it has.
        #expect(try await Self.status(hosts, host, path: "/health") == 200)
        hosts.names.append("*")
        #expect(try await Self.status(hosts, host) == 200)
    }

    @Test(arguments: [
        ("localhost:8000", 200), ("LOCALHOST", 200), ("ui.localhost:3000", 200), ("127.0.0.1", 200),
        ("127.9.9.9:1", 200), ("[::1]", 200), ("evil.example:8000", 403), ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403), ("10.0.0.7", 403), ("127.0.0", 403),
    ])
    func `a page cannot reach a local server by a name of its own`(host: String, expected: Int) async throws {
        var hosts = AllowedHosts()
        hosts.guardsLocalServer = true
        #expect(try await Self.status(hosts, host, "Origin: http://\(host)\r\n") == expected)
        // What is no page says no origin, and may come through a proxy that keeps the name.
        #expect(try await Self.status(hosts, host) == 200)
        hosts.guardsLocalServer = false
        #expect(try await Self.status(hosts, host, "Origin: http://\(host)\r\n") == 200)
    }

    @Test func `a refused name is told what to do, and says nothing else`() async throws {
        try await withServer(FakeEngine("ok"), configure: { $0.allowedHosts.names = ["a"] }) { server in
            let answer = try await server.post("/v1/completions", #"{"prompt":"x"}"#)
            #expect(answer.status == 403)
            #expect(
                answer.body
                    == #"{"error":{"message":"This server is not to be addressed as \"test\". Its operator can "#
                    + #"allow the name with --allowed-hosts.","type":"PermissionDeniedError","param":null,"code":403}}"#
            )
            #expect(answer.headers["connection"] == "close")
        }
    }

    @Test func `keys that can be found by trying are counted`() {
        var keys = APIKeys()
        keys.insert("fifteen-letters")
        keys.insert("sixteen-letters!")
        #expect(keys.insert(file: "short\n0123456789abcdef0\n") == nil)
        #expect(keys.count == 4 && keys.shortCount == 2)
    }
}
