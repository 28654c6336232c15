// Who has been served how much (Sheng et al., "Fairness in Serving Large Language Models", 2023).
//
// Every tenant has a counter of the tokens it was served: prompt tokens as they are computed (the paper: when they are
// admitted, but here a prompt takes many steps), generated ones as they come, at twice the price. The tenant with the
// lowest counter goes first. A tenant that comes back after a pause is lifted to just below the lowest counter of those
// at work: it goes first with a request or two, so that who asks for little waits little, and nobody saves up more
// credit than that by staying away.

/// The counters of the tenants.
struct FairShares {
    private struct Tenant {
        /// Tokens served, weighted.
        var served = 0
        /// Requests that have not ended.
        var live = 0
        /// Those that hold a row.
        var running = 0
    }

    private static let generatedWeight = 2

    private let faults: SchedulerFaults
    /// Tokens by which who comes back stays below the lowest counter, at most; what it used up it does not get again.
    private let credit: Int
    private var tenants: [UInt64: Tenant] = [:]
    /// Tenants with requests that have not ended.
    private(set) var liveCount = 0

    init(credit: Int, faults: SchedulerFaults) {
        self.credit = credit
        self.faults = faults
    }

    func served(_ tenant: UInt64) -> Int { tenants[tenant]?.served ?? 0 }
    /// Whether one tenant goes before another: it was served less, or as much and holds fewer rows.
    func comes(_ one: UInt64, before other: UInt64) -> Bool {
        let (left, right) = (tenants[one] ?? Tenant(), tenants[other] ?? Tenant())
        return left.served == right.served ? left.running < right.running : left.served < right.served
    }

    func running(_ tenant: UInt64) -> Int { tenants[tenant]?.running ?? 0 }

    /// A request arrived.
    mutating func enter(_ tenant: UInt64) {
        if tenants[tenant, default: Tenant()].live == 0, !faults.contains(.banksCredit) {
            let lowest = tenants.values.reduce(Int.max) { $1.live > 0 ? min($0, $1.served) : $0 }
            if lowest < .max { tenants[tenant, default: Tenant()].served.raise(to: lowest - credit) }
        }
        if tenants[tenant, default: Tenant()].live == 0 { liveCount += 1 }
        tenants[tenant, default: Tenant()].live += 1
    }

    /// A request ended. It may keep its row while a step in flight computes for it.
    mutating func leave(_ tenant: UInt64) {
        tenants[tenant]?.live -= 1
        if tenants[tenant]?.live == 0 { liveCount -= 1 }
        forgetIfIdle()
    }

    mutating func start(_ tenant: UInt64) { tenants[tenant]?.running += 1 }

    mutating func stop(_ tenant: UInt64) {
        tenants[tenant]?.running -= 1
        forgetIfIdle()
    }

    /// Once nobody is at work there is nothing to compare, and the counters start anew.
    private mutating func forgetIfIdle() {
        if tenants.values.allSatisfy({ $0.live == 0 && $0.running == 0 }) { tenants.removeAll(keepingCapacity: true) }
    }

    mutating func charge(_ tenant: UInt64, promptTokens: Int) { tenants[tenant]?.served += promptTokens }

    mutating func charge(_ tenant: UInt64, generatedTokens: Int) {
        tenants[tenant]?.served += Self.generatedWeight * generatedTokens
    }

    /// Shows what every tenant counts: requests that have not ended, and rows. For the deep check.
    func check(_ body: (UInt64, _ live: Int, _ running: Int) throws(InvariantViolation) -> Void)
        throws(InvariantViolation)
    {
        for (tenant, state) in tenants { try body(tenant, state.live, state.running) }
    }
}

extension Int {
    fileprivate mutating func raise(to floor: Int) { self = Swift.max(self, floor) }
}
