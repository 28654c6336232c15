// `apus bench`: how fast this machine is, as an engine that runs a model or operation by operation.

import ArgumentParser
import Foundation

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure this machine.",
        discussion: "`apus bench MODEL` measures the engine, `apus bench kernels` every operation of the device.",
        subcommands: [
            EngineBenchCommand.self, ServeBenchCommand.self, LatencyBenchCommand.self, ThroughputBenchCommand.self,
            StartupBenchCommand.self, RooflineBenchCommand.self, KernelBenchCommand.self,
        ],
        defaultSubcommand: EngineBenchCommand.self)
}

/// What a measurement says while it runs and what it leaves.
enum BenchOutput {
    /// Writes a result to standard output at once, so that a measurement that is stopped has written what it knew.
    static func write(_ line: String) throws {
        try FileHandle.standardOutput.write(contentsOf: Data((line + "\n").utf8))
    }

    /// Writes to standard error; progress only where a person can see it.
    static func report(_ line: String, isProgress: Bool = false) {
        guard !isProgress || isatty(FileHandle.standardError.fileDescriptor) == 1 else { return }
        FileHandle.standardError.write(Data((isProgress ? "\r\u{1B}[K\(line)" : line + "\n").utf8))
    }
}
