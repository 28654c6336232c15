// Drives the real scheduler with the fake model, a virtual clock and faults, and checks everything after every move.
//
// Overlapped, it plans one step ahead, as for a device that works on its own: the fake model executes steps in order,
// some at once and some as late as possible, and their results come one step late.

import Scheduling

/// Why a seed failed, and where.
struct SimulationFailure: Error, CustomStringConvertible {
    let seed: UInt64
    let step: Int
    let isOverlapped: Bool
    let message: String
    /// One line for each step, when the run kept them.
    var trace: [String] = []

    var description: String {
        let place = "seed \(seed), step \(step)\(isOverlapped ? ", overlapped" : "")"
        return (trace.suffix(40) + ["\(place): \(message)", "replay: make simulate SEED=\(seed)"])
            .joined(separator: "\n")
    }
}

/// One run of one scenario.
struct Simulation: ~Copyable {
    private struct Track {
        let request: GenerationRequest
        /// Position in the order of service.
        let order: (priority: Int, number: Int)
        var oracle: Oracle
        var tokens = 0
        var slot: Int?
        var wasPreempted = false
        /// Steps in flight that compute for it.
        var flights = 0
        var isAborted = false
        var isBroken = false
        var mustEnd = false
        var ending: FinishReason?
    }

    /// A step that was planned and not completed.
    private struct Flight: ~Copyable {
        let output: SchedulerOutput
        /// Whose logits will not be finite.
        let broken: Set<RequestID>
        /// Once it was executed.
        var samples: [TokenSample]?
    }

    let seed: UInt64
    private let isOverlapped: Bool
    private(set) var coverage = Coverage()
    private(set) var trace: [String] = []
    private let keepsTrace: Bool
    private let checksDeeply: Bool
    private let scenario: Scenario
    private var random: SimulationRandom
    private var scheduler: Scheduler
    private var model: FakeModel
    private var tracks: [RequestID: Track] = [:]
    private var salts: [RequestID: UInt64] = [:]
    private var arrived = 0
    private var refused = 0
    private var now = Duration.zero
    private var step = 0
    /// The step that the next one is planned after.
    private var flight: Flight?
    /// [row] Whom that step computes there.
    private var rowsInFlight: [Int: RequestID] = [:]

    /// Without deep checks only what a client could see is compared: tokens, events and usage.
    init(
        seed: UInt64, isOverlapped: Bool = false, faults: SchedulerFaults = [], checksDeeply: Bool = true,
        keepsTrace: Bool = false
    ) throws {
        let scenario = try Scenario(seed: seed)
        let allFaults = scenario.hasWeakHash ? faults.union(.weakHash) : faults
        scheduler = try Scheduler(limits: scenario.limits, cacheKey: (seed, ~seed), faults: allFaults)
        model = FakeModel(blockCount: scenario.limits.blockCount, blockSize: scenario.limits.blockSize)
        random = SimulationRandom(seed: seed ^ 0x5eed)
        self.scenario = scenario
        self.seed = seed
        self.isOverlapped = isOverlapped
        self.checksDeeply = checksDeeply
        self.keepsTrace = keepsTrace
        trace.append("\(scenario.limits), \(scenario.requests.count) requests")
    }

    /// Runs to the end: first with faults, then healed, until everything has ended.
    mutating func run() throws {
        // One at a time, each computed token by token, four times over.
        let stepLimit = 1000 + 4 * scenario.requests.count * scenario.limits.maxModelLength
        while arrived < scenario.requests.count || scheduler.hasWork || isStepOut {
            try arrive()
            try scheduler.expire(now: now).forEach { try observe($0) }
            if scheduler.hasWork {
                try advance()
            } else if let last = flight.take() {
                try complete(last)
            } else if arrived < scenario.requests.count {
                now = max(now, scenario.requests[arrived].arrival)
            }
            now += .milliseconds(1)
            if step > stepLimit { throw failure("\(step) steps and still not done") }
        }
        try checkEnd()
    }

    private var isHealed: Bool { step > scenario.faultySteps }
    private var isStepOut: Bool { flight != nil }

    /// Hands the scheduler what has arrived by now; a refusal must be for a reason.
    private mutating func arrive() throws {
        while arrived < scenario.requests.count, scenario.requests[arrived].arrival <= now {
            let request = scenario.requests[arrived]
            let limits = scenario.limits
            arrived += 1
            let room = limits.maxModelLength - request.prompt.count
            let mustRefuse =
                request.prompt.isEmpty || room < 1
                || limits.blocks(forTokens: request.prompt.count + min(room, request.maxNewTokens) - 1)
                    > limits.blockCount
            do {
                try scheduler.add(request, now: now)
                if mustRefuse { throw failure("\(request.id) was accepted") }
            } catch let error as SchedulingError {
                if !mustRefuse { throw failure("refused: \(error)") }
                refused += 1
                coverage.refusals += 1
                continue
            }
            salts[request.id] = request.cacheSalt
            tracks[request.id] = Track(
                request: request, order: (limits.policy == .priority ? request.priority : 0, arrived),
                oracle: Oracle(prompt: request.prompt, salt: request.cacheSalt, seed: request.sampling.seed))
        }
        try abortSome()
    }

