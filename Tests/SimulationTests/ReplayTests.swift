// Promises about latency, kept on a virtual clock: fairness, long prompts beside streams, and shared prefixes.

import Foundation
import Scheduling
import Testing

@Suite struct ReplayTests {
    /// About what two cores do with a small model (docs/benchmarks/cpu.md).
    private static let cost = StepCost(
        perStep: .milliseconds(4), perToken: .microseconds(250), perThousandAttended: .microseconds(110))

    private static func limits(
        policy: SchedulingPolicy = .fcfs, maxSequences: Int = 16, tokenBudget: Int = 96, maxModelLength: Int = 2048,
        caching: Bool = true
    ) throws -> SchedulerLimits {
        try SchedulerLimits(
            blockCount: 16 * maxSequences * maxModelLength / 256, maxSequences: maxSequences, tokenBudget: tokenBudget,
            maxModelLength: maxModelLength, enablePrefixCaching: caching, policy: policy, attentionScale: 2270)
    }

    /// Requests of one tenant at random times, `meanGap` apart.
    private static func demand(
        tenant: UInt64, meanGap: Double, seconds: Double, seed: UInt64, promptTokens: ClosedRange<Int> = 100...300,
        newTokens: ClosedRange<Int> = 40...120
    ) -> [ReplayedRequest] {
        var random = SimulationRandom(seed: seed)
        var log: [ReplayedRequest] = []
        var time = 0.0
        while true {
            time += meanGap * Double.random(in: 0..<2, using: &random)
            if time > seconds { return log }
            log.append(
                ReplayedRequest(
                    arrival: .seconds(time),
                    prompt: (0..<random.int(promptTokens)).map { _ in TokenID(random.int(0...9999)) },
                    newTokens: random.int(newTokens), tenant: tenant))
        }
    }

    private static func politeTimes(_ log: [ReplayedRequest], _ report: ReplayReport) -> [Duration] {
        zip(log, report.outcomes).compactMap { $0.tenant == 0 ? nil : $1.firstToken }
    }

    private static func mix(_ logs: [ReplayedRequest]...) -> [ReplayedRequest] {
        logs.flatMap { $0 }.sorted { $0.arrival < $1.arrival }
    }

    @Test func `a tenant with a hundred times the demand costs the polite at most twice the wait`() throws {
        let polite = (UInt64(1)...3).map { Self.demand(tenant: $0, meanGap: 3, seconds: 200, seed: $0) }
        let greedy = Self.demand(tenant: 0, meanGap: 0.03, seconds: 200, seed: 9)
        let alone = Self.mix(polite[0], polite[1], polite[2])
        let crowd = Self.mix(polite[0], polite[1], polite[2], greedy)
        let fair = Replay(limits: try Self.limits(policy: .fair), cost: Self.cost)
        let before = Self.politeTimes(alone, try fair.run(alone))
        let report = try fair.run(crowd) { $0 > .seconds(220) }
        let beside = Self.politeTimes(crowd, report)
        #expect(beside.count == before.count)
        let (calm, crowded) = (
            ReplayReport.percentile(0.99, of: before), ReplayReport.percentile(0.99, of: beside)
        )
        print("polite p99 time to the first token: alone \(calm), beside the greedy one \(crowded)")
        #expect(crowded <= calm * 2)
        // Nobody is slowed down for nothing: first come, first served makes them wait for ever longer.
        let unfair = Replay(limits: try Self.limits(), cost: Self.cost)
        let waits = Self.politeTimes(crowd, try unfair.run(crowd) { $0 > .seconds(220) })
        #expect(ReplayReport.percentile(0.5, of: waits) > calm * 10)
        let least = try unfair.run(crowd) { $0 > .seconds(220) }.statistics.generatedTokens
        print("tokens generated: fair \(report.statistics.generatedTokens), first come \(least)")
        #expect(report.statistics.generatedTokens * 10 > least * 9)
    }

    /// The default of rows: a step in which all generate takes two thirds of what a prompt takes.
    @Test(arguments: [1, 8]) func `with 64 rows too, though steps are long then`(politeCount: Int) throws {
        func demand(_ tenant: UInt64, perSecond: Double) -> [ReplayedRequest] {
            Self.demand(
                tenant: tenant, meanGap: 1 / perSecond, seconds: 60, seed: tenant, promptTokens: 128...128,
                newTokens: 64...64)
        }
        let rate = 3 / Double(politeCount)
        let alone = (UInt64(1)...UInt64(politeCount)).flatMap { demand($0, perSecond: rate) }
            .sorted { $0.arrival < $1.arrival }
        let crowd = Self.mix(alone, demand(0, perSecond: 100))
        let replay = Replay(limits: try Self.limits(policy: .fair, maxSequences: 64), cost: Self.cost)
        let before = try replay.run(alone)
        let report = try replay.run(crowd) { $0 > .seconds(64) }
        let calm = ReplayReport.percentile(0.99, of: Self.politeTimes(alone, before))
        let crowded = ReplayReport.percentile(0.99, of: Self.politeTimes(crowd, report))
        let (worst, unfair) = (
            ReplayReport.percentile(1, of: zip(crowd, report.outcomes).filter { $0.0.tenant == 0 }.flatMap(\.1.gaps)),
            try Replay(limits: try Self.limits(maxSequences: 64), cost: Self.cost).run(crowd) { $0 > .seconds(64) }
        )
        print("polite p99 time to the first token: alone \(calm), beside the greedy one with 64 rows \(crowded)")
        print("the greedy one's longest pause: \(worst)")
        #expect(crowded <= calm * 1.75)
        #expect(worst < .milliseconds(250))
        #expect(report.statistics.generatedTokens * 100 > unfair.statistics.generatedTokens * 97)
    }

