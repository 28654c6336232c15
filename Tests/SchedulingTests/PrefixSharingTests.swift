// Prefixes are computed once: found in the cache, or shared while another computes them.

import Scheduling
import Testing

@Suite struct PrefixSharingTests {
    @Test func `a second request starts after the full blocks of the first`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(20) + [1, 2, 3])
        _ = try driver.finish()
        try driver.add(2, prompt: prompt(20) + [4, 5, 6])
        let steps = try driver.finish()
        #expect(steps[0].start(2) == 16 && steps[0].count(2) == 7)
        #expect(steps.ending(of: 2)?.usage.cachedTokens == 16)
        #expect(driver.scheduler.statistics.prefixHits == 16)
        #expect(driver.scheduler.statistics.prefixQueries == 46)
    }

    @Test func `the last token of a prompt is computed even when all of it is cached`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(16))
        _ = try driver.finish()
        try driver.add(2, prompt: prompt(16))
        let step = try driver.step()
        #expect(step.start(2) == 8 && step.count(2) == 8)
    }

    @Test func `generated tokens are a prefix too`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(10), maxNewTokens: 20)
        let answer = try driver.finish().tokens(of: 1)
        try driver.add(2, prompt: prompt(10) + answer + [9, 9])
        // 30 tokens are known, the last is never computed: three full blocks.
        #expect(try driver.step().start(2) == 24)
    }

    @Test func `salts keep tenants apart`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(20), cacheSalt: 1)
        _ = try driver.finish()
        try driver.add(2, prompt: prompt(20), cacheSalt: 2)
        try driver.add(3, prompt: prompt(20), cacheSalt: 1)
        let steps = try driver.finish()
        #expect(steps.ending(of: 2)?.usage.cachedTokens == 0)
        #expect(steps.ending(of: 3)?.usage.cachedTokens == 16)
    }

    @Test func `nothing is shared when the cache is off`() throws {
        var driver = try Driver(enablePrefixCaching: false)
        try driver.add(1, prompt: prompt(20))
        try driver.add(2, prompt: prompt(20))
        #expect(try driver.step().parts.map(\.count) == [20, 20])
    }

    @Test func `eight requests with one prefix compute it once`() throws {
        var driver = try Driver(tokenBudget: 300, maxModelLength: 600)
        for id in UInt64(1)...8 { try driver.add(id, prompt: prompt(512) + [TokenID(id), 7, 7], maxNewTokens: 2) }
        let steps = try driver.finish()
        // 512 for the prefix, 3 for each tail, 1 for each second token.
        #expect(driver.scheduler.statistics.computedTokens == 512 + 8 * 4)
        for id in UInt64(2)...8 { #expect(steps.ending(of: id)?.usage.cachedTokens == 512) }
        #expect(driver.scheduler.statistics.sharedWaits > 0)
    }

    @Test func `whoever does not share the prefix is not kept waiting`() throws {
        var driver = try Driver(tokenBudget: 128, longPrefillTokenThreshold: 64)
        try driver.add(1, prompt: prompt(100))
        try driver.add(2, prompt: prompt(100) + [1])
        try driver.add(3, prompt: prompt(10, seed: 3))
        let step = try driver.step()
        #expect(step.count(1) == 64 && step.count(2) == 0 && step.count(3) == 10)
    }

    @Test func `a sequence in the middle of its prompt takes over what another has computed meanwhile`() throws {
        var driver = try Driver(tokenBudget: 64, longPrefillTokenThreshold: 16)
        try driver.add(1, prompt: prompt(16) + prompt(64, seed: 1))
        _ = try driver.step()
        try driver.add(2, prompt: prompt(16) + prompt(64, seed: 2) + [1])
        try driver.add(3, prompt: prompt(16) + prompt(64, seed: 2) + [2])
        let steps = try driver.finish()
        #expect(steps.ending(of: 2)?.usage.cachedTokens == 16)
        #expect(steps.ending(of: 3)?.usage.cachedTokens == 80)
    }

    @Test func `when the one that computes the prefix is aborted, the next takes its place`() throws {
        var driver = try Driver(tokenBudget: 64)
        try driver.add(1, prompt: prompt(128))
        try driver.add(2, prompt: prompt(128) + [1])
        try driver.add(3, prompt: prompt(128) + [2])
        let first = try driver.step(aborting: 1)
        #expect(first.count(1) == 64 && first.count(2) == 0)
        let second = try driver.step()
        #expect(second.start(2) == 64 && second.count(2) == 64 && second.count(3) == 0)
        #expect(try driver.finish().ending(of: 3)?.usage.cachedTokens == 128)
    }
}
