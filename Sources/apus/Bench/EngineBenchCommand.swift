// `apus bench [engine]`: how fast this machine runs a model, in the workloads a server sees. Measures the engine
// itself, without HTTP: random token ids, greedy, no stop tokens, a fixed number of requests in flight.

import ArgumentParser
import Execution
import Foundation

struct EngineBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "engine", abstract: "Measure the engine with a model, or with random weights in its shape.",
        discussion: "Workloads: " + describe(Workload.usual) + ". Only when named: " + describe(Workload.batches) + ".")

    @Argument(help: ArgumentHelp(Setting.model.help)) var model: String?
    @Option(help: "Workloads to run, separated by commas; the usual ones when absent.") var workloads: String?
    @Option(help: "Times each workload is run; the table shows the median.") var repeats = 3
    @Flag(help: "Print one JSON object per workload instead of a table.") var json = false
    @OptionGroup(title: "Weights") var weightOptions: DummyWeightOptions
    @OptionGroup(title: "Model") var modelOptions: ModelOptions
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions
    @OptionGroup(title: "KV cache") var cacheOptions: CacheOptions
    @OptionGroup(title: "Scheduling") var schedulingOptions: SchedulingOptions

    private static func describe(_ workloads: [Workload]) -> String {
        workloads.map { "\($0.name) (\($0.summary))" }.joined(separator: "; ")
    }

    func validate() throws {
        guard (1...100).contains(repeats) else {
            throw ValidationError("--repeats is \(repeats) but must be from 1 to 100.")
        }
        _ = try Workload.chosen(workloads)
        try weightOptions.check(model: model)
    }

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let settings = try ResolvedSettings.resolve(
            flags: SettingSource(
                flags: [modelOptions, computeOptions, cacheOptions, schedulingOptions], model: model),
            environment: environment)
        let chosen = try Workload.chosen(workloads)
        let engine = try await BenchEngine.start(
            model, weightOptions, settings: settings, environment: environment,
            concurrency: chosen.map(\.concurrency).max() ?? 1
        ).engine
        if !json { try BenchOutput.write(Measurement.header) }
        for workload in chosen {
            var measurements: [Measurement] = []
            _ = try await BenchEngine.run(workload, engine: engine, seed: 0, requests: workload.concurrency)
            for round in 1...repeats {
                BenchOutput.report("\(workload.name), round \(round) of \(repeats)", isProgress: true)
                measurements.append(
                    try await BenchEngine.run(
                        workload, engine: engine, seed: UInt64(round), requests: workload.requests))
            }
            measurements.sort { $0.outputRate < $1.outputRate }
            let median = measurements[measurements.count / 2]
            BenchOutput.report("", isProgress: true)
            try BenchOutput.write(json ? median.json(workload).line : median.row(workload))
        }
        await engine.drain(timeout: .zero)
    }
}
