// `apus bench serve`: load on a server that speaks OpenAI's protocol, this one or another. Options and results have the
// names of `vllm bench serve`, so that one script measures both.

import ArgumentParser
import Foundation
import JSON

struct ServeBenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Measure a server with an OpenAI-compatible API under load.",
        discussion: """
            An open loop sends requests at --request-rate whether or not earlier ones are answered; a closed loop \
            keeps --max-concurrency of them in flight. Times are taken when bytes arrive. The API key may also be \
            given as OPENAI_API_KEY in the environment.
            """)

    @OptionGroup(title: "Server") var server: LoadServerOptions
    @OptionGroup(title: "Load") var load: LoadOptions
    @OptionGroup(title: "Prompts") var prompts: LoadDatasetOptions
    @OptionGroup(title: "Sampling") var sampling: LoadSamplingOptions
    @OptionGroup(title: "Results") var results: LoadResultOptions

    func run() async throws {
        let target = try server.target(environment: ProcessInfo.processInfo.environment)
        let model = try await server.readyModel(target)
        var format = LoadRequestFormat(backend: server.backend, model: model)
        format.ignoresEndOfSequence = load.ignoreEos
        format.members = try sampling.members()
        let items = try prompts.items(count: load.numPrompts + load.numWarmups, isChat: server.backend.isChat)
        let bodies = items.map { (body: format.body($0), promptTokens: $0.promptTokens) }
        func plan(_ range: Range<Int>, arrivals: [Double]) -> LoadPlan {
            LoadPlan(
                target: target, endpoint: server.endpoint ?? server.backend.endpoint, bodies: Array(bodies[range]),
                arrivals: arrivals, maxConcurrency: load.maxConcurrency, timeout: .seconds(server.requestTimeout))
        }
        if load.numWarmups > 0 {
            BenchOutput.report("\(load.numWarmups) requests to warm up", isProgress: true)
            let warm = try await Load.run(
                plan(0..<load.numWarmups, arrivals: Array(repeating: 0, count: load.numWarmups)))
            for (sentence, count) in LoadMeasurement(warm).errors {
                BenchOutput.report("failed while warming up, \(count) times: \(sentence)")
            }
        }
        let before = ProcessorTime.seconds
        let outcome = try await Load.run(
            plan(
                load.numWarmups..<items.count,
                arrivals: load.schedule.offsets(count: load.numPrompts, seed: prompts.seed))
        ) { BenchOutput.report($0.line, isProgress: true) }
        let used = ProcessorTime.seconds - before
        BenchOutput.report("", isProgress: true)
        let measurement = LoadMeasurement(outcome, objective: results.goodput.isEmpty ? nil : results.objective)
        let report = LoadReport(
            measurement: measurement, settings: settings(target, model: model), metrics: results.metrics,
            percentiles: results.percentiles, clientSeconds: used)
        try BenchOutput.write(results.json ? report.json(isDetailed: results.saveDetailed).line : report.text)
        try results.save(report, defaultName: defaultName(model))
        if measurement.completed.isEmpty {
            if results.json {
                for (sentence, count) in measurement.errors {
                    BenchOutput.report("failed, \(count) times: \(sentence)")
                }
            }
            throw ExitCode.failure
        }
    }

    /// What was asked for, as members of the result.
    private func settings(_ target: LoadTarget, model: String) -> [(String, JSONText)] {
        var members: [(String, JSONText)] = [
            ("date", .string(results.date)), ("endpoint_type", .string(server.backend.rawValue)),
            ("backend", .string(server.backend.rawValue)),
            ("label", .string(results.label ?? server.backend.rawValue)), ("model_id", .string(model)),
            ("tokenizer_id", .null), ("num_prompts", .integer(load.numPrompts)),
        ]
        members += results.metadata.map { word in
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return (String(parts[0]), .string(String(parts[1])))
        }
        members += [
            ("request_rate", load.rate.map { .decimal($0, places: 6) } ?? .string("inf")),
            ("burstiness", .decimal(load.burstiness, places: 6)),
            ("max_concurrency", load.maxConcurrency.map { .integer($0) } ?? .null),
        ]
        if let ramp = load.schedule.ramp {
            members += [
                ("ramp_up_strategy", .string(ramp.strategy.rawValue)),
                ("ramp_up_start_rps", .decimal(ramp.first, places: 3)),
                ("ramp_up_end_rps", .decimal(ramp.last, places: 3)),
            ]
        }
        return members + [
            ("base_url", .string(target.description)), ("dataset_name", .string(prompts.datasetName.rawValue)),
            ("seed", .integer(Int(clamping: prompts.seed))), ("client", .string("apus \(Version.current)")),
        ]
    }

    /// As vLLM names its files.
    private func defaultName(_ model: String) -> String {
        let base = model.split(separator: "/").last.map { String($0) } ?? "model"
        let rate = load.rate.map { Decimals.format($0, places: 1) } ?? "inf"
        let label = results.label ?? server.backend.rawValue
        let concurrency = load.maxConcurrency.map { "-concurrency\($0)" } ?? ""
        return "\(label)-\(rate)qps\(concurrency)-\(base)-\(results.date).json"
    }
}

/// Processor time of this process.
enum ProcessorTime {
    /// POSIX has a million ticks in a second.
    static var seconds: Double { Double(clock()) / 1e6 }
}
