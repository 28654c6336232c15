// `apus bench roofline`: what this machine can do at most, and what share of it every operation of a step and the whole
// step reach.

import ArgumentParser
import CPUBackend
import Checkpoints
import Execution
import Foundation
import Scheduling
import Tensors

struct RooflineBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "roofline", abstract: "Measure the CPU's limits, and what share of them a step reaches.",
        discussion: """
            Reading is measured for memory of several sizes, products in registers. Operations are measured one by one \
            on copies of what they stream that together are as large as the model; the whole step on the engine.
            """)

    @Argument(help: ArgumentHelp(Setting.model.help)) var model: String?
    @Option(help: ArgumentHelp("Sizes of batches that decode, separated by commas.", valueName: "numbers"))
    var batches = "1,16"
    @Option(help: "Tokens of each sequence that decodes.") var context = 192
    @Option(help: "Prompt tokens of a step that computes a prompt; 0 for none.") var prefill = 512
    @Option(help: "Seconds to measure each limit and each operation for.") var seconds = 0.1
    @OptionGroup(title: "Results") var results: BatchResultOptions
    @OptionGroup(title: "Weights") var weightOptions: DummyWeightOptions
    @OptionGroup(title: "Model") var modelOptions: ModelOptions
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions

    func validate() throws {
        guard let sizes = batchSizes, sizes.allSatisfy({ (1...4096).contains($0) }) else {
            throw ValidationError("--batches is '\(batches)' but must be numbers from 1 to 4096, as 1,16.")
        }
        guard (16...1_000_000).contains(context), (0...1_000_000).contains(prefill) else {
            throw ValidationError("--context must be from 16 and --prefill from 0, up to 1000000.")
        }
        guard seconds > 0, seconds <= 60 else {
            throw ValidationError("--seconds is \(seconds) but must be above 0, up to 60.")
        }
        try weightOptions.check(model: model)
    }

    private var batchSizes: [Int]? {
        let words = batches.split(separator: ",")
        let sizes = words.compactMap { Int($0) }
        return sizes.count == words.count ? sizes : nil
    }

    private var steps: [ModelStep] {
        let decoding = (batchSizes ?? []).map { count in
            ModelStep(
                name: "\(count) decoding at \(context)", sequences: count, query: 1, context: context)
        }
        guard prefill > 0 else { return decoding }
        return decoding + [
            ModelStep(name: "\(prefill) prompt tokens", sequences: 1, query: prefill, context: prefill)
        ]
    }

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let settings = try ResolvedSettings.resolve(
            flags: SettingSource(flags: [modelOptions, computeOptions], model: model), environment: environment)
        let shape = try ModelTypes(model, weightOptions, settings: settings, environment: environment)
        var (limits, found, machine) = try measureOperations(shape, settings)
        for index in found.indices {
            BenchOutput.report("\(found[index].name) on the engine", isProgress: true)
            found[index] = StepShare(
                name: found[index].name, workingSet: found[index].workingSet, operations: found[index].operations,
                seconds: try await stepSeconds(steps[index], settings: settings, environment: environment))
        }
        BenchOutput.report("", isProgress: true)
        machine += ", apus \(Version.current)"
        let report = RooflineReport(machine: machine, model: shape.name, limits: limits, steps: found)
        try results.write(report.json, text: report.text)
    }

    /// The limits, and every operation of every step beside them.
    private func measureOperations(
        _ shape: ModelTypes, _ settings: ResolvedSettings
    ) throws -> (MachineLimits, [StepShare], String) {
        let compute = ComputeConfiguration(settings, coreCount: MachineCores.available())
        let backend = try RunningModel.makeCPUBackend(compute)
        let kvBytes = try backend.kvBytesPerToken(
            kvHeads: shape.config.kvHeadCount, headDim: shape.config.headDim, type: .auto)
        let keysAreBF16 = kvBytes < 2 * 4 * shape.config.kvHeadCount * shape.config.headDim
        let sets = steps.map { $0.workingSet(shape.config, dtype: shape.dtype, kvBytesPerToken: kvBytes) }
        BenchOutput.report("limits of the machine", isProgress: true)
        let limits = try MachineLimits.measure(backend, sizes: sets, duration: .seconds(seconds))
        let stopwatch = Stopwatch(hostClockFor: backend)
        var found: [StepShare] = []
        for (step, set) in zip(steps, sets) {
            let operations = step.operations(shape.config, dtype: shape.dtype, keysAreBF16: keysAreBF16)
            let bench = KernelBench(
                backend, stopwatch: stopwatch, cases: operations.map(\.operation), seconds: seconds, coldBytes: set)
            let shares = try operations.map { one in
                BenchOutput.report("\(step.name): \(one.operation.name)", isProgress: true)
                let measurement = try bench.measure(one.operation)
                let size = one.isStreamed ? set : measurement.bytes
                return OperationShare(
                    measurement, count: one.count, product: one.product,
                    bandwidth: limits.bandwidth(byteCount: size), limits: limits)
            }
            found.append(StepShare(name: step.name, workingSet: set, operations: shares, seconds: 0))
        }
        return (limits, found, backend.summary)
    }

    /// The time of a whole step: between tokens of a batch that decodes around the context's length, or to the first
    /// token of a prompt that one step takes.
    private func stepSeconds(
        _ step: ModelStep, settings: ResolvedSettings, environment: [String: String]
    ) async throws -> Double {
        let isPrefill = step.query > 1
        let newTokens = isPrefill ? 1 : min(128, step.context / 2)
        let workload = Workload(
            name: step.name, sharedTokens: 0,
            promptTokens: isPrefill ? step.query : step.context - newTokens / 2, newTokens: newTokens,
            concurrency: step.sequences, requests: step.sequences)
        let bench = try await BenchEngine.start(
            model, weightOptions, settings: settings, environment: environment, concurrency: step.sequences,
            queue: (requests: step.sequences, tokens: step.sequences * step.context),
            tokenBudget: isPrefill ? step.query : nil)
        var times: [Double] = []
        for round in 0..<(isPrefill ? 8 : 3) {
            let measurement = try await BenchEngine.run(
                workload, engine: bench.engine, seed: UInt64(round), requests: step.sequences)
            if round > 0 { times.append(isPrefill ? measurement.firstToken.median : measurement.interToken.median) }
        }
        await bench.engine.drain(timeout: .zero)
        return Distribution(times).median
    }
}

/// The shape of a model and the types of its matrices.
struct ModelTypes {
    let name: String
    let config: ModelConfig
    let dtype: (String) -> DType

    /// Of a model's file, or of random weights.
    init(
        _ model: String?, _ weights: DummyWeightOptions, settings: ResolvedSettings, environment: [String: String]
    ) throws {
        if let shape = weights.shape {
            name = "\(shape.name), random \(weights.dtype.rawValue)"
            config = shape.config
            dtype = { [type = weights.dtype] _ in type }
            return
        }
        let path = try ModelLocator.locate(model ?? "", home: settings.text(.home), environment: environment).path
        let file = try ModelFile(path: path)
        let types = Dictionary(
            file.weights.tensorNames.map { ($0, file.weights.storedTensor($0)?.tensor.dtype ?? .f32) }
        ) { first, _ in first }
        let head = types["output.weight"] ?? types["token_embd.weight"] ?? .f32
        let layer = [
            "gate-up": "blk.0.ffn_gate.weight", "down": "blk.0.ffn_down.weight", "qkv": "blk.0.attn_q.weight",
            "o": "blk.0.attn_output.weight",
        ]
        name = file.config.name ?? path
        config = file.config
        dtype = { layer[$0].flatMap { types[$0] } ?? head }
    }
}
