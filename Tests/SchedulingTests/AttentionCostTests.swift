// Prompt chunks shrink with their depth, so that a step deep in a long prompt takes no longer than one at its start.

import Scheduling
import Testing

@Suite struct AttentionCostTests {
    @Test func `a chunk shrinks as attention grows`() throws {
        var driver = try Driver(tokenBudget: 64, attentionScale: 50)
        try driver.add(1, prompt: (0..<190).map { TokenID($0) }, maxNewTokens: 2)
        var counts: [Int] = []
        while counts.reduce(0, +) < 190 { counts.append(try driver.step().count(1)) }
        #expect(counts.first == 28)
        #expect(counts.dropLast() == counts.dropLast().sorted(by: >)[...])
        #expect(counts.allSatisfy { $0 >= 1 })
    }

    @Test func `without a scale every chunk is the whole budget`() throws {
        var driver = try Driver(tokenBudget: 64)
        try driver.add(1, prompt: (0..<190).map { TokenID($0) }, maxNewTokens: 2)
        #expect(try driver.step().count(1) == 64)
        #expect(try driver.step().count(1) == 64)
        #expect(try driver.step().count(1) == 62)
    }

    @Test func `a decoding sequence gets its token whatever a deep prompt costs`() throws {
        var driver = try Driver(tokenBudget: 16, attentionScale: 1)
        try driver.add(1, prompt: [1, 2], maxNewTokens: 100)
        _ = try driver.step()
        try driver.add(2, prompt: (0..<150).map { TokenID($0) }, maxNewTokens: 2)
        for _ in 0..<20 {
            let step = try driver.step()
            #expect(step.count(1) == 1)
            #expect(step.count(2) >= 1)
        }
    }
}
