// `apus bench`: how fast this machine runs a model, in the workloads a server sees. Measures the engine itself, without
// HTTP: random token ids, greedy, no stop tokens, a fixed number of requests in flight.

import ArgumentParser
import Execution
import Foundation
import Scheduling

struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure the engine on this machine.",
        discussion: "Workloads: " + Workload.all.map { "\($0.name) (\($0.summary))" }.joined(separator: "; ") + ".")

    @Argument(help: ArgumentHelp(Setting.model.help)) var model: String
    @Option(help: "Workloads to run, separated by commas; all of them when absent.") var workloads: String?
    @Option(help: "Times each workload is run; the table shows the median.") var repeats = 3
    @Flag(help: "Print one JSON object per workload instead of a table.") var json = false
    @OptionGroup(title: "Model") var modelOptions: ModelOptions
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions
    @OptionGroup(title: "KV cache") var cacheOptions: CacheOptions
    @OptionGroup(title: "Scheduling") var schedulingOptions: SchedulingOptions

    func validate() throws {
        guard (1...100).contains(repeats) else {
            throw ValidationError("--repeats is \(repeats) but must be from 1 to 100.")
        }
        _ = try chosen()
    }

    private func chosen() throws -> [Workload] {
        guard let workloads else { return Workload.all }
        return try workloads.split(separator: ",").map { name in
            guard let workload = Workload.all.first(where: { $0.name == name }) else {
                let known = Workload.all.map(\.name).joined(separator: ", ")
                throw ValidationError("--workloads names '\(name)', which is not one of \(known).")
            }
            return workload
        }
    }

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let settings = try ResolvedSettings.resolve(
            flags: SettingSource(
                flags: [modelOptions, computeOptions, cacheOptions, schedulingOptions], model: model),
            environment: environment)
        let located = try ModelLocator.locate(model, home: settings.text(.home), environment: environment)
        let running = try await RunningModel.start(path: located.path, settings: settings)
        let engine = running.engine
        report("\(located.path): \(engine.information.backendSummary)")
        if !json { print(Measurement.header) }
        for workload in try chosen() {
            var measurements: [Measurement] = []
            _ = try await measure(workload, engine: engine, seed: 0, requests: workload.concurrency)
            for round in 1...repeats {
                report("\(workload.name), round \(round) of \(repeats)", isProgress: true)
                measurements.append(
                    try await measure(workload, engine: engine, seed: UInt64(round), requests: workload.requests))
            }
            measurements.sort { $0.outputRate < $1.outputRate }
            let median = measurements[measurements.count / 2]
            report("", isProgress: true)
            print(json ? median.json(workload).line : median.row(workload))
        }
        await engine.drain(timeout: .zero)
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

    /// Progress goes to standard error, and only where a person can see it.
    private func report(_ line: String, isProgress: Bool = false) {
        guard !isProgress || isatty(FileHandle.standardError.fileDescriptor) == 1 else { return }
        FileHandle.standardError.write(Data((isProgress ? "\r\u{1B}[K\(line)" : line + "\n").utf8))
    }
}

/// What is asked of the engine.
private struct Workload {
    let name: String
    /// Tokens all prompts of a round begin with.
    let sharedTokens: Int
    let promptTokens: Int
    let newTokens: Int
    let concurrency: Int
    let requests: Int

    static let all = [
        Workload(name: "single", sharedTokens: 0, promptTokens: 128, newTokens: 128, concurrency: 1, requests: 4),
        Workload(name: "c8", sharedTokens: 0, promptTokens: 128, newTokens: 128, concurrency: 8, requests: 24),
        Workload(name: "c16", sharedTokens: 0, promptTokens: 128, newTokens: 128, concurrency: 16, requests: 32),
        Workload(name: "c32", sharedTokens: 0, promptTokens: 128, newTokens: 128, concurrency: 32, requests: 64),
        Workload(name: "prefill", sharedTokens: 0, promptTokens: 1024, newTokens: 16, concurrency: 4, requests: 8),
        Workload(name: "prefix", sharedTokens: 512, promptTokens: 32, newTokens: 64, concurrency: 8, requests: 16),
    ]

