// The engine thread: drain, schedule, execute, complete, report — until there is nothing left to serve.
//
// All mutable inference state is here and is touched by one thread only. Same inbox contents, same step. A device that
// works on its own is given the next step before the one it works on is completed, so that it never waits for us.

import Dispatch
import Models
import Scheduling
import Synchronization
import Tensors

/// The loop and everything it owns. Made, run and ended on the engine thread.
struct EngineCore: ~Copyable {
    let information: EngineInformation
    private let inbox: Inbox
    private let board: EngineBoard
    private let ledger: AdmissionLedger
    private let clock: EngineClock

    private var scheduler: Scheduler
    private var runner: ModelRunner
    private let ranks: RankThreads?
    private let constraints: ConstraintWorker
    private var requests: RequestTable
    private var adapters: AdapterPlaces
    /// The step that the device works on; nil between the steps of a device that works while it is called.
    private var stepInFlight: Step?
    /// When a step was last completed.
    private var lastCompletion = Duration.zero
    /// The engine thread's own copy; others read the board's.
    private var statistics: EngineStatistics
    private var samples: [TokenSample] = []
    private var scores: [TokenSample] = []
    private var messages: [EngineMessage] = []
    /// Empty; storage for the next step's.
    private var spareEvents: [SchedulerEvent] = []
    /// Set once draining began: when to end what still runs.
    private var drainDeadline: Duration?
    /// A step was lost, and none has succeeded since.
    private var isRetrying = false
    private var pace = DrainMeter()

    /// A step that was begun.
    private struct Step: ~Copyable {
        let output: SchedulerOutput
        let start: Duration
        /// When the device was given it; only known while steps are recorded.
        let begun: Duration
    }

    init(
        _ configuration: EngineConfiguration, parts: EngineParts, ranks: RankThreads?, inbox: Inbox,
        board: EngineBoard, ledger: AdmissionLedger, clock: EngineClock
    ) throws {
        let cacheMemoryBytes = try [parts.cacheMemoryBytes, ranks?.waitUntilLoaded()].compactMap(\.self).min()
        var phases = [StartupPhase(name: "model", duration: clock.now)]
        let model = parts.model.dimensions
        var configuration = configuration
        configuration.kvCacheMemoryBytes = configuration.kvCacheMemoryBytes ?? cacheMemoryBytes
        let kvCacheType = try parts.backend.kvCacheType(configuration.kvCacheType)
        let layout = CacheLayout(model)
        let plan = try MemoryPlan(
            configuration: configuration,
            model: .init(
                contextLength: model.contextLength, weightBytes: parts.model.weightBytes,
                activationBytes: parts.model.activationBytes, adapterBytes: parts.model.adapters?.byteCount ?? 0,
                kvBytesPerToken: model.layerCount
                    * parts.backend.kvBytesPerToken(
                        kvHeads: model.kvHeadCount, headDim: model.headDim, type: kvCacheType),
                layout: layout))
        let limits = try SchedulerLimits(
            blockSize: plan.blockSize, blockCount: plan.blockCount, maxSequences: configuration.maxSequences,
            tokenBudget: configuration.tokenBudget, maxModelLength: plan.maxModelLength,
            enablePrefixCaching: configuration.enablePrefixCaching, policy: configuration.policy,
            longPrefillTokenThreshold: configuration.longPrefillTokenThreshold,
            attentionScale: Self.attentionScale(of: model), speculation: configuration.speculation,
            slidingWindow: layout.commonWindow, layerGroups: plan.layerGroups)
        ranks?.open(plan, limits, kvCacheType)
        let runner = try ModelRunner(
            parts: parts, plan: plan, limits: limits, kvCacheType: kvCacheType, ranks: ranks)
        let scheduler = try Scheduler(limits: limits, cacheKey: configuration.cacheKey)
        self.runner = runner
        self.ranks = ranks
        self.scheduler = scheduler
        constraints = ConstraintWorker(
            vocabularyCount: model.vocabularyCount, forcedTokenCount: configuration.speculation.forcedTokenCount,
            clock: clock)
        phases.append(StartupPhase(name: "KV cache", duration: clock.now))
        information = EngineInformation(
            backendSummary: parts.backend.summary + (ranks.map { ", \($0.group.count) ranks" } ?? ""),
            architecture: model.architecture,
            vocabularyCount: model.vocabularyCount, hiddenSize: parts.model.outputNorm.width,
            maxModelLength: plan.maxModelLength,
            maxSequences: configuration.maxSequences, tokenBudget: configuration.tokenBudget,
            maxQueuedRequests: configuration.maxQueuedRequests, enablePrefixCaching: configuration.enablePrefixCaching,
            policy: configuration.policy, memory: plan, adapters: parts.model.adapters?.layout,
            kvCacheType: kvCacheType.rawValue, startupPhases: phases)
        adapters = AdapterPlaces(parts.model.adapters, ranks: ranks, inbox: inbox)
        requests = RequestTable(ledger: ledger)
        statistics = EngineStatistics(buckets: configuration.latencyBuckets)
        board.statistics.withLock { [statistics] in $0 = statistics }
        self.inbox = inbox
        self.board = board
        self.ledger = ledger
        self.clock = clock
    }