    /// Plans a step and completes it, or the one before it, with aborts before, while it is in flight, and after.
    private mutating func advance() throws {
        let output = scheduler.schedule(now: now)
        step += 1
        if keepsTrace { trace.append(line(output)) }
        try check(output)
        for sequence in output.sequences { tracks[sequence.id]?.flights += 1 }
        try abortSome()
        try checkBlocks(of: output)
        var broken: Set<RequestID> = []
        for sequence in output.sequences where sequence.samples && !isHealed && random.chance(scenario.nanRate) {
            broken.insert(sequence.id)
            tracks[sequence.id]?.isBroken = true
        }
        var next = Flight(output: output, broken: broken)
        guard isOverlapped else { return try complete(next) }
        let isEager = random.chance(0.5)
        if var previous = flight.take() {
            if isEager { execute(&previous) }
            if isEager { execute(&next) }
            try complete(previous)
        }
        // Sometimes the device is done before there is anything to plan.
        if random.chance(0.1) { return try complete(next) }
        for sequence in next.output.sequences { rowsInFlight[sequence.slot] = sequence.id }
        flight = .some(next)
    }

    private mutating func execute(_ flight: inout Flight) {
        if flight.samples != nil { return }
        flight.samples = model.execute(flight.output, salts: salts, broken: flight.broken)
    }

    /// A step in flight writes blocks that somebody holds.
    private func checkBlocks(of output: borrowing SchedulerOutput) throws {
        for block in output.blocks where scheduler.referenceCount(of: block) == 0 {
            throw failure("\(block) is written by a step in flight and nobody holds it")
        }
    }

    /// Executes the oldest step if that is still to be done, and hands its results to the scheduler.
    private mutating func complete(_ flight: consuming Flight) throws {
        try checkBlocks(of: flight.output)
        execute(&flight)
        rowsInFlight.removeAll(keepingCapacity: true)
        let samples = flight.samples ?? []
        try checkInvariants()
        for sequence in flight.output.sequences {
            tracks[sequence.id]?.flights -= 1
            if isOverlapped, tracks[sequence.id]?.ending != nil { coverage.uselessShares += 1 }
        }
        for event in scheduler.complete(flight.output, samples: samples, now: now) { try observe(event) }
        try checkInvariants()
        try abortSome()
        for index in 0..<scenario.limits.blockCount {
            let block = BlockID(Int32(index))
            if scheduler.referenceCount(of: block) == 0, !scheduler.isPublished(block) { model.poison(block) }
        }
    }

    /// What must be true of every step.
    private mutating func check(_ output: borrowing SchedulerOutput) throws {
        try checkInvariants()
        let limits = scenario.limits
        if output.isEmpty, rowsInFlight.isEmpty { throw failure("work is left and the step is empty") }
        if output.tokenCount > limits.tokenBudget { throw failure("\(output.tokenCount) tokens are over budget") }
        if output.sequences.count > limits.maxSequences { throw failure("\(output.sequences.count) sequences") }
        for id in output.preempted {
            guard let victim = tracks[id] else { throw failure("\(id) was preempted and is unknown") }
            coverage.preemptions += 1
            if victim.flights > 0 { coverage.lateWithdrawals += 1 }
            tracks[id]?.wasPreempted = true
            tracks[id]?.slot = nil
            for sequence in output.sequences {
                if let other = tracks[sequence.id], other.order > victim.order {
                    throw failure("\(id) was preempted while \(sequence.id), which comes later, runs")
                }
            }
        }
        var slots: Set<Int> = []
        var nextToken = 0
        for sequence in output.sequences {
            guard let track = tracks[sequence.id], track.ending == nil else {
                throw failure("\(sequence.id) is scheduled and does not live")
            }
            let isNewRow = slots.insert(sequence.slot).inserted
            if !isNewRow || !(0..<limits.maxSequences).contains(sequence.slot) {
                throw failure("row \(sequence.slot) is given twice")
            }
            if let owner = rowsInFlight[sequence.slot], owner != sequence.id {
                throw failure("\(sequence.id) has row \(sequence.slot) while a step in flight computes \(owner) there")
            }
            if let slot = track.slot, slot != sequence.slot { throw failure("\(sequence.id) changed its row") }
            if sequence.tokenRange.lowerBound != nextToken || sequence.tokenRange.isEmpty {
                throw failure("token ranges have gaps")
            }
            if sequence.blockRange.count != limits.blocks(forTokens: sequence.contextLength) {
                throw failure("\(sequence.id) shows \(sequence.blockRange.count) blocks")
            }
            nextToken = sequence.tokenRange.upperBound
            tracks[sequence.id]?.slot = sequence.slot
        }
    }

