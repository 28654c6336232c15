// Prompts on their way to vectors. A batch of a thousand texts must not fill the queue that chats wait in, so only a
// few of them are in the engine at a time; each that ends makes room for the next. Ends as it began: whole.

import Execution
import NIOCore
import Scheduling
import Synchronization

/// What prompts came to.
struct PooledPrompts: Sendable {
    /// [prompts] [hidden]
    var vectors: [[Float]]
    var promptTokens = 0
    /// Prompt tokens from the prefix cache.
    var cachedTokens = 0
}

/// What is to be read, and how it is queued.
struct PoolingJob: Sendable {
    let source: PromptSource
    let prompt: PromptFields
    /// The number of the client's key; 0 where there are none.
    let tenant: UInt64
    /// On the engine's clock.
    let arrival: Duration
    /// What an empty text is blamed on.
    let field: String
    /// What the texts are read with beside the model.
    let adapter: AdapterReference?

    fileprivate var deadline: Duration? { prompt.timeout.map { arrival + $0 } }
}

/// Reads the prompts of one request. Its events come on its connection's event loop, where all of its state lives.
final class PoolingSession: Sendable {
    private struct State {
        /// Submitted and not ended, by their places.
        var live: [Int: RequestID]
        /// The first that was not submitted.
        var next: Int
        var result: PooledPrompts
        var hasEnded = false
        /// Since when there was no place in the engine's queue for any of them.
        var waitsSince: Duration?
    }

    /// Prompts of one request that are in the engine at a time.
    private static let window = 64
    /// How long to wait for a place in the queue when others hold all of them.
    private static let patience = Duration.seconds(60)
    private static let retryInterval = TimeAmount.milliseconds(20)

    private let engine: any TextEngine
    private let job: PoolingJob
    private let pooling: Pooling
    private let prompts: [[TokenID]]
    private let eventLoop: any EventLoop
    private let events: EventQueue
    private let presence: PeerPresence
    private let counters: RequestCounters
    private let completion: EventLoopPromise<PooledPrompts>
    private let state: NIOLoopBoundBox<State>

    /// Reads all prompts of `job`; throws before anything has been answered.
    static func pool(
        _ job: PoolingJob, server: ServingState, peer: Peer
    ) async throws(ServingError) -> PooledPrompts {
        let engine = server.engine
        let count = job.source.count
        let first = max(1, min(count, window, server.model.maxQueuedRequests))
        let reservation: Reservation
        do {
            // A place comes before the work, as for those who generate.
            reservation = try engine.reserve(
                requests: first, promptTokenEstimate: job.source.tokenEstimate * first / count, tenant: job.tenant,
                priority: job.prompt.priority, deadline: job.deadline)
        } catch {
            throw .engine(error)
        }
        let encoder = server.encoder
        let prompts = try await server.threads.run { () throws(ServingError) in
            let lists = try encoder.tokens(for: job.source, job.prompt, maxTokens: 0).lists
            for tokens in lists { try encoder.checkLength(tokens, field: job.field, leavesRoom: false) }
            return lists
        }
        guard !peer.presence.isGone else { throw .clientGone }
        let session = PoolingSession(prompts, job, first: first, server: server, peer: peer)
        return try await session.run(reservation)
    }

    private init(_ prompts: [[TokenID]], _ job: PoolingJob, first: Int, server: ServingState, peer: Peer) {
        engine = server.engine
        self.job = job
        self.prompts = prompts
        pooling = server.configuration.pooling
        eventLoop = peer.eventLoop
        events = server.deliveries.queue(for: peer.eventLoop)
        presence = peer.presence
        counters = server.counters
        counters.begin()
        completion = peer.eventLoop.makePromise(of: PooledPrompts.self)
        var live: [Int: RequestID] = [:]
        for index in 0..<first { live[index] = server.engine.makeRequestID() }
        state = .makeBoxSendingValue(
            State(
                live: live, next: first,
                result: PooledPrompts(vectors: Array(repeating: [], count: prompts.count))),
            eventLoop: peer.eventLoop)
        firstIDs = (0..<first).compactMap { live[$0] }
    }

    /// The names of those that are submitted at once.
    private let firstIDs: [RequestID]

