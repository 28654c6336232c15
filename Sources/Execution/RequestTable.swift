// The engine thread's side of every live request: where its events go, and when what happened to it.

import Scheduling

/// Live requests by id.
struct RequestTable {
    private struct Entry {
        let events: EventDestination
        let arrival: Duration
        let promptTokens: Int
        /// The name of its adapter.
        let adapter: String?
        /// What holds its place in the waiting queue; nil once it gave that back.
        var queued: GenerationRequest?
        var firstScheduled: Duration?
        var firstToken: Duration?
        var lastToken: Duration?
        var generatedTokens = 0
        /// What its prompt was reduced to so far; nil where tokens are generated.
        var pooled: PooledStates?
        /// Its consumer found a stop string: the abort that follows is a stop.
        var isStopped = false
    }

    private let ledger: AdmissionLedger
    private var entries: [RequestID: Entry] = [:]
    /// What the requests' consumers get next, in order.
    private var outbox: [(events: EventDestination, event: EngineEvent)] = []
    /// Queues whose readers are to be woken.
    private var filledQueues: [EventQueue] = []
    /// Adapters that live requests use.
    private(set) var adapterUses: [AdapterUse] = []

    init(ledger: AdmissionLedger) { self.ledger = ledger }

    mutating func insert(_ submission: Submission) {
        entries[submission.request.id] = Entry(
            events: submission.events, arrival: submission.request.arrival,
            promptTokens: submission.request.prompt.count, adapter: submission.request.adapter?.name,
            queued: submission.request)
        if submission.request.pooling != nil { entries[submission.request.id]?.pooled = PooledStates() }
        count(submission.request.adapter?.name, waiting: 1)
    }

    /// Counts a request that begins or ceases to wait for, or to run with, an adapter.
    private mutating func count(_ adapter: String?, waiting: Int = 0, running: Int = 0) {
        guard let adapter else { return }
        guard let index = adapterUses.firstIndex(where: { $0.name == adapter }) else {
            adapterUses.append(AdapterUse(name: adapter, running: running, waiting: waiting))
            return
        }
        adapterUses[index].waiting += waiting
        adapterUses[index].running += running
        if adapterUses[index].waiting + adapterUses[index].running == 0 { adapterUses.remove(at: index) }
    }

    /// Notes who runs for the first time; those leave the waiting queue.
    mutating func recordScheduled(_ output: borrowing SchedulerOutput, now: Duration) {
        for sequence in output.sequences {
            guard let entry = entries[sequence.id], let queued = entry.queued else { continue }
            entries[sequence.id]?.queued = nil
            entries[sequence.id]?.firstScheduled = now
            count(entry.adapter, waiting: -1, running: 1)
            ledger.release(queued)
        }
    }

    /// Tokens of the prompt and those reported since.
    func tokenCount(of id: RequestID) -> Int {
        guard let entry = entries[id] else { return 0 }
        return entry.promptTokens + entry.generatedTokens
    }

    /// Records an event and its times; `flush` passes it on. Tokens of one step carry the same time.
    mutating func record(_ event: SchedulerEvent, now: Duration, statistics: inout EngineStatistics) {
        switch event.kind {
        case .token(let sample):
            guard var entry = entries[event.id] else { return }
            if let last = entry.lastToken {
                statistics.interTokenLatency.observe(now - last)
            } else {
                entry.firstToken = now
                statistics.timeToFirstToken.observe(now - entry.arrival)
            }
            entry.lastToken = now
            entry.generatedTokens += 1
            entries[event.id] = entry
            outbox.append((entry.events, .token(sample)))
        case .finished(let reason, let usage):
            guard let entry = remove(event.id) else { return }
            if entry.isStopped { statistics.finished.stop += 1 } else { statistics.finished.count(reason) }
            if let last = entry.lastToken { Self.observe(entry, usage, last: last, statistics: &statistics) }
            if let pooled = entry.pooled, case .complete = reason {
                Self.observe(entry, usage, last: now, statistics: &statistics)
                guard let mean = pooled.mean else {
                    outbox.append((entry.events, .failed(.numericalError)))
                    return
                }
                outbox.append((entry.events, .pooled(mean)))
            }
            switch reason {
            case .error(.nonFiniteLogits): outbox.append((entry.events, .failed(.numericalError)))
            case .error(.nothingAllowed):
                let sentence = "allowed_token_ids allows only tokens that bad_words or min_tokens rule out."
                outbox.append((entry.events, .failed(.rejected(sentence))))
            case .error(.constraintStuck):
                let sentence = "No token satisfies both the structure that was asked for and the request's other rules."
                outbox.append((entry.events, .failed(.rejected(sentence))))
            case .error(.stepFailed):
                outbox.append((entry.events, .failed(.deviceFailure("a step could not be executed"))))
            case .stop, .complete, .length, .repetition, .abort, .deadline:
                let usage = GenerationUsage(
                    promptTokens: usage.promptTokens, generatedTokens: usage.generatedTokens,
                    cachedTokens: usage.cachedTokens)
                outbox.append((entry.events, .finished(reason, usage)))
            }
        }
    }

