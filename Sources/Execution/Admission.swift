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
    /// How long a newcomer may have to wait until its prompt's turn comes; nil is as long as it takes.
    package var timeToFirstToken: Duration?
    /// What bounds a step: its rows, its tokens, and who goes first.
    package var rows = 0
    package var tokenBudget = 0
    package var policy = SchedulingPolicy.fcfs
    /// What one step of priority is worth in waiting.
    package var priorityAgeing: Duration? = SchedulerLimits.usualPriorityAgeing

    package init(requests: Int, tokens: Int, tenantShare: Double = 0.5) {
        self.requests = requests
        self.tokens = tokens
        self.tenantShare = tenantShare
    }

    /// The limits of an engine.
    package init(_ configuration: EngineConfiguration) {
        self.init(
            requests: configuration.maxQueuedRequests, tokens: configuration.maxQueuedTokens,
            tenantShare: configuration.tenantQueueShare)
        timeToFirstToken = configuration.timeToFirstTokenTarget
        rows = configuration.maxSequences
        tokenBudget = configuration.tokenBudget
        policy = configuration.policy
    }

    /// What a tenant may hold of `limit` places when `taken` are taken: as many as are free, where its share is a half.
    ///
    /// A greedy tenant alone thus stops at its share. Several stop lower, and always leave something to a newcomer.
    func share(of limit: Int, taken: Int) -> Int {
        guard tenantShare < 1 else { return limit }
        return Int((tenantShare / (1 - tenantShare) * Double(max(0, limit - taken))).rounded(.down))
    }

    /// The line of those that are served neither long before nor long after a request: those of about the same order of
    /// service, to a second. Lower lines come first; without priorities there is one.
    func line(priority: Int, arrival: Duration) -> Int {
        let urgency = policy.urgency(priority: priority, now: arrival, ageing: priorityAgeing)
        return priorityAgeing == nil ? urgency : urgency >> 10
    }
}

/// Places that somebody asks for or holds.
struct Claim: Sendable {
    var requests: Int
    var tokens: Int
    let tenant: UInt64
    /// As in `AdmissionLimits.line`.
    let line: Int
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

    /// What is taken in one line.
    private struct Line {
        var requests = 0
        /// Their prompt tokens, by the size of their prompts.
        var prompts = PromptBacklog()
    }

    private struct State {
        var all = Places()
        var tenants: [UInt64: Places] = [:]
        /// What is taken by those of about the same order of service, where something is.
        var lines: [Int: Line] = [:]
        var jitter: RetryJitter
        var isOpen = true
        var rejections = RejectionCounts()
        var drain = DrainRate()
    }

    /// A tenant without places counts as present for so long after it asked for some.
    private static let presence = Duration.seconds(30)
    /// Tenants to remember before those that went away are forgotten.
    private static let tenantLimit = 256

    private let limits: AdmissionLimits
    private let state: Mutex<State>

    /// An empty queue; `seed` decides how refusals are spread.
    package init(_ limits: AdmissionLimits, seed: UInt64 = 0) {
        self.limits = limits
        state = Mutex(State(jitter: RetryJitter(seed: seed)))
    }

    package convenience init(maxRequests: Int, maxTokens: Int) {
        self.init(AdmissionLimits(requests: maxRequests, tokens: maxTokens))
    }

    /// Takes places for `requests` requests of together `tokens` prompt tokens, or says why not.
    /// - Parameters:
    ///   - priority: lower ones go first, where priorities count.
    ///   - deadline: when their time is over.
    ///   - now: on the clock of all other calls.
    package func reserve(
        requests: Int, tokens: Int, tenant: UInt64 = 0, priority: Int = 0, deadline: Duration? = nil,
        now: Duration = .zero
    ) throws(EngineError) -> Reservation {
        let claim = Claim(
            requests: requests, tokens: tokens, tenant: tenant, line: limits.line(priority: priority, arrival: now))
        try state.withLock { (state) throws(EngineError) in
            guard state.isOpen else { throw .draining }
            state.tenants[tenant, default: Places()].lastAsked = now
            do throws(EngineError) {
                try checkQueue(state, claim)
                try checkShare(state, claim, now: now)
                try checkDelay(state, claim, remaining: deadline.map { $0 - now })
            } catch {
                state.rejections.count(error)
                throw error.retrying { state.jitter.spread($0) }
            }
            Self.change(&state, by: 1, claim)
            if state.tenants.count > Self.tenantLimit { forgetTenants(&state, now: now) }
        }
        return Reservation(ledger: self, claim: claim)
    }

