// Abort is legal in every state, takes effect at once, and does nothing the second time.

import Scheduling
import Testing

@Suite struct AbortTests {
    @Test func `a waiting request leaves the queue`() throws {
        var driver = try Driver(maxSequences: 1)
        try driver.add(1, prompt: prompt(4, seed: 1))
        try driver.add(2, prompt: prompt(4, seed: 2))
        _ = try driver.step()
        #expect(driver.scheduler.abort(RequestID(2)) != nil)
        #expect(driver.scheduler.statistics.waiting == 0)
        try driver.scheduler.checkInvariants()
    }

    @Test func `a running request gives its blocks back between steps`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(30))
        _ = try driver.step()
        #expect(driver.scheduler.abort(RequestID(1)) != nil)
        #expect(driver.scheduler.statistics.usedBlocks == 0)
        #expect(driver.scheduler.statistics.running == 0)
    }

    @Test func `a request whose step is in flight keeps its blocks until the step completes`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(30))
        let output = driver.scheduler.schedule(now: .zero)
        #expect(driver.scheduler.abort(RequestID(1)) != nil)
        #expect(driver.scheduler.statistics.usedBlocks == 4)
        let events = driver.scheduler.complete(output, samples: [TokenSample(token: 5)], now: .zero)
        #expect(events == [])
        #expect(driver.scheduler.statistics.usedBlocks == 0 && driver.scheduler.statistics.running == 0)
    }

    @Test func `a second abort, an unknown id and an ended request are nothing`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(4), maxNewTokens: 1)
        try driver.add(2, prompt: prompt(4))
        #expect(driver.scheduler.abort(RequestID(2)) != nil)
        #expect(driver.scheduler.abort(RequestID(2)) == nil)
        #expect(driver.scheduler.abort(RequestID(77)) == nil)
        _ = try driver.finish()
        #expect(driver.scheduler.abort(RequestID(1)) == nil)
    }

    @Test func `the blocks of an aborted request can be found again`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(30))
        _ = try driver.step(aborting: 1)
        try driver.add(2, prompt: prompt(30))
        #expect(try driver.finish().ending(of: 2)?.usage.cachedTokens == 24)
    }

    @Test func `all requests can be aborted at once, oldest first`() throws {
        var driver = try Driver(maxSequences: 2)
        for id in UInt64(1)...5 { try driver.add(id, prompt: prompt(9, seed: Int(id))) }
        _ = try driver.step()
        #expect(driver.scheduler.abortAll().map(\.id.rawValue) == [1, 2, 3, 4, 5])
        try driver.scheduler.checkInvariants()
        #expect(!driver.scheduler.hasWork && driver.scheduler.statistics.usedBlocks == 0)
    }
}
