// A server on a free port of the loopback interface for the duration of a test.

import Logging
import ServiceLifecycle
import Serving
import Testing

/// Serves `engine` while `body` runs.
func withServer(
    _ engine: FakeEngine, model: ServedModel = Vocabulary.model(), adapters: AdapterLibrary = AdapterLibrary(),
    configure: (inout ServingConfiguration) -> Void = { _ in }, _ body: (TestServer) async throws -> Void
) async throws {
    var configuration = ServingConfiguration(servedModelNames: ["tiny", "org/tiny"], version: "1.2.3")
    configuration.port = 0
    configure(&configuration)
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
    let server = Server(
        configuration: configuration, model: model, engine: engine, logger: logger, adapters: adapters
    ) { port in continuation.yield(port) }
    let group = ServiceGroup(configuration: .init(services: [server], logger: logger))
    let running = Task { try await group.run() }
    defer { running.cancel() }
    var iterator = ports.makeAsyncIterator()
    let port = try #require(await iterator.next())
    try await body(TestServer(port: port, group: group, running: running))
    running.cancel()
    _ = await running.result
}

/// A running server.
struct TestServer {
    let port: Int
    let group: ServiceGroup
    let running: Task<Void, any Error>

    func connect(reads: Bool = true) async throws -> RawClient { try await RawClient.connect(port: port, reads: reads) }

    /// One POST on a connection of its own.
    func post(_ path: String, _ body: String, headers: String = "X-Request-Id: r1\r\n") async throws -> RawClient.Answer
    {
        let client = try await connect()
        try await client.post(path, body, headers: headers)
        let answer = try await client.answer()
        try await client.close()
        return answer
    }

    func get(_ path: String) async throws -> RawClient.Answer {
        let client = try await connect()
        try await client.get(path)
        let answer = try await client.answer()
        try await client.close()
        return answer
    }

    /// The value of one metric's sample, by its name and a part of its labels.
    func metric(_ name: String, _ label: String = "") async throws -> Double? {
        let lines = try await get("/metrics").body.split(separator: "\n")
        let line = lines.first { $0.hasPrefix(name + "{") && $0.contains(label) }
        return line?.split(separator: " ").last.flatMap { Double($0) }
    }
}

/// Waits until `condition` holds. A machine that builds at the same time is slow, so the limit is generous.
func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
    let deadline = ContinuousClock.now + .seconds(5)
    while ContinuousClock.now < deadline {
        if try await condition() { return true }
        try await Task.sleep(for: .milliseconds(2))
    }
    return try await condition()
}
