// Models with a window, in every layer or in some, behind an engine that gives back the blocks behind it.

import CPUBackend
import Execution
import Models
import Scheduling
import Tensors
import TestSupport
import Testing

/// Greedy, with log-probabilities, so that every bit of the logits counts.
private let scored = SamplingParameters(logprobCount: 0)

@Suite(.serialized) struct WindowedEngineTests {
    private func engine(
        _ name: String = "mistral", blockCount: Int, isDeferred: Bool, hasOneTable: Bool = false,
        precision: ComputePrecision = .auto
    ) async throws -> Engine {
        var configuration = EngineConfiguration(availableMemoryBytes: 1 << 30, cacheKey: (1, 2))
        configuration.maxModelLength = 256
        configuration.blockSize = 8
        configuration.tokenBudget = 64
        configuration.maxSequences = 16
        configuration.blockCountOverride = blockCount
        return try await Engine.start(configuration) { [configuration] in
            let device = try CPUBackend(precision: precision, instructionSet: nil, threads: 2)
            let backend: any Backend = isDeferred ? DeferredBackend(device, Deferral()) : device
            let parts = try FixtureCheckpoint(name).parts(
                backend, capacity: StepCapacity(configuration, backend: backend))
            return hasOneTable ? EngineParts(backend: backend, model: OneTable(parts.model)) : parts
        }
    }

    @Test(arguments: [false, true])
    func `twelve long streams in a pool for one give what each gives alone`(isDeferred: Bool) async throws {
        let prompt = try FixtureCheckpoint("mistral").expected.prompt
        let prompts = (0..<12).map { Array(prompt.suffix(40 - 3 * $0)) }
        let roomy = try await engine(blockCount: 512, isDeferred: false)
        var expected: [Generation] = []
        for prompt in prompts { expected += try await roomy.generate([prompt], maxNewTokens: 180, sampling: scored) }
        await roomy.drain(timeout: .seconds(5))
        // 12 sequences of up to 220 tokens would need 286 blocks.
        let crowded = try await engine(blockCount: 60, isDeferred: isDeferred)
        let actual = try await crowded.generate(prompts, maxNewTokens: 180, sampling: scored)
        #expect(actual.map(\.tokens) == expected.map(\.tokens))
        #expect(actual.map { $0.logprobs.map(\.bitPattern) } == expected.map { $0.logprobs.map(\.bitPattern) })
        #expect(crowded.statistics.preemptions == 0)
        await crowded.drain(timeout: .seconds(5))
    }

    /// A block is for one layer. With 28 blocks' worth of tokens a sequence holds 28 blocks for the layer that sees
    /// everything, and 3 for each of the others, where one table for all layers would take 28 for each.
    @Test(arguments: [("gemma2", 1), ("gemma3", 3), ("gpt-oss", 1)], [false, true])
    func `twelve long streams of a model with windows in some layers give what one table gives`(
        model: (name: String, windowedLayers: Int), isDeferred: Bool
    ) async throws {
        let fixture = try FixtureCheckpoint(model.name)
        let prompts = (0..<12).map { Array(fixture.expected.prompt.suffix(40 - 3 * $0)) }
        let roomy = try await engine(
            model.name, blockCount: 512, isDeferred: false, hasOneTable: true, precision: .float32)
        var expected: [Generation] = []
        for prompt in prompts { expected += try await roomy.generate([prompt], maxNewTokens: 180, sampling: scored) }
        await roomy.drain(timeout: .seconds(5))
        #expect(expected[0].tokens.prefix(fixture.expected.greedy.count).elementsEqual(fixture.expected.greedy))
        let crowded = try await engine(
            model.name, blockCount: 12 * (28 + 3 * model.windowedLayers) + 24, isDeferred: isDeferred,
            precision: .float32)
        let actual = try await crowded.generate(prompts, maxNewTokens: 180, sampling: scored)
        #expect(actual.map(\.tokens) == expected.map(\.tokens))
        #expect(actual.map { $0.logprobs.map(\.bitPattern) } == expected.map { $0.logprobs.map(\.bitPattern) })
        #expect(crowded.statistics.preemptions == 0)
        await crowded.drain(timeout: .seconds(5))
    }

    @Test(arguments: ["gemma2", "gemma3", "gpt-oss"])
    func `a prefix that windowed layers have kept gives what it gave`(model: String) async throws {
        let prompt = try FixtureCheckpoint(model).expected.prompt
        let engine = try await engine(model, blockCount: 512, isDeferred: false)
        let first = try await engine.generate([prompt], maxNewTokens: 100, sampling: scored)[0]
        for _ in 0..<2 {
            let again = try await engine.generate([prompt], maxNewTokens: 100, sampling: scored)[0]
            #expect(again.tokens == first.tokens && again.cachedTokens == 32)
            #expect(again.logprobs.map(\.bitPattern) == first.logprobs.map(\.bitPattern))
        }
        // The whole conversation so far, and something more.
        let next = try await engine.generate([prompt + first.tokens + [3]], maxNewTokens: 1)[0]
        #expect(next.cachedTokens == 136)
        await engine.drain(timeout: .seconds(5))
    }
}
