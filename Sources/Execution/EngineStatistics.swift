// Counters, gauges and histograms of the engine: written by the engine thread after each step, read by anyone.

import Scheduling

/// A histogram with fixed upper bounds, as Prometheus counts them.
package struct Histogram: Sendable, Equatable {
    /// Upper bounds, ascending; one more bucket takes what exceeds the last.
    package let bounds: [Double]
    package private(set) var sum = 0.0
    package private(set) var count = 0
    /// [bounds + 1] In place and not in an array: after each step the engine copies all histograms for its readers.
    private var buckets = SIMD32<Int>()

    /// - Parameter bounds: at most 31.
    package init(bounds: [Double]) {
        precondition(bounds.count < SIMD32<Int>.scalarCount, "\(bounds.count) bounds of a histogram")
        self.bounds = bounds
    }

    /// Of numbers of tokens; readers are told those up to the model's context.
    package static let tokenBounds = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
        1_000_000.0,
    ]

    /// [bounds + 1] observations per bucket, not cumulative.
    package var counts: [Int] { (0...bounds.count).map { buckets[$0] } }

    package mutating func observe(_ value: Double) {
        var low = 0
        var high = bounds.count
        while low < high {
            let middle = (low + high) / 2
            if value <= bounds[middle] { high = middle } else { low = middle + 1 }
        }
        buckets[low] += 1
        sum += value
        count += 1
    }

    package mutating func observe(_ value: Duration) { observe(value.seconds) }
}

extension Duration {
    /// This duration in seconds.
    package var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) * 1e-18
    }
}

/// How requests ended, counted by the reason a client is told.
package struct FinishCounts: Sendable, Equatable {
    package var stop = 0
    package var length = 0
    package var repetition = 0
    package var abort = 0
    package var error = 0

    package init(stop: Int = 0, length: Int = 0, repetition: Int = 0, abort: Int = 0, error: Int = 0) {
        self.stop = stop
        self.length = length
        self.repetition = repetition
        self.abort = abort
        self.error = error
    }
}

/// Requests refused before they ran, by why.
package struct RejectionCounts: Sendable, Equatable {
    /// The queue had no place.
    package var queueFull = 0
    /// A tenant held its share of the queue.
    package var tenantShare = 0
    /// The first token would have come later than the server allows.
    package var delay = 0
    /// The first token would have come after the request's own deadline.
    package var deadline = 0

    package init() {}

    package var total: Int { queueFull + tenantShare + delay + deadline }

    /// Counts what `reserve` threw.
    mutating func count(_ error: EngineError) {
        switch error {
        case .overloaded: queueFull += 1
        case .overShare: tenantShare += 1
        case .delayed: delay += 1
        case .hopeless: deadline += 1
        default: break
        }
    }
}

/// Requests in the engine that use one adapter.
package struct AdapterUse: Sendable, Equatable {
    package let name: String
    package var running: Int
    package var waiting: Int
}

/// A snapshot of the engine.
package struct EngineStatistics: Sendable {
    /// Sequences in the running batch.
    package var running = 0
    /// Requests that wait to run, those not yet seen by the engine thread included.
    package var waiting = 0
    /// Fraction of KV blocks held by sequences, 0…1.
    package var kvUsage = 0.0
    /// Prompt tokens computed or found in the prefix cache.
    package var promptTokens = 0
    package var generationTokens = 0
    package var preemptions = 0
    /// Prompt tokens looked up in the prefix cache, and those found.
    package var prefixQueries = 0
    package var prefixHits = 0
    /// Guesses verified, and those that were right.
    package var speculation = SpeculationStatistics()
    /// The same of what constraints force.
    package var jumpForward = SpeculationStatistics()
    package var finished = FinishCounts()
    package var steps = 0
    package var rejections = RejectionCounts()
    /// Adapters that requests in the engine use, by name.
    package var adapters: [AdapterUse] = []
    /// How long a prompt of a few hundred tokens that comes now would wait for its turn, by the pace of late.
    package var queueDelay = Duration.zero

    // Seconds, except where the name says tokens or counts.
    package var timeToFirstToken: Histogram
    package var interTokenLatency: Histogram
    package var timePerOutputToken: Histogram
    package var endToEnd: Histogram
    package var queueTime: Histogram
    package var prefillTime: Histogram
    package var decodeTime: Histogram
    package var inferenceTime: Histogram
    package var promptLength = Histogram(bounds: Histogram.tokenBounds)
    package var generationLength = Histogram(bounds: Histogram.tokenBounds)
    /// Prompt tokens of a request that were computed, not found in the prefix cache.
    package var computedPromptLength = Histogram(bounds: Histogram.tokenBounds)
    /// How often a request lost its blocks.
    package var preemptionCount = Histogram(bounds: Bounds.preemptions)
    package var iterationTokens = Histogram(bounds: Bounds.iteration)
    /// What a constrained sequence's next tokens took to find out, off the engine thread.
    package var maskTime = Histogram(bounds: Bounds.mask)
    /// How long a step had to wait for that; 0 where it was known in time.
    package var maskWait = Histogram(bounds: Bounds.mask)

    package init(buckets: LatencyBuckets = LatencyBuckets()) {
        timeToFirstToken = Histogram(bounds: buckets.firstToken)
        interTokenLatency = Histogram(bounds: buckets.perToken)
        timePerOutputToken = Histogram(bounds: buckets.perToken)
        endToEnd = Histogram(bounds: buckets.request)
        queueTime = Histogram(bounds: buckets.request)
        prefillTime = Histogram(bounds: buckets.request)
        decodeTime = Histogram(bounds: buckets.request)
        inferenceTime = Histogram(bounds: buckets.request)
    }

    /// The bucket bounds dashboards expect.
    private enum Bounds {
        static let mask = [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1]
        static let iteration = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384.0]
        static let preemptions = [1, 2, 3, 4, 5, 10, 20.0]
    }
}

/// Upper bounds of the histograms of times, in seconds, ascending. The standard ones are those that dashboards expect.
package struct LatencyBuckets: Sendable, Equatable {
    /// Of the time to the first token.
    package var firstToken = [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
        2560,
    ]
    /// Of the time from one token to the next, and of its mean over a request.
    package var perToken = [
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
    ]
    /// Of a whole request and of its phases.
    package var request = [
        0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
    ]

    package init() {}
}
