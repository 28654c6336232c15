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
        #expect(refusal == .overloaded(resource: "requests", waiting: 12, limit: 12, retryAfter: .seconds(1)))
    }

    @Test func `beside another a greedy tenant gets half and is told that it is its share, and nobody is shut out`() {
        let polite = fill(ledger, tenant: 2, limit: 1)
        let greedy = fill(ledger, tenant: 1)
        // When it asked for the sixth, six were free; when it asked for the seventh, five.
        #expect(greedy.held.count == 6)
        #expect(greedy.refusal == .overShare(resource: "requests", waiting: 6, limit: 5, retryAfter: .seconds(1)))
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
                error
                    == .overShare(resource: "prompt tokens", waiting: 700, limit: 200, retryAfter: .seconds(1)))
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

    @Test(arguments: [(0.0, 1), (50, 20), (10, 30), (5000, 1), (300, 4)])
    func `who is refused is told when the queue will have drained`(rate: Double, seconds: Int) throws {
        ledger.record(DrainRate(promptTokens: rate))
        let queued = try ledger.reserve(requests: 1, tokens: 1000)
        do throws(EngineError) {
            _ = try ledger.reserve(requests: 1, tokens: 1)
            Issue.record("1001 tokens were admitted")
        } catch {
            #expect(
                error
                    == .overloaded(
                        resource: "prompt tokens", waiting: 1000, limit: 1000, retryAfter: .seconds(seconds)))
        }
        _ = consume queued
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
