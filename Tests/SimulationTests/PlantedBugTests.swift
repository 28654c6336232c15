// The simulation must find bugs that are put there on purpose; otherwise its silence means nothing.

import Scheduling
import Testing

@Suite struct PlantedBugTests {
    /// Runs seeds until one fails.
    private static func firstFailure(
        with fault: SchedulerFaults, isOverlapped: Bool = false, checksDeeply: Bool,
        seeds: ClosedRange<UInt64> = 1...300
    ) throws -> String? {
        for seed in seeds {
            var simulation = try Simulation(
                seed: seed, isOverlapped: isOverlapped, faults: fault, checksDeeply: checksDeeply)
            do { try simulation.run() } catch { return "\(error)" }
        }
        return nil
    }

    /// A planted bug and the words of the sentence that reports it.
    struct Plant: Sendable, CustomTestStringConvertible {
        let fault: SchedulerFaults
        let name: String
        let words: String

        init(_ fault: SchedulerFaults, _ name: String, _ words: String) {
            self.fault = fault
            self.name = name
            self.words = words
        }

        var testDescription: String { name }
    }

    @Test(arguments: [
        Plant(.leaksOnAbort, "leaks on abort", "tables hold it"),
        Plant(.reusesEarly, "reuses early", "holds 0 blocks"),
        Plant(.sharesSlot, "shares a row", "which belongs to another"),
        Plant(.trustsHash, "trusts the hash", "seed"),
        Plant(.missesReference, "misses a reference", "tables hold it"),
        Plant(.keepsComputedCount, "keeps the computed count", "tokens"),
        Plant(.publishesUnfilled, "publishes unfilled blocks", "published as something it does not hold"),
        Plant(.publishesNonFinite, "publishes blocks that are not finite", "ended with error"),
        Plant(.resamples, "samples again after preemption", "should be"),
        Plant(.losesPreempted, "loses a preempted sequence", "wait or run"),
        Plant(.preemptsOldest, "preempts the oldest", "seed"),
        Plant(.keepsClaims, "keeps claims", "the step is empty"),
        Plant(.samplesEarly, "samples early", "should be"),
        Plant(.ignoresSalt, "ignores the salt", "should be"),
        Plant(.skipsScrub, "hands out a tainted block", "ended with error"),
        Plant(.preemptsForEver, "preempts for ever", "times"),
        Plant(.acceptsHopeless, "accepts the hopeless", "is hopeless"),
        Plant(.acceptsWrongDrafts, "accepts wrong guesses", "should be"),
        Plant(.countsRejected, "counts rejected guesses", "seed"),
        Plant(.keepsRejectedBlocks, "keeps the blocks of rejected guesses", "blocks for"),
        Plant(.runsPastEnd, "runs past the end", "and then came"),
        Plant(.sharesLastBlock, "shares the last block", "seed"),
        Plant(.keepsStaleIndex, "keeps a stale index", "published as something it does not hold"),
        Plant(.leaksRow, "leaks a row", "rows are free"),
        Plant(.missesDeadlines, "misses deadlines", "lives after its deadline"),
        Plant(.hidesEarly, "gives up a block within the window", "some that rows still see"),
        Plant(.matchesHoles, "matches a prefix whose window has holes", "seed"),
        Plant(.hidesWrongGroup, "gives up a block of the wrong group", "some that rows still see"),
        Plant(.keepsCompany, "keeps a windowed block findable", "published as something it does not hold"),
        Plant(.trustsHidden, "hands out what a broken prompt gave up", "ended with error"),
    ])
    func `a planted bug is found within the seeds of a normal run`(plant: Plant) throws {
        let found = try #require(try Self.firstFailure(with: plant.fault, checksDeeply: true))
        #expect(found.contains(plant.words))
        #expect(found.contains("replay: make simulate SEED="))
    }

    @Test(arguments: [false, true]) func `the canary: one wrong token is noticed`(isOverlapped: Bool) throws {
        for seed in UInt64(1)...20 {
            var simulation = try Simulation(seed: seed, isOverlapped: isOverlapped, lyingStep: 1)
            #expect(throws: SimulationFailure.self) { try simulation.run() }
        }
    }

