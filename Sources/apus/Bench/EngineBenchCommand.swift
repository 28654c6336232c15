// `apus bench [engine]`: how fast this machine runs a model, in the workloads a server sees. Measures the engine
// itself, without HTTP: random token ids, greedy, no stop tokens, a fixed number of requests in flight.

import ArgumentParser
import Checkpoints
import Execution
import Foundation
import Scheduling
import Tensors

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
        let engine = try await start(settings, chosen, environment: environment)
        if !json { try BenchOutput.write(Measurement.header) }
        for workload in chosen {
            var measurements: [Measurement] = []
            _ = try await measure(workload, engine: engine, seed: 0, requests: workload.concurrency)
            for round in 1...repeats {
                BenchOutput.report("\(workload.name), round \(round) of \(repeats)", isProgress: true)
                measurements.append(
                    try await measure(workload, engine: engine, seed: UInt64(round), requests: workload.requests))
            }
            measurements.sort { $0.outputRate < $1.outputRate }
            let median = measurements[measurements.count / 2]
            BenchOutput.report("", isProgress: true)
            try BenchOutput.write(json ? median.json(workload).line : median.row(workload))
        }
        await engine.drain(timeout: .zero)
    }

    /// An engine on the model, or on random weights; with room for the largest batch unless the settings say otherwise.
    private func start(
        _ settings: ResolvedSettings, _ workloads: [Workload], environment: [String: String]
    ) async throws -> Engine {
        let shape = weightOptions.shape
        let adjust = { (configuration: inout EngineConfiguration) in
            let largest = workloads.map(\.concurrency).max() ?? 1
            if settings.integer(.maxNumSeqs) == nil, settings.integer(.maxNumBatchedTokens) ?? .max >= largest {
                configuration.maxSequences = max(configuration.maxSequences, largest)
                configuration.tokenBudget = max(configuration.tokenBudget, configuration.maxSequences)
            }
            // No workload is longer, and a cache for whole contexts may not fit.
            guard let shape else { return }
            configuration.maxModelLength = configuration.maxModelLength ?? min(shape.config.contextLength, 8192)
        }
        let name: String
        let engine: Engine
        if let shape {
            let checkpoint = SyntheticCheckpoint(shape, dtype: weightOptions.dtype)
            name = checkpoint.path
            engine = try await RunningModel.start(
                shape.config, weights: checkpoint, settings: settings, adjust: adjust
            ).engine
        } else {
            let located = try ModelLocator.locate(model ?? "", home: settings.text(.home), environment: environment)
            name = located.path
            engine = try await RunningModel.start(path: located.path, settings: settings, adjust: adjust).engine
        }
        BenchOutput.report("\(name): \(engine.information.backendSummary)")
        return engine
    }

    /// Runs one workload: `concurrency` tasks take requests from one list until it is empty.
    private func measure(
        _ workload: Workload, engine: Engine, seed: UInt64, requests: Int
    ) async throws -> Measurement {
        let prompts = workload.prompts(count: requests, seed: seed, vocabulary: engine.information.vocabularyCount)
        let start = ContinuousClock.now
        let timelines = try await withThrowingTaskGroup(of: [Timeline].self) { group in
            for lane in 0..<workload.concurrency {
                group.addTask {
                    var timelines: [Timeline] = []
                    for index in stride(from: lane, to: prompts.count, by: workload.concurrency) {
                        timelines.append(
                            try await Timeline.record(prompts[index], newTokens: workload.newTokens, engine: engine))
                    }
                    return timelines
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        return Measurement(timelines, wall: start.duration(to: .now), promptTokens: prompts.reduce(0) { $0 + $1.count })
    }
}

/// Where the weights come from.
enum LoadFormat: String, CaseIterable, ExpressibleByArgument {
    /// The file of the model.
    case auto
    /// Random numbers in the shape of a known model.
    case dummy
}

/// The options of measuring without a checkpoint.
struct DummyWeightOptions: ParsableArguments {
    @Option(help: "Where weights come from: the model's file, or random numbers (dummy).")
    var loadFormat = LoadFormat.auto
    @Option(
        help: ArgumentHelp(
            "The shape that random weights take.", valueName: ModelShape.all.map(\.name).joined(separator: "|")))
    var modelShape: String?
    @Option(
        help: ArgumentHelp(
            "The type of random matrices. (default: bf16)",
            valueName: Self.types.map(\.rawValue).joined(separator: "|")))
    var weights: String?

    private static let types: [DType] = [.bf16, .q8_0, .q4_0]

    /// The chosen shape; nil without random weights.
    var shape: ModelShape? { loadFormat == .dummy ? modelShape.flatMap { ModelShape.named($0) } : nil }

    var dtype: DType { weights.flatMap { name in Self.types.first { $0.rawValue == name } } ?? .bf16 }

    /// Throws a sentence when the options do not fit one another, or `model`.
    func check(model: String?) throws(ValidationError) {
        let shapes = ModelShape.all.map(\.name).joined(separator: ", ")
        if let modelShape, ModelShape.named(modelShape) == nil {
            throw ValidationError("--model-shape is '\(modelShape)', which is not one of \(shapes).")
        }
        if let weights, !Self.types.map(\.rawValue).contains(weights) {
            throw ValidationError(
                "--weights is '\(weights)', which is not one of \(Self.types.map(\.rawValue).joined(separator: ", ")).")
        }
        switch loadFormat {
        case .auto:
            guard modelShape == nil, weights == nil else {
                throw ValidationError(
                    "--model-shape and --weights describe random weights; give --load-format dummy too.")
            }
            guard model != nil else {
                throw ValidationError("Give a MODEL, or --load-format dummy with --model-shape (one of \(shapes)).")
            }
        case .dummy:
            guard model == nil else {
                throw ValidationError("--load-format dummy reads no model; leave '\(model ?? "")' out.")
            }
            guard modelShape != nil else {
                throw ValidationError("--load-format dummy needs --model-shape, one of \(shapes).")
            }
        }
    }
}
