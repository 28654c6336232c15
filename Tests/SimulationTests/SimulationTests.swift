// The signature test: many small worlds, each from one seed, each checked after every move.
//
// APUS_SIMULATION_SEEDS is the number of seeds, APUS_SIMULATION_SEED a single one to replay with its trace, and
// APUS_SIMULATION_DEEP=0 leaves the look inside the scheduler out, to know what that costs.

import Foundation
import Scheduling
import Testing

@Suite struct SimulationTests {
    private static func environment(_ name: String) -> UInt64? {
        ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) }
    }

    /// Looked up once: it takes longer than a small step.
    private static let checksDeeply = environment("APUS_SIMULATION_DEEP") != 0

    /// Seconds of processor time of this thread: the machine may be busy, and the tests beside this one are.
    private static func threadTime() -> Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    /// Runs one seed. When it fails, the scenario is shrunk, and the smallest that still fails is told with its trace.
    private static func run(
        _ seed: UInt64, isOverlapped: Bool, faults: SchedulerFaults = []
    ) throws -> (coverage: Coverage, hash: UInt64) {
        do {
            var simulation = try Simulation(
                seed: seed, isOverlapped: isOverlapped, faults: faults, checksDeeply: checksDeeply)
            try simulation.run()
            return (simulation.coverage, simulation.hash.value)
        } catch let error as SimulationFailure {
            let smallest = try Scenario(seed: seed).shrunk { scenario in
                do {
                    var attempt = try Simulation(
                        seed: seed, scenario: scenario, isOverlapped: isOverlapped, faults: faults)
                    try attempt.run()
                    return false
                } catch { return true }
            }
            print("seed \(seed), shrunk:\n\(smallest)")
            var replay = try Simulation(
                seed: seed, scenario: smallest, isOverlapped: isOverlapped, faults: faults, keepsTrace: true)
            try replay.run()
            throw error
        }
    }

    /// Overlapped or not, the tokens are the same: those that the oracle computes alone.
    @Test(arguments: [false, true])
    func `every request of every seed gets the tokens it would get alone`(isOverlapped: Bool) throws {
        if let seed = Self.environment("APUS_SIMULATION_SEED") {
            var simulation = try Simulation(seed: seed, isOverlapped: isOverlapped, keepsTrace: true)
            defer { print(simulation.trace.joined(separator: "\n")) }
            try simulation.run()
            return
        }
        var coverage = Coverage()
        var hash = TraceHash()
        let count = Self.environment("APUS_SIMULATION_SEEDS") ?? 300
        let start = Self.threadTime()
        for seed in 1...max(1, count) {
            let run = try Self.run(seed, isOverlapped: isOverlapped)
            coverage.add(run.coverage)
            hash.combine(Int(truncatingIfNeeded: run.hash))
        }
        let elapsed = Self.threadTime() - start
        print("\(count) seeds\(isOverlapped ? ", overlapped" : ""): \(coverage)")
        print("\(Int(Double(coverage.requests) / elapsed)) requests per second, trace hash \(hash.value)")
        let impossible = isOverlapped ? [] : ["lateWithdrawals", "uselessShares"]
        if count >= 300 { #expect(coverage.missing == impossible, "situations that no seed met") }
    }

    @Test(arguments: [false, true]) func `the same seed gives the same run`(isOverlapped: Bool) throws {
        for seed in UInt64(1)...40 {
            let hashes = try (0..<2).map { _ in try Self.run(seed, isOverlapped: isOverlapped).hash }
            #expect(hashes[0] == hashes[1])
        }
        #expect(try Self.run(1, isOverlapped: isOverlapped).hash != Self.run(2, isOverlapped: isOverlapped).hash)
    }

    @Test func `a failing seed is shrunk to what makes it fail`() throws {
        func fails(_ scenario: Scenario) -> Bool {
            do {
                var simulation = try Simulation(seed: 1, scenario: scenario, faults: .leaksOnAbort)
                try simulation.run()
                return false
            } catch { return true }
        }
        let failing = try (UInt64(1)...300).map { try Scenario(seed: $0) }
            .first { $0.clients.count > 10 && fails($0) }
        let smallest = try #require(failing).shrunk(fails: fails)
        #expect(smallest.clients.count == 1 && fails(smallest))
        #expect(smallest.clients[0].request.prompt.count <= 2)
    }
}
