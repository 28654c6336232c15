// Drives the real scheduler with the fake model, a virtual clock and faults, and checks everything after every move.
//
// Overlapped, it plans one step ahead, as for a device that works on its own: the fake model executes steps in order,
// some at once and some as late as possible, and their results come one step late.

import Scheduling

/// One run of one scenario.
struct Simulation: ~Copyable {
    /// A step that was planned and not completed.
    struct Flight: ~Copyable {
        let output: SchedulerOutput
        let step: Int
        /// It was planned while another was in flight.
        let isAhead: Bool
        /// Whose logits will not be finite.
        let broken: Set<RequestID>
        /// Once it was executed.
        var samples: [TokenSample]?
    }

    /// Tokens that wait for a slow reader before it is given up.
    private static let readerBuffer = 12

    let seed: UInt64
    let isOverlapped: Bool
    let checksDeeply: Bool
    let scenario: Scenario
    var coverage = Coverage()
    private(set) var trace: [String] = []
    private(set) var hash = TraceHash()
    private let keepsTrace: Bool
    /// The model tells one wrong token at this step.
    private let lyingStep: Int?
    var scheduler: Scheduler
    private var model: FakeModel
    /// [id] Those that were accepted.
    private var tracks: [Track?]
    private var acceptedCount = 0
    /// Those that will be aborted, or read slowly, with when and how: they are looked at after every move.
    private var fated: [(abortMove: Int, stepsPerRead: Int, track: Track)] = []
    /// Those that have a deadline.
    private var hurried: [Track] = []
    /// Those whose texts are forced.
    private var forced: [Track] = []
    private var arrived = 0
    private var refused = 0
    var now = Duration.zero
    private(set) var step = 0
    private var move = 0
    /// The step that the next one is planned after.
    private var flight: Flight?
    /// [row] Whom that step computes there.
    var rowsInFlight: [RequestID?]
    var areRowsInFlight = false
    /// The step that failed last.
    private var failedStep = -1
    /// A step is failing, and with it every request.
    var isFailing = false
    private var events: [SchedulerEvent] = []
    /// Room for the deep check.
    var holders: [Int] = []
    /// Empty; storage for the next step's.
    private var spareSamples: [TokenSample] = []

    /// Without deep checks only what a client could see is compared: tokens, events and usage.
    init(
        seed: UInt64, scenario: Scenario? = nil, isOverlapped: Bool = false, faults: SchedulerFaults = [],
        checksDeeply: Bool = true, keepsTrace: Bool = false, lyingStep: Int? = nil
    ) throws {
        let scenario = try scenario ?? Scenario(seed: seed)
        let allFaults = scenario.features.contains(.weakHash) ? faults.union(.weakHash) : faults
        scheduler = try Scheduler(limits: scenario.limits, cacheKey: (seed, ~seed), faults: allFaults)
        model = FakeModel(
            blockCount: scenario.limits.blockCount, blockSize: scenario.limits.blockSize,
            window: scenario.limits.slidingWindow, groups: scenario.limits.layerGroups)
        // Ids start at 0; a shrunk scenario keeps those that it had.
        tracks = Array(repeating: nil, count: 1 + Int(scenario.clients.map(\.request.id.rawValue).max() ?? 0))
        rowsInFlight = Array(repeating: nil, count: scenario.limits.maxSequences)
        self.scenario = scenario
        self.seed = seed
        self.isOverlapped = isOverlapped
        self.checksDeeply = checksDeeply
        self.keepsTrace = keepsTrace
        self.lyingStep = lyingStep
    }

    /// Runs to the end: first with faults, then healed, until everything has ended.
    mutating func run() throws {
        // One at a time, each computed token by token, four times over.
        let stepLimit = 1000 + 4 * scenario.clients.count * scenario.limits.maxModelLength
        while arrived < scenario.clients.count || scheduler.hasWork || isStepOut {
            try arrive()
            for event in scheduler.expire(now: now) { try observe(event) }
            if scenario.features.contains(.deadlines) { try checkDeadlines() }
            if scheduler.hasWork {
                try advance()
            } else if let last = flight.take() {
                try complete(last)
            } else if arrived < scenario.clients.count {
                now = max(now, scenario.clients[arrived].request.arrival)
            }
            now += .milliseconds(1)
            if step > stepLimit { throw failure("\(step) steps and still not done") }
        }
        try checkEnd()
    }

