// The real 135M model in tests: opened from the path `make test` passes, run directly or behind an engine.

import CPUBackend
import Checkpoints
import Execution
import Foundation
import Models
import Scheduling
import Tensors

/// What a test needs and the environment does not provide.
package struct MissingTestModel: Error, CustomStringConvertible {
    package var description: String {
        "APUS_TEST_MODEL is not set to a readable GGUF file. Run the tests with `make test`, which fetches it."
    }
}

/// The checkpoint the Makefile fetched.
package enum RealModel {
    package static func path() throws -> String {
        guard let path = ProcessInfo.processInfo.environment["APUS_TEST_MODEL"],
            FileManager.default.isReadableFile(atPath: path)
        else { throw MissingTestModel() }
        return path
    }

    /// Backend and model for an engine or for direct use.
    package static func parts(
        _ options: BackendOptions = BackendOptions(),
        capacity: StepCapacity = StepCapacity(tokens: 512, sampledRows: 64)
    ) throws -> EngineParts {
        try parts(backend(options), capacity: capacity)
    }

    /// What `options` describe.
    private static func backend(_ options: BackendOptions, seat: RankSeat? = nil) throws -> any Backend {
        let device = try CPUBackend(
            precision: options.precision, instructionSet: options.instructionSet, threads: options.threads, seat: seat)
        return options.deferral.map { DeferredBackend(device, $0) } ?? device
    }

    /// The model on a backend, or another of which the path is given.
    package static func parts(
        _ backend: any Backend, capacity: StepCapacity, path other: String? = nil
    ) throws -> EngineParts {
        let file = try GGUFFile(path: other ?? path())
        let model = try Registry.load(
            ModelConfig(file), weights: WeightReader(file), capacity: capacity, backend: backend)
        return EngineParts(backend: backend, model: model)
    }

    /// A running engine whose ranks share the real model.
    /// - Parameters:
    ///   - options: of each rank.
    ///   - change: what a rank computes with in place of its model.
    package static func engine(
        ranks group: RankGroup, _ options: @escaping @Sendable (Int) -> BackendOptions,
        change: @escaping @Sendable (Int, any LanguageModel) throws -> any LanguageModel = { $1 },
        configure: (inout EngineConfiguration) -> Void = { _ in }
    ) async throws -> Engine {
        var configuration = EngineConfiguration(availableMemoryBytes: 4 << 30, cacheKey: (1, 2))
        configuration.maxModelLength = 2048
        configure(&configuration)
        let meeting = RankMeeting(group)
        return try await Engine.start(configuration, group: group) { [configuration] rank in
            let backend = try backend(options(rank), seat: RankSeat(meeting, rank: rank))
            let parts = try parts(backend, capacity: StepCapacity(configuration, backend: backend))
            return EngineParts(backend: backend, model: try change(rank, parts.model))
        }
    }

    /// A running engine over the real model, or another of which the path is given.
    package static func engine(
        _ options: BackendOptions = BackendOptions(), path: String? = nil,
        configure: (inout EngineConfiguration) -> Void = { _ in }
    ) async throws -> Engine {
        var configuration = EngineConfiguration(availableMemoryBytes: 4 << 30, cacheKey: (1, 2))
        configuration.maxModelLength = 2048
        configure(&configuration)
        return try await Engine.start(configuration) { [configuration] in
            let backend = try backend(options)
            return try parts(backend, capacity: StepCapacity(configuration, backend: backend), path: path)
        }
    }
}

/// How to run the CPU backend.
package struct BackendOptions: Sendable {
    package var precision = ComputePrecision.auto
    package var instructionSet: CPUInstructionSet?
    package var threads = 2
    /// Set to compute as a device that works on its own would: later, in shapes filled up to multiples of 8.
    package var deferral: Deferral?

    package init(
        precision: ComputePrecision = .auto, instructionSet: CPUInstructionSet? = nil, threads: Int = 2,
        deferral: Deferral? = nil
    ) {
        self.deferral = deferral
        self.precision = precision
        self.instructionSet = instructionSet
        self.threads = threads
    }
}

/// A finished generation.
package struct Generation: Sendable, Equatable {
    package var tokens: [TokenID] = []
    package var logprobs: [Float] = []
    package var promptScores: [TokenSample] = []
    package var reason: FinishReason?
    package var cachedTokens = 0
    package var pooled: [Float] = []
}

extension Engine {
    /// Generates one sequence per prompt, all submitted at once, and waits for all of them.
    package func generate(
        _ prompts: [[TokenID]], maxNewTokens: Int, stopTokens: [TokenID] = [], sampling: SamplingParameters = .greedy
    ) async throws -> [Generation] {
        let requests = prompts.map {
            GenerationRequest(
                id: makeRequestID(), prompt: $0, maxNewTokens: maxNewTokens, stopTokens: stopTokens,
                sampling: sampling, arrival: now)
        }
        let reservation = try reserve(requests: requests.count, promptTokenEstimate: 0)
        let streams = try submit(requests, reservation: reservation)
        return try await withThrowingTaskGroup(of: (Int, Generation).self) { group in
            for (index, stream) in streams.enumerated() {
                group.addTask { (index, try await collect(stream)) }
            }
            var generations = Array(repeating: Generation(), count: prompts.count)
            for try await (index, generation) in group { generations[index] = generation }
            return generations
        }
    }
}

extension Engine {
    /// Reduces each prompt to a vector, all submitted at once.
    package func pool(
        _ prompts: [[TokenID]], _ pooling: Pooling, salt: UInt64 = 0
    ) async throws -> [Generation] {
        let requests = prompts.map {
            GenerationRequest(
                id: makeRequestID(), prompt: $0, maxNewTokens: 1, arrival: now, cacheSalt: salt, pooling: pooling)
        }
        let streams = try submit(requests, reservation: try reserve(requests: requests.count, promptTokenEstimate: 0))
        var generations: [Generation] = []
        for stream in streams { generations.append(try await collect(stream)) }
        return generations
    }
}

/// Reads a stream to its end.
package func collect(_ stream: AsyncStream<EngineEvent>) async throws -> Generation {
    var generation = Generation()
    for await event in stream {
        switch event {
        case .promptScores(let scores): generation.promptScores += scores
        case .token(let sample):
            generation.tokens.append(sample.token)
            generation.logprobs.append(sample.logprob)
        case .pooled(let vector): generation.pooled = vector
        case .finished(let reason, let usage):
            generation.reason = reason
            generation.cachedTokens = usage.cachedTokens
        case .failed(let error): throw error
        }
    }
    return generation
}