    var summary: String {
        (sharedTokens > 0 ? "\(sharedTokens) shared + " : "") + "\(promptTokens) in, \(newTokens) out, "
            + "\(concurrency) at once"
    }

    /// Random prompts; the same seed gives the same ones.
    func prompts(count: Int, seed: UInt64, vocabulary: Int) -> [[TokenID]] {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(promptTokens)
        func token() -> TokenID {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return TokenID((state >> 33) % UInt64(vocabulary))
        }
        let shared = (0..<sharedTokens).map { _ in token() }
        return (0..<count).map { _ in shared + (0..<promptTokens).map { _ in token() } }
    }
}

/// When the tokens of one request came.
private struct Timeline: Sendable {
    var timeToFirstToken = Duration.zero
    var gaps: [Duration] = []

    static func record(_ prompt: [TokenID], newTokens: Int, engine: Engine) async throws -> Timeline {
        let start = ContinuousClock.now
        let request = GenerationRequest(
            id: engine.makeRequestID(), prompt: prompt, maxNewTokens: newTokens, arrival: engine.now)
        let reservation = try engine.reserve(requests: 1, promptTokenEstimate: prompt.count)
        guard let stream = try engine.submit([request], reservation: reservation).first else {
            throw EngineError.shutdown
        }
        var timeline = Timeline()
        var last: ContinuousClock.Instant?
        for await event in stream {
            switch event {
            case .token:
                let now = ContinuousClock.now
                if let last {
                    timeline.gaps.append(last.duration(to: now))
                } else {
                    timeline.timeToFirstToken = start.duration(to: now)
                }
                last = now
            case .promptScores, .finished: break
            case .failed(let error): throw error
            }
        }
        return timeline
    }
}

/// One round of a workload.
private struct Measurement {
    let outputRate: Double
    let totalRate: Double
    let perStreamRate: Double
    let firstToken: (median: Double, p99: Double)
    let interToken: (median: Double, p99: Double)

    init(_ timelines: [Timeline], wall: Duration, promptTokens: Int) {
        let gaps = timelines.flatMap(\.gaps).map(\.seconds).sorted()
        let firsts = timelines.map(\.timeToFirstToken.seconds).sorted()
        let outputTokens = Double(gaps.count + timelines.count)
        outputRate = outputTokens / wall.seconds
        totalRate = (outputTokens + Double(promptTokens)) / wall.seconds
        perStreamRate = gaps.isEmpty ? 0 : Double(gaps.count) / gaps.reduce(0, +)
        firstToken = (Self.quantile(firsts, 0.5), Self.quantile(firsts, 0.99))
        interToken = (Self.quantile(gaps, 0.5), Self.quantile(gaps, 0.99))
    }

    private static func quantile(_ sorted: [Double], _ fraction: Double) -> Double {
        sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(Double(sorted.count) * fraction))]
    }

    static let header =
        "| workload | output tok/s | total tok/s | tok/s per stream | TTFT p50 ms | TTFT p99 ms "
        + "| ITL p50 ms | ITL p99 ms |\n|---|---|---|---|---|---|---|---|"

    private func milliseconds(_ seconds: Double) -> String { Decimals.format(seconds * 1000, places: 1) }

    func row(_ workload: Workload) -> String {
        let rates = [outputRate, totalRate, perStreamRate].map { Decimals.format($0, places: 1) }
        let times = [firstToken.median, firstToken.p99, interToken.median, interToken.p99].map(milliseconds)
        return "| " + ([workload.name] + rates + times).joined(separator: " | ") + " |"
    }

    func json(_ workload: Workload) -> JSONText {
        .object([
            ("workload", .string(workload.name)), ("output_tokens_per_second", .decimal(outputRate, places: 2)),
            ("total_tokens_per_second", .decimal(totalRate, places: 2)),
            ("tokens_per_second_per_stream", .decimal(perStreamRate, places: 2)),
            ("ttft_p50_seconds", .decimal(firstToken.median, places: 6)),
            ("ttft_p99_seconds", .decimal(firstToken.p99, places: 6)),
            ("itl_p50_seconds", .decimal(interToken.median, places: 6)),
            ("itl_p99_seconds", .decimal(interToken.p99, places: 6)),
        ])
    }
}
