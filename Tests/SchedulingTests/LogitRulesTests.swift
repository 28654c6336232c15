// What a request's rules become at each position, and that nothing is planned before it can be known.

import Scheduling
import Testing

@Suite struct LogitRulesTests {
    private func add(
        _ driver: inout Driver, _ id: UInt64, prompt: [TokenID], rules: LogitRules? = nil, maxNewTokens: Int = 4,
        stopTokens: [TokenID] = [], repetition: RepetitionDetection? = nil, promptLogprobCount: Int? = nil
    ) throws {
        try driver.scheduler.add(
            GenerationRequest(
                id: RequestID(id), prompt: prompt, maxNewTokens: maxNewTokens, stopTokens: stopTokens,
                sampling: SamplingParameters(rules: rules), repetition: repetition,
                promptLogprobCount: promptLogprobCount),
            now: .zero)
    }

    /// What the rules say in each step until the request ends.
    private func changes(_ driver: inout Driver) throws -> [LogitChange?] {
        var changes: [LogitChange?] = []
        while driver.scheduler.hasWork {
            let output = try driver.plan()
            changes += output.sequences.filter(\.samples).map(\.logitChange)
            _ = try driver.complete(output)
        }
        return changes
    }

    @Test func `penalties count the prompt and what was generated`() throws {
        var driver = try Driver()
        driver.tokenAt = [3: 7, 4: 7, 5: 5]
        try add(&driver, 1, prompt: [5, 6, 5], rules: LogitRules(frequencyPenalty: 1))
        let counts = try changes(&driver).map { $0?.counts.map { [Int($0.token), Int($0.generated)] } }
        let expected = [
            [[5, 0], [6, 0]], [[5, 0], [6, 0], [7, 1]], [[5, 0], [6, 0], [7, 2]], [[5, 1], [6, 0], [7, 2]],
        ]
        #expect(counts == expected)
    }

    @Test func `end tokens are banned until the least length, and then nothing is done`() throws {
        var driver = try Driver()
        try add(&driver, 1, prompt: [5], rules: LogitRules(minNewTokens: 2, endTokens: [8, 9]), stopTokens: [8])
        #expect(try changes(&driver).map { $0?.bans } == [[8, 9], [8, 9], nil, nil])
    }

    @Test func `the last token of a banned sequence is banned where the others were generated`() throws {
        var driver = try Driver()
        driver.tokenAt = [2: 3, 3: 4, 4: 3]
        // The prompt does not count.
        try add(
            &driver, 1, prompt: [3, 4],
            rules: LogitRules(bannedSequences: [[1], [3, 2], [3, 4, 5]]))
        #expect(try changes(&driver).map { $0?.bans } == [[1], [1, 2], [1, 5], [1, 2]])
    }

    @Test(arguments: [true, false])
    func `who allows only what is banned fails without blame for the model`(isBanned: Bool) throws {
        var driver = try Driver()
        driver.broken = [1]
        let rules = LogitRules(allowedTokens: [4, 5], bannedSequences: isBanned ? [[5], [4]] : [[5]])
        try add(&driver, 1, prompt: prompt(9), rules: rules)
        let steps = try driver.finish()
        #expect(steps.ending(of: 1)?.reason == .error(isBanned ? .nothingAllowed : .nonFiniteLogits))
        #expect(driver.scheduler.statistics.cachedBlocks == (isBanned ? 1 : 0))
    }

    @Test func `who needs the token in flight sits a step out, and others do not`() throws {
        var driver = try Driver()
        try add(&driver, 1, prompt: [1], rules: LogitRules(presencePenalty: 1))
        try add(&driver, 2, prompt: [2], rules: LogitRules(biases: [TokenBias(token: 3, bias: 1)]))
        try add(&driver, 3, prompt: [3], rules: LogitRules(bannedSequences: [[1, 2]]))
        let first = try driver.plan()
        #expect(first.ids == [1, 2, 3])
        let second = try driver.plan()
        #expect(second.ids == [2])
        _ = try driver.complete(first)
        let third = try driver.plan()
        #expect(third.ids == [1, 2, 3])
        #expect(third.tokens[0] == 1001)
        #expect(third.sequences[0].logitChange?.counts.count == 2)
        _ = try driver.complete(second)
        _ = try driver.complete(third)
        #expect(try driver.finish().count > 0)
    }

    @Test(arguments: [(1...3, 3, 9), (1...1, 4, nil), (2...2, 2, 7), (3...5, 2, 9)])
    func `a sequence that repeats itself ends`(sizes: ClosedRange<Int>, count: Int, length: Int?) throws {
        var driver = try Driver()
        // 1 2 3, over and over, after 0 generated tokens of other kinds; size 2 never repeats.
        for position in 2..<40 { driver.tokenAt[position] = TokenID(1 + (position - 2) % 3) }
        if sizes == 2...2 { for position in 2..<40 { driver.tokenAt[position] = TokenID(max(0, position - 5) % 2) } }
        try add(
            &driver, 1, prompt: [1, 1], maxNewTokens: 20,
            repetition: RepetitionDetection(patternSizes: sizes, minCount: count))
        let steps = try driver.finish()
        if let length, sizes != 3...5, sizes != 2...2 {
            #expect(steps.tokens(of: 1).count == length)
            #expect(steps.ending(of: 1)?.reason == .repetition)
        } else if sizes == 1...1 {
            #expect(steps.ending(of: 1)?.reason == .length)
        } else {
            #expect(steps.ending(of: 1)?.reason == .repetition)
        }
    }

    @Test(arguments: [64, 3])
    func `every prompt token but the first is scored once, in order, within the rows there are`(rows: Int) throws {
        var driver = try Driver(blockCount: 20, maxSequences: rows == 3 ? 3 : 8, tokenBudget: 16)
        let prompts: [[TokenID]] = [prompt(37, seed: 1), prompt(37, seed: 1), prompt(5, seed: 2)]
        for (index, prompt) in prompts.enumerated() {
            try add(&driver, UInt64(index), prompt: prompt, promptLogprobCount: 0)
        }
        var scored: [[TokenID]] = [[], [], []]
        var earlier: SchedulerOutput? = try driver.plan()
        while driver.scheduler.hasWork {
            let next = try driver.plan()
            #expect(next.sampleCount + next.scoredTokens.count <= driver.scheduler.limits.maxSequences)
            for sequence in next.sequences where !sequence.scoredRange.isEmpty {
                scored[Int(sequence.id.rawValue)] += next.scoredTokens[sequence.scoredRange]
                #expect(sequence.scoredStart >= sequence.start)
                #expect(sequence.scoredStart + sequence.scoredRange.count <= sequence.contextLength)
            }
            if let first = earlier.take() {
                for sequence in first.sequences where first.stepIndex == 0 {
                    scored[Int(sequence.id.rawValue)].insert(
                        contentsOf: first.scoredTokens[sequence.scoredRange], at: 0)
                }
                _ = try driver.complete(first)
            }
            earlier = consume next
        }
        if let last = earlier.take() { _ = try driver.complete(last) }
        #expect(scored == prompts.map { Array($0.dropFirst()) })
        #expect(driver.scheduler.statistics.prefixHits == 0)
    }
}
