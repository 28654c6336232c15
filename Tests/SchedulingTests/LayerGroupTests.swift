// Tables of their own for layers with a window, beside that of the layers that see everything.

import Scheduling
import Testing

@Suite struct LayerGroupTests {
    /// One group that sees everything, two that see 16 tokens: two blocks of 8, or three where they begin in the middle.
    private static let groups = LayerGroups(windowedCount: 2, window: 16)

    private func held(_ driver: borrowing Driver, of count: Int) -> Int { count - driver.scheduler.freeBlocks.count }

    @Test func `windowed groups hold a window, during the prompt too`() throws {
        var driver = try Driver(blockCount: 100, tokenBudget: 20, layerGroups: Self.groups)
        try driver.add(1, prompt: Array(0..<100), maxNewTokens: 60)
        var windowed: [Int] = []
        while driver.scheduler.hasWork {
            let step = try driver.step()
            let end = (step.start(1) ?? 0) + step.count(1)
            if driver.scheduler.hasWork { windowed.append(held(driver, of: 100) - (end + 7) / 8) }
        }
        #expect(windowed.count > 60 && windowed.allSatisfy { $0 == 4 || $0 == 6 }, "\(windowed)")
        #expect(held(driver, of: 100) == 0)
    }

    @Test func `a long request needs no room for what windowed groups give up`() throws {
        // 25 blocks, and 2 × (16 + 2 × 20 + 13) / 8 of the windowed groups on the way.
        var driver = try Driver(blockCount: 41, tokenBudget: 20, layerGroups: Self.groups)
        try driver.add(1, prompt: Array(0..<100), maxNewTokens: 100)
        #expect(try driver.finish().tokens(of: 1).count == 100)
        var small = try Driver(blockCount: 40, tokenBudget: 20, layerGroups: Self.groups)
        #expect(throws: SchedulingError.self) { try small.add(1, prompt: Array(0..<100), maxNewTokens: 100) }
    }

    @Test func `more sequences run at once than with one table for all layers`() throws {
        // Blocks of one layer each, or of three.
        func preemptions(groups: LayerGroups?, blockCount: Int) throws -> Int {
            var driver = try Driver(blockCount: blockCount, maxModelLength: 150, layerGroups: groups)
            for id in 1...6 { try driver.add(UInt64(id), prompt: Array(0..<10), maxNewTokens: 120) }
            while driver.scheduler.hasWork { _ = try driver.step() }
            return driver.scheduler.statistics.preemptions
        }
        #expect(try preemptions(groups: nil, blockCount: 46) > 0)
        #expect(try preemptions(groups: Self.groups, blockCount: 3 * 46) == 0)
    }

    @Test func `a prefix is found where the windows before it are whole`() throws {
        var driver = try Driver(blockCount: 100, layerGroups: Self.groups)
        try driver.add(1, prompt: Array(0..<64), maxNewTokens: 2)
        _ = try driver.finish()
        try driver.add(2, prompt: Array(0..<40) + [900, 901], maxNewTokens: 2)
        try driver.add(3, prompt: Array(0..<64) + [902], maxNewTokens: 2)
        let step = try driver.step()
        #expect(step.start(2) == 40 && step.start(3) == 64)
        _ = try driver.finish()
    }

    @Test func `a prefix is found no further than windowed groups still have it`() throws {
        // After the first request 8 × 3 of 40 blocks keep its prompt, of which 2 × 6 were given up while it ran.
        var driver = try Driver(blockCount: 40, layerGroups: Self.groups)
        try driver.add(1, prompt: Array(0..<64), maxNewTokens: 2)
        _ = try driver.finish()
        #expect(driver.scheduler.statistics.cachedBlocks == 24)
        // Takes what is worth least, and the oldest of the rest: windowed blocks of the last tokens given up.
        try driver.add(2, prompt: prompt(48, seed: 1), maxNewTokens: 1)
        _ = try driver.finish()
        try driver.add(3, prompt: Array(0..<48) + [900], maxNewTokens: 1)
        #expect(try driver.step().start(3) == 40)
        _ = try driver.finish()
    }

    @Test func `what a prompt gives up behind its window is cleared before its next use`() throws {
        var driver = try Driver(blockCount: 60, tokenBudget: 32, enablePrefixCaching: false, layerGroups: Self.groups)
        try driver.add(1, prompt: Array(0..<90), maxNewTokens: 4)
        for expected in [0, 4, 8] {
            let output = driver.scheduler.schedule(now: .zero)
            #expect(output.scrubbedBlocks.count == expected)
            let count = output.sampleCount
            _ = driver.scheduler.complete(
                output, samples: (0..<count).map { _ in TokenSample(token: 7) }, now: .zero)
        }
        _ = try driver.finish()
    }
}
