// A log of requests, replayed through the scheduler on a virtual clock: what would latency and throughput be?
//
// Nothing is computed. A step takes as long as a cost model says, every request generates as many tokens as the log
// says, and the rest is the real scheduler, so a change of policy or limits is judged in seconds instead of hours.

/// How long a step takes: linear in what it computes.
package struct StepCost: Sendable, Equatable {
    /// Of any step: weights are read once, kernels are launched.
    package var perStep: Duration
    /// Of each token.
    package var perToken: Duration
    /// Of each pair of a token and a thousand tokens that it attends to.
    package var perThousandAttended: Duration

    /// Gathers the fields.
    package init(perStep: Duration, perToken: Duration, perThousandAttended: Duration = .zero) {
        self.perStep = perStep
        self.perToken = perToken
        self.perThousandAttended = perThousandAttended
    }

    func duration(of output: borrowing SchedulerOutput) -> Duration {
        var attended = 0
        for sequence in output.sequences {
            // Positions start, …, start + n − 1 see themselves and everything before.
            let count = sequence.tokenRange.count
            attended += count * sequence.start + count * (count + 1) / 2
        }
        return perStep + perToken * output.tokenCount + perThousandAttended * (Double(attended) / 1000)
    }
}

/// One request of a log.
package struct ReplayedRequest: Sendable, Equatable {
    /// Since the log began.
    package var arrival: Duration
    /// [prompt tokens] Equal beginnings share the prefix cache.
    package var prompt: [TokenID]
    /// Tokens that it generates.
    package var newTokens: Int
    /// As in `GenerationRequest`.
    package var tenant: UInt64
    /// As in `GenerationRequest`.
    package var priority: Int
    /// Since the log began; nil is never.
    package var deadline: Duration?

    /// Gathers the fields.
    package init(
        arrival: Duration, prompt: [TokenID], newTokens: Int, tenant: UInt64 = 0, priority: Int = 0,
        deadline: Duration? = nil
    ) {
        self.arrival = arrival
        self.prompt = prompt
        self.newTokens = newTokens
        self.tenant = tenant
        self.priority = priority
        self.deadline = deadline
    }
}

/// What became of one request.
package struct ReplayedOutcome: Sendable, Equatable {
    /// Its place in the log.
    package let index: Int
    /// From arrival to the first token; nil when none came.
    package var firstToken: Duration?
    /// [tokens − 1] From each token to the next.
    package var gaps: [Duration] = []
    /// When it ended, since the log began; nil when it was refused.
    package var end: Duration?
    /// Times it lost its blocks.
    package var preemptions = 0
}

/// What became of a log.
package struct ReplayReport: Sendable, Equatable {
    /// [requests] In the order of the log.
    package var outcomes: [ReplayedOutcome]
    /// The scheduler's totals.
    package var statistics = SchedulerStatistics()
    /// Requests that the scheduler refused; their outcomes have no end.
    package var refusals = 0
    /// Steps taken.
    package var steps = 0
    /// From the start of the log to the last event.
    package var duration = Duration.zero

    /// The value that this share of the values does not exceed (nearest rank); zero for none.
    package static func percentile(_ share: Double, of values: [Duration]) -> Duration {
        if values.isEmpty { return .zero }
        let sorted = values.sorted()
        let rank = Int(share * Double(sorted.count))
        return sorted[max(0, min(sorted.count - 1, rank))]
    }
}

/// Replays logs under given limits.
package struct Replay {
    private let limits: SchedulerLimits
    private let cost: StepCost
    private let faults: SchedulerFaults

    /// Gathers the fields; `faults` is for tests.
    package init(limits: SchedulerLimits, cost: StepCost, faults: SchedulerFaults = []) {
        self.faults = faults
        self.limits = limits
        self.cost = cost
    }

    /// Runs `log`, which is in the order of arrival, to its end. Requests that the scheduler refuses end at once.
    /// `isStopped` is asked after every step whether to leave the rest.
    package func run(
        _ log: [ReplayedRequest], isStopped: (Duration) -> Bool = { _ in false }
    ) throws(SchedulingError) -> ReplayReport {
        var scheduler = try Scheduler(limits: limits, cacheKey: (0, 0), faults: faults)
        var report = ReplayReport(outcomes: log.indices.map { ReplayedOutcome(index: $0) })
        var latest = [Duration?](repeating: nil, count: log.count)
        var events: [SchedulerEvent] = []
        var samples: [TokenSample] = []
        var now = Duration.zero
        var arrived = 0
        while arrived < log.count || scheduler.hasWork {
            if !scheduler.hasWork { now = max(now, log[arrived].arrival) }
            while arrived < log.count, log[arrived].arrival <= now {
                do {
                    try scheduler.add(request(log[arrived], number: arrived), now: now)
                } catch {
                    report.refusals += 1
                }
                arrived += 1
            }
            events.removeAll(keepingCapacity: true)
            events += scheduler.expire(now: now)
            let output = scheduler.schedule(now: now)
            now += output.isEmpty ? .milliseconds(1) : cost.duration(of: output)
            samples.removeAll(keepingCapacity: true)
            for sequence in output.sequences where sequence.samples {
                for row in 0..<sequence.sampleCount {
                    samples.append(TokenSample(token: token(sequence.samplePosition + row, of: sequence.id)))
                }
            }
            scheduler.complete(output, samples: samples, now: now, into: &events)
            for event in events { record(event, at: now, of: log, latest: &latest, report: &report) }
            report.steps += 1
            if isStopped(now) { break }
        }
        report.statistics = scheduler.statistics
        report.duration = now
        _ = scheduler.abortAll()
        return report
    }

    private func request(_ logged: ReplayedRequest, number: Int) -> GenerationRequest {
        GenerationRequest(
            id: RequestID(UInt64(number)), prompt: logged.prompt, maxNewTokens: logged.newTokens,
            priority: logged.priority, arrival: logged.arrival, cacheSalt: 0, deadline: logged.deadline,
            tenant: logged.tenant)
    }

    /// Like no other: what was generated is never found in the cache by anybody else.
    private func token(_ position: Int, of id: RequestID) -> TokenID {
        TokenID(truncatingIfNeeded: (Int(id.rawValue) << 16 ^ position) & 0x3fff_ffff) | 1 << 30
    }

    private func record(
        _ event: SchedulerEvent, at now: Duration, of log: [ReplayedRequest], latest: inout [Duration?],
        report: inout ReplayReport
    ) {
        let index = Int(event.id.rawValue)
        switch event.kind {
        case .token:
            if let last = latest[index] {
                report.outcomes[index].gaps.append(now - last)
            } else {
                report.outcomes[index].firstToken = now - log[index].arrival
            }
            latest[index] = now
        case .finished(_, let usage):
            report.outcomes[index].end = now
            report.outcomes[index].preemptions = usage.preemptions
        }
    }
}
