// When blocks run out, the newest of the lowest priority starts over, and nobody can tell from its tokens.

import Scheduling
import Testing

@Suite struct PreemptionTests {
    /// Two sequences of up to 40 tokens in six blocks of eight: together they need ten.
    private func crowded(caching: Bool = true, policy: SchedulingPolicy = .fcfs) throws -> Driver {
        try Driver(blockCount: 6, enablePrefixCaching: caching, policy: policy)
    }

    @Test(arguments: [true, false])
    func `a preempted sequence produces the same tokens`(caching: Bool) throws {
        var driver = try crowded(caching: caching)
        for id in UInt64(1)...2 { try driver.add(id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 32) }
        let steps = try driver.finish()
        #expect(driver.scheduler.statistics.preemptions > 0)
        for id in UInt64(1)...2 { #expect(steps.tokens(of: id) == (0..<32).map { TokenID(1008 + $0) }) }
        #expect(try #require(steps.ending(of: 2)).usage.preemptions > 0)
    }

    @Test func `the newest gives way and the oldest never does`() throws {
        var driver = try crowded()
        for id in UInt64(1)...3 { try driver.add(id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 32) }
        let steps = try driver.finish()
        #expect(!steps.flatMap(\.preempted).contains(1))
        #expect(steps.flatMap(\.preempted).first != 1)
        #expect(steps.ending(of: 1)?.usage.preemptions == 0)
    }

    @Test func `the lowest priority gives way first`() throws {
        var driver = try crowded(policy: .priority)
        try driver.add(1, prompt: prompt(8, seed: 1), maxNewTokens: 32, priority: 5)
        try driver.add(2, prompt: prompt(8, seed: 2), maxNewTokens: 32, priority: 0)
        let steps = try driver.finish()
        #expect(Set(steps.flatMap(\.preempted)) == [1])
    }

    @Test func `a preempted sequence is served before those that came later`() throws {
        var driver = try crowded()
        for id in UInt64(1)...2 { try driver.add(id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 32) }
        while driver.scheduler.statistics.preemptions == 0 { _ = try driver.step() }
        try driver.add(3, prompt: prompt(2, seed: 3), maxNewTokens: 1)
        var order: [UInt64] = []
        while driver.scheduler.hasWork { order += try driver.step().parts.map(\.id) }
        let second = try #require(order.firstIndex(of: 2))
        let third = try #require(order.firstIndex(of: 3))
        #expect(second < third)
    }

    @Test func `its prefix usually survives in the cache`() throws {
        var driver = try Driver(blockCount: 12, maxModelLength: 90)
        try driver.add(1, prompt: prompt(8, seed: 1), maxNewTokens: 80)
        try driver.add(2, prompt: prompt(40, seed: 2), maxNewTokens: 8)
        try driver.add(3, prompt: prompt(40, seed: 3), maxNewTokens: 8)
        _ = try driver.finish()
        let statistics = driver.scheduler.statistics
        #expect(statistics.computedTokens < statistics.promptTokens + statistics.generatedTokens + 45)
    }

    @Test func `a crowd in a pool for one ends in order`() throws {
        var driver = try Driver(blockCount: 5, maxSequences: 8, maxModelLength: 40)
        for id in UInt64(1)...20 { try driver.add(id, prompt: prompt(3, seed: Int(id)), maxNewTokens: 37) }
        let steps = try driver.finish()
        for id in UInt64(1)...20 { #expect(steps.tokens(of: id).count == 37) }
        let ends = steps.flatMap(\.events).filter { if case .finished = $0.kind { true } else { false } }
        #expect(ends.map(\.id.rawValue) == Array(1...20))
    }

    @Test func `a crowded pool spends most of its steps on new tokens`() throws {
        var driver = try Driver(
            blockSize: 16, blockCount: 200, maxSequences: 64, tokenBudget: 512, maxModelLength: 600,
            enablePrefixCaching: false, watermark: 0.01)
        for id in UInt64(0)..<120 {
            let length = 20 + Int(id * 37 % 150)
            try driver.add(id, prompt: prompt(length, seed: Int(id)), maxNewTokens: 50 + Int(id * 91 % 350))
        }
        _ = try driver.finish()
        let statistics = driver.scheduler.statistics
        #expect(statistics.preemptions > 0)
        #expect(statistics.recomputedTokens * 4 < statistics.computedTokens)
    }
}