    private var isHealed: Bool { step > scenario.faultySteps }
    private var isStepOut: Bool { flight != nil }

    private func checkDeadlines() throws {
        for track in hurried where track.ending == nil {
            if let deadline = track.deadline, deadline <= now {
                throw failure("\(track.id) lives after its deadline")
            }
        }
    }

    /// Hands the scheduler what has arrived by now; a refusal must be for a reason.
    private mutating func arrive() throws {
        while arrived < scenario.clients.count, scenario.clients[arrived].request.arrival <= now {
            let client = scenario.clients[arrived]
            let request = client.request
            arrived += 1
            let mustRefuse = mustRefuse(request)
            do {
                try scheduler.add(request, now: now, promptRate: client.promptRate)
                if mustRefuse { throw failure("\(request.id) was accepted") }
                if isHopeless(client) { throw failure("\(request.id) was accepted and is hopeless") }
            } catch let error as SchedulingError {
                if case .hopeless = error, !mustRefuse, request.deadline != nil, client.promptRate > 0 {
                    coverage.hopeless += 1
                } else if !mustRefuse {
                    throw failure("refused: \(error)")
                }
                refused += 1
                coverage.refusals += 1
                continue
            }
            let track = Track(
                client: client, order: order(of: request), abortMove: client.abortMove.map { $0 + move },
                window: scenario.limits.slidingWindow, groups: scenario.limits.layerGroups)
            tracks[Int(request.id.rawValue)] = track
            acceptedCount += 1
            if client.abortMove != nil || client.stepsPerRead > 0 {
                fated.append((abortMove: track.abortMove ?? -1, stepsPerRead: track.stepsPerRead, track: track))
            }
            if track.deadline != nil { hurried.append(track) }
            if track.forcedTokenCount > 0 { forced.append(track) }
        }
        try abortSome()
    }

    private func mustRefuse(_ request: GenerationRequest) -> Bool {
        let limits = scenario.limits
        let room = limits.maxModelLength - request.prompt.count
        return request.prompt.isEmpty || room < 1
            || limits.blocksOfAllGroups(forTokens: request.prompt.count + min(room, request.maxNewTokens) - 1)
                > limits.blockCount
    }

    /// Whether not even the last token of its prompt, which is always computed, comes in time.
    private func isHopeless(_ client: Client) -> Bool {
        guard let deadline = client.request.deadline, client.promptRate > 0 else { return false }
        return now + .seconds(1 / client.promptRate) > deadline
    }

    private func order(of request: GenerationRequest) -> (unprotected: Int, urgency: Int, number: Int) {
        let limits = scenario.limits
        var urgency = limits.policy == .priority ? request.priority : 0
        if limits.policy == .priority, let ageing = limits.priorityAgeing {
            urgency = urgency * Int(ageing / .milliseconds(1)) + Int(now / .milliseconds(1))
        }
        return (1, urgency, arrived)
    }

    /// Plans a step and completes it, or the one before it, with aborts before, while it is in flight, and after.
    private mutating func advance() throws {
        forceSome()
        let output = scheduler.schedule(now: now)
        step += 1
        if keepsTrace { trace.append(line(output)) }
        try check(output)
        let broken = takeOff(output)
        try abortSome()
        try checkBlocks(of: output)
        var next = Flight(output: output, step: step, isAhead: isStepOut, broken: broken)
        guard isOverlapped else { return try complete(next) }
        let chance = mix(seed ^ UInt64(step) << 32)
        let isEager = chance & 1 == 0
        if var previous = flight.take() {
            if isEager, !isDoomed(previous) { execute(&previous) }
            if isEager { execute(&next) }
            try complete(previous)
        }
        // Sometimes the device is done before there is anything to plan.
        if chance >> 8 % 10 == 0 { return try complete(next) }
        areRowsInFlight = !next.output.isEmpty
        for index in next.output.sequences.indices {
            rowsInFlight[next.output.sequences[index].slot] = next.output.sequences[index].id
        }
        flight = .some(next)
    }

