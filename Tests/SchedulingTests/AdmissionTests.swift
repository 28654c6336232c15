// What is refused, at the limit and one past it, and in which words.

import Scheduling
import Testing

@Suite struct AdmissionTests {
    @Test func `a prompt that leaves room for one token is accepted, one longer is refused`() throws {
        var driver = try Driver(maxModelLength: 20)
        try driver.add(1, prompt: prompt(19))
        let error = #expect(throws: SchedulingError.self) { try driver.add(2, prompt: prompt(20)) }
        #expect(error == .promptTooLong(RequestID(2), promptTokens: 20, maxModelLength: 20))
        #expect(
            error?.description == """
                request 2 has 20 prompt tokens; this model accepts 19 and 1 new token. \
                Shorten the prompt or raise max-model-len.
                """)
    }

    @Test func `a request that fits an empty pool is accepted, one token more is refused with both numbers`() throws {
        var driver = try Driver(blockCount: 3)
        // 20 + 5 tokens, of which the last is not stored: three blocks of eight.
        try driver.add(1, prompt: prompt(20), maxNewTokens: 5)
        let error = #expect(throws: SchedulingError.self) { try driver.add(2, prompt: prompt(20), maxNewTokens: 6) }
        #expect(
            error?.description == """
                request 2 can need 4 blocks of 8 tokens; the whole KV cache has 3. \
                Shorten the prompt, lower max_tokens or enlarge the cache.
                """)
        #expect(try driver.finish().tokens(of: 1).count == 5)
    }

    @Test func `malformed requests are refused in words`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: [1])
        let empty = #expect(throws: SchedulingError.self) { try driver.add(2, prompt: []) }
        #expect(empty?.description == "request 2 has an empty prompt; at least 1 token is needed.")
        let none = #expect(throws: SchedulingError.self) { try driver.add(2, prompt: [1], maxNewTokens: 0) }
        #expect(none?.description == "request 2 asks for 0 new tokens; at least 1 is needed.")
        let twice = #expect(throws: SchedulingError.self) { try driver.add(1, prompt: [1]) }
        #expect(
            twice?.description == "request 1 is already in the engine; request ids are never used twice.")
        #expect(driver.scheduler.statistics.accepted == 1)
    }

    @Test func `all limits out of range are reported at once`() throws {
        let error = #expect(throws: SchedulingError.self) {
            try SchedulerLimits(
                blockSize: 12, blockCount: 0, maxSequences: 8, tokenBudget: 7, maxModelLength: 1,
                longPrefillTokenThreshold: -1, watermark: .nan)
        }
        #expect(
            error?.description == """
                block-size is 12; allowed: one of 8, 16, 32, 64, 128.
                num-blocks is 0; allowed: 1 to 178956970.
                max-num-batched-tokens is 7; allowed: max-num-seqs (8) to 2147483647.
                max-model-len is 1; allowed: 2 to 2147483647.
                long-prefill-token-threshold is -1; allowed: 0 (off) to 2147483647.
                watermark is nan; allowed: 0 to 0.5.
                """)
    }

    @Test(arguments: SchedulerLimits.blockSizes)
    func `every block size that the kernels know is accepted`(blockSize: Int) throws {
        let limits = try SchedulerLimits(blockSize: blockSize, blockCount: 4, maxModelLength: 2)
        #expect(limits.blocks(forTokens: blockSize) == 1 && limits.blocks(forTokens: blockSize + 1) == 2)
    }

    @Test func `a budget of one token per sequence is enough`() throws {
        var driver = try Driver(maxSequences: 4, tokenBudget: 4)
        for id in UInt64(1)...6 { try driver.add(id, prompt: prompt(9, seed: Int(id)), maxNewTokens: 3) }
        let steps = try driver.finish()
        for id in UInt64(1)...6 { #expect(steps.tokens(of: id) == [1009, 1010, 1011]) }
    }

    @Test func `waiting for room keeps the order of arrival`() throws {
        var driver = try Driver(blockCount: 6, maxModelLength: 48)
        try driver.add(1, prompt: prompt(30, seed: 1), maxNewTokens: 2)
        try driver.add(2, prompt: prompt(40, seed: 2), maxNewTokens: 2)
        try driver.add(3, prompt: prompt(2, seed: 3), maxNewTokens: 2)
        // 2 does not fit beside 1, and 3, which would, does not overtake it.
        #expect(try driver.step().parts.map(\.id) == [1])
    }
}
