// Planning one step ahead: what is assumed of the step in flight, and what happens when it turns out otherwise.

import Scheduling
import Testing

extension Driver {
    /// Completes a step with the samples of a driver: 1000 + position.
    mutating func complete(_ output: consuming SchedulerOutput) throws -> [SchedulerEvent] {
        let samples = output.sequences.filter(\.samples).map { sequence in
            TokenSample(
                token: tokenAt[sequence.samplePosition] ?? TokenID(1000 + sequence.samplePosition),
                isFinite: !broken.contains(sequence.id.rawValue))
        }
        let events = scheduler.complete(output, samples: samples, now: .zero)
        try scheduler.checkInvariants()
        return events
    }

    /// Plans a step.
    mutating func plan() throws -> SchedulerOutput {
        let output = scheduler.schedule(now: .zero)
        try scheduler.checkInvariants()
        return output
    }
}

extension SchedulerOutput {
    /// Who is in the step.
    var ids: [UInt64] { sequences.map(\.id.rawValue) }
}

extension [SchedulerEvent] {
    /// Tokens of all requests, in order.
    var tokens: [TokenID] {
        compactMap { event in if case .token(let sample) = event.kind { sample.token } else { nil } }
    }

    /// Ends of all requests, in order.
    var endings: [FinishReason] {
        compactMap { event in if case .finished(let reason, _) = event.kind { reason } else { nil } }
    }
}

@Suite struct OverlapTests {
    @Test func `a token that nobody knows yet is named by its row and has its position`() throws {
        var driver = try Driver(tokenBudget: 20)
        for (id, count) in [(UInt64(1), 5), (2, 30), (3, 16)] {
            try driver.add(id, prompt: prompt(count, seed: Int(id)))
        }
        // 5 tokens of 1 and 15 of 2, which is not done with them.
        let first = try driver.plan()
        let second = try driver.plan()
        #expect(first.sequences.map(\.samples) == [true, false])
        #expect(second.ids == [1, 2, 3])
        #expect(second.tokens[0] == -1)
        #expect(second.sequences[0].start == 5 && second.sequences[0].samplePosition == 6)
        #expect(try driver.complete(first).tokens == [1005])
        let third = try driver.plan()
        #expect(third.tokens.prefix(1) == [-1])
        #expect(try driver.complete(second).tokens.first == 1006)
        _ = try driver.complete(third)
    }

    @Test func `rows are counted among those that sample`() throws {
        var driver = try Driver()
        for id in UInt64(1)...3 { try driver.add(id, prompt: prompt(4, seed: Int(id))) }
        let first = try driver.plan()
        #expect(driver.scheduler.abort(RequestID(1)) != nil)
        let second = try driver.plan()
        #expect(second.ids == [2, 3])
        #expect(second.tokens == [-2, -3])
        #expect(try driver.complete(first).tokens == [1004, 1004])
        let third = try driver.plan()
        #expect(third.tokens == [-1, -2])
        _ = try driver.complete(second)
        _ = try driver.complete(third)
    }

