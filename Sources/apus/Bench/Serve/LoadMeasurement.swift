// What a run's records say: rates, distributions of times, and how many requests kept what was promised. Percentiles
// interpolate between neighbours, as numpy's do, so that results compare with vLLM's.

import Foundation

/// Numbers of one kind.
package struct Distribution: Sendable {
    private let sorted: [Double]

    package init(_ values: [Double]) { sorted = values.sorted() }

    package var count: Int { sorted.count }
    package var mean: Double { sorted.isEmpty ? 0 : sorted.reduce(0, +) / Double(sorted.count) }
    package var median: Double { percentile(50) }

    /// Of the whole population.
    package var standardDeviation: Double {
        guard !sorted.isEmpty else { return 0 }
        let mean = mean
        return (sorted.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(sorted.count)).squareRoot()
    }

    /// The value below which `percent` of a hundred lie; 0 of no values.
    package func percentile(_ percent: Double) -> Double {
        guard let last = sorted.last else { return 0 }
        let place = Double(sorted.count - 1) * min(max(percent, 0), 100) / 100
        let index = Int(place)
        guard index + 1 < sorted.count else { return last }
        return sorted[index] + (sorted[index + 1] - sorted[index]) * (place - Double(index))
    }
}

/// A time that is measured of requests; the names are vLLM's.
package enum LoadMetric: String, CaseIterable, Sendable {
    case firstToken = "ttft"
    case perOutputToken = "tpot"
    case interToken = "itl"
    case endToEnd = "e2el"
    case queue = "client_queue_time"
    case endToEndWithQueue = "e2el_including_client_queue"

    package var label: String {
        switch self {
        case .firstToken: "time to first token"
        case .perOutputToken: "time per output token"
        case .interToken: "inter-token latency"
        case .endToEnd: "end to end"
        case .queue: "waiting in the client"
        case .endToEndWithQueue: "end to end, with waiting"
        }
    }

    /// Seconds of `record`: one, or for the inter-token latency as many as there are.
    package func values(_ record: LoadRecord) -> [Double] {
        switch self {
        case .firstToken: record.timeToFirstToken.map { [$0] } ?? []
        case .perOutputToken: record.timePerOutputToken.map { [$0] } ?? []
        case .interToken: record.gaps
        case .endToEnd: [record.latency]
        case .queue: [record.queueTime]
        case .endToEndWithQueue: [record.latency + record.queueTime]
        }
    }
}

/// A promise to clients: times in milliseconds that a request should not exceed.
package struct LoadObjective: Sendable {
    package let limits: [(metric: LoadMetric, milliseconds: Double)]

    /// Reads words like `ttft:200`; nil when one is not of that form.
    package init?(_ words: [String]) {
        var limits: [(metric: LoadMetric, milliseconds: Double)] = []
        for word in words {
            let parts = word.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, let metric = LoadMetric(rawValue: String(parts[0])),
                [.firstToken, .perOutputToken, .endToEnd].contains(metric), let limit = Double(parts[1]), limit > 0
            else { return nil }
            limits.append((metric: metric, milliseconds: limit))
        }
        self.limits = limits
    }

    /// Whether `record` kept it. A request of one token has no time per token that it could exceed.
    package func isMet(_ record: LoadRecord) -> Bool {
        limits.allSatisfy { limit in limit.metric.values(record).allSatisfy { $0 * 1000 <= limit.milliseconds } }
    }
}

/// A run in numbers.
package struct LoadMeasurement: Sendable {
    package let outcome: LoadOutcome
    package let completed: [LoadRecord]
    /// What went wrong and how often, most often first.
    package let errors: [(sentence: String, count: Int)]
    package let inputTokens: Int
    package let outputTokens: Int
    package let cachedTokens: Int
    /// Complete answers of which the server did not count the tokens.
    package let uncounted: Int
    /// Requests that met the objective; nil without one.
    package let good: Int?

    package init(_ outcome: LoadOutcome, objective: LoadObjective? = nil) {
        self.outcome = outcome
        let completed = outcome.records.filter { $0.error == nil }
        self.completed = completed
        var counts: [String: Int] = [:]
        for sentence in outcome.records.compactMap(\.error) { counts[sentence, default: 0] += 1 }
        errors = counts.map { (sentence: $0.key, count: $0.value) }
            .sorted { ($1.count, $0.sentence) < ($0.count, $1.sentence) }
        inputTokens = completed.reduce(0) { $0 + $1.promptTokens }
        outputTokens = completed.reduce(0) { $0 + $1.outputTokens }
        cachedTokens = completed.reduce(0) { $0 + $1.cachedTokens }
        uncounted = completed.count { !$0.hasUsage }
        good = objective.map { objective in completed.count { objective.isMet($0) } }
    }

    package var failed: Int { outcome.records.count - completed.count }

    /// A count for each second of the run.
    package func rate(_ count: Int) -> Double { outcome.duration > 0 ? Double(count) / outcome.duration : 0 }

    package func distribution(_ metric: LoadMetric) -> Distribution {
        Distribution(completed.flatMap { metric.values($0) })
    }

    /// The most output in one second of the run. An event stands for as many tokens as its answer's events do on
    /// average.
    package var maxOutputTokensPerSecond: Double {
        var seconds = Array(repeating: 0.0, count: Int(outcome.duration) + 1)
        for record in completed {
            guard let first = record.timeToFirstToken else { continue }
            let weight = Double(record.outputTokens) / Double(record.gaps.count + 1)
            var time = record.start + first
            func count() { seconds[min(seconds.count - 1, Int(time))] += weight }
            count()
            for gap in record.gaps {
                time += gap
                count()
            }
        }
        return seconds.max() ?? 0
    }
}
