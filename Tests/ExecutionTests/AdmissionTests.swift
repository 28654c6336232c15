// The waiting queue's places: who gets one, who is told to come back and when, and that all come back.

import Execution
import Scheduling
import TestSupport
import Testing

@Suite struct AdmissionTests {
    private let ledger = AdmissionLedger(AdmissionLimits(requests: 12, tokens: 1000, tenantShare: 0.5))

    /// Takes places of one request each until there are none, and says how many there were and why no more.
    private func fill(
        _ ledger: AdmissionLedger, tenant: UInt64, now: Duration = .zero, limit: Int = 100
    ) -> (held: [Places], refusal: EngineError?) {
        var held: [Places] = []
        while held.count < limit {
            do throws(EngineError) {
                held.append(Places(try ledger.reserve(requests: 1, tokens: 1, tenant: tenant, now: now)))
            } catch {
                return (held, error)
            }
        }
        return (held, nil)
    }

    @Test func `one tenant alone may fill the queue`() {
        let (held, refusal) = fill(ledger, tenant: 1)
        #expect(held.count == 12)
        #expect(refusal?.untimed == .overloaded(resource: "requests", waiting: 12, limit: 12, retryAfter: .zero))
    }

    @Test func `beside another a greedy tenant gets half and is told that it is its share, and nobody is shut out`() {
        let polite = fill(ledger, tenant: 2, limit: 1)
        let greedy = fill(ledger, tenant: 1)
        // When it asked for the sixth, six were free; when it asked for the seventh, five.
        #expect(greedy.held.count == 6)
        #expect(greedy.refusal?.untimed == .overShare(resource: "requests", waiting: 6, limit: 5, retryAfter: .zero))
        let another = fill(ledger, tenant: 3)
        #expect(another.held.count == 3, "half of what is left, and one for being new")
        #expect(fill(ledger, tenant: 4, limit: 1).refusal == nil, "a newcomer finds a place")
        withExtendedLifetime((polite, greedy, another)) {}
    }

    @Test func `a tenant that has just been there counts, one that stayed away does not`() {
        _ = fill(ledger, tenant: 2, now: .seconds(100), limit: 1)
        #expect(fill(ledger, tenant: 1, now: .seconds(120)).held.count == 6)
        #expect(fill(ledger, tenant: 1, now: .seconds(131)).held.count == 12)
    }