    @Test func `nothing is planned beyond the last token`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(4), maxNewTokens: 2)
        let first = try driver.plan()
        let second = try driver.plan()
        #expect(try driver.complete(first).tokens == [1004])
        let third = try driver.plan()
        #expect(third.tokenCount == 0)
        let events = try driver.complete(second)
        #expect(events.tokens == [1005] && events.endings == [.length])
        #expect(driver.scheduler.statistics.usedBlocks == 0)
        #expect(try driver.complete(third) == [])
    }

    @Test func `a stop token makes what was planned behind it worthless`() throws {
        var driver = try Driver(maxSequences: 1)
        driver.tokenAt[4] = 7
        try driver.add(1, prompt: prompt(4, seed: 1), stopTokens: [7])
        try driver.add(2, prompt: prompt(4, seed: 2))
        let first = try driver.plan()
        let second = try driver.plan()
        #expect(second.tokens == [-1])
        let events = try driver.complete(first)
        #expect(events.tokens == [7] && events.endings == [.stop(7)])
        // The step in flight still writes its block, and nobody else gets its row.
        #expect(driver.scheduler.statistics.usedBlocks == 1)
        let third = try driver.plan()
        #expect(third.tokenCount == 0)
        #expect(try driver.complete(second) == [])
        #expect(driver.scheduler.statistics.usedBlocks == 0)
        let fourth = try driver.plan()
        #expect(fourth.ids == [2])
        #expect(try driver.complete(third) == [])
        _ = try driver.complete(fourth)
    }

    @Test(arguments: [false, true])
    func `who is aborted or late gets nothing of two steps in flight, and frees after both`(isLate: Bool) throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(8, seed: 1), deadline: .seconds(1))
        let first = try driver.plan()
        let second = try driver.plan()
        #expect(driver.scheduler.statistics.usedBlocks == 2)
        let events =
            isLate
            ? driver.scheduler.expire(now: .seconds(1))
            : [driver.scheduler.abort(RequestID(1))].compactMap { $0 }
        #expect(events.endings == [isLate ? .deadline : .abort])
        #expect(try driver.complete(first) == [])
        #expect(driver.scheduler.statistics.usedBlocks == 2)
        #expect(try driver.complete(second) == [])
        #expect(driver.scheduler.statistics.usedBlocks == 0 && driver.scheduler.statistics.running == 0)
    }

    @Test(arguments: [false, true])
    func `who gives way in flight keeps its token and leaves when its step completes`(stops: Bool) throws {
        // Two sequences of up to 40 tokens in six blocks of eight: both want a fourth block at position 24.
        var driver = try Driver(blockCount: 6, enablePrefixCaching: false)
        driver.tokenAt[24] = 7
        for id in UInt64(1)...2 {
            try driver.add(
                id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 32, stopTokens: stops && id == 2 ? [7] : [])
        }
        var events: [SchedulerEvent] = []
        var earlier = try driver.plan()
        var next = try driver.plan()
        while next.preempted.isEmpty {
            events += try driver.complete(earlier)
            earlier = next
            next = try driver.plan()
        }
        #expect(next.preempted == [RequestID(2)])
        // 2 was computing position 23 and holds on to its blocks, so 1 must wait for them.
        #expect(earlier.ids == [1, 2] && earlier.sequences[1].start == 23)
        #expect(next.tokenCount == 0 && driver.scheduler.statistics.freeBlocks == 0)
        let last = try driver.complete(earlier)
        #expect(last.tokens == [7, 7] && last.endings == (stops ? [.stop(7)] : []))
        #expect(driver.scheduler.statistics.waiting == (stops ? 0 : 1))
        #expect(driver.scheduler.statistics.freeBlocks == 3)
        #expect(driver.scheduler.statistics.preemptions == (stops ? 0 : 1))
        earlier = next
        next = try driver.plan()
        #expect(next.ids == [1] && next.tokens == [7])
        events += last
        events += try driver.complete(earlier)
        events += try driver.complete(next)
        let rest = try driver.finish()
        // 2 goes on behind what it had: nothing is sampled twice, nothing is left out.
        let expected = (0..<32).map { $0 == 16 ? 7 : TokenID(1008 + $0) }
        for id in UInt64(1)...2 {
            let tokens = events.filter { $0.id.rawValue == id }.tokens + rest.tokens(of: id)
            #expect(tokens == (stops && id == 2 ? Array(expected.prefix(17)) : expected))
        }
    }

    @Test func `a block is found once its last token is known`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(7))
        let first = try driver.plan()
        let second = try driver.plan()
        let block = second.blocks[0]
        _ = try driver.complete(first)
        let wasPublished = driver.scheduler.isPublished(block)
        _ = try driver.complete(second)
        let isPublished = driver.scheduler.isPublished(block)
        #expect(!wasPublished && isPublished)
    }

    @Test func `a block whose last token nobody learned is never found`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(7))
        let first = try driver.plan()
        let second = try driver.plan()
        let block = second.blocks[0]
        #expect(driver.scheduler.abort(RequestID(1)) != nil)
        _ = try driver.complete(first)
        _ = try driver.complete(second)
        let isPublished = driver.scheduler.isPublished(block)
        #expect(!isPublished)
    }

    @Test func `what was planned behind logits that are not finite cannot be found`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(15))
        let first = try driver.plan()
        let second = try driver.plan()
        let blocks = second.blocks
        driver.broken = [1]
        #expect(try driver.complete(first).endings == [.error(.nonFiniteLogits)])
        driver.broken = []
        #expect(try driver.complete(second) == [])
        for block in blocks {
            let isPublished = driver.scheduler.isPublished(block)
            #expect(!isPublished)
        }
        #expect(driver.scheduler.statistics.usedBlocks == 0)
    }

    @Test func `a prefix being computed in the step in flight is waited for, too`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(20))
        let first = try driver.plan()
        try driver.add(2, prompt: prompt(20))
        let second = try driver.plan()
        #expect(second.ids == [1])
        _ = try driver.complete(first)
        let third = try driver.plan()
        #expect(third.sequences.map(\.start) == [21, 16])
        _ = try driver.complete(second)
        _ = try driver.complete(third)
    }

    @Test func `a step that failed ends everything, and the one behind it adds nothing`() throws {
        var driver = try Driver()
        for id in UInt64(1)...2 { try driver.add(id, prompt: prompt(8, seed: Int(id))) }
        let first = try driver.plan()
        let second = try driver.plan()
        #expect(driver.scheduler.abandon(first).endings.count == 2)
        try driver.scheduler.checkInvariants()
        #expect(driver.scheduler.abandon(second) == [])
        try driver.scheduler.checkInvariants()
        let statistics = driver.scheduler.statistics
        #expect(statistics.usedBlocks == 0 && statistics.cachedBlocks == 0 && statistics.running == 0)
    }

    @Test func `steps complete in order`() async {
        await #expect(processExitsWith: .failure) {
            var driver = try Driver()
            try driver.add(1, prompt: prompt(8))
            _ = driver.scheduler.schedule(now: .zero)
            _ = try driver.complete(driver.scheduler.schedule(now: .zero))
        }
    }
}
