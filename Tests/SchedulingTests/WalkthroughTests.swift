// The worked example of docs/block-pool.md, moment by moment. When this test changes, so must the article.

import Scheduling
import Testing

@Suite struct WalkthroughTests {
    /// The pool in one line: held blocks with the number of holders, then free ones in the order of taking. A star
    /// marks a block whose prefix can be found.
    private static func picture(_ driver: borrowing Driver) -> String {
        func name(_ block: BlockID) -> String {
            "\(block.rawValue)" + (driver.scheduler.isPublished(block) ? "*" : "")
        }
        let held = (0..<10).map { BlockID($0) }.filter { driver.scheduler.referenceCount(of: $0) > 0 }.map {
            driver.scheduler.referenceCount(of: $0) == 1 ? name($0) : name($0) + "×2"
        }
        return held.joined(separator: " ") + " | " + driver.scheduler.freeBlocks.map(name).joined(separator: " ")
    }

    private static func ends(_ step: Step) -> Bool {
        step.events.contains { if case .finished = $0.kind { true } else { false } }
    }

    @Test func `ten blocks go from hand to hand as the article tells`() throws {
        var driver = try Driver(blockCount: 10, maxSequences: 4, maxModelLength: 80)
        let system = prompt(16)
        #expect(Self.picture(driver) == " | 0 1 2 3 4 5 6 7 8 9")

        try driver.add(1, prompt: system + prompt(4, seed: 1), maxNewTokens: 6)
        _ = try driver.step()
        #expect(Self.picture(driver) == "0* 1* 2 | 3 4 5 6 7 8 9")

        try driver.add(2, prompt: system + prompt(6, seed: 2), maxNewTokens: 8)
        #expect(try driver.step().start(2) == 16)
        #expect(Self.picture(driver) == "0*×2 1*×2 2 3 | 4 5 6 7 8 9")

        while !Self.ends(try driver.step()) {}
        #expect(Self.picture(driver) == "0* 1* 3* 4 | 5 6 7 8 9 2*")

        while !Self.ends(try driver.step()) {}
        #expect(Self.picture(driver) == " | 4 5 6 7 8 9 2* 3* 1* 0*")

        try driver.add(3, prompt: prompt(38, seed: 3), maxNewTokens: 26)
        _ = try driver.step()
        #expect(Self.picture(driver) == "4* 5* 6* 7* 8 | 9 2* 3* 1* 0*")

        try driver.add(4, prompt: system + prompt(7, seed: 4), maxNewTokens: 24)
        #expect(try driver.step().start(4) == 16)
        #expect(Self.picture(driver) == "0* 1* 4* 5* 6* 7* 8 9 | 2* 3*")

        var step = try driver.step()
        while step.preempted.isEmpty { step = try driver.step() }
        #expect(step.preempted == [4])
        #expect(Self.picture(driver) == "2* 3 4* 5* 6* 7* 8* | 9* 1* 0*")

        while !Self.ends(try driver.step()) {}
        #expect(Self.picture(driver) == " | 9 1* 0* 3* 2* 8* 7* 6* 5* 4*")

        step = try driver.step()
        #expect(step.start(4) == 16)
        #expect(Self.picture(driver) == "0* 1* 2 3* 9* | 8* 7* 6* 5* 4*")

        while !Self.ends(try driver.step()) {}
        #expect(driver.scheduler.statistics.freeBlocks == 10 && driver.scheduler.statistics.usedBlocks == 0)
    }
}
