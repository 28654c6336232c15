// The bounded waiting queue: a place is taken before a request costs anything, and given back on every way out.
//
// The ledger counts what waits: reserved places (HTTP tasks that still tokenize) and requests the scheduler has not
// started. Running requests are not counted; the scheduler bounds those by memory and `maxSequences`. The bytes of what
// waits are bounded by the places for prompt tokens, which are taken for the text before it is tokenized.

import Scheduling
import Synchronization

/// How much may wait.
package struct AdmissionLimits: Sendable, Equatable {
    package let requests: Int
    /// Prompt tokens.
    package let tokens: Int
    /// The part of the queue that one tenant may fill while others are about, 0 to 1; 1 lets it have all.
    package let tenantShare: Double

    package init(requests: Int, tokens: Int, tenantShare: Double = 0.5) {
        self.requests = requests
        self.tokens = tokens
        self.tenantShare = tenantShare
    }

    /// What a tenant may hold of `limit` places when `taken` are taken: as many as are free, where its share is a half.
    ///
    /// A greedy tenant alone thus stops at its share. Several stop lower, and always leave something to a newcomer.
    func share(of limit: Int, taken: Int) -> Int {
        guard tenantShare < 1 else { return limit }
        return Int((tenantShare / (1 - tenantShare) * Double(max(0, limit - taken))).rounded(.down))
    }
}