    // What the fake model reads back betrays these even when nobody looks inside the scheduler.

    @Test(arguments: [
        Plant(.reusesEarly, "reuses early", "nobody holds it"),
        Plant(.sharesSlot, "shares a row", "given twice"),
        Plant(.trustsHash, "trusts the hash", "should be"),
        Plant(.missesReference, "misses a reference", "nobody holds it"),
        Plant(.keepsComputedCount, "keeps the computed count", "seed"),
        Plant(.publishesUnfilled, "publishes unfilled blocks", "request"),
        Plant(.matchesHoles, "matches a prefix whose window has holes", "should be"),
        Plant(.hidesWrongGroup, "gives up a block of the wrong group", "nobody holds it"),
        Plant(.keepsCompany, "keeps a windowed block findable", "seed"),
    ])
    func `a planted bug changes what a client sees`(plant: Plant) throws {
        let found = try #require(try Self.firstFailure(with: plant.fault, checksDeeply: false))
        #expect(found.contains(plant.words))
    }

    // Some can only be made, or are made more often, while a step is planned ahead.

    @Test(arguments: [
        Plant(.leaksOnAbort, "leaks on abort", "tables hold it"),
        Plant(.reusesEarly, "reuses early", "holds 0 blocks"),
        Plant(.publishesNonFinite, "publishes blocks that are not finite", "ended with error"),
        Plant(.withdrawsInFlight, "withdraws in flight", "waits with"),
        Plant(.keepsLateTokens, "keeps late tokens", "and then came"),
    ])
    func `a planted bug is found while a step is planned ahead`(plant: Plant) throws {
        let found = try #require(
            try Self.firstFailure(with: plant.fault, isOverlapped: true, checksDeeply: true))
        #expect(found.contains(plant.words))
    }

    @Test(arguments: [
        Plant(.reusesEarly, "reuses early", "nobody holds it"),
        Plant(.sharesSlot, "shares a row", "row"),
        Plant(.withdrawsInFlight, "withdraws in flight", "in flight"),
        Plant(.keepsLateTokens, "keeps late tokens", "and then came"),
    ])
    func `a planted bug changes what a client sees while a step is planned ahead`(plant: Plant) throws {
        let found = try #require(
            try Self.firstFailure(with: plant.fault, isOverlapped: true, checksDeeply: false))
        #expect(found.contains(plant.words))
    }

    /// In no seed does the process stop before somebody looks, forced texts and tenants or not.
    @Test(arguments: [true, false]) func `who loses its row in flight is told in words`(checksDeeply: Bool) throws {
        var found = 0
        for seed in UInt64(1)...600 {
            var simulation = try Simulation(
                seed: seed, isOverlapped: true, faults: .withdrawsInFlight, checksDeeply: checksDeeply)
            do { try simulation.run() } catch is SimulationFailure { found += 1 }
        }
        #expect(found > 20)
    }

    // These break counts that are checked in production too, where the process stops rather than going on wrong.

    @Test func `a block released twice stops the process`() async {
        let result = await #expect(processExitsWith: .failure) {
            _ = try Self.firstFailure(with: .releasesTwice, checksDeeply: false)
        }
        #expect(result.map { Self.isTrap($0.exitStatus) } == true)
    }

    @Test func `a step over its budget stops the process`() async {
        let result = await #expect(processExitsWith: .failure) {
            _ = try Self.firstFailure(with: .ignoresBudget, checksDeeply: false)
        }
        #expect(result.map { Self.isTrap($0.exitStatus) } == true)
    }

    @Test func `an admission that counts one group of layers only stops the process`() async {
        let result = await #expect(processExitsWith: .failure) {
            _ = try Self.firstFailure(with: .ignoresGroups, checksDeeply: false)
        }
        #expect(result.map { Self.isTrap($0.exitStatus) } == true)
    }

    private static func isTrap(_ status: ExitStatus) -> Bool {
        if case .signal = status { return true }
        return false
    }
}
