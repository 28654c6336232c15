// Looks after one connection from within its pipeline: notices that the client is gone, that it no longer reads, that
// its request does not arrive, and that a stream has been silent; and ends the connection where a response says so.
//
// Hummingbird keeps half-closed connections, so a client's close does not cancel the task that serves it. Whoever
// generates registers here what to do then. A client that closes its sending side on purpose is treated as gone.

import HTTPTypes
import NIOCore
import NIOHTTPTypes
import Synchronization

/// Whether the client of a connection is still there. Shared by the connection's handler and the task that serves it.
final class PeerPresence: Sendable {
    private struct State {
        var isGone = false
        var action: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())

    /// True once the client closed.
    var isGone: Bool { state.withLock { $0.isGone } }

    /// Has `action` called once when the client closes; at once if it has.
    func whenGone(_ action: @escaping @Sendable () -> Void) {
        let isGone = state.withLock { state in
            if !state.isGone { state.action = action }
            return state.isGone
        }
        if isGone { action() }
    }

    /// Forgets the action: the request it was for has ended.
    func clear() { state.withLock { $0.action = nil } }

    fileprivate func leave() {
        let action = state.withLock { state in
            defer { state.action = nil }
            state.isGone = true
            return state.action
        }
        action?()
    }
}

/// Time limits of one connection.
struct ConnectionLimits: Sendable {
    let requestRead: TimeAmount
    let writeStall: TimeAmount
    let heartbeat: TimeAmount
    /// How long to read on after the last response, so that the client receives it before the connection is reset.
    let linger = TimeAmount.seconds(1)

    init(_ configuration: ServingConfiguration) {
        requestRead = TimeAmount(configuration.requestReadTimeout)
        writeStall = TimeAmount(configuration.writeStallTimeout)
        heartbeat = TimeAmount(configuration.heartbeatInterval)
    }
}

/// The handler between the HTTP codec and the server. All of it runs on the connection's event loop.
final class PeerWatch: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    let presence = PeerPresence()
    private let limits: ConnectionLimits
    private var context: ChannelHandlerContext?
    private var isReadingRequest = false
    /// Requests whose response has not ended; more than one where a client sends ahead.
    private var unanswered = 0
    private var isStreaming = false
    private var closesAfterResponse = false
    private var hasWrittenSinceHeartbeat = false
    private var readDeadline: Scheduled<Void>?
    private var stallDeadline: Scheduled<Void>?
    private var heartbeat: Scheduled<Void>?

    init(limits: ConnectionLimits) { self.limits = limits }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        leave()
        self.context = nil
    }

    private func leave() {
        readDeadline?.cancel()
        stallDeadline?.cancel()
        heartbeat?.cancel()
        presence.leave()
    }

    private func close() { context?.close(mode: .all, promise: nil) }

    // MARK: What the client does

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .inputClosed? = event as? ChannelEvent { presence.leave() }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        leave()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            isReadingRequest = true
            unanswered += 1
            // Where an earlier response is still being written there is no place for this one.
            if unanswered == 1, head.headerFields[.expect]?.lowercased() == "100-continue" {
                context.writeAndFlush(wrapOutboundOut(.head(HTTPResponse(status: .continue))), promise: nil)
            }
        case .body: break
        case .end:
            isReadingRequest = false
            readDeadline?.cancel()
            readDeadline = nil
        }
        context.fireChannelRead(data)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        // A request that came whole, as most do, needs no timer.
        if isReadingRequest && readDeadline == nil { beginReadDeadline(context) }
        context.fireChannelReadComplete()
    }

    private func beginReadDeadline(_ context: ChannelHandlerContext) {
        readDeadline = context.eventLoop.assumeIsolated().scheduleTask(in: limits.requestRead) {
            // A request that was sent ahead is not read on before its turn; that is not its client's fault.
            if self.unanswered > 1, let context = self.context {
                self.beginReadDeadline(context)
            } else {
                self.close()
            }
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        stallDeadline?.cancel()
        stallDeadline = nil
        if !context.channel.isWritable {
            stallDeadline = context.eventLoop.assumeIsolated().scheduleTask(in: limits.writeStall) { self.close() }
        }
        context.fireChannelWritabilityChanged()
    }

    // MARK: What the server answers

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .head(let head):
            if head.headerFields[.connection] == "close" { closesAfterResponse = true }
            if head.headerFields[.contentType] == EventStream.contentType { beginHeartbeat(context) }
            context.write(data, promise: promise)
        case .body:
            hasWrittenSinceHeartbeat = true
            context.write(data, promise: promise)
        case .end:
            unanswered -= 1
            isStreaming = false
            heartbeat?.cancel()
            heartbeat = nil
            guard closesAfterResponse else {
                context.write(data, promise: promise)
                return
            }
            context.writeAndFlush(data, promise: promise)
            context.close(mode: .output, promise: nil)
            context.eventLoop.assumeIsolated().scheduleTask(in: limits.linger) { self.close() }
        }
    }

    private func beginHeartbeat(_ context: ChannelHandlerContext) {
        isStreaming = true
        hasWrittenSinceHeartbeat = false
        heartbeat?.cancel()
        heartbeat = context.eventLoop.assumeIsolated().scheduleTask(in: limits.heartbeat) { self.beat() }
    }

    private func beat() {
        guard isStreaming, let context else { return }
        // Every write is whole events, so a comment between two writes is well placed.
        if !hasWrittenSinceHeartbeat && context.channel.isWritable {
            context.writeAndFlush(wrapOutboundOut(.body(ByteBuffer(staticString: ": \n\n"))), promise: nil)
        }
        beginHeartbeat(context)
    }
}

extension Channel {
    /// The presence of this connection's client.
    func peerPresence() async throws -> PeerPresence {
        try await eventLoop.submit {
            try self.pipeline.syncOperations.handler(type: PeerWatch.self).presence
        }.get()
    }
}
