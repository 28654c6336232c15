// An engine that has work and takes no steps is noticed from outside it, and an engine that is merely busy is not.

import Execution
import Foundation
import Scheduling
import Synchronization
import TestSupport
import Testing

/// What a watchdog said, read from the test's task.
private final class StallLog: Sendable {
    private let events = Mutex<[StallEvent]>([])

    func append(_ event: StallEvent) { events.withLock { $0.append(event) } }

    var reports: [StallReport] {
        events.withLock { $0.compactMap { if case .stalled(let report) = $0 { report } else { nil } } }
    }
    var recoveries: Int {
        events.withLock { $0.count { if case .recovered = $0 { true } else { false } } }
    }
    var ends: [EngineStall] {
        events.withLock { $0.compactMap { if case .hung(let stall) = $0 { stall } else { nil } } }
    }
    var count: Int { events.withLock { $0.count } }
}

@Suite(.serialized) struct WatchdogTests {
    private func eventually(within limit: Duration = .seconds(20), _ condition: () -> Bool) async throws -> Bool {
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline {
            if condition() { return true }
            try await Task.sleep(for: .milliseconds(2))
        }
        return condition()
    }

    @Test func `a step that does not end is reported once, with what runs, and the engine recovers`() async throws {
        let deferral = Deferral()
        let engine = try await RealModel.engine(BackendOptions(deferral: deferral)) { $0.maxSequences = 2 }
        // The first step takes as long as it takes; what is measured comes after it.
        _ = try await engine.generate([[1, 2, 3]], maxNewTokens: 2)
        let log = StallLog()
        engine.watch(StallLimits(timeout: .milliseconds(500), grace: .seconds(60))) { log.append($0) }
        deferral.isStuck.store(true, ordering: .relaxed)
        async let generations = engine.generate(
            [Array(5..<45), Array(50..<70), [1, 2, 3]], maxNewTokens: 8)
        #expect(try await eventually { log.count > 0 })
        #expect(engine.health == .stalled("the engine has completed no step for 0.5 s"))
        let report = try #require(log.reports.first)
        #expect(report.step.running == 2 && report.step.waiting == 1)
        #expect(report.step.shares.first?.blocks == 3, "40 tokens and blocks of 16")
        let lines = report.description.split(separator: "\n")
        #expect(lines[0].contains("2 sequences run, 1 wait"), "\(lines[0])")
        #expect(lines[1].contains("of 2 sequences"), "\(lines[1])")
        #expect(lines.count == 4 && lines[2].contains("tokens known"), "\(report)")
        do {
            _ = try engine.reserve(requests: 1, promptTokenEstimate: 1)
            Issue.record("a stalled engine admitted a request")
        } catch {
            #expect(error == .stalled("the engine has completed no step for 0.5 s"))
        }
        deferral.isStuck.store(false, ordering: .relaxed)
        #expect(try await generations.allSatisfy { $0.tokens.count == 8 })
        #expect(try await eventually { log.recoveries == 1 })
        #expect(engine.health == .ready)
        #expect(log.reports.count == 1 && log.ends.isEmpty)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `when the grace period passes too the engine is given up`() async throws {
        let deferral = Deferral()
        let engine = try await RealModel.engine(BackendOptions(deferral: deferral))
        _ = try await engine.generate([[1, 2, 3]], maxNewTokens: 2)
        let log = StallLog()
        engine.watch(StallLimits(timeout: .milliseconds(200))) { log.append($0) }
        deferral.isStuck.store(true, ordering: .relaxed)
        async let generations = engine.generate([[1, 2, 3]], maxNewTokens: 4)
        #expect(try await eventually { !log.ends.isEmpty })
        let stall = try #require(log.ends.first)
        #expect(stall.running == 1)
        #expect(stall.duration >= .milliseconds(400) && stall.duration < .milliseconds(600))
        #expect(log.reports.count == 1)
        deferral.isStuck.store(false, ordering: .relaxed)
        _ = try await generations
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `before the first step the grace period is four times as long`() async throws {
        let deferral = Deferral()
        deferral.isStuck.store(true, ordering: .relaxed)
        let engine = try await RealModel.engine(BackendOptions(deferral: deferral))
        let log = StallLog()
        engine.watch(StallLimits(timeout: .milliseconds(100))) { log.append($0) }
        async let generations = engine.generate([[1, 2, 3]], maxNewTokens: 4)
        #expect(try await eventually { !log.ends.isEmpty })
        #expect(try #require(log.ends.first).duration >= .milliseconds(500))
        deferral.isStuck.store(false, ordering: .relaxed)
        _ = try await generations
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `neither a long prompt that makes steps nor an idle engine is a stall`() async throws {
        let engine = try await RealModel.engine(BackendOptions(deferral: Deferral(pace: .milliseconds(40)))) {
            $0.tokenBudget = 16
            $0.maxSequences = 4
        }
        let log = StallLog()
        engine.watch(StallLimits(timeout: .milliseconds(700))) { log.append($0) }
        let start = ContinuousClock.now
        _ = try await engine.generate([(0..<700).map { TokenID(1000 + $0) }], maxNewTokens: 10)
        #expect(start.duration(to: .now) > .milliseconds(800), "too quick to tell")
        try await Task.sleep(for: .milliseconds(1500))
        #expect(log.count == 0)
        #expect(engine.health == .ready)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `draining goes on where the engine stalls, and its end is not a recovery`() async throws {
        let deferral = Deferral()
        let engine = try await RealModel.engine(BackendOptions(deferral: deferral))
        _ = try await engine.generate([[1, 2, 3]], maxNewTokens: 2)
        let log = StallLog()
        engine.watch(StallLimits(timeout: .milliseconds(100), grace: .seconds(60))) { log.append($0) }
        deferral.isStuck.store(true, ordering: .relaxed)
        async let generations = engine.generate([[1, 2, 3]], maxNewTokens: 4)
        #expect(try await eventually { log.count > 0 })
        async let drained: Void = engine.drain(timeout: .seconds(20))
        #expect(try await eventually { engine.health == .draining })
        deferral.isStuck.store(false, ordering: .relaxed)
        #expect(try await generations[0].tokens.count == 4)
        await drained
        #expect(engine.health == .draining)
    }
}
