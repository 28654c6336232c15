// A model with a window in every layer behind an engine that gives back the blocks behind it.

import CPUBackend
import Execution
import Models
import Scheduling
import Tensors
import TestSupport
import Testing

@Suite(.serialized) struct WindowedEngineTests {
    private func engine(blockCount: Int, isDeferred: Bool) async throws -> Engine {
        var configuration = EngineConfiguration(availableMemoryBytes: 1 << 30, cacheKey: (1, 2))
        configuration.maxModelLength = 256
        configuration.blockSize = 8
        configuration.tokenBudget = 64
        configuration.maxSequences = 16
        configuration.blockCountOverride = blockCount
        return try await Engine.start(configuration) { [configuration] in
            let device = try CPUBackend(precision: .auto, instructionSet: nil, threads: 2)
            let backend: any Backend = isDeferred ? DeferredBackend(device, Deferral()) : device
            return try FixtureCheckpoint("mistral").parts(
                backend, capacity: StepCapacity(configuration, backend: backend))
        }
    }

    @Test(arguments: [false, true])
    func `twelve long streams in a pool for one give what each gives alone`(isDeferred: Bool) async throws {
        let prompt = try FixtureCheckpoint("mistral").expected.prompt
        let prompts = (0..<12).map { Array(prompt.suffix(40 - 3 * $0)) }
        let roomy = try await engine(blockCount: 512, isDeferred: false)
        var expected: [Generation] = []
        for prompt in prompts { expected += try await roomy.generate([prompt], maxNewTokens: 180) }
        await roomy.drain(timeout: .seconds(5))
        // 12 sequences of up to 220 tokens would need 286 blocks.
        let crowded = try await engine(blockCount: 60, isDeferred: isDeferred)
        let actual = try await crowded.generate(prompts, maxNewTokens: 180)
        #expect(actual.map(\.tokens) == expected.map(\.tokens))
        #expect(actual.map { $0.logprobs.map(\.bitPattern) } == expected.map { $0.logprobs.map(\.bitPattern) })
        #expect(crowded.statistics.preemptions == 0)
        await crowded.drain(timeout: .seconds(5))
    }
}
