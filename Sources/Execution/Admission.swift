// The bounded waiting queue: a place is taken before a request costs anything, and given back on every way out.
//
// The ledger counts what waits: reserved places (HTTP tasks that still tokenize) and requests the scheduler has not
// started. Running requests are not counted; the scheduler bounds those by memory and `maxSequences`.

import Synchronization

/// Counts waiting requests and prompt tokens against their limits. Shared by HTTP tasks and the engine thread.
package final class AdmissionLedger: Sendable {
    private struct State {
        var requests = 0
        var tokens = 0
        var isOpen = true
        var rejections = 0
        /// Prompt tokens per second lately, for `Retry-After`.
        var prefillRate = 0.0
    }

    private let maxRequests: Int
    private let maxTokens: Int
    private let state = Mutex(State())

    package init(maxRequests: Int, maxTokens: Int) {
        self.maxRequests = maxRequests
        self.maxTokens = maxTokens
    }

    /// Takes places for `requests` requests of together `tokens` prompt tokens, or says why not.
    package func reserve(requests: Int, tokens: Int) throws(EngineError) -> Reservation {
        try state.withLock { (state) throws(EngineError) in
            guard state.isOpen else { throw .draining }
            // An empty queue admits anything: a request larger than the limit would otherwise never run.
            if state.requests > 0 {
                guard state.requests + requests <= maxRequests else {
                    state.rejections += 1
                    throw .overloaded(
                        resource: "requests", waiting: state.requests, limit: maxRequests,
                        retryAfter: Self.backlog(state))
                }
                guard state.tokens + tokens <= maxTokens else {
                    state.rejections += 1
                    throw .overloaded(
                        resource: "prompt tokens", waiting: state.tokens, limit: maxTokens,
                        retryAfter: Self.backlog(state))
                }
            }
            state.requests += requests
            state.tokens += tokens
        }
        return Reservation(ledger: self, requests: requests, tokens: tokens)
    }

    /// Gives places back.
    func release(requests: Int, tokens: Int) {
        state.withLock { state in
            state.requests -= requests
            state.tokens -= tokens
        }
    }

    /// Refuses everything from now on.
    func close() { state.withLock { $0.isOpen = false } }

    var waitingRequests: Int { state.withLock { $0.requests } }
    var isOpen: Bool { state.withLock { $0.isOpen } }
    var rejections: Int { state.withLock { $0.rejections } }

    func record(prefillRate: Double) { state.withLock { $0.prefillRate = prefillRate } }

    /// How long the backlog will take, within 1…30 s.
    private static func backlog(_ state: State) -> Duration {
        guard state.prefillRate > 0 else { return .seconds(1) }
        return .seconds(min(30, max(1, (Double(state.tokens) / state.prefillRate).rounded(.up))))
    }
}

/// Places in the waiting queue. Dropping it gives them back; `Engine.submit` takes it over.
package struct Reservation: ~Copyable {
    private let ledger: AdmissionLedger
    private var requests: Int
    private var tokens: Int

    init(ledger: AdmissionLedger, requests: Int, tokens: Int) {
        self.ledger = ledger
        self.requests = requests
        self.tokens = tokens
    }

    /// Corrects the estimate to what is really submitted and leaves the places taken: from here on the engine thread
    /// gives them back, request by request.
    consuming func handOver(requests actualRequests: Int, tokens actualTokens: Int) {
        ledger.release(requests: requests - actualRequests, tokens: tokens - actualTokens)
        requests = 0
        tokens = 0
    }

    deinit { ledger.release(requests: requests, tokens: tokens) }
}
