// The line every ten seconds, in vLLM's words, because scripts parse it: what was computed since the last line, and
// how full the server is. An idle server is silent.

import Execution
import Logging
import ServiceLifecycle

package enum ThroughputLine {
    /// The line for the time between two readings, or nil when nothing happened and nothing is running.
    package static func make(
        from previous: EngineStatistics, to current: EngineStatistics, elapsed: Duration
    ) -> String? {
        let promptTokens = current.promptTokens - previous.promptTokens
        let generatedTokens = current.generationTokens - previous.generationTokens
        guard promptTokens > 0 || generatedTokens > 0 || current.running > 0 || current.waiting > 0 else { return nil }
        func rate(_ tokens: Int) -> String {
            Decimals.format(Double(tokens) / max(elapsed.seconds, 1e-9), places: 1)
        }
        let preemptions = current.preemptions - previous.preemptions
        return "Avg prompt throughput: \(rate(promptTokens)) tokens/s, "
            + "Avg generation throughput: \(rate(generatedTokens)) tokens/s, "
            + "Running: \(current.running) reqs, Waiting: \(current.waiting) reqs, "
            + "KV cache usage: \(Decimals.format(current.kvUsage * 100, places: 1))%, "
            + "Prefix cache hit rate: \(Decimals.format(hitRate(from: previous, to: current) * 100, places: 1))%"
            + (preemptions > 0 ? ", Preemptions: \(preemptions)" : "")
    }

    /// The share of prompt tokens found in the prefix cache: of those looked up since the last line, or of all where
    /// none were.
    private static func hitRate(from previous: EngineStatistics, to current: EngineStatistics) -> Double {
        let recent = current.prefixQueries - previous.prefixQueries
        if recent > 0 { return Double(current.prefixHits - previous.prefixHits) / Double(recent) }
        return current.prefixQueries > 0 ? Double(current.prefixHits) / Double(current.prefixQueries) : 0
    }
}

/// Writes the throughput line.
package struct EngineObserver: Service {
    private let engine: Engine
    private let logger: Logger
    private let interval: Duration
    private let logsThroughput: Bool

    package init(engine: Engine, logger: Logger, logsThroughput: Bool, interval: Duration = .seconds(10)) {
        self.engine = engine
        self.logger = logger
        self.logsThroughput = logsThroughput
        self.interval = interval
    }

    /// Runs until shutdown.
    package func run() async throws {
        await cancelWhenGracefulShutdown {
            let clock = ContinuousClock()
            var previous = engine.statistics
            var previousTime = clock.now
            while await pause() {
                let current = engine.statistics
                let now = clock.now
                if logsThroughput,
                    let line = ThroughputLine.make(from: previous, to: current, elapsed: now - previousTime)
                {
                    logger.info("\(line)")
                }
                (previous, previousTime) = (current, now)
            }
        }
    }

    /// Waits for the interval; false when the task was cancelled.
    private func pause() async -> Bool {
        do {
            try await Task.sleep(for: interval)
            return true
        } catch {
            return false
        }
    }
}