    /// The position at which attention costs as much as the matrices. On the CPU its multiplications are floats and
    /// those of quantized matrices are integers, which run about three times as fast (docs/benchmarks/cpu.md).
    private static func attentionScale(of model: ModelDimensions) -> Int {
        min(Int(Int32.max), max(1, model.matrixMultiplications / (3 * max(1, model.attentionMultiplications))))
    }

    /// Serves until drained or until the device fails.
    mutating func run() {
        var end = EngineError.shutdown
        board.pulse.set(isIdle: false)
        do throws(BackendError) {
            while true {
                receive()
                if let failure = ranks?.group.failure { throw BackendError.rankFailure(failure) }
                if let deadline = drainDeadline, clock.now >= deadline || isEmpty { break }
                if !isIdle {
                    try advance()
                } else {
                    // While draining, those who reserved a place may still come.
                    board.pulse.set(isIdle: true)
                    inbox.wait(timeout: drainDeadline == nil ? .distantFuture : .now() + .milliseconds(5))
                    board.pulse.set(isIdle: false)
                }
            }
            if let last = stepInFlight.take() { try complete(last) }
        } catch {
            // A device error is sticky: every request ends, and nothing is accepted any more.
            if case .rankFailure(let failure) = error {
                end = .rankFailure(failure)
            } else {
                end = .deviceFailure(error.description)
                ranks?.fail(error, in: "a step")
            }
            board.health.withLock { $0 = .failed(error.description) }
            board.failure.withLock { [end] in $0 = end }
        }
        ledger.close()
        statistics.finished.error += requests.failAll(end)
        for message in inbox.close() {
            switch message {
            case .submit(let submissions):
                for submission in submissions {
                    ledger.release(submission.request)
                    submission.fail(end)
                }
            case .load(let loading): loading.reply(.failure(end))
            case .abort, .stop, .drain, .unload, .rankFailed: break
            }
        }
        // Nothing runs any more, and whoever reads the board should see that.
        statistics.running = 0
        statistics.waiting = 0
        statistics.kvUsage = 0
        statistics.adapters = []
        board.statistics.withLock { $0 = statistics }
    }

    /// Nothing runs or waits, and the device has nothing to do.
    private var isIdle: Bool { !scheduler.hasWork && stepInFlight == nil }

    /// Idle, and nobody holds a place in the queue.
    private var isEmpty: Bool { isIdle && ledger.waitingRequests == 0 }

    /// Begins a step if there is work, and completes the one before it; the same one if the device has done it already.
    private mutating func advance() throws(BackendError) {
        var due = stepInFlight.take()
        if scheduler.hasWork {
            let next = begin()
            if runner.isAsynchronous { stepInFlight = .some(next) } else { due = .some(next) }
        }
        if let due { try complete(due) }
    }

