// `apus bench latency`: how long one batch takes from its prompts to its last token, in this process and without HTTP.
// Options and results have the names of `vllm bench latency`.

import ArgumentParser
import Execution
import Foundation
import Scheduling

struct LatencyBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "latency", abstract: "Measure how long one batch takes, without HTTP.",
        discussion: "Prompts are random and new in every iteration, so that none is found in the prefix cache.")

    @Argument(help: ArgumentHelp(Setting.model.help)) var model: String?
    @Option(help: "Tokens of a prompt.") var inputLen = 32
    @Option(help: "Tokens to generate.") var outputLen = 128
    @Option(help: "Requests of the batch.") var batchSize = 8
    @Option(help: "Iterations before the measurement.") var numItersWarmup = 10
    @Option(help: "Iterations to measure.") var numIters = 30
    @OptionGroup(title: "Results") var results: BatchResultOptions
    @OptionGroup(title: "Weights") var weightOptions: DummyWeightOptions
    @OptionGroup(title: "Model") var modelOptions: ModelOptions
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions
    @OptionGroup(title: "KV cache") var cacheOptions: CacheOptions
    @OptionGroup(title: "Scheduling") var schedulingOptions: SchedulingOptions

    func validate() throws {
        for (name, value, least) in [
            ("--input-len", inputLen, 1), ("--output-len", outputLen, 1), ("--batch-size", batchSize, 1),
            ("--num-iters-warmup", numItersWarmup, 0), ("--num-iters", numIters, 1),
        ] where !(least...1_000_000).contains(value) {
            throw ValidationError("\(name) is \(value) but must be from \(least) to 1000000.")
        }
        try weightOptions.check(model: model)
    }

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let settings = try ResolvedSettings.resolve(
            flags: SettingSource(
                flags: [modelOptions, computeOptions, cacheOptions, schedulingOptions], model: model),
            environment: environment)
        let bench = try await BenchEngine.start(
            model, weightOptions, settings: settings, environment: environment, concurrency: batchSize,
            queue: (requests: batchSize, tokens: batchSize * inputLen))
        let workload = Workload(
            name: "latency", sharedTokens: 0, promptTokens: inputLen, newTokens: outputLen, concurrency: batchSize,
            requests: batchSize)
        var latencies: [Double] = []
        for iteration in 0..<numItersWarmup + numIters {
            let isWarm = iteration >= numItersWarmup
            BenchOutput.report(
                isWarm ? "iteration \(iteration - numItersWarmup + 1) of \(numIters)" : "warming up",
                isProgress: true)
            let prompts = workload.prompts(
                count: batchSize, seed: UInt64(iteration), vocabulary: bench.engine.information.vocabularyCount)
            let (_, wall) = try await BenchEngine.run(
                prompts.map { (prompt: $0, newTokens: outputLen) }, lanes: batchSize, engine: bench.engine)
            if isWarm { latencies.append(wall.seconds) }
        }
        BenchOutput.report("", isProgress: true)
        await bench.engine.drain(timeout: .zero)
        try results.write(json(latencies, name: bench.name), text: text(Distribution(latencies)))
    }

    private static let percentiles = [10.0, 25, 50, 75, 90, 99]

    private func json(_ latencies: [Double], name: String) -> JSONText {
        let times = Distribution(latencies)
        return .object([
            ("model_id", .string(name)), ("avg_latency", .decimal(times.mean, places: 6)),
            ("latencies", .array(latencies.map { .decimal($0, places: 6) })),
            (
                "percentiles",
                .object(Self.percentiles.map { (String(Int($0)), .decimal(times.percentile($0), places: 6)) })
            ),
            ("batch_size", .integer(batchSize)), ("input_len", .integer(inputLen)),
            ("output_len", .integer(outputLen)),
            ("output_tokens_per_second", .decimal(Double(batchSize * outputLen) / times.mean, places: 2)),
        ])
    }

    private func text(_ times: Distribution) -> String {
        let rate = Decimals.format(Double(batchSize * outputLen) / times.mean, places: 1)
        return
            (["average latency \(Decimals.format(times.mean, places: 4)) s, \(rate) output tokens/s"]
            + Self.percentiles.map {
                "\(Int($0)) % within \(Decimals.format(times.percentile($0), places: 4)) s"
            }).joined(separator: "\n")
    }
}

/// Where the result of a measurement in this process goes.
struct BatchResultOptions: ParsableArguments {
    @Flag(help: "Print the result as one JSON object instead of a table.") var json = false
    @Option(help: "A file to write the result to, as JSON.") var outputJson: String?

    func write(_ json: JSONText, text: String) throws {
        try BenchOutput.write(self.json ? json.line : text)
        guard let outputJson else { return }
        do {
            try Data((json.line + "\n").utf8).write(to: URL(filePath: outputJson))
        } catch {
            throw LoadError.unwritableFile(path: outputJson, reason: error.localizedDescription)
        }
    }
}
