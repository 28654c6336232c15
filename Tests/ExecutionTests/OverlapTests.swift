// A device that works on its own is one step behind the engine, and no client can tell.

import Execution
import Foundation
import Scheduling
import Synchronization
import TestSupport
import Testing

@Suite(.serialized) struct OverlapTests {
    @Test(arguments: [
        Setting(name: "32 at once"),
        Setting(name: "64 tokens a step, block size 8", blockSize: 8, tokenBudget: 64),
        Setting(name: "no prefix cache", prefixCaching: false),
        Setting(name: "a pool that forces preemption", blockCount: 140),
        Setting(name: "the same without prefix cache", prefixCaching: false, blockCount: 140),
    ])
    func `32 concurrent greedy streams equal each alone on a plain CPU, bit for bit`(_ setting: Setting) async throws {
        let expected = try await SoloReference.shared.generations()
        let deferral = Deferral()
        let engine = try await RealModel.engine(BackendOptions(deferral: deferral)) {
            $0.blockSize = setting.blockSize
            $0.tokenBudget = setting.tokenBudget
            $0.enablePrefixCaching = setting.prefixCaching
            $0.blockCountOverride = setting.blockCount
            // Not a multiple of 8: the largest step is filled up too.
            $0.maxSequences = 35
        }
        let actual = try await engine.generate(
            SoloReference.prompts, maxNewTokens: SoloReference.newTokens,
            sampling: SamplingParameters(logprobCount: 0))
        for (index, (one, other)) in zip(expected, actual).enumerated() {
            #expect(one.tokens == other.tokens, "sequence \(index)")
            #expect(one.logprobs.map(\.bitPattern) == other.logprobs.map(\.bitPattern), "sequence \(index)")
        }
        #expect(deferral.mostInFlight.load(ordering: .relaxed) == 2)
        let statistics = engine.statistics
        print("\(setting.name): \(statistics.preemptions) preemptions, \(statistics.prefixHits) tokens from the cache")
        if setting.blockCount != nil { #expect(statistics.preemptions > 0) }
        #expect((statistics.prefixHits > 0) == setting.prefixCaching)
        #expect(statistics.running == 0 && statistics.kvUsage == 0)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `draws, alternatives and stop tokens are those of a plain CPU`() async throws {
        let prompts = Array(SoloReference.prompts.prefix(12))
        let sampling = SamplingParameters(temperature: 0.9, topP: 0.95, topK: 50, seed: 7, logprobCount: 3)
        var results: [[Generation]] = []
        for deferral in [nil, Deferral()] {
            let engine = try await RealModel.engine(BackendOptions(deferral: deferral))
            let first = try await engine.generate(prompts, maxNewTokens: 24, sampling: sampling)
            // Different places for different sequences, so that some stop while others go on.
            let stops = (0..<6).map { first[$0].tokens[3 * $0] }
            results.append(
                first + (try await engine.generate(prompts, maxNewTokens: 24, stopTokens: stops, sampling: sampling)))
            await engine.drain(timeout: .seconds(5))
        }
        for (one, other) in zip(results[0], results[1]) {
            #expect(one.tokens == other.tokens && one.logprobs == other.logprobs && one.reason == other.reason)
        }
        #expect(results[0].contains { if case .stop = $0.reason { $0.tokens.count < 24 } else { false } })
    }

    @Test func `a device that fails while a step waits behind it ends everything`() async throws {
        let engine = try await RealModel.engine(BackendOptions(deferral: Deferral(collectLimit: 5)))
        do {
            _ = try await engine.generate([[1, 2, 3], [4, 5, 6]], maxNewTokens: 50)
            Issue.record("50 tokens came from a device that failed after 5 steps")
        } catch {
            let sentence = "The device failed during collect: a test asked for it."
            #expect(error as? EngineError == .deviceFailure(sentence))
            #expect(engine.health == .failed(sentence))
        }
        await engine.waitUntilEnded()
        #expect(engine.statistics.running == 0)
    }
}