    /// Plans a step of the batch and hands it to the device.
    private mutating func begin() -> Step {
        let start = clock.now
        let expired = scheduler.expire(now: start)
        if !expired.isEmpty { publish(expired, tokenCount: 0, now: start) }
        constraints.takeForced { id, tokens in scheduler.force(tokens, of: id) }
        let output = scheduler.schedule(now: start)
        requests.recordScheduled(output, now: start)
        recordPace()
        let begun = board.tracer.isRecording ? clock.now : start
        if !output.isEmpty {
            board.pulse.begin(output, scheduler.statistics, at: start) { requests.tokenCount(of: $0) }
            runner.begin(output, constraints)
        }
        return Step(output: output, start: start, begun: begun)
    }

    /// Waits for a step and tells everyone what came of it.
    private mutating func complete(_ step: consuming Step) throws(BackendError) {
        let tokenCount = step.output.tokenCount
        let start = max(step.start, lastCompletion)
        samples.removeAll(keepingCapacity: true)
        scores.removeAll(keepingCapacity: true)
        if tokenCount > 0 {
            do throws(BackendError) {
                if let states = try runner.collect(step.output, into: &samples, scores: &scores) {
                    requests.record(states)
                }
            } catch {
                return try retry(step, after: error)
            }
            isRetrying = false
        }
        if !scores.isEmpty { requests.record(scores: scores, of: step.output) }
        let now = clock.now
        // In the storage of the step before, which nobody holds any more.
        var events: [SchedulerEvent] = []
        swap(&events, &spareEvents)
        endConstrained(step.output, into: &events)
        let trace = board.tracer.isRecording && tokenCount > 0 ? trace(of: step, collected: now) : nil
        scheduler.complete(step.output, samples: samples, now: now, into: &events)
        lastCompletion = now
        if tokenCount > 0 { board.pulse.complete() }
        pace.add(
            promptTokens: max(0, tokenCount - samples.count), tokens: tokenCount, elapsed: now - start,
            isFull: scheduler.statistics.waiting > 0 || 2 * tokenCount >= information.tokenBudget,
            state: scheduler.statistics)
        // Before anybody is told: whoever ends the recording with an answer in hand finds its step there.
        if let trace { board.tracer.note(trace(scheduler.statistics, now)) }
        publish(events, tokenCount: tokenCount, now: now)
        if trace != nil { board.tracer.amendLast(told: clock.now) }
        events.removeAll(keepingCapacity: true)
        swap(&events, &spareEvents)
        // Everything that remains was deferred; sleep a moment instead of spinning.
        if tokenCount == 0, stepInFlight == nil { inbox.wait(timeout: .now() + .milliseconds(1)) }
    }

    /// What is known of a step before it is completed, to be filled up with what is known after.
    private func trace(
        of step: borrowing Step, collected: Duration
    ) -> (SchedulerStatistics, Duration) -> TracedStep {
        let (index, sequences) = (step.output.stepIndex, step.output.sequences.count)
        let (tokens, samples) = (step.output.tokenCount, step.output.sampleCount)
        let (preempted, planned, begun) = (step.output.preempted.count, step.start, step.begun)
        return { state, told in
            TracedStep(
                index: index, planned: planned, begun: begun, collected: collected, told: told, sequences: sequences,
                tokens: tokens, samples: samples, preempted: preempted, running: state.running,
                waiting: state.waiting, kvUsage: state.kvUsage)
        }
    }

