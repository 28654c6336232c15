// Looks after one connection's client: notices that it is gone and that it no longer reads, and speaks up where a
// stream has been silent.
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

/// The handler between the HTTP codec and the server. All of it runs on the connection's event loop.
final class PeerWatch: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    let presence = PeerPresence()
    /// The answer that is being streamed to this client.
    var answer: LiveAnswer?
    private let limits: ConnectionLimits
    private var context: ChannelHandlerContext?
    private var isStreaming = false
    private var hasWrittenSinceHeartbeat = false
    private var stallDeadline: Scheduled<Void>?
    private var heartbeat: Scheduled<Void>?

    init(limits: ConnectionLimits) { self.limits = limits }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        leave()
        self.context = nil
    }

    private func leave() {
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

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        stallDeadline?.cancel()
        stallDeadline = nil
        if !context.channel.isWritable {
            stallDeadline = context.eventLoop.assumeIsolated().scheduleTask(in: limits.writeStall) { self.close() }
        } else {
            answer?.resume()
        }
        context.fireChannelWritabilityChanged()
    }

    /// Whether the client reads what it is sent, or little enough waits for it.
    var isWritable: Bool { context?.channel.isWritable ?? false }

    /// Sends whole events of a stream.
    func write(events: ByteBuffer) {
        hasWrittenSinceHeartbeat = true
        context?.writeAndFlush(wrapOutboundOut(.body(events)), promise: nil)
    }

    // MARK: What the server answers

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .head(let head):
            if head.headerFields[.contentType] == EventStream.contentType { beginHeartbeat(context) }
        case .body:
            hasWrittenSinceHeartbeat = true
        case .end:
            isStreaming = false
            heartbeat?.cancel()
            heartbeat = nil
        }
        context.write(data, promise: promise)
    }

    private func beginHeartbeat(_ context: ChannelHandlerContext) {
        guard let interval = limits.heartbeat else { return }
        isStreaming = true
        hasWrittenSinceHeartbeat = false
        heartbeat?.cancel()
        heartbeat = context.eventLoop.assumeIsolated().scheduleTask(in: interval) { self.beat() }
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

/// The client of a connection, as the task that serves it sees it.
struct Peer: Sendable {
    let eventLoop: any EventLoop
    let presence: PeerPresence
    /// On the event loop.
    let watch: NIOLoopBound<PeerWatch>
}

extension Channel {
    /// This connection's client.
    func peer() async throws -> Peer {
        try await eventLoop.submit {
            let watch = try self.pipeline.syncOperations.handler(type: PeerWatch.self)
            return Peer(
                eventLoop: self.eventLoop, presence: watch.presence,
                watch: NIOLoopBound(watch, eventLoop: self.eventLoop))
        }.get()
    }
}
