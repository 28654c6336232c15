// The workloads of `apus bench`, and what is measured of one.

import ArgumentParser
import Execution
import Scheduling

/// What is asked of the engine.
struct Workload {
    let name: String
    /// Tokens all prompts of a round begin with.
    let sharedTokens: Int
    let promptTokens: Int
    let newTokens: Int
    let concurrency: Int
    let requests: Int

    /// Those that run when none is named.
    static let usual = [
        Workload(name: "single", sharedTokens: 0, promptTokens: 128, newTokens: 128, concurrency: 1, requests: 4),
        Workload(name: "c8", sharedTokens: 0, promptTokens: 128, newTokens: 128, concurrency: 8, requests: 24),
        Workload(name: "c16", sharedTokens: 0, promptTokens: 128, newTokens: 128, concurrency: 16, requests: 32),
        Workload(name: "c32", sharedTokens: 0, promptTokens: 128, newTokens: 128, concurrency: 32, requests: 64),
        Workload(name: "prefill", sharedTokens: 0, promptTokens: 1024, newTokens: 16, concurrency: 4, requests: 8),
        Workload(name: "prefix", sharedTokens: 512, promptTokens: 32, newTokens: 64, concurrency: 8, requests: 16),
    ]

    /// A batch that begins together and decodes together: what a step costs at a fixed size.
    static let batches = [(1, 128), (16, 128), (64, 128), (256, 64)].map { count, newTokens in
        Workload(
            name: "decode-\(count)", sharedTokens: 0, promptTokens: 32, newTokens: newTokens, concurrency: count,
            requests: count)
    }

    static let all = usual + batches

    /// Those called `names`, separated by commas; the usual ones for nil.
    static func chosen(_ names: String?) throws(ValidationError) -> [Workload] {
        guard let names else { return usual }
        return try names.split(separator: ",").map { name throws(ValidationError) in
            guard let workload = all.first(where: { $0.name == name }) else {
                throw ValidationError(
                    "--workloads names '\(name)', which is not one of \(all.map(\.name).joined(separator: ", ")).")
            }
            return workload
        }
    }

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
struct Timeline: Sendable {
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
            case .promptScores, .pooled, .finished: break
            case .failed(let error): throw error
            }
        }
        return timeline
    }
}

/// One round of a workload.
struct Measurement {
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
