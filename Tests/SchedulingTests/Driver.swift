// Runs a scheduler the way the engine does, with a sampler that counts.
//
// The sampled token is 1000 + position, so a stream that repeats or skips a token shows it.

import Scheduling

/// One step as the tests look at it.
struct Step: Equatable {
    /// The share of one sequence.
    struct Part: Equatable {
        let id: UInt64
        let start: Int
        let count: Int
        let samples: Bool
    }

    let parts: [Part]
    let preempted: [UInt64]
    let events: [SchedulerEvent]

    /// Tokens of a sequence in this step; 0 when it sat the step out.
    func count(_ id: UInt64) -> Int { parts.first { $0.id == id }?.count ?? 0 }
    /// Position at which a sequence started in this step.
    func start(_ id: UInt64) -> Int? { parts.first { $0.id == id }?.start }
}

/// A scheduler with a fake device.
struct Driver: ~Copyable {
    var scheduler: Scheduler
    /// Ids whose next sample is not finite.
    var broken: Set<UInt64> = []
    /// What to sample at a position instead.
    var tokenAt: [Int: TokenID] = [:]

    init(
        blockSize: Int = 8, blockCount: Int = 100, maxSequences: Int = 8, tokenBudget: Int = 64,
        maxModelLength: Int = 200,
        enablePrefixCaching: Bool = true, policy: SchedulingPolicy = .fcfs, longPrefillTokenThreshold: Int = 0,
        attentionScale: Int = 0, watermark: Double = 0, priorityAgeing: Duration? = .seconds(30),
        maxPreemptions: Int = 4, speculation: SpeculationLimits = .off, slidingWindow: Int? = nil,
        layerGroups: LayerGroups? = nil, proposer: (any DraftProposer)? = nil
    ) throws {
        scheduler = try Scheduler(
            limits: SchedulerLimits(
                blockSize: blockSize, blockCount: blockCount, maxSequences: maxSequences, tokenBudget: tokenBudget,
                maxModelLength: maxModelLength, enablePrefixCaching: enablePrefixCaching, policy: policy,
                longPrefillTokenThreshold: longPrefillTokenThreshold, attentionScale: attentionScale,
                watermark: watermark, priorityAgeing: priorityAgeing, maxPreemptions: maxPreemptions,
                speculation: speculation, slidingWindow: slidingWindow, layerGroups: layerGroups),
            cacheKey: (1, 2), proposer: proposer)
    }

    mutating func add(
        _ id: UInt64, prompt: [TokenID], maxNewTokens: Int = 4, stopTokens: [TokenID] = [], priority: Int = 0,
        cacheSalt: UInt64 = 0, deadline: Duration? = nil, tenant: UInt64 = 0, now: Duration = .zero,
        promptRate: Double = 0
    ) throws {
        try scheduler.add(
            GenerationRequest(
                id: RequestID(id), prompt: prompt, maxNewTokens: maxNewTokens, stopTokens: stopTokens,
                priority: priority, cacheSalt: cacheSalt, deadline: deadline, tenant: tenant),
            now: now, promptRate: promptRate)
    }

    /// Schedules and completes one step; `abort` is called while it is in flight.
    mutating func step(aborting abort: UInt64? = nil) throws -> Step {
        let output = scheduler.schedule(now: .zero)
        var events: [SchedulerEvent] = []
        if let abort, let event = scheduler.abort(RequestID(abort)) { events.append(event) }
        let parts = output.sequences.map {
            Step.Part(id: $0.id.rawValue, start: $0.start, count: $0.tokenRange.count, samples: $0.samples)
        }
        var samples: [TokenSample] = []
        for sequence in output.sequences {
            for position in sequence.samplePosition..<sequence.samplePosition + sequence.sampleCount {
                samples.append(
                    TokenSample(
                        token: tokenAt[position] ?? TokenID(1000 + position),
                        isFinite: !broken.contains(sequence.id.rawValue)))
            }
        }
        let preempted = output.preempted.map(\.rawValue)
        scheduler.complete(output, samples: samples, now: .zero, into: &events)
        try scheduler.checkInvariants()
        return Step(parts: parts, preempted: preempted, events: events)
    }

    /// Steps until nothing is left; all steps.
    mutating func finish() throws -> [Step] {
        var steps: [Step] = []
        while scheduler.hasWork {
            steps.append(try step())
            precondition(steps.count < 10_000, "no end in sight")
        }
        return steps
    }
}

extension [Step] {
    /// The token stream of a request.
    func tokens(of id: UInt64) -> [TokenID] {
        flatMap(\.events).compactMap { event in
            if event.id.rawValue == id, case .token(let sample) = event.kind { sample.token } else { nil }
        }
    }

    /// How a request ended.
    func ending(of id: UInt64) -> (reason: FinishReason, usage: RequestUsage)? {
        for event in flatMap(\.events) where event.id.rawValue == id {
            if case .finished(let reason, let usage) = event.kind { return (reason, usage) }
        }
        return nil
    }
}

/// A prompt that no other seed shares.
func prompt(_ count: Int, seed: Int = 0) -> [TokenID] { (0..<count).map { TokenID(seed * 10_000 + $0) } }
