// The Sendable handle to the engine: everything the rest of the server may do to it.
//
// Behind it runs one thread that owns the scheduler, the model and the device (EngineCore). The handle only holds the
// inbox, the admission ledger and a copy of the statistics, so no call here ever waits for a step.

import Foundation
import Models
import Scheduling
import Synchronization
import Tensors

/// What an engine runs on. Made inside the engine thread, which it never leaves.
package struct EngineParts {
    package let backend: any Backend
    package let model: any LanguageModel
    /// Bytes for keys and values when the configuration leaves them open; nil lets `MemoryPlan` choose from the host's
    /// memory.
    package let cacheMemoryBytes: Int?

    package init(backend: any Backend, model: any LanguageModel, cacheMemoryBytes: Int? = nil) {
        self.backend = backend
        self.model = model
        self.cacheMemoryBytes = cacheMemoryBytes
    }
}

/// State that the engine thread writes and everyone reads.
final class EngineBoard: Sendable {
    let statistics = Mutex(EngineStatistics())
    let health = Mutex(EngineHealth.ready)
    /// What ended the engine thread, where it was not asked to end.
    let failure = Mutex<EngineError?>(nil)
    let pulse = EnginePulse()
    let tracer = StepTracer()
    /// Continuations of those who wait for the engine thread to end.
    let waiters = Mutex<(ended: Bool, continuations: [CheckedContinuation<Void, Never>])>((false, []))

    var hasEnded: Bool { waiters.withLock { $0.ended } }

    func end() {
        let continuations = waiters.withLock { state in
            state.ended = true
            return state.continuations
        }
        for continuation in continuations { continuation.resume() }
    }
}

