// Requests that do not run their course: clients that leave, queues that are full, servers that stop.

import Execution
import Scheduling
import ServiceLifecycle
import Serving
import Testing

@Suite(.serialized) struct LifecycleTests {
    enum Departure: CaseIterable { case close, reset, halfClose }

    private static let slow = #"{"prompt":"x","max_tokens":200,"n":2,"stream":"#

    private func leave(_ client: RawClient, _ departure: Departure) async throws {
        switch departure {
        case .close: try await client.close()
        case .reset: try await client.reset()
        case .halfClose: try await client.halfClose()
        }
    }

    private func isIdle(_ server: TestServer) async throws -> Bool {
        for name in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"] {
            guard try await server.metric("vllm:" + name) == 0 else { return false }
        }
        return true
    }

    @Test(arguments: Departure.allCases, [true, false])
    func `a client that leaves while its request waits aborts it`(departure: Departure, streamed: Bool) async throws {
        let engine = FakeEngine(maxRunning: 0) { _ in .init([]) }
        try await withServer(engine) { server in
            let client = try await server.connect()
            try await client.post("/v1/completions", Self.slow + "\(streamed)}")
            #expect(try await eventually { engine.statistics.waiting == 2 })
            try await leave(client, departure)
            #expect(try await eventually { try await isIdle(server) })
            #expect(engine.statistics.finished.abort == 2)
        }
    }

    @Test(arguments: Departure.allCases, [true, false])
    func `a client that leaves during prefill aborts its request`(departure: Departure, streamed: Bool) async throws {
        let engine = FakeEngine { _ in .init(Vocabulary.bytes("ok"), prefill: .seconds(30)) }
        try await withServer(engine) { server in
            let client = try await server.connect()
            try await client.post("/v1/completions", Self.slow + "\(streamed)}")
            #expect(try await eventually { engine.statistics.running == 2 })
            try await leave(client, departure)
            #expect(try await eventually { try await isIdle(server) })
            #expect(engine.statistics.finished.abort == 2)
        }
    }

    @Test(arguments: Departure.allCases, [true, false])
    func `a client that leaves during decoding aborts its request`(departure: Departure, streamed: Bool) async throws {
        let engine = FakeEngine { _ in
            .init(Array(repeating: 97, count: 150), pace: .milliseconds(50))
        }
        try await withServer(engine) { server in
            let client = try await server.connect()
            try await client.post("/v1/completions", Self.slow + "\(streamed)}")
            if streamed { try await client.wait(for: "\"text\":\"a\"") }
            #expect(try await eventually { engine.statistics.generationTokens >= 2 })
            try await leave(client, departure)
            #expect(try await eventually { try await isIdle(server) })
            #expect(engine.statistics.finished.abort == 2)
        }
    }

    @Test func `clients that leave at any byte of their request leave nothing behind`() async throws {
        let engine = FakeEngine { _ in .init(Vocabulary.bytes("abc"), pace: .milliseconds(1)) }
        try await withServer(engine) { server in
            let body = #"{"prompt":"x","stream":true}"#
            let request =
                "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                + "Content-Length: \(body.utf8.count)\r\n\r\n" + body
            for count in 1...request.count {
                let client = try await server.connect()
                try await client.send(String(request.prefix(count)))
                try await leave(client, Departure.allCases[count % 3])
            }
            #expect(try await eventually { try await isIdle(server) })
            #expect(try await server.post("/v1/completions", body).status == 200)
        }
    }

    @Test func `a client that never reads holds up nobody and is given up`() async throws {
        let engine = FakeEngine { request in
            request.prompt.count > 1 ? .init(Array(repeating: 97, count: 60_000)) : .init(Vocabulary.bytes("ok"))
        }
        try await withServer(
            engine, model: Vocabulary.model(maxModelLength: 100_000),
            configure: { $0.writeStallTimeout = .milliseconds(200) }
        ) { server in
            let stuck = try await server.connect(reads: false)
            try await stuck.post("/v1/completions", #"{"prompt":"xx","max_tokens":60000,"stream":true}"#)
            #expect(try await server.post("/v1/completions", #"{"prompt":"x"}"#).status == 200)
            // All tokens are made although nobody reads, and the connection does not outlive the time-out by much.
            #expect(try await eventually { try await isIdle(server) })
            try await Task.sleep(for: .milliseconds(400))
            await #expect(throws: (any Error).self) {
                for _ in 0..<50 {
                    try await stuck.send("GET /health HTTP/1.1\r\nHost: t\r\n\r\n")
                    try await Task.sleep(for: .milliseconds(5))
                }
            }
        }
    }

    @Test func `a full queue answers 503 with the time to come back, before any tokenizing`() async throws {
        let engine = FakeEngine(maxRunning: 0, queue: 10) { _ in .init([]) }
        try await withServer(engine) { server in
            var clients: [RawClient] = []
            for _ in 0..<10 {
                let client = try await server.connect()
                try await client.post("/v1/completions", #"{"prompt":"x"}"#)
                clients.append(client)
            }
            #expect(try await eventually { engine.statistics.waiting == 10 })
            for _ in 0..<100 {
                let answer = try await server.post("/v1/completions", #"{"prompt":"x"}"#)
                #expect(answer.status == 503)
                #expect(answer.headers["retry-after"] == "7")
                #expect(answer.body.contains(#""type":"ServiceUnavailableError","param":null,"code":503"#))
            }
            #expect(engine.submitted.count == 10)
            #expect(engine.reservations == 10)
            #expect(try await server.metric("vllm:admission_rejections_total") == 100)
            for client in clients { try await client.close() }
            #expect(try await eventually { try await isIdle(server) })
        }
    }

    @Test func `a request that is refused gives its place back`() async throws {
        let engine = FakeEngine(queue: 1) { _ in .init(Vocabulary.bytes("ok")) }
        try await withServer(engine, model: Vocabulary.model(maxModelLength: 8)) { server in
            for _ in 0..<20 {
                let refused = try await server.post("/v1/completions", #"{"prompt":"too long for it"}"#)
                #expect(refused.status == 400)
            }
            let accepted = try await server.post("/v1/completions", #"{"prompt":"x","max_tokens":1}"#)
            #expect(accepted.status == 200)
        }
    }

    @Test func `a shutdown finishes what runs, refuses what comes and then closes`() async throws {
        let engine = FakeEngine { _ in .init(Array(repeating: 97, count: 20), pace: .milliseconds(20)) }
        try await withServer(engine) { server in
            let streaming = try await server.connect()
            let idle = try await server.connect()
            try await idle.get("/ready")
            #expect(try await idle.answer().status == 200)
            try await streaming.post("/v1/completions", #"{"prompt":"x","max_tokens":20,"stream":true}"#)
            try await streaming.wait(for: "\"text\":\"a\"")
            await server.group.triggerGracefulShutdown()
            #expect(try await eventually { engine.health == .draining })
            try await idle.post("/v1/completions", #"{"prompt":"x"}"#)
            let refused = try await idle.answer()
            #expect(refused.status == 503)
            #expect(refused.headers["connection"] == "close")
            let answer = try await streaming.answer()
            #expect(answer.events.count == 21)
            #expect(answer.events.last == "[DONE]")
            try await server.running.value
        }
    }

    @Test func `what still runs when the time is over ends with an error event`() async throws {
        let engine = FakeEngine { _ in .init(Array(repeating: 97, count: 100), pace: .milliseconds(50)) }
        try await withServer(engine, configure: { $0.drainTimeout = .milliseconds(100) }) { server in
            let client = try await server.connect()
            try await client.post("/v1/completions", #"{"prompt":"x","max_tokens":100,"stream":true}"#)
            try await client.wait(for: "\"text\":\"a\"")
            await server.group.triggerGracefulShutdown()
            let answer = try await client.answer()
            #expect(
                answer.events.suffix(2).first?.contains("The server shut down before this request finished.") == true)
            #expect(answer.events.last == "[DONE]")
            try await server.running.value
        }
    }

    @Test func `a thousand requests with the same label are a thousand requests`() async throws {
        let engine = FakeEngine("ok")
        try await withServer(engine) { server in
            try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<20 {
                    group.addTask {
                        let client = try await server.connect()
                        var count = 0
                        for _ in 0..<50 {
                            try await client.post(
                                "/v1/completions", #"{"prompt":"x","stream":true}"#, headers: "X-Request-Id: same\r\n")
                            count += try await client.answer().events.count == 4 ? 1 : 0
                        }
                        return count
                    }
                }
                let complete = try await group.reduce(0, +)
                #expect(complete == 1000)
            }
        }
        #expect(Set(engine.submitted.map(\.id)).count == 1000)
    }
}
