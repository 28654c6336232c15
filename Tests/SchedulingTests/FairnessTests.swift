// Who goes first: tenants by what they were served, priorities by how long they have waited, the unlucky at last.

import Scheduling
import Testing

@Suite struct FairnessTests {
    @Test func `tenants take turns however many requests one of them sends`() throws {
        var driver = try Driver(maxSequences: 1, policy: .fair)
        for id in UInt64(1)...4 { try driver.add(id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 1, tenant: 1) }
        for id in UInt64(5)...6 { try driver.add(id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 1, tenant: 2) }
        #expect(try driver.finish().flatMap(\.parts).map(\.id) == [1, 5, 2, 6, 3, 4])
    }

    @Test func `long requests count for more`() throws {
        var driver = try Driver(maxSequences: 1, policy: .fair)
        for id in UInt64(1)...2 { try driver.add(id, prompt: prompt(60, seed: Int(id)), maxNewTokens: 1, tenant: 1) }
        for id in UInt64(3)...6 { try driver.add(id, prompt: prompt(20, seed: Int(id)), maxNewTokens: 1, tenant: 2) }
        #expect(try driver.finish().flatMap(\.parts).map(\.id) == [1, 3, 4, 5, 2, 6])
    }

    @Test func `a tenant that holds every row gives one up`() throws {
        var driver = try Driver(maxSequences: 4, policy: .fair)
        for id in UInt64(1)...4 { try driver.add(id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 50, tenant: 1) }
        _ = try driver.step()
        try driver.add(5, prompt: prompt(8, seed: 5), maxNewTokens: 50, tenant: 2)
        let step = try driver.step()
        #expect(step.preempted == [4] && step.count(5) == 8)
        // Three beside one, and two more want in: once it is their turn, one of them gets a row, and that is even.
        for id in UInt64(6)...7 { try driver.add(id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 50, tenant: 2) }
        var preempted: [UInt64] = []
        for _ in 0..<30 { preempted += try driver.step().preempted }
        #expect(preempted == [3])
    }

    @Test func `a tenant with most rows leaves three steps to the prompt of another, then takes part again`() throws {
        var driver = try Driver(maxSequences: 16, tokenBudget: 32, policy: .fair)
        for id in UInt64(1)...16 { try driver.add(id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 90, tenant: 1) }
        for _ in 0..<8 { _ = try driver.step() }
        try driver.add(20, prompt: prompt(120, seed: 20), maxNewTokens: 4, tenant: 2)
        for _ in 0..<3 {
            let step = try driver.step()
            #expect(step.parts.map(\.id) == [20] && step.count(20) == 32)
        }
        let shared = try driver.step()
        #expect(shared.count(20) == 24 && shared.parts.count == 9)
        #expect(try driver.step().parts.count == 16, "it generates, and so do all but the one that lost its row")
        #expect(try driver.finish().ending(of: 20)?.reason == .length)
    }

    @Test func `tenants that hold their shares leave each other no steps`() throws {
        var driver = try Driver(maxSequences: 16, tokenBudget: 32, policy: .fair)
        for id in UInt64(1)...16 {
            try driver.add(id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 90, tenant: id % 2)
        }
        for _ in 0..<8 { _ = try driver.step() }
        try driver.add(20, prompt: prompt(120, seed: 20), maxNewTokens: 4, tenant: 1)
        for _ in 0..<10 { #expect(try driver.step().parts.count > 1) }
    }

    @Test func `who has waited long enough goes before who is more important`() throws {
        for (wait, first) in [(Duration.seconds(20), UInt64(2)), (.seconds(40), 1)] {
            var driver = try Driver(maxSequences: 1, policy: .priority, priorityAgeing: .seconds(30))
            try driver.add(1, prompt: prompt(4, seed: 1), priority: 1, now: .zero)
            try driver.add(2, prompt: prompt(4, seed: 2), priority: 0, now: wait)
            #expect(try driver.step().parts.map(\.id) == [first])
        }
        var driver = try Driver(maxSequences: 1, policy: .priority, priorityAgeing: nil)
        try driver.add(1, prompt: prompt(4, seed: 1), priority: 1, now: .zero)
        try driver.add(2, prompt: prompt(4, seed: 2), priority: 0, now: .seconds(80_000))
        #expect(try driver.step().parts.map(\.id) == [2])
    }

    @Test func `nobody loses its blocks more often than allowed`() throws {
        var driver = try Driver(blockCount: 10, maxModelLength: 70, policy: .priority, maxPreemptions: 2)
        try driver.add(1, prompt: prompt(8, seed: 1), maxNewTokens: 60, priority: 9)
        for id in UInt64(2)...12 { try driver.add(id, prompt: prompt(8, seed: Int(id)), maxNewTokens: 40) }
        let steps = try driver.finish()
        let most = (UInt64(1)...12).compactMap { steps.ending(of: $0)?.usage.preemptions }.max()
        #expect(most == 2)
    }

    @Test func `a deadline that the queue cannot meet is refused with both numbers`() throws {
        var driver = try Driver()
        for id in UInt64(1)...4 { try driver.add(id, prompt: prompt(100, seed: Int(id))) }
        try driver.add(5, prompt: prompt(100, seed: 5), deadline: .seconds(6), promptRate: 100)
        #expect {
            try driver.add(6, prompt: prompt(100, seed: 6), deadline: .seconds(5), promptRate: 100)
        } throws: { error in
            "\(error)".contains("about 6.0 seconds") && "\(error)".contains("after 5.0 seconds")
        }
        // Nobody knows the rate yet: it is let in.
        try driver.add(7, prompt: prompt(100, seed: 7), deadline: .seconds(5))
    }

    @Test func `a cached prompt is not hopeless`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(96) + [1])
        _ = try driver.finish()
        try driver.add(2, prompt: prompt(96) + [2], deadline: .milliseconds(10), promptRate: 100)
    }

    @Test func `a block that held something that is not a number is cleared before it is used again`() throws {
        var driver = try Driver(blockCount: 3, maxModelLength: 24)
        try driver.add(1, prompt: prompt(10), maxNewTokens: 3)
        driver.broken = [1]
        _ = try driver.finish()
        try driver.add(2, prompt: prompt(20, seed: 2), maxNewTokens: 3)
        let output = driver.scheduler.schedule(now: .zero)
        #expect(Set(output.scrubbedBlocks) == [BlockID(0), BlockID(1)])
        _ = driver.scheduler.abandon(output)
    }

    @Test func `a short prompt overtakes a long one and the long one keeps half`() throws {
        var driver = try Driver()
        try driver.add(1, prompt: prompt(150, seed: 1))
        _ = try driver.step()
        try driver.add(2, prompt: prompt(90, seed: 2))
        try driver.add(3, prompt: prompt(20, seed: 3))
        let step = try driver.step()
        #expect(step.count(1) == 32 && step.count(2) == 12 && step.count(3) == 20)
    }
}
