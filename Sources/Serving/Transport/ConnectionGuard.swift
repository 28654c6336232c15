// HTTP's rules for one connection: what it refuses and how, when it ends, and how long a request may take to arrive.
//
// Stands right behind the codec, where the version is still known. A refusal is written when it is the refused
// request's turn, then the connection ends: bytes after a broken request are not requests. Request smuggling lives on
// two readers that disagree about a length, so whatever could be read in two ways is refused.

import HTTPTypes
import Hummingbird
import NIOCore
import NIOHTTP1

/// All of it runs on the connection's event loop.
final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    /// A request whose response has not ended.
    private struct Exchange {
        let version: HTTPVersion
        var keepsAlive: Bool
        var hasBegun = false
    }

    private let limits: ConnectionLimits
    private let openConnections: ConnectionGauge
    private var context: ChannelHandlerContext?
    /// In the order of arrival; more than one where a client sends ahead.
    private var exchanges: [Exchange] = []
    /// Whether a request's head was read and its end was not.
    private var isReadingRequest = false
    /// Whether bytes arrived of which no request has come yet.
    private var hasUnreadBytes = false
    /// Whether what still arrives is dropped: the client was told that the connection ends.
    private var ignoresInput = false
    /// Whether what is still written is dropped: the last response is out.
    private var isClosing = false
    /// A refusal that waits for its turn.
    private var refusal: TransportError?
    private var deadline: Scheduled<Void>?

    init(limits: ConnectionLimits, openConnections: ConnectionGauge) {
        self.limits = limits
        self.openConnections = openConnections
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        openConnections.opened()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        deadline?.cancel()
        openConnections.closed()
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        context.fireChannelInactive()
    }

    // MARK: Requests

    /// Called when bytes arrive, before the codec sees them.
    func bytesArrived() { hasUnreadBytes = true }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard refusal == nil, !ignoresInput else { return }
        switch unwrapInboundIn(data) {
        case .head(let head): begin(head, context)
        case .body: context.fireChannelRead(data)
        case .end:
            isReadingRequest = false
            hasUnreadBytes = false
            deadline?.cancel()
            deadline = nil
            // What a client sends after it asked for the end is not read.
            if let last = exchanges.last, !last.keepsAlive, !last.hasBegun { ignoresInput = true }
            context.fireChannelRead(data)
        }
    }

    private func begin(_ received: HTTPRequestHead, _ context: ChannelHandlerContext) {
        var head = received
        hasUnreadBytes = false
        deadline?.cancel()
        deadline = nil
        if let reason = FramingRules.objection(to: head) { return refuse(.malformed(reason: reason)) }
        isReadingRequest = true
        let keepsAlive = FramingRules.keepsAlive(head)
        exchanges.append(Exchange(version: head.version, keepsAlive: keepsAlive))
        if !keepsAlive { head.headers.replaceOrAdd(name: "connection", value: "close") }
        // Where an earlier response is still being written there is no place for this one.
        if exchanges.count == 1, head.version == .http1_1,
            head.headers.first(name: "expect")?.lowercased() == "100-continue"
        {
            let asked = HTTPResponseHead(version: .http1_1, status: .continue)
            context.writeAndFlush(wrapOutboundOut(.head(asked)), promise: nil)
        }
        context.fireChannelRead(wrapInboundOut(.head(head)))
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        // A request that came whole, as most do, needs no timer.
        if deadline == nil, refusal == nil, !ignoresInput, isReadingRequest || hasUnreadBytes { beginDeadline(context) }
        context.fireChannelReadComplete()
    }

    private func beginDeadline(_ context: ChannelHandlerContext) {
        let (isReadingRequest, hasUnreadBytes) = (isReadingRequest, hasUnreadBytes)
        let limit = isReadingRequest ? limits.requestBody : limits.requestHead
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(limit)) {
            self.deadline = nil
            guard let context = self.context, isReadingRequest || hasUnreadBytes else { return }
            // What was sent ahead is not read on before its turn; that is not its client's fault.
            if self.exchanges.count > (isReadingRequest ? 1 : 0) {
                self.beginDeadline(context)
            } else {
                self.refuse(isReadingRequest ? .bodyTimeout(limit: limit) : .headTimeout(limit: limit))
            }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard refusal == nil, !isClosing, !ignoresInput else { return }
        guard let error = error as? HTTPParserError else { return context.fireErrorCaught(error) }
        refuse(TransportError(error))
    }

    // MARK: Refusals

    private func refuse(_ error: TransportError) {
        guard refusal == nil, !isClosing, let context else { return }
        refusal = error
        deadline?.cancel()
        deadline = nil
        // Whoever waits for the rest of a body learns from the close that it does not come: an error would end the
        // connection before the client has read why.
        answerRefusal(context)
    }

    /// Writes the refusal if nothing is to be answered before it.
    private func answerRefusal(_ context: ChannelHandlerContext) {
        guard let refusal, !isClosing else { return }
        if isReadingRequest {
            // It was answered before its body came, or is being answered: the connection ends with that.
            guard let exchange = exchanges.first else { return end(context) }
            guard exchanges.count == 1 else { return }
            guard !exchange.hasBegun else {
                exchanges[0].keepsAlive = false
                return
            }
        } else if !exchanges.isEmpty {
            return
        }
        var body = ByteBuffer()
        let error = OpenAIError(refusal)
        error.write(to: &body)
        let head = HTTPResponseHead(
            version: exchanges.first?.version ?? .http1_1, status: .init(statusCode: Int(error.status.code)),
            headers: [
                "content-type": "application/json", "content-length": "\(body.readableBytes)", "connection": "close",
            ])
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        end(context)
    }

    /// Closes in the order that lets the client read what was sent.
    private func end(_ context: ChannelHandlerContext) {
        isClosing = true
        ignoresInput = true
        context.close(mode: .output, promise: nil)
        context.eventLoop.assumeIsolated().scheduleTask(in: limits.linger) {
            self.context?.close(mode: .all, promise: nil)
        }
    }

    // MARK: Responses

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !isClosing else {
            promise?.succeed()
            return
        }
        switch unwrapOutboundIn(data) {
        case .head(var head):
            if head.status.code >= 200 { complete(&head) }
            context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .body:
            context.write(data, promise: promise)
        case .end:
            let keepsAlive = exchanges.isEmpty || exchanges.removeFirst().keepsAlive
            if keepsAlive {
                context.write(data, promise: promise)
                answerRefusal(context)
            } else {
                context.writeAndFlush(data, promise: promise)
                end(context)
            }
        }
    }

    /// Gives a response the version and the connection header that its request asks for.
    private func complete(_ head: inout HTTPResponseHead) {
        guard let exchange = exchanges.first else { return }
        exchanges[0].hasBegun = true
        var keepsAlive = exchange.keepsAlive && head.headers.first(name: "connection") != "close"
        if exchange.version == .http1_0 {
            // HTTP/1.0 knows no chunks: a body of unknown length ends with the connection.
            head.version = .http1_0
            keepsAlive = keepsAlive && head.headers.contains(name: "content-length")
            if keepsAlive { head.headers.replaceOrAdd(name: "connection", value: "keep-alive") }
        }
        if !keepsAlive { head.headers.replaceOrAdd(name: "connection", value: "close") }
        exchanges[0].keepsAlive = keepsAlive
    }
}