    private func run(_ reservation: consuming Reservation) async throws(ServingError) -> PooledPrompts {
        let requests = firstIDs.enumerated().map { request($0.offset, id: $0.element) }
        do throws(EngineError) {
            try engine.submit(
                requests, reservation: reservation, to: PromptReceiver(session: self, first: 0), by: events)
        } catch {
            abandon()
            throw .engine(error)
        }
        presence.whenGone { self.abandon() }
        do {
            return try await withTaskCancellationHandler {
                try await completion.futureResult.get()
            } onCancel: {
                abandon()
            }
        } catch {
            throw error as? ServingError ?? .clientGone
        }
    }

    private func request(_ index: Int, id: RequestID) -> GenerationRequest {
        GenerationRequest(
            id: id, prompt: prompts[index], maxNewTokens: 1, priority: job.prompt.priority, arrival: job.arrival,
            cacheSalt: job.prompt.cacheSalt, deadline: job.deadline, tenant: job.tenant, pooling: pooling,
            adapter: job.adapter)
    }

    /// Ends the request from any thread, wherever it is: nobody waits for it any more.
    private func abandon() {
        if eventLoop.inEventLoop {
            end(.failure(.clientGone))
        } else {
            eventLoop.execute { self.end(.failure(.clientGone)) }
        }
    }

    // MARK: On the event loop

    fileprivate func receive(_ event: EngineEvent, of index: Int) {
        guard !state.value.hasEnded else { return }
        switch event {
        case .promptScores, .token: break
        case .pooled(let vector): state.value.result.vectors[index] = vector
        case .failed(let error): end(.failure(.engine(error)))
        case .finished(let reason, let usage):
            guard reason == .complete else { return end(.failure(reason == .deadline ? .outOfTime : .clientGone)) }
            state.value.live[index] = nil
            state.value.result.promptTokens += usage.promptTokens
            state.value.result.cachedTokens += usage.cachedTokens
            submitNext()
        }
    }

    /// Submits prompts while there are places for them; ends when there is nothing left to wait for.
    private func submitNext() {
        while !state.value.hasEnded, state.value.next < prompts.count, state.value.live.count < Self.window {
            let index = state.value.next
            do throws(EngineError) {
                let reservation = try engine.reserve(
                    requests: 1, promptTokenEstimate: prompts[index].count, tenant: job.tenant,
                    priority: job.prompt.priority, deadline: job.deadline)
                state.value.waitsSince = nil
                let id = engine.makeRequestID()
                state.value.live[index] = id
                state.value.next += 1
                try engine.submit(
                    [request(index, id: id)], reservation: reservation,
                    to: PromptReceiver(session: self, first: index), by: events)
            } catch {
                return wait(after: error)
            }
        }
        if state.value.live.isEmpty, state.value.next == prompts.count { end(.success(())) }
    }

    /// Goes on when one of its own has ended, or, where none is in the engine, after a while.
    private func wait(after error: EngineError) {
        guard error.passes else { return end(.failure(.engine(error))) }
        guard state.value.live.isEmpty else { return }
        let since = state.value.waitsSince ?? engine.now
        state.value.waitsSince = since
        guard engine.now - since < Self.patience else { return end(.failure(.engine(error))) }
        eventLoop.scheduleTask(in: Self.retryInterval) { self.submitNext() }
    }

    private func end(_ result: Result<Void, ServingError>) {
        guard !state.value.hasEnded else { return }
        state.value.hasEnded = true
        counters.end()
        presence.clear()
        for id in state.value.live.values { engine.abort(id) }
        switch result {
        case .success: completion.succeed(state.value.result)
        case .failure(let error): completion.fail(error)
        }
    }
}

/// Takes the events of prompts that were submitted together, of which the first is the request's `first`-th.
private final class PromptReceiver: EventReceiver {
    private let session: PoolingSession
    private let first: Int

    init(session: PoolingSession, first: Int) {
        self.session = session
        self.first = first
    }

    func receive(_ event: EngineEvent, index: Int) { session.receive(event, of: first + index) }
    func finishDelivery() {}
}

extension EngineError {
    /// Whether it may be otherwise in a moment.
    fileprivate var passes: Bool {
        switch self {
        case .overloaded, .overShare, .delayed: true
        default: false
        }
    }
}