    @Test func `a tenant that stayed away has saved up nothing`() throws {
        // Both want more than there is from second 100 on; the second had done nothing until then.
        let log = Self.mix(
            Self.demand(tenant: 1, meanGap: 0.1, seconds: 200, seed: 1),
            Self.demand(tenant: 2, meanGap: 0.1, seconds: 100, seed: 2).map {
                var late = $0
                late.arrival += .seconds(100)
                return late
            })
        func served(_ tenant: UInt64, _ faults: SchedulerFaults) throws -> Int {
            let report = try Replay(limits: try Self.limits(policy: .fair), cost: Self.cost, faults: faults)
                .run(log) { $0 > .seconds(130) }
            return zip(log, report.outcomes).filter {
                $0.tenant == tenant && ($1.end ?? .zero) > .seconds(101)
            }.count
        }
        let (one, two) = (try served(1, []), try served(2, []))
        #expect(abs(one - two) <= 12, "\(one) of one, \(two) of the other")
        // Planted: with its credit, the second has the server for itself.
        let (late, early) = (try served(2, .banksCredit), try served(1, .banksCredit))
        #expect(late > 2 * early)
    }

    @Test func `a prompt of 8,000 tokens beside eight streams makes no gap of five times the median`() throws {
        let streams = (0..<8).map { number in
            ReplayedRequest(
                arrival: .zero, prompt: (0..<20).map { TokenID(number * 100 + $0) }, newTokens: 1500)
        }
        let long = ReplayedRequest(arrival: .seconds(2), prompt: (0..<8000).map { TokenID($0) }, newTokens: 10)
        let replay = Replay(limits: try Self.limits(maxModelLength: 8192), cost: Self.cost)
        let report = try replay.run(streams + [long])
        let gaps = report.outcomes.prefix(8).flatMap(\.gaps)
        let (median, worst) = (ReplayReport.percentile(0.5, of: gaps), ReplayReport.percentile(1, of: gaps))
        print("gap between tokens: median \(median), worst \(worst)")
        #expect(worst < median * 5)
    }

    @Test func `short prompts are not behind a long one`() throws {
        let long = ReplayedRequest(arrival: .zero, prompt: (0..<8000).map { TokenID($0) }, newTokens: 10)
        let short = (0..<10).map { number in
            ReplayedRequest(
                arrival: .milliseconds(200 + 700 * number),
                prompt: (0..<100).map { TokenID(number * 1000 + $0 + 10_000) },
                newTokens: 10)
        }
        let replay = Replay(limits: try Self.limits(maxModelLength: 8192), cost: Self.cost)
        let alone = try #require(try replay.run([long]).outcomes[0].firstToken)
        let report = try replay.run([long] + short)
        let waits = report.outcomes.dropFirst().compactMap(\.firstToken)
        let slowed = try #require(report.outcomes[0].firstToken)
        print("long prompt: alone \(alone), beside short ones \(slowed); the short ones wait \(waits.max() ?? .zero)")
        #expect(waits.count == 10 && waits.allSatisfy { $0 < .milliseconds(200) })
        #expect(slowed < alone * 1.3)
    }

    @Test(arguments: [0, 5]) func `a shared prefix is computed once`(gapMilliseconds: Int) throws {
        // 16 requests of 512 shared tokens: 15 × 512 tokens need not be computed.
        let log = (0..<16).map { number in
            ReplayedRequest(
                arrival: .milliseconds(gapMilliseconds * number),
                prompt: (0..<512).map { TokenID($0) } + (0..<30).map { TokenID(1000 + number * 100 + $0) },
                newTokens: 32)
        }
        let report = try Replay(limits: try Self.limits(), cost: Self.cost).run(log)
        #expect(report.statistics.prefixHits == 7680)
        #expect(report.statistics.prefixQueries == 16 * 542)
        #expect(report.statistics.computedTokens == 512 + 16 * (30 + 31))
    }

    @Test func `a log replayed twice gives the same report`() throws {
        let log = Self.demand(tenant: 1, meanGap: 0.2, seconds: 20, seed: 4)
        let replay = Replay(limits: try Self.limits(policy: .priority), cost: Self.cost)
        #expect(try replay.run(log) == replay.run(log))
        #expect(try replay.run(log).outcomes.allSatisfy { $0.end != nil })
    }
}

extension ReplayTests {
    /// Of processor time, so that a busy machine does not count.
    private static func seconds(caching: Bool) throws -> (total: Double, steps: Int) {
        // No two prompts begin alike, and one step in two computes the full budget.
        let log = (0..<1500).map { number in
            ReplayedRequest(
                arrival: .milliseconds(20 * number), prompt: (0..<512).map { TokenID(number * 512 + $0) }, newTokens: 8)
        }
        let replay = Replay(limits: try limits(tokenBudget: 512, caching: caching), cost: cost)
        let start = clock()
        let report = try replay.run(log)
        #expect(report.statistics.prefixHits == 0)
        return (Double(clock() - start) / Double(CLOCKS_PER_SEC), report.steps)
    }

    @Test func `a cache that is never hit costs less than a hundredth of a step`() throws {
        var on = Double.infinity
        var off = Double.infinity
        var steps = 1
        for _ in 0..<3 {
            off = min(off, try Self.seconds(caching: false).total)
            let run = try Self.seconds(caching: true)
            on = min(on, run.total)
            steps = run.steps
        }
        let microseconds = (on - off) / Double(steps) * 1e6
        print(
            "a step of up to 512 tokens: \(off / Double(steps) * 1e6) µs to plan, \(microseconds) µs more with the cache"
        )
        // A step takes 4 ms at least, on the smallest model that is served.
        #expect(microseconds < 40)
    }
}