    private func checkQueue(_ state: borrowing State, _ claim: Claim) throws(EngineError) {
        // An empty queue admits anything: a request larger than the limit would otherwise never run.
        guard state.all.requests > 0 else { return }
        guard state.all.requests + claim.requests <= limits.requests else {
            throw .overloaded(
                resource: "requests", waiting: state.all.requests, limit: limits.requests,
                retryAfter: backlog(state))
        }
        guard state.all.tokens + claim.tokens <= limits.tokens else {
            throw .overloaded(
                resource: "prompt tokens", waiting: state.all.tokens, limit: limits.tokens,
                retryAfter: backlog(state))
        }
    }

    /// Who has nothing in the queue is never over its share.
    private func checkShare(_ state: borrowing State, _ claim: Claim, now: Duration) throws(EngineError) {
        let held = state.tenants[claim.tenant] ?? Places()
        guard held.requests > 0, limits.tenantShare < 1 else { return }
        // Looked at last: it walks the tenants.
        func isAlone() -> Bool {
            !state.tenants.contains { $0.key != claim.tenant && Self.isPresent($0.value, now: now) }
        }
        let requestLimit = limits.share(of: limits.requests, taken: state.all.requests)
        let tokenLimit = limits.share(of: tokenLimit(state), taken: state.all.tokens)
        if held.requests + claim.requests > requestLimit, !isAlone() {
            throw .overShare(
                resource: "requests", waiting: held.requests, limit: requestLimit, retryAfter: backlog(state))
        }
        if held.tokens + claim.tokens > tokenLimit, !isAlone() {
            throw .overShare(
                resource: "prompt tokens", waiting: held.tokens, limit: tokenLimit, retryAfter: backlog(state))
        }
    }

    /// Prompt tokens that may wait: as many as drain within the time that anybody may have to wait.
    private func tokenLimit(_ state: borrowing State) -> Int {
        guard let target = limits.timeToFirstToken else { return limits.tokens }
        let draining = state.drain.draining(limits)
        return draining > 0 ? min(limits.tokens, Int(min(1e12, draining * target.seconds))) : limits.tokens
    }

    /// Refuses who would be served later than anybody may be, or than its own time ends, as things stand.
    private func checkDelay(
        _ state: borrowing State, _ claim: Claim, remaining: Duration?
    ) throws(EngineError) {
        guard limits.timeToFirstToken != nil || remaining != nil, state.all.requests > 0 else { return }
        let estimate = delay(state, claim)
        if let remaining, let estimate, estimate > remaining {
            throw .hopeless(estimate: estimate, remaining: remaining, retryAfter: backlog(state))
        }
        if let target = limits.timeToFirstToken, estimate.map({ $0 > target }) ?? true {
            throw .delayed(
                estimate: estimate, limit: target, retryAfter: estimate.map { $0 - target } ?? backlog(state))
        }
    }

    /// Time until a newcomer's prompt has its turn; nil where nobody knows.
    private func delay(_ state: borrowing State, _ claim: Claim) -> Duration? {
        var ahead = (requests: state.all.requests, tokens: state.all.tokens)
        var begun = state.drain.backlog.tokens
        if limits.policy == .fair {
            // It takes turns with the other tenants; a new one gets a row from whoever has most of them.
            let active = state.tenants.reduce(0) { $0 + ($1.value.requests > 0 && $1.key != claim.tenant ? 1 : 0) } + 1
            let held = state.tenants[claim.tenant] ?? Places()
            if held.requests == 0, active <= limits.rows { return .zero }
            ahead = (min(ahead.requests, held.requests * active), min(ahead.tokens, held.tokens * active))
        } else {
            // Who has a better priority, or the same and came before it.
            var prompts = state.drain.backlog
            ahead.requests = 0
            for (line, waiting) in state.lines where line <= claim.line {
                prompts += waiting.prompts
                ahead.requests += waiting.requests
            }
            let before = prompts.tokens(before: claim.tokens / max(1, claim.requests))
            begun = min(begun, before)
            ahead.tokens = before - begun
        }
        return state.drain.delay(requests: ahead.requests, waiting: ahead.tokens, begun: begun, limits: limits)
    }