    /// Records the scores of a step's prompt tokens.
    mutating func record(scores: [TokenSample], of output: borrowing SchedulerOutput) {
        for sequence in output.sequences where !sequence.scoredRange.isEmpty {
            guard let entry = entries[sequence.id] else { continue }
            outbox.append((entry.events, .promptScores(Array(scores[sequence.scoredRange]))))
        }
    }

    /// Adds what a step computed for those who pool.
    mutating func record(_ states: StepStates) {
        for share in states.shares { entries[share.id]?.pooled?.add(share, of: states) }
    }

    /// Passes on what was recorded. Called once the statistics that tell of it can be read, so that a client that
    /// reads the metrics after its last token finds itself counted.
    mutating func flush() {
        for (events, event) in outbox {
            if let queue = events.post(event) { filledQueues.append(queue) }
        }
        outbox.removeAll(keepingCapacity: true)
        // Last, so that a reader finds all events of the step and is not woken again for the rest of them.
        for queue in filledQueues { queue.notify() }
        filledQueues.removeAll(keepingCapacity: true)
    }

    /// Notes that the abort to come means a stop.
    mutating func countAsStopped(_ id: RequestID) { entries[id]?.isStopped = true }

    /// Ends one request with an error.
    mutating func fail(_ id: RequestID, _ error: EngineError) {
        guard let entry = remove(id) else { return }
        entry.events.send(.failed(error))
    }

    /// Ends every request with an error and returns how many there were.
    mutating func failAll(_ error: EngineError) -> Int {
        let ids = Array(entries.keys)
        for id in ids { fail(id, error) }
        return ids.count
    }

    private mutating func remove(_ id: RequestID) -> Entry? {
        guard let entry = entries.removeValue(forKey: id) else { return nil }
        count(entry.adapter, waiting: entry.queued == nil ? 0 : -1, running: entry.queued == nil ? -1 : 0)
        if let queued = entry.queued { ledger.release(queued) }
        return entry
    }

    private static func observe(
        _ entry: Entry, _ usage: RequestUsage, last: Duration, statistics: inout EngineStatistics
    ) {
        statistics.endToEnd.observe(last - entry.arrival)
        statistics.promptLength.observe(Double(entry.promptTokens))
        statistics.generationLength.observe(Double(entry.generatedTokens))
        statistics.computedPromptLength.observe(Double(max(0, usage.promptTokens - usage.cachedTokens)))
        statistics.preemptionCount.observe(Double(usage.preemptions))
        guard let scheduled = entry.firstScheduled else { return }
        // What is only read has no first token, and nothing but its prefill.
        let first = entry.firstToken ?? last
        statistics.queueTime.observe(scheduled - entry.arrival)
        statistics.prefillTime.observe(first - scheduled)
        statistics.decodeTime.observe(last - first)
        statistics.inferenceTime.observe(last - scheduled)
        if entry.generatedTokens > 1 {
            statistics.timePerOutputToken.observe((last - first).seconds / Double(entry.generatedTokens - 1))
        }
    }
}

extension FinishCounts {
    fileprivate mutating func count(_ reason: FinishReason) {
        switch reason {
        case .stop, .complete: stop += 1
        case .length: length += 1
        case .repetition: repetition += 1
        case .abort, .deadline: abort += 1
        case .error: error += 1
        }
    }
}
