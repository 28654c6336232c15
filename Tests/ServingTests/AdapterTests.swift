// Adapters over HTTP: names, cards, refusals, and which adapter a request takes along.

import Execution
import Scheduling
import Serving
import Synchronization
import Testing

/// Makes adapters of anything but "bad" and "slow"; notes which are gone.
private final class FakeAdapters: AdapterSource {
    private let state = Mutex((last: UInt64(0), gone: [UInt64](), isAsked: false))
    private let gate = AsyncStream.makeStream(of: Void.self)

    var gone: [UInt64] { state.withLock { $0.gone } }
    /// Whether somebody has asked for any.
    var isAsked: Bool { state.withLock { $0.isAsked } }
    /// Lets "slow" arrive.
    func open() { gate.continuation.finish() }

    func load(path: String, name: String) async throws(AdapterRefusal) -> AdapterReference {
        state.withLock { $0.isAsked = true }
        if path == "bad" { throw .unusable("bad/adapter_config.json cannot be served: use_dora is true.") }
        if path == "slow" { for await _ in gate.stream {} }
        let number = state.withLock { state in
            state.last += 1
            return state.last
        }
        return AdapterReference(id: AdapterID(number), name: name, place: Int32(number)) { [weak self] in
            self?.state.withLock { $0.gone.append(number) }
        }
    }
}

@Suite struct AdapterTests {
    private func withAdapters(
        _ engine: FakeEngine = FakeEngine("ok"), maxCount: Int = 2, allowsLoading: Bool = true,
        _ body: (TestServer, FakeAdapters) async throws -> Void
    ) async throws {
        let source = FakeAdapters()
        let rules = AdapterRules(maxCount: maxCount, allowsLoading: allowsLoading)
        let library = AdapterLibrary(rules: rules, source: source)
        try await withServer(engine, adapters: library) {
            $0.adapters = rules
        } _: {
            try await body($0, source)
        }
    }

