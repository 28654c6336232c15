// What a step is made of, and how requests end.

import Scheduling
import Testing

@Suite struct SchedulerTests {
    @Test func `a prompt is computed in one step and then grows by one token per step`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(10), maxNewTokens: 3)
        let steps = try driver.finish()
        #expect(steps.map { $0.count(1) } == [10, 1, 1])
        #expect(steps.map { $0.start(1) } == [0, 10, 11])
        #expect(steps.tokens(of: 1) == [1010, 1011, 1012])
        let ending = try #require(steps.ending(of: 1))
        #expect(ending.reason == .length)
        #expect(ending.usage.promptTokens == 10 && ending.usage.generatedTokens == 3)
    }

    @Test func `a long prompt is computed in chunks of the budget and sampled at its end only`() throws {
        var driver = try Driver(tokenBudget: 16)
        try driver.add(1, prompt: prompt(40), maxNewTokens: 1)
        let steps = try driver.finish()
        #expect(steps.map { $0.count(1) } == [16, 16, 8])
        #expect(steps.map { $0.parts[0].samples } == [false, false, true])
    }

    @Test func `a long prompt does not keep others from their next token`() throws {
        var driver = try Driver(tokenBudget: 16)
        try driver.add(1, prompt: prompt(4, seed: 1), maxNewTokens: 20)
        try driver.add(2, prompt: prompt(4, seed: 2), maxNewTokens: 20)
        _ = try driver.step()
        try driver.add(3, prompt: prompt(100, seed: 3))
        for _ in 0..<7 {
            let step = try driver.step()
            #expect(step.count(1) == 1 && step.count(2) == 1 && step.count(3) == 14)
            #expect(step.parts.map(\.id) == [1, 2, 3])
        }
    }

    @Test func `the long prefill threshold leaves room for short prompts in the same step`() throws {
        var driver = try Driver(tokenBudget: 32, longPrefillTokenThreshold: 20)
        try driver.add(1, prompt: prompt(60, seed: 1))
        try driver.add(2, prompt: prompt(10, seed: 2))
        let step = try driver.step()
        #expect(step.count(1) == 20 && step.count(2) == 10)
    }

    @Test func `requests are served in the order of arrival`() throws {
        var driver = try Driver(maxSequences: 2)
        for id in UInt64(1)...4 {
            try driver.add(id, prompt: prompt(4, seed: Int(id)), maxNewTokens: 2, priority: -Int(id))
        }
        #expect(try driver.step().parts.map(\.id) == [1, 2])
        _ = try driver.step()
        #expect(try driver.step().parts.map(\.id) == [3, 4])
    }

    @Test func `under the priority policy lower values go first`() throws {
        var driver = try Driver(maxSequences: 2, policy: .priority)
        for id in UInt64(1)...4 {
            try driver.add(id, prompt: prompt(4, seed: Int(id)), maxNewTokens: 2, priority: -Int(id))
        }
        #expect(try driver.step().parts.map(\.id) == [4, 3])
    }

    @Test func `a stop token ends the request and counts as generated`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(5), maxNewTokens: 50, stopTokens: [7, 1007])
        let steps = try driver.finish()
        #expect(steps.tokens(of: 1) == [1005, 1006, 1007])
        let ending = try #require(steps.ending(of: 1))
        #expect(ending.reason == .stop(1007))
        #expect(ending.usage.generatedTokens == 3)
    }

    @Test func `a stop token in the last place is a stop`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(5), maxNewTokens: 1, stopTokens: [1005])
        #expect(try driver.finish().ending(of: 1)?.reason == .stop(1005))
    }

    @Test func `generation ends at the model's length`() throws {
        var driver = try Driver(maxModelLength: 12)
        try driver.add(1, prompt: prompt(10), maxNewTokens: .max)
        let steps = try driver.finish()
        #expect(steps.tokens(of: 1).count == 2)
        #expect(steps.ending(of: 1)?.reason == .length)
    }

    @Test func `rows stay with their sequences and are given out again`() throws {
        var driver = try Driver(maxSequences: 2)
        try driver.add(1, prompt: prompt(4, seed: 1), maxNewTokens: 1)
        try driver.add(2, prompt: prompt(4, seed: 2), maxNewTokens: 9)
        _ = try driver.step()
        try driver.add(3, prompt: prompt(4, seed: 3))
        let output = driver.scheduler.schedule(now: .zero)
        #expect(output.sequences.map(\.id.rawValue) == [2, 3])
        #expect(output.sequences.map(\.slot) == [1, 0])
        _ = driver.scheduler.abandon(output)
    }

    @Test func `the output shows the whole block table of each sequence`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(17))
        try driver.add(2, prompt: prompt(3, seed: 2))
        let output = driver.scheduler.schedule(now: .zero)
        #expect(output.sequences.map(\.blockRange.count) == [3, 1])
        #expect(output.sequences.map(\.contextLength) == [17, 3])
        #expect(Set(output.blocks).count == 4)
        #expect(Array(output.tokens) == prompt(17) + prompt(3, seed: 2))
        #expect(output.sampleCount == 2)
        _ = driver.scheduler.abandon(output)
    }

    @Test func `a row that is not finite fails its request alone`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(10, seed: 1), maxNewTokens: 3)
        try driver.add(2, prompt: prompt(10, seed: 2), maxNewTokens: 3)
        driver.broken = [1]
        let steps = try driver.finish()
        #expect(steps.ending(of: 1)?.reason == .error(.nonFiniteLogits))
        #expect(steps.tokens(of: 1) == [])
        #expect(steps.tokens(of: 2).count == 3)
    }

    @Test func `blocks behind a row that is not finite are not found again`() throws {
        var driver = try Driver(tokenBudget: 16)
        try driver.add(1, prompt: prompt(33), maxNewTokens: 3)
        // Two chunks are published before the third shows that something is wrong.
        _ = try driver.step()
        _ = try driver.step()
        driver.broken = [1]
        _ = try driver.step()
        #expect(driver.scheduler.statistics.cachedBlocks == 0)
        driver.broken = []
        try driver.add(2, prompt: prompt(33), maxNewTokens: 3)
        #expect(try driver.finish().ending(of: 2)?.usage.cachedTokens == 0)
    }

    @Test func `a deadline ends waiting and running requests`() throws {
        var driver = try Driver(maxSequences: 1)
        try driver.add(1, prompt: prompt(4, seed: 1), maxNewTokens: 50, deadline: .seconds(2))
        try driver.add(2, prompt: prompt(4, seed: 2), deadline: .seconds(1))
        try driver.add(3, prompt: prompt(4, seed: 3))
        _ = try driver.step()
        #expect(driver.scheduler.expire(now: .milliseconds(999)) == [])
        #expect(driver.scheduler.expire(now: .seconds(1)).map(\.id.rawValue) == [2])
        let event = try #require(driver.scheduler.expire(now: .seconds(3)).first)
        #expect(event.id.rawValue == 1)
        #expect([Step(parts: [], preempted: [], events: [event])].ending(of: 1)?.reason == .deadline)
        #expect(try driver.step().parts.map(\.id) == [3])
    }

    @Test func `a step that could not be executed fails all requests and frees everything`() throws {
        var driver = try Driver(maxSequences: 1)
        try driver.add(1, prompt: prompt(20, seed: 1))
        try driver.add(2, prompt: prompt(20, seed: 2))
        let events = driver.scheduler.abandon(driver.scheduler.schedule(now: .zero))
        let steps = [Step(parts: [], preempted: [], events: events)]
        #expect(steps.ending(of: 1)?.reason == .error(.stepFailed))
        #expect(steps.ending(of: 2)?.reason == .error(.stepFailed))
        try driver.scheduler.checkInvariants()
        #expect(driver.scheduler.statistics.usedBlocks == 0 && !driver.scheduler.hasWork)
    }

    @Test func `statistics count what happened`() throws {
        var driver = try Driver(blockCount: 10)
        try driver.add(1, prompt: prompt(20, seed: 1), maxNewTokens: 3)
        _ = try driver.step()
        #expect(driver.scheduler.statistics.running == 1)
        #expect(driver.scheduler.statistics.usedBlocks == 3)
        #expect(driver.scheduler.statistics.kvUsage == 0.3)
        _ = try driver.finish()
        let statistics = driver.scheduler.statistics
        #expect(statistics.running == 0 && statistics.usedBlocks == 0 && statistics.freeBlocks == 10)
        #expect(statistics.promptTokens == 20 && statistics.generatedTokens == 3 && statistics.computedTokens == 22)
        #expect(statistics.accepted == 1 && statistics.finished == 1)
    }
}
