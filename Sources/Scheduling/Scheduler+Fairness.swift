// Fair sharing of tokens, steps and rows.
//
// Whoever was served least does not only get its prompt computed before other prompts. Where tenants that hold more
// than their share of the rows make steps long, they leave whole steps to the prompt of one that holds little: a step
// is then as short as it is for the prompt alone, and the first token comes nearly as soon. Three such steps in a row,
// then everybody has one. Short of that, those that were served more leave the prompt their tokens in every second
// step.

/// The prompt that fair sharing serves first, and the tokens it has left.
struct UrgentPrompt {
    let tenant: UInt64
    let tokenCount: Int
    /// Tenants that hold more rows than their share leave it the whole step.
    var isAlone = false
}

extension Scheduler {
    /// Steps in a row that are left to prompts.
    private static let mostStepsLeft = 3
    /// Rows that change hands in one step.
    private static let mostRowsYielded = 4

    /// Plans a step under fair sharing.
    mutating func planFairly(now: Duration) {
        yieldRows()
        var urgent = urgentPrompt()
        let mayLeave = stepsLeftInRow < Self.mostStepsLeft
        stepsLeftInRow += 1
        if mayLeave, let present = urgent, holdsLittle(present.tenant) { urgent?.isAlone = true }
        planAll(beside: urgent, now: now)
        if let urgent, urgent.isAlone, running.contains(where: { isServed($0, as: urgent) }) {
            totals.stepsLeft += 1
            return
        }
        stepsLeftInRow = 0
        // What the prompt could not use goes to those that were to sit this step out.
        guard let urgent else { return }
        if urgent.isAlone { planAll(beside: nil, now: now) } else { extendRunning(beside: nil) }
    }

    private func isServed(_ sequence: SequenceState, as urgent: UrgentPrompt) -> Bool {
        sequence.tenant == urgent.tenant && sequence.scheduledTokenCount > 0 && sequence.remainingTokenCount > 1
    }

    /// Rows that each tenant would hold if all held as many; of those that are taken, because it is these that make a
    /// step long.
    private var shareOfRows: Int { running.count / max(1, shares.liveCount) }

    private func holdsLittle(_ tenant: UInt64) -> Bool { 2 * shares.running(tenant) <= shareOfRows }

    /// Whether the tokens of those that run are a good part of the time that a step may take.
    private var rowsMakeStepsLong: Bool { 4 * running.count >= limits.tokenBudget }

    /// Whether a tenant leaves a whole step to a prompt.
    func leavesStep(_ tenant: UInt64, to urgent: UrgentPrompt) -> Bool {
        shares.running(tenant) > shareOfRows && shares.served(tenant) > shares.served(urgent.tenant)
    }

    /// The prompt of the tenant that was served least, of those that run and the next of the queue.
    private mutating func urgentPrompt() -> UrgentPrompt? {
        prompts.removeAll(keepingCapacity: true)
        if isAdmitting, !waiting.isEmpty, !freeSlots.isEmpty { waiting.appendNext(1, shares: shares, to: &prompts) }
        var urgent = prompts.first.map { UrgentPrompt(tenant: $0.tenant, tokenCount: $0.tokens.count) }
        for sequence in running
        where sequence.stage == .running && sequence.remainingTokenCount > 1 && !sequence.awaitsToken {
            if let present = urgent, !shares.comes(sequence.tenant, before: present.tenant) { continue }
            urgent = UrgentPrompt(tenant: sequence.tenant, tokenCount: sequence.remainingTokenCount)
        }
        return urgent
    }

    /// Whether a sequence leaves its token of this step to a prompt that needs it and whose tenant was served less.
    /// Never twice in a row.
    func sitsOut(_ sequence: SequenceState, for urgent: UrgentPrompt) -> Bool {
        if urgent.isAlone { return rowsMakeStepsLong && leavesStep(sequence.tenant, to: urgent) }
        guard plannedTokenCount + urgent.tokenCount >= limits.tokenBudget, sequence.satOutStep != stepIndex - 1,
            shares.served(sequence.tenant) > shares.served(urgent.tenant)
        else { return false }
        sequence.satOutStep = stepIndex
        return true
    }

    /// When too few rows are free, makes room for the next tenants that hold fewer of them.
    private mutating func yieldRows() {
        guard freeSlots.count < Self.mostRowsYielded, waiting.count > freeSlots.count,
            !running.contains(where: { $0.stage != .running })
        else { return }
        prompts.removeAll(keepingCapacity: true)
        waiting.appendNext(Self.mostRowsYielded, shares: shares, to: &prompts)
        for (place, next) in prompts.enumerated() where place >= freeSlots.count {
            // Those before it in line, if they are of the same tenant, are about to hold one each.
            let ahead = prompts[..<place].reduce(0) { $0 + ($1.tenant == next.tenant ? 1 : 0) }
            yield(to: next, ahead: ahead)
        }
    }

    /// Takes a row from the tenant that holds most, its newest, when that is twice what the tenant of `next` holds,
    /// `ahead` rows that it is about to get included. What was computed usually survives in the cache.
    mutating func yield(to next: SequenceState, ahead: Int = 0) {
        let held = shares.running(next.tenant) + ahead
        var victim: SequenceState?
        for sequence in running where sequence.stage == .running && !sequence.isProtected {
            let rows = shares.running(sequence.tenant)
            let most = victim.map { shares.running($0.tenant) } ?? 0
            if rows > held + 1, rows >= 2 * held, rows >= most { victim = sequence }
        }
        guard let victim else { return }
        // Planted elsewhere: here it might begin anew in the same step, and stop the process before anybody looks.
        if victim.isInFlight, faults.contains(.withdrawsInFlight) { return }
        preempt(victim)
        yieldCount += 1
        totals.rowsYielded += 1
    }
}