    /// Counts a step as in flight; whose logits of it will not be finite.
    private func takeOff(_ output: borrowing SchedulerOutput) -> Set<RequestID> {
        var broken: Set<RequestID> = []
        let breaksEarly = scenario.features.contains(.brokenPrompts)
        for index in output.sequences.indices {
            guard let track = track(output.sequences[index].id) else { continue }
            track.flights += 1
            if output.sequences[index].samples {
                track.samples += 1
                if isHealed || track.brokenSample != track.samples - 1 { continue }
            } else if !breaksEarly || isHealed || track.samples > 0 || track.brokenSample != 0 {
                continue
            }
            broken.insert(track.id)
            track.isBroken = true
        }
        return broken
    }

    /// Says what follows of those that have a grammar, as soon as their last token is known: what the oracle would say,
    /// or something else now and then.
    private mutating func forceSome() {
        for track in forced where track.slot != nil && track.ending == nil && track.forcedAt != track.tokens {
            track.forcedAt = track.tokens
            let tokens = (0..<track.forcedTokenCount).map { place in
                let token = track.expectedToken(track.tokens + place)
                let chance = mix(seed ^ UInt64(step) << 32 ^ UInt64(place) << 16 ^ track.id.rawValue)
                return chance % 100 < track.wrongForced ? token ^ 1 : token
            }
            scheduler.force(tokens, of: track.id)
        }
    }

    /// What was planned before a step failed is worth nothing.
    private func isDoomed(_ flight: borrowing Flight) -> Bool { flight.isAhead && failedStep == flight.step - 1 }

    private mutating func execute(_ flight: inout Flight) {
        if flight.samples != nil { return }
        var samples: [TokenSample] = []
        swap(&samples, &spareSamples)
        model.execute(flight.output, broken: flight.broken, into: &samples) { [tracks] id in
            tracks[Int(id.rawValue)]?.salt ?? 0
        }
        flight.samples = samples
        if let lyingStep, flight.step >= lyingStep, let last = flight.samples?.popLast() {
            flight.samples?.append(TokenSample(token: last.token ^ 1, isFinite: last.isFinite))
        }
    }

    /// Executes the oldest step if that is still to be done, and hands its results to the scheduler.
    private mutating func complete(_ flight: consuming Flight) throws {
        try checkBlocks(of: flight.output)
        if areRowsInFlight { for row in rowsInFlight.indices { rowsInFlight[row] = nil } }
        areRowsInFlight = false
        isFailing = isDoomed(flight) || !isHealed && scenario.failingSteps.contains(flight.step)
        if isFailing { model.botch(flight.output) } else { execute(&flight) }
        var samples = flight.samples.take() ?? []
        for index in flight.output.sequences.indices {
            guard let track = track(flight.output.sequences[index].id) else { continue }
            track.flights -= 1
            if isOverlapped, track.ending != nil { coverage.uselessShares += 1 }
        }
        events.removeAll(keepingCapacity: true)
        if isFailing {
            failedStep = flight.step
            coverage.failedSteps += 1
            events += scheduler.abandon(flight.output)
        } else {
            scheduler.complete(flight.output, samples: samples, now: now, into: &events)
        }
        samples.removeAll(keepingCapacity: true)
        swap(&samples, &spareSamples)
        for event in events { try observe(event) }
        isFailing = false
        try checkInvariants()
        try abortSome()
        for index in 0..<scenario.limits.blockCount where !model.isPoisoned[index] {
            let block = BlockID(Int32(index))
            if scheduler.referenceCount(of: block) == 0, !scheduler.isPublished(block) { model.poison(block) }
        }
    }

