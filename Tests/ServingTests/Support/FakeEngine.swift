// An engine without a model: it queues, runs a bounded number of requests at once, generates what its script says at
// the pace it says, honours limits and stop tokens, and aborts in every state. What the server shows is then exact.

import Execution
import Scheduling
import Serving
import Synchronization

final class FakeEngine: TextEngine {
    /// What to generate for a request.
    struct Script: Sendable {
        var samples: [TokenSample]
        /// Log-probabilities of the prompt.
        var scores: [TokenSample] = []
        /// Time before the first token, and between tokens.
        var prefill = Duration.zero
        var pace = Duration.zero
        /// Instead of the natural end.
        var failure: EngineError?

        init(_ tokens: [TokenID], prefill: Duration = .zero, pace: Duration = .zero, failure: EngineError? = nil) {
            samples = tokens.map { TokenSample(token: $0) }
            self.prefill = prefill
            self.pace = pace
            self.failure = failure
        }
    }

    private struct Entry {
        let request: GenerationRequest
        let events: EventDestination
        var task: Task<Void, Never>?
    }

    private struct State {
        var entries: [RequestID: Entry] = [:]
        var waiting: [RequestID] = []
        var running: Set<RequestID> = []
        var statistics = EngineStatistics()
        var health = EngineHealth.ready
        var submitted: [GenerationRequest] = []
        var reservations = 0
    }

    private let script: @Sendable (GenerationRequest) -> Script
    private let maxRunning: Int
    private let queue: Int
    private let ledger: AdmissionLedger
    private let state = Mutex(State())
    private let lastID = Atomic<UInt64>(0)
    private let start = ContinuousClock.now

    init(
        maxRunning: Int = 1000, queue: Int = 1000, script: @escaping @Sendable (GenerationRequest) -> Script
    ) {
        self.maxRunning = maxRunning
        self.queue = queue
        self.script = script
        ledger = AdmissionLedger(maxRequests: queue, maxTokens: 1 << 20)
    }

    /// Generates `text` for every request, a token for each byte, and then ends.
    convenience init(_ text: String, pace: Duration = .zero) {
        self.init { _ in Script(Vocabulary.bytes(text), pace: pace) }
    }

    /// All requests that were submitted, in order.
    var submitted: [GenerationRequest] { state.withLock { $0.submitted } }
    /// Times that `reserve` granted places.
    var reservations: Int { state.withLock { $0.reservations } }

    func set(health: EngineHealth) { state.withLock { $0.health = health } }

    // MARK: TextEngine

    func makeRequestID() -> RequestID { RequestID(lastID.add(1, ordering: .relaxed).newValue) }

    var now: Duration { start.duration(to: .now) }

    var statistics: EngineStatistics {
        state.withLock { state in
            var statistics = state.statistics
            statistics.running = state.running.count
            statistics.waiting = state.waiting.count
            statistics.kvUsage = Double(state.running.count) / Double(max(1, maxRunning))
            return statistics
        }
    }

    var health: EngineHealth { state.withLock { $0.health } }

    func reserve(requests: Int, promptTokenEstimate: Int) throws(EngineError) -> Reservation {
        try state.withLock { (state) throws(EngineError) in
            guard state.health == .ready else { throw .draining }
            guard state.waiting.count + requests <= queue else {
                state.statistics.rejections.queueFull += 1
                throw .overloaded(
                    resource: "requests", waiting: state.waiting.count, limit: queue, retryAfter: .seconds(7))
            }
            state.reservations += 1
        }
        return try ledger.reserve(requests: requests, tokens: promptTokenEstimate)
    }

    func submit(
        _ requests: [GenerationRequest], reservation: consuming Reservation, to receiver: any EventReceiver,
        by queue: EventQueue
    ) throws(EngineError) {
        for (index, request) in requests.enumerated() {
            state.withLock { state in
                state.submitted.append(request)
                state.entries[request.id] = Entry(request: request, events: .queue(queue, receiver, index: index))
                state.waiting.append(request.id)
            }
        }
        admit()
    }

    func stop(_ id: RequestID) { abort(id) }

    func abort(_ id: RequestID) { end(id, .finished(.abort, usage(id, generated: 0))) }

    func drain(timeout: Duration) async {
        set(health: .draining)
        let deadline = ContinuousClock.now + timeout
        while state.withLock({ !$0.entries.isEmpty }) {
            if ContinuousClock.now >= deadline {
                for id in state.withLock({ Array($0.entries.keys) }) { end(id, .failed(.shutdown)) }
                return
            }
            try? await Task.sleep(for: .milliseconds(2))
        }
    }

    // MARK: Running

    private func admit() {
        while true {
            let next: Entry? = state.withLock { state in
                guard state.running.count < maxRunning, !state.waiting.isEmpty else { return nil }
                let id = state.waiting.removeFirst()
                state.running.insert(id)
                return state.entries[id]
            }
            guard let next else { return }
            let task = Task { await self.run(next.request, next.events) }
            state.withLock { $0.entries[next.request.id]?.task = task }
        }
    }

    private func run(_ request: GenerationRequest, _ events: EventDestination) async {
        let script = script(request)
        if script.prefill > .zero { try? await Task.sleep(for: script.prefill) }
        var generated = 0
        if request.pooling != nil {
            if let failure = script.failure { return end(request.id, .failed(failure)) }
            events.send(.pooled(Self.vector(of: request.prompt)))
            return end(request.id, .finished(.complete, usage(request.id, generated: 0)))
        }
        if !script.scores.isEmpty { events.send(.promptScores(script.scores)) }
        for sample in script.samples + [TokenSample(token: Vocabulary.endTurn)] {
            if generated > 0, script.pace > .zero { try? await Task.sleep(for: script.pace) }
            if Task.isCancelled { return }
            if let failure = script.failure, generated == script.samples.count {
                return end(request.id, .failed(failure))
            }
            generated += 1
            state.withLock { $0.statistics.generationTokens += 1 }
            events.send(.token(sample))
            if request.stopTokens.contains(sample.token) {
                return end(request.id, .finished(.stop(sample.token), usage(request.id, generated: generated)))
            }
            if generated == request.maxNewTokens { break }
        }
        end(request.id, .finished(.length, usage(request.id, generated: generated)))
    }

    /// What a prompt is reduced to: how often each of the first letters stands in it.
    static func vector(of prompt: [TokenID]) -> [Float] {
        (0..<8).map { letter in Float(prompt.count { $0 == TokenID(97 + letter) }) }
    }

    private func usage(_ id: RequestID, generated: Int) -> GenerationUsage {
        let prompt = state.withLock { $0.entries[id]?.request.prompt.count ?? 0 }
        return GenerationUsage(promptTokens: prompt, generatedTokens: generated, cachedTokens: prompt / 16 * 16)
    }

    private func end(_ id: RequestID, _ event: EngineEvent) {
        let entry: Entry? = state.withLock { state in
            state.waiting.removeAll { $0 == id }
            state.running.remove(id)
            guard let entry = state.entries.removeValue(forKey: id) else { return nil }
            switch event {
            case .finished(.stop, _): state.statistics.finished.stop += 1
            case .finished(.length, _): state.statistics.finished.length += 1
            case .finished: state.statistics.finished.abort += 1
            default: state.statistics.finished.error += 1
            }
            return entry
        }
        guard let entry else { return }
        entry.task?.cancel()
        entry.events.send(event)
        admit()
    }
}