    private func load(_ server: TestServer, _ name: String, _ path: String = "p", more: String = "") async throws
        -> RawClient.Answer
    {
        try await server.post(
            "/v1/load_lora_adapter", #"{"lora_name":"\#(name)","lora_path":"\#(path)"\#(more)}"#)
    }

    private func unload(_ server: TestServer, _ name: String) async throws -> RawClient.Answer {
        try await server.post("/v1/unload_lora_adapter", #"{"lora_name":"\#(name)"}"#)
    }

    @Test func `a request takes along the adapter that it names, on every API`() async throws {
        let engine = FakeEngine("ok")
        try await withAdapters(engine) { server, _ in
            #expect(try await load(server, "pirate").status == 200)
            let messages = #""messages":[{"role":"user","content":"hi"}]"#
            for (path, body) in [
                ("/v1/completions", #""prompt":"hi""#), ("/v1/chat/completions", messages),
                ("/v1/responses", #""input":"hi""#), ("/v1/messages", messages + #","max_tokens":4"#),
                ("/v1/embeddings", #""input":"hi""#), ("/score", #""text_1":"hi","text_2":"ho""#),
                ("/rerank", #""query":"hi","documents":["ho"]"#),
            ] {
                for (model, id) in [("pirate", UInt64(1)), ("tiny", nil)] {
                    let answer = try await server.post(path, #"{"model":"\#(model)",\#(body)}"#)
                    #expect(answer.status == 200, "\(path): \(answer.body)")
                    #expect(answer.body.contains(#""model":"\#(model)""#), "\(path)")
                    #expect(engine.submitted.last?.adapter?.id.rawValue == id, "\(path)")
                }
            }
            let answer = try await server.post("/v1/completions", #"{"model":"parrot","prompt":"hi"}"#)
            #expect(answer.status == 404 && answer.body.contains("`tiny`, `org/tiny`, `pirate`"))
        }
    }

    @Test func `an adapter has a card whose parent is the model`() async throws {
        try await withAdapters { server, _ in
            _ = try await load(server, "pirate")
            let list = try await server.get("/v1/models").body
            #expect(list.contains(#""id":"pirate","object":"model","created":"#))
            #expect(list.contains(#""root":"pirate","parent":"tiny","#))
            #expect(list.ranges(of: #""parent":null"#).count == 2)
            #expect(try await server.get("/v1/models/pirate").status == 200)
            _ = try await unload(server, "pirate")
            #expect(try await server.get("/v1/models/pirate").status == 404)
        }
    }

    @Test func `what cannot be loaded is refused with its reason`() async throws {
        try await withAdapters { server, _ in
            let first = try await load(server, "a")
            #expect(first.status == 200 && first.body == "The adapter 'a' is loaded.")
            #expect(first.headers["content-type"] == "text/plain; charset=utf-8")
            for (answer, part) in [
                (try await load(server, "a"), "loaded already"),
                (try await load(server, "tiny"), "name of the model"),
                (try await load(server, "a,b"), "without commas"),
                (try await load(server, "b", "bad"), "use_dora is true"),
                (try await load(server, ""), "lora_name"),
                (try await server.post("/v1/load_lora_adapter", #"{"lora_name":"b"}"#), "lora_path"),
                (try await server.post("/v1/unload_lora_adapter", "{}"), "lora_name"),
            ] {
                #expect(answer.status == 400 && answer.body.contains(#""type":"InvalidUserInput""#), "\(answer.body)")
                #expect(answer.body.contains(part), "\(answer.body)")
            }
            let absent = try await unload(server, "b")
            #expect(absent.status == 404 && absent.body.contains(#""type":"NotFoundError""#))
        }
    }

    @Test func `as many have names as may have, and one of the same name can be replaced`() async throws {
        try await withAdapters { server, source in
            #expect(try await load(server, "a").status == 200)
            #expect(try await load(server, "b").status == 200)
            let third = try await load(server, "c")
            #expect(third.status == 400 && third.body.contains("may be (2"))
            #expect(source.gone.isEmpty)
            #expect(try await load(server, "a", more: #","load_inplace":true"#).status == 200)
            #expect(try await eventually { source.gone == [1] })
            #expect(try await unload(server, "b").status == 200)
            #expect(try await eventually { source.gone == [1, 2] })
            #expect(try await load(server, "c").status == 200)
        }
    }

    @Test func `a request under way keeps the adapter whose name is gone`() async throws {
        let engine = FakeEngine("a long answer of some tokens", pace: .milliseconds(20))
        try await withAdapters(engine) { server, source in
            _ = try await load(server, "pirate")
            let client = try await server.connect()
            try await client.post("/v1/completions", #"{"model":"pirate","prompt":"hi","max_tokens":12}"#, headers: "")
            #expect(try await eventually { engine.submitted.count == 1 })
            #expect(try await unload(server, "pirate").status == 200)
            #expect(engine.submitted[0].adapter?.id.rawValue == 1 && source.gone.isEmpty)
            #expect(try await client.answer().status == 200)
            try await client.close()
        }
    }

    @Test func `two loads of one name do not pass each other`() async throws {
        try await withAdapters(maxCount: 1) { server, source in
            let slow = Task { try await load(server, "a", "slow") }
            #expect(try await eventually { source.isAsked })
            let again = try await load(server, "a")
            #expect(again.body.contains("is being loaded by another request"))
            // It takes the only place already.
            let second = try await load(server, "b")
            #expect(second.body.contains("may be (1"))
            source.open()
            let first = try await slow.value
            #expect(first.status == 200)
        }
    }

    @Test func `loading is off unless the operator allows it`() async throws {
        try await withAdapters(allowsLoading: false) { server, _ in
            for answer in [try await load(server, "a"), try await unload(server, "a")] {
                #expect(answer.status == 404 && answer.body.contains("--lora-dir"))
            }
            let document = try await server.get("/openapi.json").body
            #expect(!document.contains("lora_name"))
        }
        try await withServer(FakeEngine("ok")) { server in
            let (answer, metrics) = (try await load(server, "a"), try await server.get("/metrics").body)
            #expect(answer.status == 404 && !metrics.contains("lora_requests_info"))
        }
        try await withAdapters { server, _ in
            let (document, metrics) = (
                try await server.get("/openapi.json").body, try await server.get("/metrics").body
            )
            #expect(document.contains("lora_name"))
            #expect(
                metrics.contains(
                    #"vllm:lora_requests_info{max_lora="2",running_lora_adapters="",waiting_lora_adapters=""} "#))
        }
    }
}