    /// Plans a lost step anew, without the request that it may have been lost for. Only once: a step that is lost again
    /// is a device that failed.
    private mutating func retry(_ step: consuming Step, after error: BackendError) throws(BackendError) {
        // The other ranks may be anywhere in it.
        guard case .lostStep = error, !isRetrying, ranks == nil else { throw error }
        isRetrying = true
        var events = scheduler.rollBack(step.output, endsSuspect: true)
        if let next = stepInFlight.take() {
            // It went on from what was lost.
            do throws(BackendError) {
                if !next.output.isEmpty { _ = try runner.collect(next.output, into: &samples, scores: &scores) }
            } catch {
                guard case .lostStep = error else { throw error }
            }
            events += scheduler.rollBack(next.output, endsSuspect: false)
        }
        lastCompletion = clock.now
        publish(events, tokenCount: 0, now: lastCompletion)
    }

    /// Takes all messages.
    private mutating func receive() {
        inbox.drain(into: &messages)
        guard !messages.isEmpty else { return }
        for message in messages {
            switch message {
            case .submit(let submissions):
                for submission in submissions { admit(submission) }
            case .abort(let id):
                if let event = scheduler.abort(id) { publish([event], tokenCount: 0, now: clock.now) }
            case .stop(let id):
                requests.countAsStopped(id)
                if let event = scheduler.abort(id) { publish([event], tokenCount: 0, now: clock.now) }
            case .drain(let deadline): drainDeadline = deadline
            case .load(let loading): adapters.load(loading)
            case .unload(let place): adapters.free(place)
            case .rankFailed: break
            }
        }
        messages.removeAll(keepingCapacity: true)
        publish([], tokenCount: 0, now: clock.now)
    }

    private mutating func admit(_ submission: Submission) {
        let request = submission.request
        requests.insert(submission)
        do {
            try scheduler.add(request, now: clock.now, promptRate: pace.promptRate)
            constraints.begin(request)
        } catch .hopeless(_, let estimate, let remaining) {
            let retryAfter = ledger.recordHopeless()
            requests.fail(
                request.id, .hopeless(estimate: estimate, remaining: remaining, retryAfter: retryAfter))
        } catch {
            requests.fail(request.id, .rejected(error.description))
        }
    }

    /// Tells the ledger how fast the queue drains and what is under way.
    private func recordPace() {
        ledger.record(pace.rate(running: scheduler.statistics.running, backlog: scheduler.promptBacklog))
    }

    /// Ends the sequences of a step for which nothing could be chosen because their constraints left nothing.
    private mutating func endConstrained(_ output: borrowing SchedulerOutput, into events: inout [SchedulerEvent]) {
        guard !constraints.isEmpty else { return }
        var index = 0
        for sequence in output.sequences where sequence.samples {
            defer { index += sequence.sampleCount }
            for offset in 0..<sequence.sampleCount where !samples[index + offset].isFinite {
                guard let reason = constraints.end(of: sequence, after: offset) else { continue }
                // What it was computed from is sound: only nothing was chosen.
                samples[index + offset] = TokenSample(token: TokenSample.undecided)
                guard offset == 0, let event = scheduler.abort(sequence.id, because: reason) else { continue }
                events.append(event)
            }
        }
    }

    /// Refreshes the statistics, then hands events to their consumers.
    private mutating func publish(_ events: [SchedulerEvent], tokenCount: Int, now: Duration) {
        constraints.advance(events, statistics: &statistics)
        for event in events { requests.record(event, now: now, statistics: &statistics) }
        statistics.refresh(from: scheduler.statistics)
        statistics.adapters = requests.adapterUses
        if tokenCount > 0 {
            statistics.steps += 1
            statistics.iterationTokens.observe(Double(tokenCount))
        }
        board.statistics.withLock { $0 = statistics }
        requests.flush()
        recordPace()
    }
}

extension EngineStatistics {
    /// Copies the scheduler's gauges and totals.
    fileprivate mutating func refresh(from state: SchedulerStatistics) {
        running = state.running
        waiting = state.waiting
        kvUsage = state.kvUsage
        preemptions = state.preemptions
        prefixQueries = state.prefixQueries
        prefixHits = state.prefixHits
        promptTokens = state.promptTokens
        generationTokens = state.generatedTokens
        speculation = state.speculation
        jumpForward = state.jumpForward
    }
}