/// What a head may say about the request's length and the connection's end.
enum FramingRules {
    /// Why a head that the parser accepts is still refused.
    static func objection(to head: HTTPRequestHead) -> String? {
        guard head.version == .http1_1 || head.version == .http1_0 else {
            return "the version is not HTTP/1.0 or HTTP/1.1"
        }
        let codings = head.headers[canonicalForm: "transfer-encoding"]
        if !codings.isEmpty {
            guard head.version == .http1_1 else { return "HTTP/1.0 has no Transfer-Encoding" }
            guard codings.count == 1, codings[0].lowercased() == "chunked" else {
                return "the only Transfer-Encoding accepted is 'chunked'"
            }
            guard !head.headers.contains(name: "content-length") else {
                return "its length is not stated once and plainly"
            }
        }
        guard head.headers["host"].count == 1 || (head.version == .http1_0 && !head.headers.contains(name: "host"))
        else { return "it must have one Host" }
        return head.method == .CONNECT ? "CONNECT is for proxies" : nil
    }

    /// Whether the connection stays open after the response.
    static func keepsAlive(_ head: HTTPRequestHead) -> Bool {
        let options = head.headers[canonicalForm: "connection"].map { $0.lowercased() }
        if options.contains("close") { return false }
        return head.version == .http1_1 || options.contains("keep-alive")
    }
}

/// Tells the guard that bytes came in: a head that never ends shows nowhere else.
final class ByteArrival: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    private let conduct: ConnectionGuard

    init(_ conduct: ConnectionGuard) { self.conduct = conduct }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        conduct.bytesArrived()
        context.fireChannelRead(data)
    }
}
