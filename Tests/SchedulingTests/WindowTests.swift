// Blocks behind the window of a model that looks back on one everywhere.

import Scheduling
import Testing

@Suite struct WindowTests {
    @Test func `a sequence holds its window's blocks however long it grows`() throws {
        var driver = try Driver(blockCount: 30, slidingWindow: 16)
        try driver.add(1, prompt: Array(0..<60), maxNewTokens: 130)
        var held: [Int] = []
        var done = 60
        while driver.scheduler.hasWork {
            let step = try driver.step()
            done = (step.start(1) ?? 0) + step.count(1)
            held.append(30 - driver.scheduler.freeBlocks.count)
        }
        #expect(done == 189)
        // The prompt's blocks go with its first token; a window of 16 spans three blocks of 8 at most.
        #expect(held.first == 3 && held.dropLast().allSatisfy { (2...3).contains($0) }, "\(held)")
        #expect(held.last == 0)
    }

    @Test func `a prompt keeps its blocks until its first token`() throws {
        var driver = try Driver(blockCount: 30, tokenBudget: 20, slidingWindow: 16)
        try driver.add(1, prompt: Array(0..<100), maxNewTokens: 4)
        var held: [Int] = []
        for _ in 0..<5 {
            _ = try driver.step()
            held.append(30 - driver.scheduler.freeBlocks.count)
        }
        #expect(held == [3, 5, 8, 10, 3])
    }

    @Test func `more sequences run at once than would fit with all they have seen`() throws {
        func preemptions(window: Int?) throws -> Int {
            var driver = try Driver(blockCount: 30, maxModelLength: 150, slidingWindow: window)
            for id in 1...6 { try driver.add(UInt64(id), prompt: Array(0..<10), maxNewTokens: 120) }
            while driver.scheduler.hasWork {
                _ = try driver.step()
                try driver.scheduler.checkInvariants()
            }
            return driver.scheduler.statistics.preemptions
        }
        #expect(try preemptions(window: nil) > 0)
        #expect(try preemptions(window: 12) == 0)
    }

    @Test func `what was given up is found again until somebody takes it`() throws {
        var driver = try Driver(blockCount: 30, slidingWindow: 16)
        try driver.add(1, prompt: Array(0..<64), maxNewTokens: 2)
        while driver.scheduler.hasWork { _ = try driver.step() }
        try driver.add(2, prompt: Array(0..<64) + [7], maxNewTokens: 2)
        #expect(try driver.step().start(2) == 64)
    }
}