    /// What must be true of every event: the client's stream is the oracle's, and it ends once, for the right reason.
    private mutating func observe(_ event: SchedulerEvent) throws {
        guard var track = tracks[event.id] else { throw failure("event for \(event.id), which is unknown") }
        if let ending = track.ending { throw failure("\(event.id) ended with \(ending) and then came \(event.kind)") }
        switch event.kind {
        case .token(let sample):
            let expected = track.oracle.next()
            track.tokens += 1
            if sample.token != expected || !sample.isFinite {
                throw failure("token \(track.tokens) of \(event.id) is \(sample.token) and should be \(expected)")
            }
            if track.mustEnd { throw failure("\(event.id) goes on after its end") }
            track.mustEnd = track.request.stopTokens.contains(expected) || isAtLength(track)
        case .finished(let reason, let usage):
            track.ending = reason
            try check(reason, usage, of: track)
        }
        tracks[event.id] = track
    }

    private func isAtLength(_ track: Track) -> Bool {
        track.tokens == track.request.maxNewTokens
            || track.tokens + track.request.prompt.count == scenario.limits.maxModelLength
    }

    private mutating func check(_ reason: FinishReason, _ usage: RequestUsage, of track: Track) throws {
        let id = track.request.id
        let isExpected =
            switch reason {
            case .stop(let token): track.request.stopTokens.contains(token)
            case .length: isAtLength(track)
            case .repetition, .complete: false
            case .abort: track.isAborted
            case .deadline: track.request.deadline.map { $0 <= now } ?? false
            case .error(let cause): cause == .nonFiniteLogits && track.isBroken
            }
        if !isExpected { throw failure("\(id) ended with \(reason) after \(track.tokens) tokens") }
        if usage.generatedTokens != track.tokens || usage.promptTokens != track.request.prompt.count {
            throw failure("\(id) reports \(usage) after \(track.tokens) tokens")
        }
        if usage.cachedTokens < 0 || usage.cachedTokens >= usage.promptTokens {
            throw failure("\(id) took \(usage.cachedTokens) of \(usage.promptTokens) tokens from the cache")
        }
        coverage.count(reason)
    }

    /// Aborts requests in any state, those that have ended included.
    private mutating func abortSome() throws {
        while !isHealed, arrived > 0, random.chance(scenario.abortRate) {
            // Half of the time one that lives, otherwise any, also one that was refused or has ended.
            let living = tracks.filter { $0.value.ending == nil }.keys.sorted()
            let id =
                living.isEmpty || random.chance(0.5)
                ? RequestID(UInt64(random.int(0...arrived - 1))) : random.pick(living)
            let track = tracks[id]
            tracks[id]?.isAborted = true
            let event = scheduler.abort(id)
            if (event == nil) != (track == nil || track?.ending != nil) {
                throw failure("abort of \(id) gave \(event.debugDescription)")
            }
            if let track {
                coverage.countAbort(
                    hasEnded: track.ending != nil, isComputing: track.flights > 0, hasRow: track.slot != nil,
                    wasPreempted: track.wasPreempted, hasTokens: track.tokens > 0)
            }
            if let event { try observe(event) }
            if scheduler.abort(id) != nil { throw failure("\(id) was aborted twice") }
            try checkInvariants()
        }
    }

    private func checkInvariants() throws {
        guard checksDeeply else { return }
        do { try scheduler.checkInvariants() } catch { throw failure(error.description) }
    }

    private mutating func checkEnd() throws {
        let statistics = scheduler.statistics
        coverage.add(statistics)
        for (id, track) in tracks where track.ending == nil { throw failure("\(id) never ended") }
        if statistics.running != 0 || statistics.waiting != 0 || statistics.usedBlocks != 0
            || statistics.freeBlocks != scenario.limits.blockCount || statistics.finished != tracks.count
            || statistics.accepted + refused != scenario.requests.count
        {
            throw failure("at the end: \(statistics)")
        }
    }

    private func failure(_ message: String) -> SimulationFailure {
        SimulationFailure(
            seed: seed, step: step, isOverlapped: isOverlapped, message: message, trace: keepsTrace ? trace : [])
    }

    private func line(_ output: borrowing SchedulerOutput) -> String {
        let parts = output.sequences.map { sequence in
            let blocks = output.blocks[sequence.blockRange].map { "\($0.rawValue)" }.joined(separator: " ")
            return "\(sequence.id.rawValue)@\(sequence.slot):\(sequence.start)+\(sequence.tokenRange.count)[\(blocks)]"
        }
        let preempted = output.preempted.map { " preempts \($0.rawValue)" }.joined()
        return "step \(step): \(parts.joined(separator: " "))\(preempted)"
    }
}
