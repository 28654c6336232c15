// The engine that the measurements without HTTP run on, and how requests are run on it.

import Checkpoints
import Execution
import Scheduling
import Tensors
import Tokenization

/// An engine for measuring.
struct BenchEngine {
    let engine: Engine
    /// nil with random weights.
    let tokenizer: Tokenizer?
    let name: String

    /// An engine on the model, or on random weights; with room for `concurrency` sequences unless the settings say
    /// otherwise.
    /// - Parameters:
    ///   - queue: requests and tokens that will wait at once.
    ///   - tokenBudget: tokens of a step, where the settings do not say.
    static func start(
        _ model: String?, _ weights: DummyWeightOptions, settings: ResolvedSettings, environment: [String: String],
        concurrency: Int, queue: (requests: Int, tokens: Int) = (0, 0), tokenBudget: Int? = nil
    ) async throws -> BenchEngine {
        let shape = weights.shape
        let adjust = { (configuration: inout EngineConfiguration) in
            configuration.maxQueuedRequests = max(configuration.maxQueuedRequests, queue.requests)
            configuration.maxQueuedTokens = max(configuration.maxQueuedTokens, queue.tokens)
            if settings.integer(.maxNumSeqs) == nil, settings.integer(.maxNumBatchedTokens) ?? .max >= concurrency {
                configuration.maxSequences = max(configuration.maxSequences, concurrency)
                configuration.tokenBudget = max(configuration.tokenBudget, configuration.maxSequences)
            }
            if let tokenBudget, settings.integer(.maxNumBatchedTokens) == nil {
                configuration.tokenBudget = max(configuration.maxSequences, tokenBudget)
            }
            // No workload is longer, and a cache for whole contexts may not fit.
            guard let shape else { return }
            configuration.maxModelLength = configuration.maxModelLength ?? min(shape.config.contextLength, 8192)
        }
        let bench: BenchEngine
        if let shape {
            let checkpoint = SyntheticCheckpoint(shape, dtype: weights.dtype)
            let started = try await RunningModel.start(
                shape.config, weights: checkpoint, settings: settings, adjust: adjust)
            bench = BenchEngine(engine: started.engine, tokenizer: nil, name: checkpoint.path)
        } else {
            let located = try ModelLocator.locate(model ?? "", home: settings.text(.home), environment: environment)
            let started = try await RunningModel.start(path: located.path, settings: settings, adjust: adjust)
            bench = BenchEngine(engine: started.engine, tokenizer: started.model.tokenizer, name: located.path)
        }
        BenchOutput.report("\(bench.name): \(bench.engine.information.backendSummary)")
        return bench
    }

    /// Runs one workload: `concurrency` tasks take requests from one list until it is empty.
    static func run(_ workload: Workload, engine: Engine, seed: UInt64, requests: Int) async throws -> Measurement {
        let prompts = workload.prompts(count: requests, seed: seed, vocabulary: engine.information.vocabularyCount)
        let (timelines, wall) = try await run(
            prompts.map { (prompt: $0, newTokens: workload.newTokens) }, lanes: workload.concurrency, engine: engine)
        return Measurement(timelines, wall: wall, promptTokens: prompts.reduce(0) { $0 + $1.count })
    }

    /// Runs requests, `lanes` of them at once, and says how long all took.
    static func run(
        _ requests: [(prompt: [TokenID], newTokens: Int)], lanes: Int, engine: Engine
    ) async throws -> (timelines: [Timeline], wall: Duration) {
        let start = ContinuousClock.now
        let timelines = try await withThrowingTaskGroup(of: [Timeline].self) { group in
            for lane in 0..<lanes {
                group.addTask {
                    var timelines: [Timeline] = []
                    for index in stride(from: lane, to: requests.count, by: lanes) {
                        timelines.append(
                            try await Timeline.record(
                                requests[index].prompt, newTokens: requests[index].newTokens, engine: engine))
                    }
                    return timelines
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        return (timelines: timelines, wall: start.duration(to: .now))
    }
}
