// Sends requests when they are due and when there is room for them, over connections that are used again. Everything
// happens on one event loop, so nothing is locked and the cost of an event is that of reading it.

import Execution
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// What a run consists of.
package struct LoadPlan: Sendable {
    package var target: LoadTarget
    package var endpoint: String
    /// The bytes of each request, and the tokens of its prompt where they are known.
    package var bodies: [(body: ByteBuffer, promptTokens: Int?)]
    /// Seconds from the beginning to when each is due, in order.
    package var arrivals: [Double]
    /// Most requests at once; nil for no limit.
    package var maxConcurrency: Int?
    /// The longest a request may take.
    package var timeout: Duration

    package init(
        target: LoadTarget, endpoint: String, bodies: [(body: ByteBuffer, promptTokens: Int?)], arrivals: [Double],
        maxConcurrency: Int?, timeout: Duration
    ) {
        self.target = target
        self.endpoint = endpoint
        self.bodies = bodies
        self.arrivals = arrivals
        self.maxConcurrency = maxConcurrency
        self.timeout = timeout
    }
}

/// What came of a run.
package struct LoadOutcome: Sendable {
    /// One for each request, in their order.
    package var records: [LoadRecord]
    /// Seconds from the first request to the end of the last.
    package var duration: Double
    package var maxConcurrent: Int

    package init(records: [LoadRecord], duration: Double, maxConcurrent: Int) {
        self.records = records
        self.duration = duration
        self.maxConcurrent = maxConcurrent
    }
}

/// How far a run is.
package struct LoadProgress: Sendable {
    package var total = 0
    package var completed = 0
    package var failed = 0
    package var running = 0
    /// Of the answers that are complete.
    package var outputTokens = 0
    package var seconds = 0.0

    package var line: String {
        let rate = seconds > 0 ? Double(outputTokens) / seconds : 0
        return "\(completed + failed) of \(total) requests, \(running) running, "
            + (failed > 0 ? "\(failed) failed, " : "")
            + "\(Decimals.format(rate, places: 0)) output tokens/s, \(Decimals.format(seconds, places: 1)) s"
    }
}

/// Runs plans against a server.
package enum Load {
    /// Runs `plan` to its end.
    /// - Parameter progress: called twice a second.
    package static func run(
        _ plan: LoadPlan, progress: @escaping @Sendable (LoadProgress) -> Void = { _ in }
    ) async throws -> LoadOutcome {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        let result: Result<LoadOutcome, any Error>
        do {
            // Looking a name up blocks, so it is done once and before the time runs.
            let address = try SocketAddress.makeAddressResolvingHost(plan.target.host, port: plan.target.port)
            let security = try plan.target.isSecure ? NIOSSLContext(configuration: .load(plan.target)) : nil
            result = .success(
                try await loop.flatSubmit {
                    LoadGenerator(plan, address: address, security: security, loop: loop, report: progress).run()
                }.get())
        } catch {
            result = .failure(error)
        }
        try await group.shutdownGracefully()
        return try result.get()
    }
}

extension TLSConfiguration {
    static func load(_ target: LoadTarget) -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        if target.isUnchecked { configuration.certificateVerification = .none }
        return configuration
    }
}

extension NIOSSLClientHandler {
    /// A numeric address has no name to ask for.
    static func load(_ security: NIOSSLContext, host: String) throws -> NIOSSLClientHandler {
        let isName = host.contains { $0.isLetter } && !host.contains(":")
        return try NIOSSLClientHandler(context: security, serverHostname: isName ? host : nil)
    }
}

/// Sends the requests of one plan. Lives on its event loop alone.
final class LoadGenerator {
    private let plan: LoadPlan
    private let address: SocketAddress
    private let security: NIOSSLContext?
    private let loop: any EventLoop
    private let report: @Sendable (LoadProgress) -> Void
    private let finished: EventLoopPromise<LoadOutcome>

    private var begin = NIODeadline.now()
    /// The next request to be sent.
    private var next = 0
    private var running = 0
    private var maxRunning = 0
    private var idle: [LoadConnection] = []
    private var records: [LoadRecord]
    private var progress: LoadProgress
    private var timer: Scheduled<Void>?
    private var reporting: Scheduled<Void>?
    /// What keeps this alive until the run ends.
    private var own: LoadGenerator?

    init(
        _ plan: LoadPlan, address: SocketAddress, security: NIOSSLContext?, loop: any EventLoop,
        report: @escaping @Sendable (LoadProgress) -> Void
    ) {
        self.plan = plan
        self.address = address
        self.security = security
        self.loop = loop
        self.report = report
        finished = loop.makePromise()
        records = Array(repeating: LoadRecord(), count: plan.bodies.count)
        progress = LoadProgress()
        progress.total = plan.bodies.count
    }

    func run() -> EventLoopFuture<LoadOutcome> {
        own = self
        begin = .now()
        reportLater()
        sendDue()
        endIfComplete()
        return finished.futureResult
    }