/// A running engine.
package final class Engine: Sendable {
    /// What it is; fixed.
    package let information: EngineInformation
    private let inbox: Inbox
    private let ledger: AdmissionLedger
    private let board: EngineBoard
    private let clock: EngineClock
    private let lastID = Atomic<UInt64>(0)
    /// Tokens of the prompt whose delay the statistics tell.
    private static let usualPrompt = 256

    /// Starts the engine thread, loads the model on it and returns when it can serve.
    /// - Parameter make: builds the backend and the model; called on the engine thread.
    /// - Throws: whatever `make` throws, `EngineError.invalidConfiguration`, `SchedulingError`, `BackendError`.
    package static func start(
        _ configuration: EngineConfiguration, make: @escaping @Sendable () throws -> EngineParts
    ) async throws -> Engine {
        try await start(configuration, group: nil) { _ in try make() }
    }

    /// Starts the engine thread and those of the other ranks, each of which loads its part of the model, and returns
    /// when they can serve.
    /// - Parameters:
    ///   - group: nil for a model in one part.
    ///   - make: builds a rank's backend and its part of the model; called on the rank's thread.
    /// - Throws: as above.
    package static func start(
        _ configuration: EngineConfiguration, group: RankGroup?,
        make: @escaping @Sendable (Int) throws -> EngineParts
    ) async throws -> Engine {
        let inbox = Inbox()
        let board = EngineBoard()
        let clock = EngineClock()
        let ledger = AdmissionLedger(AdmissionLimits(configuration), seed: configuration.retrySeed)
        let information = try await withCheckedThrowingContinuation { continuation in
            let thread = Thread {
                let ranks = group.map { RankThreads($0, make: make) }
                do {
                    var core = try EngineCore(
                        configuration, parts: make(0), ranks: ranks, inbox: inbox, board: board, ledger: ledger,
                        clock: clock)
                    continuation.resume(returning: core.information)
                    group?.whenEnded { failure in
                        board.health.withLock { $0 = .failed(failure.description) }
                        _ = inbox.post(.rankFailed)
                    }
                    core.run()
                } catch {
                    ranks?.fail(error, in: "loading")
                    continuation.resume(throwing: error)
                }
                ranks?.end()
                board.end()
            }
            thread.name = "apus-engine"
            thread.stackSize = 8 << 20
            thread.start()
        }
        return Engine(information: information, inbox: inbox, ledger: ledger, board: board, clock: clock)
    }

    private init(
        information: EngineInformation, inbox: Inbox, ledger: AdmissionLedger, board: EngineBoard, clock: EngineClock
    ) {
        self.information = information
        self.inbox = inbox
        self.ledger = ledger
        self.board = board
        self.clock = clock
    }

    deinit {
        // Nobody can submit any more: end what runs and let the thread go.
        _ = inbox.post(.drain(deadline: .zero))
    }

    /// A request id that was never used before.
    package func makeRequestID() -> RequestID {
        RequestID(lastID.add(1, ordering: .relaxed).newValue)
    }

    /// Monotonic time since the engine started; the clock of `GenerationRequest.arrival`.
    package var now: Duration { clock.now }

    /// Takes places in the waiting queue before a request costs anything.
    /// - Parameters:
    ///   - tenant: that of the requests to come.
    ///   - priority: lower ones go first, where priorities count.
    ///   - deadline: when their time is over.
    /// - Throws: `.overloaded`, `.overShare`, `.delayed`, `.hopeless`, `.draining`, `.stalled`, or
    ///   `.deviceFailure` when the engine has failed.
    package func reserve(
        requests: Int, promptTokenEstimate: Int, tenant: UInt64, priority: Int = 0, deadline: Duration? = nil
    ) throws(EngineError) -> Reservation {
        switch health {
        case .ready, .draining: break
        case .stalled(let reason): throw .stalled(reason)
        case .failed(let reason): throw .deviceFailure(reason)
        }
        return try ledger.reserve(
            requests: requests, tokens: promptTokenEstimate, tenant: tenant, priority: priority, deadline: deadline,
            now: clock.now)
    }

    /// Takes places for a client that nobody tells from others.
    package func reserve(requests: Int, promptTokenEstimate: Int) throws(EngineError) -> Reservation {
        try reserve(requests: requests, promptTokenEstimate: promptTokenEstimate, tenant: 0)
    }

    /// Hands requests over and returns one stream of events for each, in order.
    ///
    /// A stream ends after `.finished` or `.failed`. When its consumer is cancelled or drops it, it is aborted.
    /// Streams are not bounded: `maxNewTokens` bounds them, so a slow client never slows the batch.
    /// - Throws: `.rejected` when a request can never run here.
    package func submit(
        _ requests: [GenerationRequest], reservation: consuming Reservation
    ) throws(EngineError) -> [AsyncStream<EngineEvent>] {
        for request in requests { try validate(request) }
        var streams: [AsyncStream<EngineEvent>] = []
        var submissions: [Submission] = []
        for request in requests {
            let (stream, continuation) = AsyncStream.makeStream(of: EngineEvent.self)
            continuation.onTermination = { [inbox, id = request.id] reason in
                if case .cancelled = reason { _ = inbox.post(.abort(id)) }
            }
            streams.append(stream)
            submissions.append(Submission(request: request, events: .stream(continuation)))
        }
        post(submissions, reservation)
        return streams
    }

    /// Hands requests over whose events go to `receiver` by way of `queue`, which wakes its reader once a step.
    ///
    /// Nobody aborts them but the caller. The queue is not bounded: `maxNewTokens` bounds it, so a slow client never
    /// slows the batch.
    /// - Throws: `.rejected` when a request can never run here.
    package func submit(
        _ requests: [GenerationRequest], reservation: consuming Reservation, to receiver: any EventReceiver,
        by queue: EventQueue
    ) throws(EngineError) {
        for request in requests { try validate(request) }
        let submissions = requests.enumerated().map { index, request in
            Submission(request: request, events: .queue(queue, receiver, index: index))
        }
        post(submissions, reservation)
    }

    private func post(_ submissions: [Submission], _ reservation: consuming Reservation) {
        reservation.handOver(to: submissions)
        if !inbox.post(.submit(submissions)) {
            for submission in submissions {
                ledger.release(submission.request)
                submission.fail(.shutdown)
            }
        }
    }

    /// Refuses what the scheduler would refuse, before it is queued.
    private func validate(_ request: GenerationRequest) throws(EngineError) {
        guard !request.prompt.isEmpty else { throw .rejected("The prompt is empty; at least one token is needed.") }
        guard request.maxNewTokens >= 1 else {
            throw .rejected("max_tokens is \(request.maxNewTokens); at least 1 is needed.")
        }
        guard request.prompt.count + (request.pooling == nil ? 1 : 0) <= information.maxModelLength else {
            throw .rejected(
                "The prompt has \(request.prompt.count) tokens; this model accepts \(information.maxModelLength - 1) "
                    + "and one new token. Shorten the prompt.")
        }
        guard request.prompt.allSatisfy({ $0 >= 0 && Int($0) < information.vocabularyCount }) else {
            throw .rejected("The prompt holds a token id outside 0 to \(information.vocabularyCount - 1).")
        }
    }

    /// Puts an adapter on the device, which stays there as long as somebody holds the reference.
    /// - Parameter name: what the metrics call it.
    /// - Throws: `.tooManyAdapters` while all places are taken, or why the engine serves no more.
    package func load(_ adapter: LowRankAdapter, name: String) async throws(EngineError) -> AdapterReference {
        let result: Result<AdapterReference, EngineError> = await withCheckedContinuation { continuation in
            let loading = AdapterLoading(adapter: adapter, name: name) { continuation.resume(returning: $0) }
            if !inbox.post(.load(loading)) { continuation.resume(returning: .failure(.shutdown)) }
        }
        return try result.get()
    }

    /// Ends a request wherever it is. Safe to call at any time, also for one that has ended.
    package func abort(_ id: RequestID) { _ = inbox.post(.abort(id)) }

    /// Ends a request whose consumer has all it wants (a stop string was found): an `abort` that counts as stopped.
    package func stop(_ id: RequestID) { _ = inbox.post(.stop(id)) }

    /// A snapshot; never waits for the engine.
    package var statistics: EngineStatistics {
        var snapshot = board.statistics.withLock { $0 }
        // Requests that the engine thread has not seen yet wait too, and refused ones never reach it.
        snapshot.waiting = max(snapshot.waiting, ledger.waitingRequests)
        snapshot.rejections = ledger.rejections
        snapshot.queueDelay = ledger.delay(tokens: Self.usualPrompt, now: clock.now)
        return snapshot
    }

    package var health: EngineHealth { board.health.withLock { $0 } }

    /// Why it serves no more; nil while it does, and where it was asked to end.
    package var failure: EngineError? { board.failure.withLock { $0 } }

    /// Begins to record steps, `limit` of them at most; false where that is done already.
    package func beginTrace(limit: Int) -> Bool { board.tracer.begin(limit: limit) }

    /// What was recorded since; nil where nothing was begun.
    package func endTrace() -> StepTrace? { board.tracer.end() }

    /// Accepts nothing more, lets everything accepted finish, and ends the rest with `.failed(.shutdown)` after
    /// `timeout`. Returns when the engine thread has ended.
    package func drain(timeout: Duration) async {
        ledger.close()
        board.health.withLock { health in
            switch health {
            case .ready, .stalled: health = .draining
            case .draining, .failed: break
            }
        }
        _ = inbox.post(.drain(deadline: clock.now + timeout))
        await waitUntilEnded()
    }

    /// Has a thread of its own watch the engine until it ends, and tells what it sees on that thread; `health` follows.
    ///
    /// Starting up and loading are over by now, so they never count as a stall, nor does an engine without work.
    package func watch(_ limits: StallLimits, report: @escaping @Sendable (StallEvent) -> Void) {
        let thread = Thread { [board, inbox, clock, blockCount = information.blockCount] in
            var watchdog = Watchdog(
                limits: limits, board: board, inbox: inbox, clock: clock, blockCount: blockCount, report: report)
            watchdog.run()
        }
        thread.name = "apus-watchdog"
        thread.start()
    }

    /// Returns when the engine thread has ended: drained or failed (see `health`).
    package func waitUntilEnded() async {
        await withCheckedContinuation { continuation in
            let hasEnded = board.waiters.withLock { state in
                if !state.ended { state.continuations.append(continuation) }
                return state.ended
            }
            if hasEnded { continuation.resume() }
        }
    }
}

/// Monotonic time since the engine started.
struct EngineClock: Sendable {
    private let start = ContinuousClock.now

    var now: Duration { start.duration(to: .now) }
}