    @Test func `the share holds for prompt tokens too, but never for a tenant's only request`() throws {
        let other = try ledger.reserve(requests: 1, tokens: 100, tenant: 2)
        let first = try ledger.reserve(requests: 1, tokens: 700, tenant: 1)
        do throws(EngineError) {
            _ = try ledger.reserve(requests: 1, tokens: 100, tenant: 1)
            Issue.record("800 of 1000 tokens went to one of two tenants")
        } catch {
            #expect(
                error.untimed
                    == .overShare(resource: "prompt tokens", waiting: 700, limit: 200, retryAfter: .zero))
            #expect(
                error.description
                    == "You have 700 prompt tokens waiting, and your share of the queue is 200 now. Try again later.")
        }
        _ = consume other
        _ = consume first
        #expect(ledger.waitingRequests == 0 && ledger.waitingTokens == 0)
    }

    @Test func `a share of 1 tells nobody apart`() {
        let ledger = AdmissionLedger(AdmissionLimits(requests: 12, tokens: 1000, tenantShare: 1))
        let one = fill(ledger, tenant: 2, limit: 1)
        #expect(fill(ledger, tenant: 1).held.count == 11)
        withExtendedLifetime(one) {}
    }

    /// Prompt tokens a second, the range of seconds to come back after.
    private static let returns: [(Double, ClosedRange<Int>)] = [
        (0, 1...2), (50, 20...30), (10, 15...30), (5000, 1...2), (300, 4...6),
    ]

    @Test(arguments: returns)
    func `those who are refused come back when the queue has drained, and not together`(
        rate: Double, seconds: ClosedRange<Int>
    ) throws {
        func times(seed: UInt64) throws -> [Duration] {
            let ledger = AdmissionLedger(AdmissionLimits(requests: 12, tokens: 1000), seed: seed)
            ledger.record(DrainRate(promptTokens: rate))
            let queued = Places(try ledger.reserve(requests: 1, tokens: 1000))
            defer { withExtendedLifetime(queued) {} }
            return (0..<200).compactMap { _ in
                guard case .overloaded(_, _, _, let retryAfter) = ask(ledger, tokens: 1).refusal else { return nil }
                return retryAfter
            }
        }
        let first = try times(seed: 1)
        #expect(first.count == 200)
        #expect(Set(first) == Set(seconds.map { .seconds($0) }), "each is told to somebody, and nothing else")
        #expect(try times(seed: 1) == first)
        #expect(try times(seed: 2) != first)
    }

    // MARK: A limit on the wait

    /// A ledger with a limit of two seconds, on an engine that computes 100 prompt tokens a second.
    private func limited(
        policy: SchedulingPolicy = .fcfs, running: Int = 0, rowsPerSecond: Double = 0
    ) -> AdmissionLedger {
        var limits = AdmissionLimits(requests: 1000, tokens: 1 << 20)
        limits.timeToFirstToken = .seconds(2)
        limits.rows = 64
        limits.tokenBudget = 96
        limits.policy = policy
        let ledger = AdmissionLedger(limits)
        var drain = DrainRate(promptTokens: 100)
        drain.running = running
        drain.rows = rowsPerSecond
        ledger.record(drain)
        return ledger
    }

    /// Takes places for a prompt of `tokens`.
    private func ask(
        _ ledger: AdmissionLedger, tokens: Int, tenant: UInt64 = 0, priority: Int = 0, deadline: Duration? = nil,
        now: Duration = .zero
    ) -> (held: Places?, refusal: EngineError?) {
        do throws(EngineError) {
            let reservation = try ledger.reserve(
                requests: 1, tokens: tokens, tenant: tenant, priority: priority, deadline: deadline, now: now)
            return (Places(reservation), nil)
        } catch {
            return (nil, error)
        }
    }

    @Test func `who would wait for longer than the limit is told so, and how long`() {
        let ledger = limited()
        let held = (0..<3).map { _ in ask(ledger, tokens: 100) }
        #expect(held.allSatisfy { $0.refusal == nil }, "the third has 200 tokens before it")
        let refusal = ask(ledger, tokens: 100).refusal
        #expect(refusal?.untimed == .delayed(estimate: .seconds(3), limit: .seconds(2), retryAfter: .zero))
        #expect(
            refusal?.description
                == "The engine is currently busy: this request would wait about 3.0 s for its turn, and the limit is 2.0 s. "
                + "Try again later.")
        var counts = RejectionCounts()
        counts.delay = 1
        #expect(ledger.rejections == counts)
        #expect(ledger.delay(tokens: 100) == .seconds(3))
        withExtendedLifetime(held) {}
    }

    @Test func `an empty queue admits anything, and a short prompt is not behind a long one`() {
        let ledger = limited()
        let long = ask(ledger, tokens: 5000)
        #expect(long.refusal == nil)
        let short = ask(ledger, tokens: 20)
        #expect(short.refusal == nil, "it overtakes")
        #expect(ask(ledger, tokens: 4000).refusal != nil)
        withExtendedLifetime((long, short)) {}
    }

    @Test func `where rows are taken, the wait is for those`() {
        let ledger = limited(running: 64, rowsPerSecond: 2)
        let held = (0..<4).map { _ in ask(ledger, tokens: 1) }
        #expect(held.allSatisfy { $0.refusal == nil })
        #expect(
            ask(ledger, tokens: 1).refusal?.untimed
                == .delayed(estimate: .seconds(2.5), limit: .seconds(2), retryAfter: .zero))
        let unknown = limited(running: 64)
        let first = ask(unknown, tokens: 1)
        #expect(first.refusal == nil)
        #expect(
            ask(unknown, tokens: 1).refusal?.untimed
                == .delayed(estimate: nil, limit: .seconds(2), retryAfter: .zero))
        withExtendedLifetime((held, first)) {}
    }

    @Test func `a tenant without anything in the queue has its turn at once where turns are fair`() {
        let ledger = limited(policy: .fair)
        let greedy = (0..<3).map { _ in ask(ledger, tokens: 100, tenant: 1) }
        #expect(ask(ledger, tokens: 100, tenant: 1).refusal != nil)
        let polite = ask(ledger, tokens: 100, tenant: 2)
        #expect(polite.refusal == nil)
        withExtendedLifetime((greedy, polite)) {}
    }

    @Test func `who is more important waits for those alone that are as important`() {
        let ledger = limited(policy: .priority)
        let usual = (0..<3).map { _ in ask(ledger, tokens: 100, priority: 1) }
        #expect(ask(ledger, tokens: 100, priority: 1).refusal != nil)
        let important = (0..<3).map { _ in ask(ledger, tokens: 100, priority: 0) }
        #expect(important.allSatisfy { $0.refusal == nil })
        #expect(ask(ledger, tokens: 100, priority: 0).refusal != nil)
        let urgent = ask(ledger, tokens: 100, priority: -1)
        #expect(urgent.refusal == nil)
        withExtendedLifetime((usual, important, urgent)) {}
    }

    @Test func `who has waited long is before those that are more important, and leaves nothing behind`() {
        let ledger = limited(policy: .priority)
        let usual = (0..<3).map { _ in ask(ledger, tokens: 100, priority: 1) }
        #expect(ask(ledger, tokens: 100, priority: 0, now: .seconds(25)).refusal == nil)
        #expect(ask(ledger, tokens: 100, priority: 0, now: .seconds(35)).refusal != nil)
        #expect(ledger.delay(tokens: 100, now: .seconds(25)) == .zero)
        #expect(ledger.delay(tokens: 100, now: .seconds(35)) == .seconds(3))
        withExtendedLifetime(usual) {}
    }

    @Test func `a deadline before its turn is refused without a limit too`() {
        let ledger = AdmissionLedger(maxRequests: 100, maxTokens: 10_000)
        ledger.record(DrainRate(promptTokens: 100))
        let first = ask(ledger, tokens: 400)
        #expect(
            ask(ledger, tokens: 400, deadline: .seconds(3)).refusal?.untimed
                == .hopeless(estimate: .seconds(4), remaining: .seconds(3), retryAfter: .zero))
        #expect(ledger.rejections.deadline == 1 && ledger.rejections.total == 1)
        let patient = ask(ledger, tokens: 400, deadline: .seconds(5))
        #expect(patient.refusal == nil)
        withExtendedLifetime((first, patient)) {}
    }

    @Test func `each refusal is counted for what it is`() {
        let polite = fill(ledger, tenant: 2, limit: 1)
        let greedy = fill(ledger, tenant: 1)
        let rest = (UInt64(3)...9).map { fill(ledger, tenant: $0) }
        #expect(ledger.rejections.tenantShare > 0 && ledger.rejections.queueFull > 0)
        #expect(ledger.rejections.total == ledger.rejections.tenantShare + ledger.rejections.queueFull)
        withExtendedLifetime((polite, greedy, rest)) {}
    }

    /// Takes places 500 times, each for another tenant, and gives them back; how often there were some.
    private static func comeAndGo(_ ledger: AdmissionLedger, task: Int) -> Int {
        var granted = 0
        for index in 0..<500 {
            do throws(EngineError) {
                let places = try ledger.reserve(
                    requests: 1 + index % 3, tokens: index, tenant: UInt64(task * 100 + index),
                    now: .milliseconds(index))
                granted += 1
                _ = consume places
            } catch {
                continue
            }
        }
        return granted
    }

    @Test func `500 tenants that ask from 8 threads at once leave nothing behind`() async {
        let ledger = AdmissionLedger(AdmissionLimits(requests: 64, tokens: 10_000, tenantShare: 0.5))
        let granted = await withTaskGroup(of: Int.self) { group in
            for task in 0..<8 { group.addTask { Self.comeAndGo(ledger, task: task) } }
            return await group.reduce(0, +)
        }
        #expect(granted > 1000)
        #expect(ledger.waitingRequests == 0 && ledger.waitingTokens == 0)
    }
}

/// A reservation that an array can hold.
private final class Places {
    private let reservation: Reservation

    init(_ reservation: consuming Reservation) { self.reservation = reservation }
}

extension EngineError {
    /// The refusal without the time to come back, which is drawn.
    fileprivate var untimed: EngineError { retrying { _ in .zero } }
}
