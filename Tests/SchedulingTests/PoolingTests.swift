// Prompts that are only read: which rows of which steps make up their vectors, whatever happens on the way.

import Scheduling
import Testing

@Suite struct PoolingTests {
    /// Positions of each request whose states a step computes.
    private static func pooled(_ output: borrowing SchedulerOutput) -> [UInt64: [Int]] {
        var positions: [UInt64: [Int]] = [:]
        for sequence in output.sequences where !sequence.pooledRows.isEmpty {
            let first = sequence.start - sequence.tokenRange.lowerBound
            positions[sequence.id.rawValue] = sequence.pooledRows.map { first + $0 }
        }
        return positions
    }

    /// Half of the requests are read, by the last token or by the mean; the others generate. Prompts share beginnings,
    /// and blocks are short.
    @Test(arguments: 0..<200)
    func `every state is pooled exactly once, whatever is preempted, shared or lost`(seed: Int) throws {
        var random = PoolingNumbers(state: UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 | 1)
        var driver = try Driver(
            blockCount: 14, maxSequences: 4, tokenBudget: 8 + random.below(30), maxModelLength: 80)
        var lengths: [UInt64: Int] = [:]
        for id in UInt64(1)...12 {
            lengths[id] = 1 + random.below(60)
            let tokens = prompt(lengths[id] ?? 1, seed: random.below(2))
            guard id % 2 == 0 else {
                try driver.add(id, prompt: tokens, maxNewTokens: 6)
                continue
            }
            try driver.scheduler.add(
                GenerationRequest(
                    id: RequestID(id), prompt: tokens, maxNewTokens: 1, pooling: id % 4 == 0 ? .mean : .lastToken),
                now: .zero)
        }
        var positions: [UInt64: [Int]] = [:]
        var events: [SchedulerEvent] = []
        func keep(_ step: [UInt64: [Int]]) { for (id, more) in step { positions[id, default: []] += more } }
        for _ in 0..<2000 where driver.scheduler.hasWork {
            let first = try driver.plan()
            let second = try driver.plan()
            let (one, two) = (Self.pooled(first), Self.pooled(second))
            if random.below(6) > 0 {
                events += try driver.complete(first)
                keep(one)
                if random.below(6) > 0 {
                    events += try driver.complete(second)
                    keep(two)
                } else {
                    events += driver.scheduler.rollBack(second, endsSuspect: false)
                }
            } else {
                events += driver.scheduler.rollBack(first, endsSuspect: false)
                events += driver.scheduler.rollBack(second, endsSuspect: false)
            }
            try driver.scheduler.checkInvariants()
        }
        for id in UInt64(1)...12 {
            let own = events.filter { $0.id.rawValue == id }
            let count = lengths[id] ?? 0
            switch (id % 2, id % 4) {
            case (1, _):
                #expect(own.tokens.count == 6 && positions[id] == nil, "request \(id)")
            case (_, 0):
                #expect(positions[id] == Array(0..<count), "request \(id)")
                #expect(own.tokens.isEmpty && own.endings == [.complete])
            default:
                #expect(positions[id] == [count - 1], "request \(id)")
                #expect(own.tokens.isEmpty && own.endings == [.complete])
            }
        }
        let statistics = driver.scheduler.statistics
        #expect(statistics.usedBlocks == 0 && statistics.running == 0)
        #expect(statistics.generatedTokens == 36)
    }

    @Test func `the last token's state may rest on cached blocks, the mean may not`() throws {
        var driver = try Driver()
        let tokens = prompt(30)
        for (id, pooling) in [(UInt64(1), Pooling.mean), (2, .lastToken), (3, .mean)] {
            try driver.scheduler.add(
                GenerationRequest(id: RequestID(id), prompt: tokens, maxNewTokens: 1, pooling: pooling), now: .zero)
            let steps = try driver.finish()
            #expect(steps.ending(of: id)?.usage.cachedTokens == (pooling == .mean ? 0 : 24))
        }
    }

    @Test func `what is read may fill the context, and not a token more`() throws {
        var driver = try Driver(maxModelLength: 40)
        func request(_ id: UInt64, _ count: Int) -> GenerationRequest {
            GenerationRequest(id: RequestID(id), prompt: prompt(count), maxNewTokens: 1, pooling: .lastToken)
        }
        try driver.scheduler.add(request(1, 40), now: .zero)
        #expect(try driver.finish().ending(of: 1)?.reason == .complete)
        #expect(throws: SchedulingError.promptTooLong(RequestID(2), promptTokens: 41, maxModelLength: 40)) {
            try driver.scheduler.add(request(2, 41), now: .zero)
        }
    }
}

/// Numbers that a seed decides.
private struct PoolingNumbers {
    var state: UInt64

    mutating func below(_ limit: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state >> 33) % limit
    }
}
