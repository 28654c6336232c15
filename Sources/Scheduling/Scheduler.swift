// The policy: which tokens of which sequences make up the next step.
//
// A pure state machine. It reads no clock, does no I/O and knows no device; the same calls give the same steps.
// The arrival and the end of requests are here, planning is in Scheduler+Planning (prompts and admission in
// Scheduler+Prompts, guesses in Scheduler+Drafts), completion in Scheduler+Completion.

/// Decides every step of the engine. Belongs to one thread. `schedule` and `complete` alternate, or, where the device
/// works on its own, `schedule` runs one step ahead; steps complete in order.
package struct Scheduler: ~Copyable {
    /// The limits it was made with.
    package let limits: SchedulerLimits
    let faults: SchedulerFaults
    let hasher: BlockHasher
    var pool: BlockPool

    /// Requests that have not ended.
    var sequences: [RequestID: SequenceState] = [:]
    var waiting: WaitingQueue
    var shares: FairShares
    /// Guesses tokens; nil: nobody does.
    var proposer: (any DraftProposer)?
    /// In the order of service. Those that ended while steps in flight write their blocks stay until these complete.
    var running: [SequenceState] = []
    /// [maxSequences] Who has the row.
    var slots: [SequenceState?]
    /// Free rows, lowest last.
    var freeSlots: [Int]

    /// What the step being planned has handed out.
    var plannedTokenCount = 0
    /// Rows of logits that prompts are scored with, beyond the one that each running sequence may sample from.
    var plannedScoreCount = 0
    /// The same, with what attention adds to tokens deep in a prompt; in tokens at position 0.
    var plannedWork = 0
    var preempted: [RequestID] = []
    /// How many of them made room for another tenant.
    var yieldCount = 0
    /// Steps in a row, the last one included, that were left to prompts.
    var stepsLeftInRow = 0
    /// Somebody sits the step being planned out for want of blocks; nobody else may take any.
    var isShortOfBlocks = false
    /// Blocks that the step being planned computes: their keys, and their positions in the sequence.
    var claims: [BlockKey: Int] = [:]
    /// Those of the step in flight before it.
    var claimsInFlight: [BlockKey: Int] = [:]
    /// Prompts that the step being planned may go on with or begin, in the order of service.
    var prompts: [SequenceState] = []
    /// Room for the blocks found by a lookup.
    var matches: [CachedBlock] = []
    /// Number of the next step.
    var stepIndex = 0
    /// Steps planned and not completed, oldest first.
    var stepsInFlight: [StepInFlight] = []
    /// Arrays of the last output, kept so that steps do not allocate.
    var spareSequences: [ScheduledSequence] = []
    var spareTokens: [TokenID] = []
    var spareBlocks: [BlockID] = []
    var spareMembers: [SequenceState] = []

    var growthReserve = GrowthReserve()
    var totals = SchedulerStatistics()
    var deadlineCount = 0
    private var nextNumber: UInt64 = 0
    /// Steps' worth of tokens that a tenant may have before others when it comes back.
    private static let stepsOfCredit = 8

    /// A scheduler with an empty pool. `cacheKey` is the process secret that keys block hashes; `proposer` guesses
    /// tokens where the limits allow it, by default from what stands in the sequence; `faults` is for tests.
    package init(
        limits: SchedulerLimits, cacheKey: (UInt64, UInt64), proposer: (any DraftProposer)? = nil,
        faults: SchedulerFaults = []
    ) throws(SchedulingError) {
        waiting = WaitingQueue(isFair: limits.policy == .fair)
        shares = FairShares(credit: Self.stepsOfCredit * limits.tokenBudget, faults: faults)
        if limits.speculation.draftTokenCount > 0 {
            self.proposer = proposer ?? NGramDrafts(sizes: limits.speculation.patternSizes)
        }
        self.limits = limits
        self.faults = faults
        hasher = BlockHasher(key: cacheKey, isWeak: faults.contains(.weakHash))
        pool = BlockPool(
            blockCount: limits.blockCount, blockSize: limits.blockSize,
            windowedGroupCount: limits.layerGroups?.windowedCount ?? 0, faults: faults)
        slots = Array(repeating: nil, count: limits.maxSequences)
        freeSlots = Array((0..<limits.maxSequences).reversed())
    }

    // The pool goes with the scheduler, so what tables still hold is not a leak.
    deinit {
        for sequence in running {
            sequence.table.removeAll()
            sequence.windowedTable.removeAll()
        }
    }

    /// Puts a request in the queue.
    ///
    /// `promptRate` is the measured number of prompt tokens per second, 0 when nobody knows.
    ///
    /// Throws: when it is malformed, is known already, could not finish even with the whole pool to itself, or would
    /// still be in the queue at its deadline.
    package mutating func add(
        _ request: consuming GenerationRequest, now: Duration, promptRate: Double = 0
    ) throws(SchedulingError) {
        let id = request.id
        let promptTokens = request.prompt.count
        if sequences[id] != nil { throw .duplicateRequest(id) }
        if promptTokens == 0 { throw .emptyPrompt(id) }
        if request.maxNewTokens < 1 { throw .noNewTokens(id, maxNewTokens: request.maxNewTokens) }
        // What is only read needs no room for an answer.
        let answer = request.pooling == nil ? 1 : 0
        if promptTokens + answer > limits.maxModelLength {
            throw .promptTooLong(id, promptTokens: promptTokens, maxModelLength: limits.maxModelLength)
        }
        let lengthLimit = promptTokens + min(request.maxNewTokens, max(1, limits.maxModelLength - promptTokens))
        // The last token is reported but never computed.
        let neededBlocks = limits.blocksOfAllGroups(forTokens: lengthLimit - 1)
        if neededBlocks > limits.blockCount {
            throw .neverFits(
                id, neededBlocks: neededBlocks, blockCount: limits.blockCount, blockSize: limits.blockSize)
        }
        let urgency = limits.policy.urgency(priority: request.priority, now: now, ageing: limits.priorityAgeing)
        let order = ServiceOrder(urgency: urgency, number: nextNumber)
        let salt = faults.contains(.ignoresSalt) ? 0 : request.cacheSalt
        let deadline = request.deadline
        let sequence = SequenceState(
            request, order: order, lengthLimit: lengthLimit, salt: salt,
            speculation: limits.speculation, windowedGroupCount: limits.layerGroups?.windowedCount ?? 0)
        if let deadline, promptRate > 0, !faults.contains(.acceptsHopeless) {
            let estimate = Duration.seconds(Double(self.promptTokens(before: sequence)) / promptRate)
            if now + estimate > deadline { throw .hopeless(id, estimate: estimate, remaining: deadline - now) }
        }
        nextNumber += 1
        totals.accepted += 1
        if deadline != nil { deadlineCount += 1 }
        sequences[id] = sequence
        waiting.insert(sequence)
        if limits.policy == .fair { shares.enter(sequence.tenant) }
    }

    /// Prompt tokens to compute before a newcomer gets its first token, at least: its own, and those of whoever is
    /// served before it; of theirs the cache is expected to hold the share that it held so far.
    ///
    /// It overtakes prompts with more than twice as much left, but for half of the steps that it takes. Under fair
    /// sharing only those of its own tenant are sure to come first.
    private mutating func promptTokens(before newcomer: SequenceState) -> Int {
        _ = findCachedPrefix(of: newcomer)
        let own = newcomer.promptTokenCount - matches.count * limits.blockSize
        var others = 0
        var isBesideLonger = false
        for other in sequences.values where other.order < newcomer.order {
            if limits.policy == .fair, other.tenant != newcomer.tenant { continue }
            let left = max(0, other.promptTokenCount - other.computedTokenCount)
            if limits.policy == .fair || left <= 2 * own { others += left } else { isBesideLonger = true }
        }
        return own + (isBesideLonger ? own : 0) + others - others * totals.prefixHits / max(1, totals.prefixQueries)
    }

    /// Ends a request, wherever it is; nil when it has ended already or was never here.
    ///
    /// Blocks that steps in flight may still write are released when these complete.
    package mutating func abort(_ id: RequestID, because reason: FinishReason = .abort) -> SchedulerEvent? {
        guard let sequence = sequences[id] else { return nil }
        return end(sequence, reason)
    }

    /// Ends all requests whose deadline has passed; call it before `schedule`.
    package mutating func expire(now: Duration) -> [SchedulerEvent] {
        guard deadlineCount > 0 else { return [] }
        let looksAtWaiting = !faults.contains(.missesDeadlines)
        return endAll(.deadline) { sequence in
            guard let deadline = sequence.deadline, looksAtWaiting || sequence.stage != .waiting else { return false }
            return deadline <= now
        }
    }

    /// Ends all requests, oldest first: the server stops.
    package mutating func abortAll() -> [SchedulerEvent] {
        endAll(.abort) { _ in true }
    }

    /// Ends all requests because a step could not be executed; takes the place of `complete` for that step, and is
    /// called for the one after it too if that was planned.
    package mutating func abandon(_ output: consuming SchedulerOutput) -> [SchedulerEvent] {
        let step = takeStep(output.stepIndex)
        for (scheduled, sequence) in zip(output.sequences, step.members) {
            leave(scheduled, sequence)
            sequence.computedTokenCount += scheduled.tokenRange.count
        }
        // Nobody knows what the step wrote.
        for sequence in running { taint(sequence) }
        let events = endAll(.error(.stepFailed)) { _ in true }
        for sequence in running where !sequence.isInFlight { retire(sequence) }
        running.removeAll { $0.slot < 0 }
        return events
    }

    /// Gauges and totals of this moment.
    package var statistics: SchedulerStatistics {
        var statistics = totals
        statistics.running = running.count
        statistics.waiting = waiting.count
        statistics.usedBlocks = pool.heldCount
        statistics.freeBlocks = pool.freeCount
        statistics.cachedBlocks = pool.cachedCount
        statistics.kvUsage = Double(pool.heldCount) / Double(pool.blockCount)
        return statistics
    }

    /// Whether a step would compute anything.
    package var hasWork: Bool { !sequences.isEmpty }

    private mutating func endAll(
        _ reason: FinishReason, where isDue: (SequenceState) -> Bool
    ) -> [SchedulerEvent] {
        let due = sequences.values.filter(isDue).sorted { $0.order < $1.order }
        return due.map { end($0, reason) }
    }

    /// Ends a sequence outside `complete`, and releases what no step in flight uses.
    private mutating func end(_ sequence: SequenceState, _ reason: FinishReason) -> SchedulerEvent {
        switch sequence.stage {
        case .waiting:
            waiting.remove(sequence)
        case .running where sequence.isInFlight, .leaving:
            if faults.contains(.reusesEarly) { pool.release(&sequence.table) }
        case .running:
            retire(sequence)
            running.removeAll { $0 === sequence }
        case .finished:
            preconditionFailure("\(sequence.id) ended twice")
        }
        return finish(sequence, reason)
    }

    /// Marks the end of a sequence and reports it. Its row and blocks are given back by `retire`.
    mutating func finish(_ sequence: SequenceState, _ reason: FinishReason) -> SchedulerEvent {
        sequence.stage = .finished
        sequences[sequence.id] = nil
        totals.finished += 1
        proposer?.forget(sequence.id)
        if limits.policy == .fair { shares.leave(sequence.tenant) }
        if sequence.deadline != nil { deadlineCount -= 1 }
        return SchedulerEvent(id: sequence.id, kind: .finished(reason, usage: sequence.usage))
    }

    /// What the blocks of a sequence hold is not to be trusted: neither they nor what was built on them may be found
    /// again, and they are cleared before anybody else uses them.
    mutating func taint(_ sequence: SequenceState) {
        sequence.isTainted = true
        pool.unpublish(sequence.table)
        pool.taint(sequence.table)
        pool.taint(sequence.windowedTable)
    }

    /// Gives back row and blocks. The caller takes the sequence out of `running`.
    mutating func retire(_ sequence: SequenceState) {
        if faults.contains(.leaksOnAbort), sequence.tokens.count < sequence.lengthLimit, sequence.stage == .finished {
            pool.leak(&sequence.table)
        }
        // Who leaves during its prompt may have written anything.
        if !sequence.isProven {
            pool.taint(sequence.table)
            pool.taint(sequence.windowedTable)
        }
        sequence.isProven = false
        if limits.layerGroups != nil { pool.release(&sequence.windowedTable) }
        pool.release(&sequence.table)
        if sequence.stage == .finished { totals.rowsReleased += 1 }
        if limits.policy == .fair { shares.stop(sequence.tenant) }
        slots[sequence.slot] = nil
        if !faults.contains(.leaksRow) || sequence.stage == .finished { freeSlots.append(sequence.slot) }
        sequence.slot = -1
    }
}