    private static func isPresent(_ places: Places, now: Duration) -> Bool {
        places.requests > 0 || now - places.lastAsked < presence
    }

    private func forgetTenants(_ state: inout State, now: Duration) {
        state.tenants = state.tenants.filter { Self.isPresent($0.value, now: now) }
    }

    private static func change(_ state: inout State, by sign: Int, _ claim: Claim) {
        let (requests, tokens) = (sign * claim.requests, sign * claim.tokens)
        state.all.requests += requests
        state.all.tokens += tokens
        state.tenants[claim.tenant, default: Places()].requests += requests
        state.tenants[claim.tenant, default: Places()].tokens += tokens
        state.lines[claim.line, default: Line()].requests += requests
        state.lines[claim.line, default: Line()].prompts.add(
            tokens: claim.tokens, prompts: claim.requests, sign: sign)
        if state.lines[claim.line]?.requests == 0 { state.lines[claim.line] = nil }
    }

    /// The place of one request.
    private func claim(of request: GenerationRequest) -> Claim {
        Claim(
            requests: 1, tokens: request.prompt.count, tenant: request.tenant,
            line: limits.line(priority: request.priority, arrival: request.arrival))
    }

    /// Gives places back.
    fileprivate func release(_ claim: Claim) {
        guard claim.requests > 0 else { return }
        state.withLock { Self.change(&$0, by: -1, claim) }
    }

    /// Gives the place of one request back.
    func release(_ request: GenerationRequest) { release(claim(of: request)) }

    /// Corrects reserved places to what is really submitted.
    fileprivate func exchange(_ claim: Claim, for submissions: [Submission]) {
        state.withLock { state in
            Self.change(&state, by: -1, claim)
            for submission in submissions { Self.change(&state, by: 1, self.claim(of: submission.request)) }
        }
    }

    /// Refuses everything from now on.
    func close() { state.withLock { $0.isOpen = false } }

    package var waitingRequests: Int { state.withLock { $0.all.requests } }
    package var waitingTokens: Int { state.withLock { $0.all.tokens } }
    var isOpen: Bool { state.withLock { $0.isOpen } }
    package var rejections: RejectionCounts { state.withLock { $0.rejections } }

    package func record(_ drain: DrainRate) { state.withLock { $0.drain = drain } }

    /// How long a newcomer with a prompt of `tokens` and the usual priority would wait for its turn, as far as anybody
    /// knows.
    package func delay(tokens: Int, now: Duration = .zero) -> Duration {
        let claim = Claim(requests: 1, tokens: tokens, tenant: 0, line: limits.line(priority: 0, arrival: now))
        return state.withLock { $0.all.requests == 0 ? .zero : delay($0, claim) ?? .zero }
    }

    /// Counts a request that the scheduler refused because of its deadline, and says when to come back.
    func recordHopeless() -> Duration {
        state.withLock { state in
            state.rejections.deadline += 1
            let estimate = backlog(state)
            return state.jitter.spread(estimate)
        }
    }

    /// How long the backlog will take; zero where nobody knows.
    private func backlog(_ state: borrowing State) -> Duration {
        let rate = state.drain.draining(limits)
        return rate > 0 ? .seconds(min(1e6, Double(state.all.tokens) / rate)) : .zero
    }
}

/// Places in the waiting queue. Dropping it gives them back; `Engine.submit` takes it over.
package struct Reservation: ~Copyable {
    private let ledger: AdmissionLedger
    private var claim: Claim

    init(ledger: AdmissionLedger, claim: Claim) {
        self.ledger = ledger
        self.claim = claim
    }

    /// Corrects the estimate to what is really submitted and leaves the places taken: from here on the engine thread
    /// gives them back, request by request.
    consuming func handOver(to submissions: [Submission]) {
        ledger.exchange(claim, for: submissions)
        claim.requests = 0
        claim.tokens = 0
    }

    deinit { ledger.release(claim) }
}