    /// What must be true of every event: the client's stream is the oracle's, and it ends once, for the right reason.
    private mutating func observe(_ event: SchedulerEvent) throws {
        hash.combine(Int(event.id.rawValue))
        guard let track = track(event.id) else { throw failure("event for \(event.id), which is unknown") }
        if let ending = track.ending { throw failure("\(event.id) ended with \(ending) and then came \(event.kind)") }
        switch event.kind {
        case .token(let sample):
            let expected = track.expectedToken(track.tokens)
            hash.combine(Int(expected))
            track.tokens += 1
            if track.stepsPerRead > 0 { track.unread += 1 }
            if sample.token != expected || !sample.isFinite {
                throw failure("token \(track.tokens) of \(event.id) is \(sample.token) and should be \(expected)")
            }
            if track.mustEnd { throw failure("\(event.id) goes on after its end") }
            track.mustEnd = track.stopTokens.contains(expected) || isAtLength(track)
        case .finished(let reason, let usage):
            hash.combine(-1)
            track.ending = reason
            try check(reason, usage, of: track)
        }
    }

    /// Aborts who is due, in any state, those that have ended included; and who reads too slowly.
    private mutating func abortSome() throws {
        defer { move += 1 }
        guard !fated.isEmpty, !isHealed else { return }
        for index in fated.indices {
            if fated[index].stepsPerRead > 0 { try read(fated[index].track) }
            if fated[index].abortMove == move { try abort(fated[index].track) }
        }
    }

    /// A slow reader takes a token now and then, and is given up when too many wait for it.
    private mutating func read(_ track: Track) throws {
        guard track.ending == nil else { return }
        if track.unread > 0, step % track.stepsPerRead == 0, move % 3 == 0 { track.unread -= 1 }
        if track.unread > Self.readerBuffer {
            coverage.slowReaders += 1
            try abort(track)
        }
    }

    private mutating func abort(_ track: Track) throws {
        track.isAborted = true
        coverage.countAbort(
            hasEnded: track.ending != nil, isComputing: track.flights > 0, hasRow: track.slot != nil,
            wasPreempted: track.preemptions > 0, hasTokens: track.tokens > 0)
        let hadEnded = track.ending != nil
        let event = scheduler.abort(track.id)
        if (event == nil) != hadEnded { throw failure("abort of \(track.id) gave \(event.debugDescription)") }
        if let event { try observe(event) }
        if scheduler.abort(track.id) != nil { throw failure("\(track.id) was aborted twice") }
        try checkInvariants()
    }

    /// What is known of an accepted request.
    func track(_ id: RequestID) -> Track? { id.rawValue < tracks.count ? tracks[Int(id.rawValue)] : nil }

    private mutating func checkEnd() throws {
        let statistics = scheduler.statistics
        coverage.add(statistics)
        for track in tracks { if let track, track.ending == nil { throw failure("\(track.id) never ended") } }
        if statistics.running != 0 || statistics.waiting != 0 || statistics.usedBlocks != 0
            || statistics.freeBlocks != scenario.limits.blockCount || statistics.finished != acceptedCount
            || statistics.accepted + refused != scenario.clients.count
            || statistics.prefixHits > statistics.prefixQueries
        {
            throw failure("at the end: \(statistics)")
        }
        hash.combine(statistics.computedTokens)
    }

    mutating func fold(_ number: Int) { hash.combine(number) }

    func failure(_ message: String) -> SimulationFailure {
        SimulationFailure(
            seed: seed, step: step, isOverlapped: isOverlapped, message: message, trace: keepsTrace ? trace : [])
    }

    private func line(_ output: borrowing SchedulerOutput) -> String {
        let parts = output.sequences.map { sequence in
            let blocks = output.blocks[sequence.blockRange].map { "\($0.rawValue)" }.joined(separator: " ")
            let drafts = sequence.draftCount > 0 ? "?\(sequence.draftCount)" : ""
            return "\(sequence.id.rawValue)@\(sequence.slot):\(sequence.start)+\(sequence.tokenRange.count)\(drafts)"
                + "[\(blocks)]"
        }
        let preempted = output.preempted.map { " preempts \($0.rawValue)" }.joined()
        return "step \(step): \(parts.joined(separator: " "))\(preempted)"
    }
}
