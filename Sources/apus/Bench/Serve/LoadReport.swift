// A run as a person reads it and as a script does: the members of the JSON object are vLLM's, so that what reads the
// results of `vllm bench serve` reads these.

import Foundation

/// How a run was asked for, and what came of it.
package struct LoadReport: Sendable {
    package var measurement: LoadMeasurement
    /// Members that say what was asked for, in order.
    package var settings: [(String, JSONText)]
    package var metrics: [LoadMetric]
    package var percentiles: [Double]
    /// Seconds of processor time that the generator used during the run.
    package var clientSeconds: Double

    package init(
        measurement: LoadMeasurement, settings: [(String, JSONText)], metrics: [LoadMetric], percentiles: [Double],
        clientSeconds: Double
    ) {
        self.measurement = measurement
        self.settings = settings
        self.metrics = metrics
        self.percentiles = percentiles
        self.clientSeconds = clientSeconds
    }

    /// A percentile as part of a name: 99, or 99.9.
    static func word(_ percentile: Double) -> String {
        percentile == percentile.rounded() ? String(Int(percentile)) : String(percentile)
    }

    /// - Parameter isDetailed: whether each request's times are among it.
    package func json(isDetailed: Bool) -> JSONText {
        let measurement = measurement
        var members = settings
        members += [
            ("duration", .decimal(measurement.outcome.duration, places: 6)),
            ("completed", .integer(measurement.completed.count)), ("failed", .integer(measurement.failed)),
            ("total_input_tokens", .integer(measurement.inputTokens)),
            ("total_output_tokens", .integer(measurement.outputTokens)),
            ("total_cached_tokens", .integer(measurement.cachedTokens)),
            ("request_throughput", .decimal(measurement.rate(measurement.completed.count), places: 4)),
            (
                "request_goodput",
                measurement.good.map { .decimal(measurement.rate($0), places: 4) } ?? .null
            ),
            ("output_throughput", .decimal(measurement.rate(measurement.outputTokens), places: 3)),
            (
                "total_token_throughput",
                .decimal(measurement.rate(measurement.inputTokens + measurement.outputTokens), places: 3)
            ),
            ("max_output_tokens_per_s", .decimal(measurement.maxOutputTokensPerSecond, places: 1)),
            ("max_concurrent_requests", .integer(measurement.outcome.maxConcurrent)),
            ("client_cpu_seconds", .decimal(clientSeconds, places: 3)),
            (
                "error_counts",
                .object(measurement.errors.map { ($0.sentence, .integer($0.count)) })
            ),
        ]
        for metric in metrics {
            let times = measurement.distribution(metric)
            let name = "\(metric.rawValue)_ms"
            members += [
                ("mean_\(name)", .decimal(times.mean * 1000, places: 4)),
                ("median_\(name)", .decimal(times.median * 1000, places: 4)),
                ("std_\(name)", .decimal(times.standardDeviation * 1000, places: 4)),
            ]
            for percentile in percentiles {
                members.append(
                    (
                        "p\(Self.word(percentile))_\(name)",
                        .decimal(times.percentile(percentile) * 1000, places: 4)
                    ))
            }
        }
        if isDetailed { members += details }
        return .object(members)
    }

    /// One list for each thing that requests have.
    private var details: [(String, JSONText)] {
        let records = measurement.outcome.records
        func list(_ value: (LoadRecord) -> JSONText) -> JSONText { .array(records.map(value)) }
        return [
            ("input_lens", list { .integer($0.promptTokens) }), ("output_lens", list { .integer($0.outputTokens) }),
            ("ttfts", list { .decimal($0.timeToFirstToken ?? 0, places: 6) }),
            ("itls", list { .array($0.gaps.map { .decimal($0, places: 6) }) }),
            ("latencies", list { .decimal($0.latency, places: 6) }),
            ("start_times", list { .decimal($0.start, places: 6) }),
            ("queue_times", list { .decimal($0.queueTime, places: 6) }),
            ("errors", list { .string($0.error ?? "") }),
        ]
    }

    /// The table at the end.
    package var text: String {
        let measurement = measurement
        func number(_ value: Double, _ places: Int = 1) -> String { Decimals.format(value, places: places) }
        func row(_ label: String, _ values: [String]) -> String {
            label.padded(to: 26) + values.map { $0.indented(to: 11) }.joined()
        }
        var lines = [
            row("requests completed", ["\(measurement.completed.count)"]),
            row("requests failed", ["\(measurement.failed)"]),
            row("duration, s", [number(measurement.outcome.duration, 2)]),
            row("requests at once, most", ["\(measurement.outcome.maxConcurrent)"]),
            row("input tokens", ["\(measurement.inputTokens)"])
                + (measurement.cachedTokens > 0 ? ", of them cached \(measurement.cachedTokens)" : ""),
            row("output tokens", ["\(measurement.outputTokens)"]),
            row("requests/s", [number(measurement.rate(measurement.completed.count), 2)]),
            row("output tokens/s", [number(measurement.rate(measurement.outputTokens))])
                + ", in the best second \(number(measurement.maxOutputTokensPerSecond, 0))",
            row(
                "total tokens/s",
                [number(measurement.rate(measurement.inputTokens + measurement.outputTokens))]),
        ]
        if let good = measurement.good {
            lines.append(
                row("goodput, requests/s", [number(measurement.rate(good), 2)])
                    + ", \(good) of \(measurement.outcome.records.count) kept the objective")
        }
        let share = clientSeconds / max(measurement.outcome.duration, 1e-9) * 100
        lines.append(row("client's processor time, s", [number(clientSeconds, 2)]) + ", \(number(share)) % of a core")
        if !measurement.completed.isEmpty {
            lines += ["", row("milliseconds", ["mean", "median"] + percentiles.map { "p\(Self.word($0))" })]
        }
        for metric in metrics where !measurement.completed.isEmpty {
            let times = measurement.distribution(metric)
            let values = [times.mean, times.median] + percentiles.map { times.percentile($0) }
            lines.append(row(metric.label, values.map { number($0 * 1000, 2) }))
        }
        if measurement.uncounted > 0 {
            lines.append("The server did not count the tokens of \(measurement.uncounted) answers: events are counted.")
        }
        lines += measurement.errors.map { "failed, \($0.count) times: \($0.sentence)" }
        return lines.joined(separator: "\n")
    }
}
