// `apus bench throughput`: how long many requests take when all are there from the beginning, in this process and
// without HTTP. Options and results have the names of `vllm bench throughput`.

import ArgumentParser
import Execution
import Foundation
import Scheduling
import Tokenization

struct ThroughputBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "throughput", abstract: "Measure how fast many requests are done, without HTTP.")

    @Argument(help: ArgumentHelp(Setting.model.help)) var model: String?
    @Option(help: "Requests to run.") var numPrompts = 1000
    @Option(help: "Requests to run before the measurement.") var numWarmups = 0
    @OptionGroup(title: "Prompts") var prompts: LoadDatasetOptions
    @OptionGroup(title: "Results") var results: BatchResultOptions
    @OptionGroup(title: "Weights") var weightOptions: DummyWeightOptions
    @OptionGroup(title: "Model") var modelOptions: ModelOptions
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions
    @OptionGroup(title: "KV cache") var cacheOptions: CacheOptions
    @OptionGroup(title: "Scheduling") var schedulingOptions: SchedulingOptions

    func validate() throws {
        guard (1...1_000_000).contains(numPrompts), (0...1_000_000).contains(numWarmups) else {
            throw ValidationError("--num-prompts must be from 1 to 1000000, --num-warmups from 0.")
        }
        try weightOptions.check(model: model)
        if weightOptions.loadFormat == .dummy, prompts.datasetName == .custom {
            throw ValidationError("A custom dataset needs a model's tokenizer; leave --load-format dummy out.")
        }
    }

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let settings = try ResolvedSettings.resolve(
            flags: SettingSource(
                flags: [modelOptions, computeOptions, cacheOptions, schedulingOptions], model: model),
            environment: environment)
        let items = try prompts.items(count: numPrompts + numWarmups, isChat: false)
        // Texts have no more tokens than bytes.
        let most = items.reduce(0) { sum, item in
            if case .text(let text) = item.prompt { sum + text.utf8.count } else { sum + (item.promptTokens ?? 0) }
        }
        let bench = try await BenchEngine.start(
            model, weightOptions, settings: settings, environment: environment, concurrency: 1,
            queue: (requests: items.count, tokens: most))
        let requests = try items.map {
            (prompt: try tokens($0, bench), newTokens: $0.outputTokens)
        }
        if numWarmups > 0 {
            BenchOutput.report("warming up", isProgress: true)
            _ = try await BenchEngine.run(
                Array(requests.prefix(numWarmups)), lanes: numWarmups, engine: bench.engine)
        }
        BenchOutput.report("\(numPrompts) requests", isProgress: true)
        let measured = Array(requests.dropFirst(numWarmups))
        let (timelines, wall) = try await BenchEngine.run(measured, lanes: measured.count, engine: bench.engine)
        BenchOutput.report("", isProgress: true)
        await bench.engine.drain(timeout: .zero)
        let input = measured.reduce(0) { $0 + $1.prompt.count }
        let output = timelines.reduce(0) { $0 + $1.gaps.count + 1 }
        try report(seconds: wall.seconds, input: input, output: output, name: bench.name)
    }

    private func tokens(_ item: LoadItem, _ bench: BenchEngine) throws -> [TokenID] {
        switch item.prompt {
        case .tokens(let tokens):
            // The range of random ids may be wider than a small vocabulary.
            return tokens.map { TokenID($0 % bench.engine.information.vocabularyCount) }
        case .text(let text): return try bench.tokenizer?.encode(text) ?? []
        case .messages: throw ValidationError("A file of chats needs a server; use `apus bench serve`.")
        }
    }

    private func report(seconds: Double, input: Int, output: Int, name: String) throws {
        func rate(_ count: Int) -> Double { Double(count) / max(seconds, 1e-9) }
        func number(_ value: Double) -> String { Decimals.format(value, places: 2) }
        let json = JSONText.object([
            ("model_id", .string(name)), ("elapsed_time", .decimal(seconds, places: 6)),
            ("num_requests", .integer(numPrompts)), ("total_num_tokens", .integer(input + output)),
            ("requests_per_second", .decimal(rate(numPrompts), places: 4)),
            ("tokens_per_second", .decimal(rate(input + output), places: 3)),
            ("total_num_prompt_tokens", .integer(input)), ("total_num_output_tokens", .integer(output)),
            ("output_tokens_per_second", .decimal(rate(output), places: 3)),
        ])
        let text = """
            Throughput: \(number(rate(numPrompts))) requests/s, \(number(rate(input + output))) total tokens/s, \
            \(number(rate(output))) output tokens/s
            Prompt tokens: \(input); output tokens: \(output); \(number(seconds)) s
            """
        try results.write(json, text: text)
    }
}
