// The load generator on the real binary with the real model, and on servers that fail.

import Foundation
import NIOCore
import NIOPosix
import Testing
import apus

/// The binary under test and what it serves.
private func serverProcess(_ arguments: [String] = []) throws -> ServerProcess {
    let environment = ProcessInfo.processInfo.environment
    let binary = try #require(environment["APUS_BINARY"], "run the tests with `make test`")
    let model = try #require(environment["APUS_TEST_MODEL"], "run the tests with `make test`")
    // The server takes every APUS_ variable for a setting.
    return try ServerProcess(
        executable: binary, model: model, arguments: arguments,
        environment: environment.filter { !$0.key.hasPrefix("APUS_") })
}

private func plan(
    _ url: String, count: Int, format: LoadRequestFormat, items: LoadDataset, rate: Double? = nil,
    maxConcurrency: Int? = nil, timeout: Duration = .seconds(60)
) throws -> LoadPlan {
    let items = items.items(count: count, seed: 1, identifiers: 1000..<32000, isText: format.backend.isChat)
    return LoadPlan(
        target: try LoadTarget(url: url), endpoint: format.backend.endpoint,
        bodies: items.map { (body: format.body($0), promptTokens: $0.promptTokens) },
        arrivals: ArrivalSchedule(rate: rate).offsets(count: count, seed: 1), maxConcurrency: maxConcurrency,
        timeout: timeout)
}

private let small = LoadDataset.random(prefix: 0, input: 20, output: 8, rangeRatio: 0)

@Test func `a load on the real server is answered in full, and what it says adds up`() async throws {
    let server = try serverProcess()
    defer { server.stop() }
    let (url, model) = try await server.waitUntilReady()
    var format = LoadRequestFormat(backend: .openai, model: model)
    format.ignoresEndOfSequence = true
    let closed = try await Load.run(plan(url, count: 12, format: format, items: small, maxConcurrency: 4))
    let measurement = LoadMeasurement(closed)
    #expect(measurement.errors.isEmpty, "\(measurement.errors)")
    #expect(closed.maxConcurrent == 4)
    #expect(measurement.inputTokens == 12 * 20 && measurement.outputTokens == 12 * 8)
    #expect(measurement.uncounted == 0)
    #expect(closed.records.allSatisfy { $0.gaps.count <= 7 && $0.latency > 0 })
    #expect(closed.records.allSatisfy { $0.start + $0.latency <= closed.duration })

    let open = try await Load.run(plan(url, count: 10, format: format, items: small, rate: 50))
    #expect(LoadMeasurement(open).errors.isEmpty)
    let expected = ArrivalSchedule(rate: 50).offsets(count: 10, seed: 1)
    for (record, due) in zip(open.records, expected) { #expect(record.start >= due && record.start < due + 0.5) }

    format.backend = .openaiChat
    let chat = try await Load.run(plan(url, count: 3, format: format, items: small, maxConcurrency: 1))
    #expect(LoadMeasurement(chat).errors.isEmpty)
    #expect(LoadMeasurement(chat).outputTokens == 24)

    let memory = try #require(server.memory)
    #expect(memory.resident > 50 << 20 && memory.peak >= memory.resident)
}

@Test func `what a server refuses is counted by its sentence`() async throws {
    let server = try serverProcess(["--api-key", "secret"])
    defer { server.stop() }
    let (url, model) = try await server.waitUntilReady()
    let format = LoadRequestFormat(backend: .openai, model: model)
    var refused = try plan(url, count: 3, format: format, items: small)
    let errors = LoadMeasurement(try await Load.run(refused)).errors
    #expect(errors.count == 1 && errors.first?.count == 3)
    #expect(errors.first?.sentence.hasPrefix("HTTP 401: ") == true, "\(errors)")
    refused.target.headers = [(name: "authorization", value: "Bearer secret")]
    #expect(LoadMeasurement(try await Load.run(refused)).errors.isEmpty)
}

@Test func `a server that is not there is named in every record`() async throws {
    let format = LoadRequestFormat(backend: .openai, model: "m")
    let outcome = try await Load.run(plan("http://127.0.0.1:1", count: 3, format: format, items: small))
    #expect(outcome.records.allSatisfy { $0.error?.hasPrefix("cannot connect: ") == true })
}

/// A server that answers every request with fixed bytes and then, if asked, closes.
private final class FixedAnswer: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let answer: String
    private let closes: Bool
    private var answered = 0

    init(_ answer: String, closes: Bool) {
        self.answer = answer
        self.closes = closes
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // The body may come apart from the head.
        guard unwrapInboundIn(data).readableBytesView.last == UInt8(ascii: "}") else { return }
        // The second request on a connection that closes is met by its end.
        answered += 1
        if closes && answered > 1 { return context.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: answer)), promise: nil)
    }
}

private func failures(
    answer: String, closes: Bool = false, timeout: Duration = .seconds(30)
) async throws -> [String?] {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let server = try await ServerBootstrap(group: group)
        .childChannelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(FixedAnswer(answer, closes: closes))
            }
        }
        .bind(host: "127.0.0.1", port: 0).get()
    let port = try #require(server.localAddress?.port)
    let format = LoadRequestFormat(backend: .openai, model: "m")
    let outcome = try await Load.run(
        plan(
            "http://127.0.0.1:\(port)", count: 3, format: format, items: small, maxConcurrency: 1, timeout: timeout))
    try await server.close()
    try await group.shutdownGracefully()
    return outcome.records.map(\.error)
}

private func answer(_ body: String) -> String {
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)"
}

private let token = "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}\n\n"

@Test func `an answer that is not complete is a failure with its reason`() async throws {
    #expect(try await failures(answer: answer(token + "data: [DONE]\n\n")) == [nil, nil, nil])
    // A connection that the server closes while it is idle is replaced, and nothing is lost.
    #expect(try await failures(answer: answer(token + "data: [DONE]\n\n"), closes: true) == [nil, nil, nil])
    let cut = try await failures(answer: answer(token))
    #expect(cut.allSatisfy { $0 == "the stream ended before [DONE]" })
    let empty = try await failures(answer: answer("data: [DONE]\n\n"))
    #expect(empty.allSatisfy { $0 == "the answer has no tokens" })
    let failed = try await failures(answer: answer(token + "data: {\"error\":{\"message\":\"overheated\"}}\n\n"))
    #expect(failed.allSatisfy { $0 == "overheated" })
    let slow = try await failures(answer: "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", timeout: .seconds(1))
    #expect(slow.allSatisfy { $0 == "no complete answer within 1 s" })
}
