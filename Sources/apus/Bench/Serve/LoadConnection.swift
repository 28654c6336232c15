// One connection to the server under load: writes a request, reads its answer, and takes the time when bytes arrive.
// Lives on the generator's event loop alone.

import JSON
import NIOCore
import NIOHTTP1

/// What one request met with. Times are in seconds.
package struct LoadRecord: Equatable, Sendable {
    /// From the beginning of the run to when it was sent, and how long it had been due by then.
    package var start = 0.0
    package var queueTime = 0.0
    /// From when it was sent to its first tokens; nil when none came.
    package var timeToFirstToken: Double?
    /// Between the arrivals of events that carry tokens.
    package var gaps: [Double] = []
    package var promptTokens = 0
    /// As the server counts them, or else the events.
    package var outputTokens = 0
    package var cachedTokens = 0
    package var hasUsage = false
    /// What went wrong; nil for a complete answer.
    package var error: String?

    package init() {}

    /// From when it was sent to its last tokens.
    package var latency: Double { (timeToFirstToken ?? 0) + gaps.reduce(0, +) }

    /// The mean time of a token after the first; nil for a single one.
    package var timePerOutputToken: Double? {
        outputTokens > 1 ? gaps.reduce(0, +) / Double(outputTokens - 1) : nil
    }
}

/// A request on its way.
final class LoadExchange {
    let index: Int
    let isReused: Bool
    var record: LoadRecord
    let start: NIODeadline
    var status: UInt = 0
    var timeout: Scheduled<Void>?
    fileprivate var reader = EventStreamReader()
    fileprivate var latest: NIODeadline
    fileprivate var isDone = false
    fileprivate var keepsAlive = true
    fileprivate var body = ByteBuffer()

    init(index: Int, record: LoadRecord, start: NIODeadline, isReused: Bool) {
        self.index = index
        self.record = record
        self.start = start
        self.isReused = isReused
        latest = start
    }

    /// Takes bytes of the answer that arrived at `now`.
    fileprivate func take(_ bytes: ByteBuffer, at now: NIODeadline) {
        guard status == 200 else {
            if body.readableBytes < 4096 { body.writeImmutableBuffer(bytes) }
            return
        }
        let isReadable = reader.read(bytes) { facts, payload in
            if facts.isDone { isDone = true }
            if facts.hasError { record.error = payload.map(Self.message) ?? "an error without a message" }
            if facts.hasUsage, let payload { takeUsage(payload) }
            guard facts.isOutput else { return }
            let time = Double((now - latest).nanoseconds) * 1e-9
            if record.timeToFirstToken == nil { record.timeToFirstToken = time } else { record.gaps.append(time) }
            latest = now
        }
        if !isReadable { record.error = "a line of the stream is longer than \(EventStreamReader.maxLineBytes) bytes" }
    }

    /// Ends the record.
    fileprivate func finish() {
        guard record.error == nil else { return }
        if status != 200 {
            record.error = "HTTP \(status): \(Self.message(body))"
        } else if !isDone {
            record.error = "the stream ended before [DONE]"
        } else if record.timeToFirstToken == nil {
            record.error = "the answer has no tokens"
        }
        if !record.hasUsage { record.outputTokens = record.timeToFirstToken == nil ? 0 : record.gaps.count + 1 }
    }

    private func takeUsage(_ payload: ByteBuffer) {
        do throws(JSONError) {
            let usage = try JSONParser.parse(Array(payload.readableBytesView))["usage"]
            guard let output = usage?["completion_tokens"]?.exactInteger else { return }
            record.outputTokens = output
            record.promptTokens = usage?["prompt_tokens"]?.exactInteger ?? record.promptTokens
            record.cachedTokens = usage?["prompt_tokens_details"]?["cached_tokens"]?.exactInteger ?? 0
            record.hasUsage = true
        } catch {
            record.error = "the usage cannot be read: \(error.reason)"
        }
    }

    /// The sentence in an answer that is an error, or the beginning of the answer.
    static func message(_ body: ByteBuffer) -> String {
        let bytes = Array(body.readableBytesView)
        do throws(JSONError) {
            let value = try JSONParser.parse(bytes)
            let error = value["error"] ?? value
            if case .string(let text)? = error["message"] { return String(text.prefix(200)) }
            if case .string(let text) = error { return String(text.prefix(200)) }
        } catch {
            // Not JSON; its beginning has to do.
        }
        let text = String(decoding: bytes.prefix(200), as: UTF8.self)
        return text.split(whereSeparator: \.isNewline).joined(separator: " ")
    }
}

/// The last handler of a connection.
final class LoadConnection: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private unowned let generator: LoadGenerator
    private(set) var exchange: LoadExchange?
    private var context: ChannelHandlerContext?
    /// Whether another request may be sent on it.
    private(set) var isOpen = true

    init(generator: LoadGenerator) { self.generator = generator }

    func send(_ exchange: LoadExchange, _ head: HTTPRequestHead, _ body: ByteBuffer) {
        self.exchange = exchange
        guard let context, isOpen else { return fail("the connection was closed before the request was sent") }
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }

    /// Gives the request up.
    func fail(_ reason: String) {
        isOpen = false
        // Closing tells this handler so at once, when the request must already be off its hands.
        let exchange = exchange
        self.exchange = nil
        context?.close(promise: nil)
        guard let exchange else { return }
        if exchange.record.error == nil { exchange.record.error = reason }
        exchange.finish()
        generator.ended(exchange, on: self)
    }

    func close() {
        isOpen = false
        context?.close(promise: nil)
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let now = NIODeadline.now()
        guard let exchange else { return }
        switch unwrapInboundIn(data) {
        case .head(let head):
            exchange.status = head.status.code
            exchange.keepsAlive = head.isKeepAlive
        case .body(let bytes):
            exchange.take(bytes, at: now)
        case .end:
            exchange.finish()
            self.exchange = nil
            if !exchange.keepsAlive { close() }
            generator.ended(exchange, on: self)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        let isFresh = exchange?.status == 0
        fail("the server closed the connection \(isFresh ? "without an answer" : "in the middle of the answer")")
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(LoadGenerator.reason(error))
    }
}