    private func reportLater() {
        reporting = loop.assumeIsolated().scheduleTask(in: .milliseconds(500)) { [unowned self] in
            progress.running = running
            progress.seconds = seconds(since: begin)
            report(progress)
            reportLater()
        }
    }

    private func seconds(since start: NIODeadline) -> Double { Double((NIODeadline.now() - start).nanoseconds) * 1e-9 }

    /// Sends what is due as far as there is room, and comes back when the next one is due.
    private func sendDue() {
        while next < plan.bodies.count, running < plan.maxConcurrency ?? .max {
            let due = begin + .nanoseconds(Int64(plan.arrivals[next] * 1e9))
            let now = NIODeadline.now()
            guard due <= now else {
                timer?.cancel()
                timer = loop.assumeIsolated().scheduleTask(deadline: due) { [unowned self] in sendDue() }
                return
            }
            var record = LoadRecord()
            record.start = Double((now - begin).nanoseconds) * 1e-9
            record.queueTime = Double((now - due).nanoseconds) * 1e-9
            record.promptTokens = plan.bodies[next].promptTokens ?? 0
            running += 1
            maxRunning = max(maxRunning, running)
            next += 1
            send(next - 1, record, start: now, mayReuse: true)
        }
    }

    /// Sends a request over a connection that is idle, or over a new one.
    private func send(_ index: Int, _ record: LoadRecord, start: NIODeadline, mayReuse: Bool) {
        while mayReuse, let connection = idle.popLast() {
            guard connection.isOpen else { continue }
            let exchange = LoadExchange(index: index, record: record, start: start, isReused: true)
            return begin(exchange, on: connection)
        }
        let exchange = LoadExchange(index: index, record: record, start: start, isReused: false)
        connect().whenComplete { [unowned self] result in
            switch result {
            case .success(let connection): begin(exchange, on: connection)
            case .failure(let error):
                exchange.record.error = "cannot connect: \(Self.reason(error))"
                ended(exchange, on: nil)
            }
        }
    }

    static func reason(_ error: any Error) -> String {
        if let error = error as? NIOConnectionError, let first = error.connectionErrors.first {
            return reason(first.error)
        }
        if let error = error as? IOError, let code = POSIXErrorCode(rawValue: error.errnoCode) {
            return POSIXError(code).localizedDescription
        }
        return "\(error)"
    }

    private func connect() -> EventLoopFuture<LoadConnection>.Isolated {
        let security = security
        let host = plan.target.host
        return ClientBootstrap(group: loop)
            .channelOption(.maxMessagesPerRead, value: 1)
            .connectTimeout(.seconds(30))
            .connect(to: address)
            .assumeIsolated()
            .flatMapThrowing { [unowned self] channel in
                let pipeline = channel.pipeline.syncOperations
                if let security { try pipeline.addHandler(NIOSSLClientHandler.load(security, host: host)) }
                try pipeline.addHTTPClientHandlers()
                let connection = LoadConnection(generator: self)
                try pipeline.addHandler(connection)
                return connection
            }
    }

    private func begin(_ exchange: LoadExchange, on connection: LoadConnection) {
        let timeout = TimeAmount.nanoseconds(Int64(plan.timeout.seconds * 1e9))
        exchange.timeout = loop.assumeIsolated().scheduleTask(deadline: exchange.start + timeout) { [plan] in
            connection.fail("no complete answer within \(Decimals.format(plan.timeout.seconds, places: 0)) s")
        }
        let body = plan.bodies[exchange.index].body
        let head = plan.target.head(.POST, plan.endpoint, bodyBytes: body.readableBytes)
        connection.send(exchange, head, body)
    }

    /// Hears that an answer is complete, or that none will come.
    func ended(_ exchange: LoadExchange, on connection: LoadConnection?) {
        exchange.timeout?.cancel()
        if exchange.isReused, exchange.status == 0, exchange.record.error != nil, connection?.isOpen != true,
            !isOverdue(exchange)
        {
            // The server closed an idle connection while the request was on its way to it; nothing was done with it.
            var record = exchange.record
            record.error = nil
            return send(exchange.index, record, start: exchange.start, mayReuse: false)
        }
        running -= 1
        records[exchange.index] = exchange.record
        if exchange.record.error == nil {
            progress.completed += 1
            progress.outputTokens += exchange.record.outputTokens
        } else {
            progress.failed += 1
        }
        if let connection, connection.isOpen { idle.append(connection) }
        sendDue()
        endIfComplete()
    }

    private func isOverdue(_ exchange: LoadExchange) -> Bool {
        seconds(since: exchange.start) >= plan.timeout.seconds
    }

    private func endIfComplete() {
        guard next == plan.bodies.count, running == 0, own != nil else { return }
        let outcome = LoadOutcome(records: records, duration: seconds(since: begin), maxConcurrent: maxRunning)
        reporting?.cancel()
        timer?.cancel()
        for connection in idle { connection.close() }
        idle = []
        finished.succeed(outcome)
        // Whoever called this is still inside it.
        loop.assumeIsolated().execute { [self] in own = nil }
    }
}
