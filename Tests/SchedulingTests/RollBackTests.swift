// Steps that come to nothing are planned again, and no client can tell.

import Scheduling
import Testing

@Suite struct RollBackTests {
    @Test func `the newest sequence of a lost step ends and the others go on from where they were`() throws {
        var driver = try Driver()
        for id in UInt64(1)...3 { try driver.add(id, prompt: prompt(12, seed: Int(id)), maxNewTokens: 3) }
        let first = try driver.plan()
        _ = try driver.complete(first)
        let second = try driver.plan()
        let third = try driver.plan()
        let events = driver.scheduler.rollBack(second, endsSuspect: true)
        #expect(events.map(\.id.rawValue) == [3] && events.endings == [.error(.stepFailed)])
        #expect(driver.scheduler.rollBack(third, endsSuspect: false) == [])
        try driver.scheduler.checkInvariants()
        #expect(driver.scheduler.statistics.usedBlocks == 0)
        let fourth = try driver.plan()
        #expect(fourth.ids == [1, 2])
        #expect(fourth.sequences.map(\.start) == [8, 8], "the full block was published before the step")
        #expect(fourth.sequences.map(\.contextLength) == [13, 13], "the token of the first step is kept")
        #expect(!fourth.scrubbedBlocks.isEmpty, "what the lost step wrote is cleared")
        #expect(try driver.complete(fourth).tokens == [1013, 1013])
        #expect(try driver.finish().tokens(of: 2) == [1014])
        #expect(driver.scheduler.statistics.usedBlocks == 0)
    }

    @Test(arguments: 0..<200)
    func `whatever steps are lost, every stream is complete and nothing leaks`(seed: Int) throws {
        var random = Numbers(state: UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 | 1)
        var driver = try Driver(blockCount: 14, maxSequences: 4, tokenBudget: 24, maxModelLength: 80)
        var events: [SchedulerEvent] = []
        for id in UInt64(1)...8 {
            try driver.add(id, prompt: prompt(1 + random.below(40), seed: random.below(3)), maxNewTokens: 6)
        }
        var suspects = 0
        for _ in 0..<2000 where driver.scheduler.hasWork {
            let first = try driver.plan()
            let second = try driver.plan()
            if random.below(4) > 0 {
                events += try driver.complete(first)
                if random.below(6) > 0 {
                    events += try driver.complete(second)
                } else {
                    events += driver.scheduler.rollBack(second, endsSuspect: false)
                }
            } else {
                let ends = random.below(8) == 0
                if ends, !first.isEmpty { suspects += 1 }
                events += driver.scheduler.rollBack(first, endsSuspect: ends)
                events += driver.scheduler.rollBack(second, endsSuspect: false)
            }
            try driver.scheduler.checkInvariants()
        }
        let isOver = !driver.scheduler.hasWork
        #expect(isOver)
        #expect(events.endings.count == 8)
        #expect(events.endings.count { $0 == .error(.stepFailed) } == suspects)
        for id in UInt64(1)...8 {
            let own = events.filter { $0.id.rawValue == id }
            let tokens = own.tokens
            #expect(tokens == tokens.indices.map { (tokens.first ?? 0) + TokenID($0) }, "request \(id)")
            #expect(tokens.count == 6 || own.endings == [.error(.stepFailed)], "request \(id)")
        }
        #expect(driver.scheduler.statistics.usedBlocks == 0 && driver.scheduler.statistics.running == 0)
    }
}

/// Numbers that a seed decides.
private struct Numbers {
    var state: UInt64

    mutating func below(_ limit: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state >> 33) % limit
    }
}