/// Counts waiting requests and prompt tokens against their limits. Shared by HTTP tasks and the engine thread.
package final class AdmissionLedger: Sendable {
    /// What is taken, of everybody or of one tenant.
    private struct Places {
        var requests = 0
        var tokens = 0
        /// When somebody last asked for some, on the engine's clock.
        var lastAsked = Duration.zero
    }

    private struct State {
        var all = Places()
        var tenants: [UInt64: Places] = [:]
        var isOpen = true
        var rejections = 0
        /// Prompt tokens per second lately, for `Retry-After`.
        var prefillRate = 0.0
    }

    /// A tenant without places counts as present for so long after it asked for some.
    private static let presence = Duration.seconds(30)
    /// Tenants to remember before those that went away are forgotten.
    private static let tenantLimit = 256

    private let limits: AdmissionLimits
    private let state = Mutex(State())

    package init(_ limits: AdmissionLimits) { self.limits = limits }

    package convenience init(maxRequests: Int, maxTokens: Int) {
        self.init(AdmissionLimits(requests: maxRequests, tokens: maxTokens))
    }

    /// Takes places for `requests` requests of together `tokens` prompt tokens, or says why not.
    /// - Parameter now: on the clock of all other calls.
    package func reserve(
        requests: Int, tokens: Int, tenant: UInt64 = 0, now: Duration = .zero
    ) throws(EngineError) -> Reservation {
        try state.withLock { (state) throws(EngineError) in
            guard state.isOpen else { throw .draining }
            state.tenants[tenant, default: Places()].lastAsked = now
            do throws(EngineError) {
                try checkQueue(state, requests: requests, tokens: tokens)
                try checkShare(state, requests: requests, tokens: tokens, tenant: tenant, now: now)
            } catch {
                state.rejections += 1
                throw error
            }
            Self.change(&state, by: 1, requests: requests, tokens: tokens, tenant: tenant)
            if state.tenants.count > Self.tenantLimit { forgetTenants(&state, now: now) }
        }
        return Reservation(ledger: self, requests: requests, tokens: tokens, tenant: tenant)
    }

    private func checkQueue(_ state: borrowing State, requests: Int, tokens: Int) throws(EngineError) {
        // An empty queue admits anything: a request larger than the limit would otherwise never run.
        guard state.all.requests > 0 else { return }
        guard state.all.requests + requests <= limits.requests else {
            throw .overloaded(
                resource: "requests", waiting: state.all.requests, limit: limits.requests,
                retryAfter: Self.backlog(state))
        }
        guard state.all.tokens + tokens <= limits.tokens else {
            throw .overloaded(
                resource: "prompt tokens", waiting: state.all.tokens, limit: limits.tokens,
                retryAfter: Self.backlog(state))
        }
    }

    /// Who has nothing in the queue is never over its share.
    private func checkShare(
        _ state: borrowing State, requests: Int, tokens: Int, tenant: UInt64, now: Duration
    ) throws(EngineError) {
        let held = state.tenants[tenant] ?? Places()
        guard held.requests > 0, limits.tenantShare < 1 else { return }
        // Looked at last: it walks the tenants.
        func isAlone() -> Bool {
            !state.tenants.contains { $0.key != tenant && Self.isPresent($0.value, now: now) }
        }
        let requestLimit = limits.share(of: limits.requests, taken: state.all.requests)
        let tokenLimit = limits.share(of: limits.tokens, taken: state.all.tokens)
        if held.requests + requests > requestLimit, !isAlone() {
            throw .overShare(
                resource: "requests", waiting: held.requests, limit: requestLimit, retryAfter: Self.backlog(state))
        }
        if held.tokens + tokens > tokenLimit, !isAlone() {
            throw .overShare(
                resource: "prompt tokens", waiting: held.tokens, limit: tokenLimit, retryAfter: Self.backlog(state))
        }
    }

    private static func isPresent(_ places: Places, now: Duration) -> Bool {
        places.requests > 0 || now - places.lastAsked < presence
    }

    private func forgetTenants(_ state: inout State, now: Duration) {
        state.tenants = state.tenants.filter { Self.isPresent($0.value, now: now) }
    }

    private static func change(_ state: inout State, by sign: Int, requests: Int, tokens: Int, tenant: UInt64) {
        state.all.requests += sign * requests
        state.all.tokens += sign * tokens
        state.tenants[tenant, default: Places()].requests += sign * requests
        state.tenants[tenant, default: Places()].tokens += sign * tokens
    }

    /// Gives places back.
    func release(requests: Int, tokens: Int, tenant: UInt64) {
        state.withLock { Self.change(&$0, by: -1, requests: requests, tokens: tokens, tenant: tenant) }
    }

    /// Gives the place of one request back.
    func release(_ request: GenerationRequest) {
        release(requests: 1, tokens: request.prompt.count, tenant: request.tenant)
    }

    /// Corrects reserved places to what is really submitted.
    fileprivate func exchange(requests: Int, tokens: Int, tenant: UInt64, for submissions: [Submission]) {
        state.withLock { state in
            Self.change(&state, by: -1, requests: requests, tokens: tokens, tenant: tenant)
            for submission in submissions {
                let request = submission.request
                Self.change(&state, by: 1, requests: 1, tokens: request.prompt.count, tenant: request.tenant)
            }
        }
    }

    /// Refuses everything from now on.
    func close() { state.withLock { $0.isOpen = false } }

    package var waitingRequests: Int { state.withLock { $0.all.requests } }
    package var waitingTokens: Int { state.withLock { $0.all.tokens } }
    var isOpen: Bool { state.withLock { $0.isOpen } }
    var rejections: Int { state.withLock { $0.rejections } }

    package func record(prefillRate: Double) { state.withLock { $0.prefillRate = prefillRate } }

    /// How long the backlog will take, within 1…30 s.
    private static func backlog(_ state: borrowing State) -> Duration {
        guard state.prefillRate > 0 else { return .seconds(1) }
        return .seconds(min(30, max(1, (Double(state.all.tokens) / state.prefillRate).rounded(.up))))
    }
}

/// Places in the waiting queue. Dropping it gives them back; `Engine.submit` takes it over.
package struct Reservation: ~Copyable {
    private let ledger: AdmissionLedger
    private var requests: Int
    private var tokens: Int
    private let tenant: UInt64

    init(ledger: AdmissionLedger, requests: Int, tokens: Int, tenant: UInt64) {
        self.ledger = ledger
        self.requests = requests
        self.tokens = tokens
        self.tenant = tenant
    }

    /// Corrects the estimate to what is really submitted and leaves the places taken: from here on the engine thread
    /// gives them back, request by request.
    consuming func handOver(to submissions: [Submission]) {
        ledger.exchange(requests: requests, tokens: tokens, tenant: tenant, for: submissions)
        requests = 0
        tokens = 0
    }

    deinit { ledger.release(requests: requests, tokens: tokens, tenant: tenant) }
}
