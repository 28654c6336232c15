// Guesses: where they come from, how they are verified, and when a sequence stops making them.

import Scheduling
import Testing

/// Guesses what the driver will sample, up to a token that it gets wrong.
private struct Oracle: DraftProposer {
    /// The position that it guesses wrong.
    var wrong = Int.max

    mutating func propose(_ count: Int, after tokens: [TokenID], for id: RequestID, into drafts: inout [TokenID]) {
        for position in tokens.count..<tokens.count + count {
            drafts.append(TokenID(position == wrong ? 7 : 1000 + position))
        }
    }

    mutating func forget(_ id: RequestID) {}
}

@Suite struct SpeculationTests {
    private func driver(wrong: Int = .max, most: Int = 4, maxSequences: Int = 8) throws -> Driver {
        try Driver(
            maxSequences: maxSequences, speculation: SpeculationLimits(draftTokenCount: most),
            proposer: Oracle(wrong: wrong))
    }

    @Test func `right guesses are taken, with one token more`() throws {
        var driver = try driver()
        try driver.add(1, prompt: prompt(8), maxNewTokens: 11)
        let steps = try driver.finish()
        #expect(steps.tokens(of: 1) == (0..<11).map { TokenID(1008 + $0) })
        // One from the prompt, then twice four guesses and one token more.
        #expect(steps.map { $0.count(1) } == [8, 5, 5])
        let statistics = driver.scheduler.statistics.speculation
        #expect(
            statistics.drafts == 2 && statistics.draftTokens == 8 && statistics.acceptedPerPosition == [2, 2, 2, 2])
    }

    @Test func `a wrong guess is replaced and what follows it forgotten`() throws {
        var driver = try driver(wrong: 11)
        try driver.add(1, prompt: prompt(8), maxNewTokens: 8)
        let steps = try driver.finish()
        #expect(steps.tokens(of: 1) == (0..<8).map { TokenID(1008 + $0) })
        // After 1008: guesses for 9 to 12, of which those for 9 and 10 are right, and 11 is sampled.
        #expect(steps.dropFirst().map { $0.start(1) }.prefix(2) == [8, 11])
        #expect(driver.scheduler.statistics.usedBlocks == 0)
        #expect(driver.scheduler.statistics.speculation.acceptedPerPosition.prefix(2) == [2, 2])
    }

    @Test func `a stop token among right guesses ends the request there`() throws {
        var driver = try driver()
        try driver.add(1, prompt: prompt(8), maxNewTokens: 50, stopTokens: [1010])
        let steps = try driver.finish()
        #expect(steps.tokens(of: 1) == [1008, 1009, 1010])
        #expect(steps.ending(of: 1)?.reason == .stop(1010))
    }

    @Test func `no token beyond the limit is guessed`() throws {
        var driver = try driver()
        try driver.add(1, prompt: prompt(8), maxNewTokens: 3)
        let steps = try driver.finish()
        #expect(steps.tokens(of: 1) == [1008, 1009, 1010])
        #expect(steps.map { $0.count(1) } == [8, 2])
    }

    @Test func `guesses take only rows and tokens that nobody else wants`() throws {
        var driver = try driver(maxSequences: 3)
        for id in UInt64(1)...2 { try driver.add(id, prompt: prompt(4, seed: Int(id)), maxNewTokens: 20) }
        _ = try driver.step()
        // Three rows of logits: one each, and one guess for the first.
        #expect(try driver.step().parts.map(\.count) == [1, 2])
        try driver.add(3, prompt: prompt(4, seed: 3), maxNewTokens: 20)
        let step = try driver.step()
        #expect(step.count(1) == 1 && step.count(2) == 1 && step.count(3) == 4)
    }

    @Test func `poor guesses are given up for a while and then tried again`() throws {
        struct Wrong: DraftProposer {
            mutating func propose(_ count: Int, after _: [TokenID], for _: RequestID, into drafts: inout [TokenID]) {
                drafts += Array(repeating: 7, count: count)
            }
            mutating func forget(_: RequestID) {}
        }
        var driver = try Driver(speculation: SpeculationLimits(draftTokenCount: 4), proposer: Wrong())
        try driver.add(1, prompt: prompt(8), maxNewTokens: 150)
        let counts = try driver.finish().map { $0.count(1) }
        #expect(driver.scheduler.statistics.speculation.pauses == 3)
        // Sixteen guesses are wrong, 32 tokens follow without any, and then it tries again.
        #expect(counts.dropFirst(14).prefix(20).allSatisfy { $0 == 1 })
        #expect(counts.dropFirst(60).contains { $0 > 1 })
    }

    @Test func `what stood after the same tokens before is guessed`() {
        var proposer = NGramProposer(sizes: 2...3)
        var drafts: [TokenID] = []
        proposer.propose(3, after: [1, 2, 3, 4, 5, 9, 2, 3], into: &drafts)
        #expect(drafts == [4, 5, 9])
        // The latest occurrence counts, and the longest end.
        drafts = []
        proposer.propose(2, after: [1, 2, 3, 4, 5, 9, 2, 3, 8, 2, 3], into: &drafts)
        #expect(drafts == [8, 2])
        drafts = []
        proposer.propose(2, after: [1, 2, 3, 4, 5, 9, 2, 3, 8, 2, 3, 6], into: &drafts)
        #expect(drafts == [])
    }

    @Test func `a loop is guessed as far as one asks`() {
        var proposer = NGramProposer(sizes: 2...4)
        var drafts: [TokenID] = []
        proposer.propose(7, after: [1, 2, 3, 1, 2, 3, 1, 2], into: &drafts)
        #expect(drafts == [3, 1, 2, 3, 1, 2, 3])
    }
}
