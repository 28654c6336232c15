// The signature test: many small worlds, each from one seed, each checked after every move.
//
// APUS_SIMULATION_SEEDS is the number of seeds, APUS_SIMULATION_SEED a single one to replay with its trace.

import Foundation
import Scheduling
import Testing

@Suite struct SimulationTests {
    private static func environment(_ name: String) -> UInt64? {
        ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) }
    }

    /// Runs one seed, and once more with its trace when it fails.
    private static func run(_ seed: UInt64, isOverlapped: Bool) throws -> Coverage {
        do {
            var simulation = try Simulation(seed: seed, isOverlapped: isOverlapped)
            try simulation.run()
            return simulation.coverage
        } catch {
            var replay = try Simulation(seed: seed, isOverlapped: isOverlapped, keepsTrace: true)
            try replay.run()
            throw error
        }
    }

    /// Overlapped or not, the tokens are the same: those that the oracle computes alone.
    @Test(arguments: [false, true])
    func `every request of every seed gets the tokens it would get alone`(isOverlapped: Bool) throws {
        if let seed = Self.environment("APUS_SIMULATION_SEED") {
            let coverage = try Self.run(seed, isOverlapped: isOverlapped)
            print("seed \(seed)\(isOverlapped ? ", overlapped" : ""): \(coverage)")
            return
        }
        var coverage = Coverage()
        let count = Self.environment("APUS_SIMULATION_SEEDS") ?? 300
        for seed in 1...max(1, count) { coverage.add(try Self.run(seed, isOverlapped: isOverlapped)) }
        print("\(count) seeds\(isOverlapped ? ", overlapped" : ""): \(coverage)")
        let impossible = isOverlapped ? [] : ["lateWithdrawals", "uselessShares"]
        if count >= 300 { #expect(coverage.missing == impossible, "situations that no seed met") }
    }

    @Test func `the same seed gives the same run`() throws {
        var traces: [[String]] = []
        for _ in 0..<2 {
            var simulation = try Simulation(seed: 7, isOverlapped: true, keepsTrace: true)
            try simulation.run()
            traces.append(simulation.trace)
        }
        #expect(traces[0] == traces[1])
        #expect(traces[0].count > 10)
    }
}
