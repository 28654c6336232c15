// `apus simulate`: a log of requests through the real scheduler on a virtual clock, to judge limits and policies
// without computing anything.

import ArgumentParser
import Foundation
import Scheduling

struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate", abstract: "Replay a log of requests through the scheduler, without a model.",
        discussion: """
            One JSON object per line: arrival (seconds), prompt_tokens, output_tokens; optionally tenant (a name), \
            priority, deadline (seconds after the arrival), prefix (a name) and prefix_tokens, which requests of one \
            name share. Steps cost what the three options say; `apus bench kernels` measures it.
            """)

    @Argument(help: "The log; - reads standard input.") var log: String
    @Option(help: "Tokens per block of the KV cache.") var blockSize = 16
    @Option(help: "Blocks of the KV cache.") var numBlocks = 4096
    @Option(help: "Most sequences at once.") var maxNumSeqs = 64
    @Option(help: "Most tokens per step.") var maxNumBatchedTokens = 96
    @Option(help: "Most tokens of one request.") var maxModelLen = 8192
    @Option(help: "fcfs, priority or fair.") var schedulingPolicy = SchedulingPolicy.fcfs
    @Flag(inversion: .prefixedNo, help: "Find computed prefixes again.") var enablePrefixCaching = true
    @Option(help: "Milliseconds that any step takes.") var stepMilliseconds = 4.0
    @Option(help: "Microseconds more for each token.") var tokenMicroseconds = 250.0
    @Option(help: "Microseconds more for each token and thousand tokens before it.") var attentionMicroseconds = 110.0
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        let requests = try RequestLog(reading: log).requests
        let attention = attentionMicroseconds > 0 ? Int(1000 * tokenMicroseconds / attentionMicroseconds) : 0
        let limits = try SchedulerLimits(
            blockSize: blockSize, blockCount: numBlocks, maxSequences: maxNumSeqs, tokenBudget: maxNumBatchedTokens,
            maxModelLength: maxModelLen, enablePrefixCaching: enablePrefixCaching, policy: schedulingPolicy,
            attentionScale: attention)
        let cost = StepCost(
            perStep: .seconds(stepMilliseconds / 1e3), perToken: .seconds(tokenMicroseconds / 1e6),
            perThousandAttended: .seconds(attentionMicroseconds / 1e6))
        let report = try Replay(limits: limits, cost: cost).run(requests)
        let text = try json ? ReplaySummary(report).json : ReplaySummary(report).text
        try FileHandle.standardOutput.write(contentsOf: Data((text + "\n").utf8))
    }
}

extension SchedulingPolicy: ExpressibleByArgument {}

/// What the command prints.
struct ReplaySummary: Encodable {
    let requests: Int
    let refused: Int
    let seconds: Double
    let steps: Int
    let outputTokensPerSecond: Double
    let computedTokensPerSecond: Double
    let preemptions: Int
    let prefixHitRate: Double
    /// [seconds] At 50, 90, 99 and 100 %.
    let timeToFirstToken: [Double]
    let interTokenLatency: [Double]

    init(_ report: ReplayReport) {
        func seconds(_ duration: Duration) -> Double { duration / .seconds(1) }
        func percentiles(_ values: [Duration]) -> [Double] {
            [0.5, 0.9, 0.99, 1].map { seconds(ReplayReport.percentile($0, of: values)) }
        }
        let statistics = report.statistics
        let elapsed = max(seconds(report.duration), 1e-9)
        requests = report.outcomes.count
        refused = report.refusals
        self.seconds = seconds(report.duration)
        steps = report.steps
        outputTokensPerSecond = Double(statistics.generatedTokens) / elapsed
        computedTokensPerSecond = Double(statistics.computedTokens) / elapsed
        preemptions = statistics.preemptions
        prefixHitRate = Double(statistics.prefixHits) / Double(max(1, statistics.prefixQueries))
        timeToFirstToken = percentiles(report.outcomes.compactMap(\.firstToken))
        interTokenLatency = percentiles(report.outcomes.flatMap(\.gaps))
    }

    var json: String {
        get throws {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            encoder.outputFormatting = .sortedKeys
            return String(decoding: try encoder.encode(self), as: UTF8.self)
        }
    }

    var text: String {
        func milliseconds(_ values: [Double]) -> String {
            zip(["p50", "p90", "p99", "max"], values).map { "\($0) \(Int(($1 * 1000).rounded())) ms" }
                .joined(separator: ", ")
        }
        return """
            requests             \(requests), \(refused) refused
            time                 \(Int(seconds.rounded())) s, \(steps) steps
            throughput           \(Int(outputTokensPerSecond)) output tokens/s, \(Int(computedTokensPerSecond)) computed
            time to first token  \(milliseconds(timeToFirstToken))
            inter-token latency  \(milliseconds(interTokenLatency))
            preemptions          \(preemptions)
            prefix cache         \(Int((100 * prefixHitRate).rounded())) % of prompt tokens found
            """
    }
}
