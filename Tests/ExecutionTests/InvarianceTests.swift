// Batch invariance on the real model: a sequence's tokens and log-probabilities are the same bits in any company.

import CPUBackend
import Execution
import Foundation
import Scheduling
import Tensors
import TestSupport
import Testing

/// One way to run the engine.
struct Setting: Sendable, CustomTestStringConvertible {
    var name: String
    var blockSize = 16
    var tokenBudget = 256
    var threads = 2
    var prefixCaching = true
    var blockCount: Int?
    var draftTokenCount = 0

    var testDescription: String { name }

    static let all = [
        Setting(name: "32 at once"),
        Setting(name: "block size 8", blockSize: 8),
        Setting(name: "block size 64", blockSize: 64),
        Setting(name: "64 tokens a step", tokenBudget: 64),
        Setting(name: "2048 tokens a step", tokenBudget: 2048),
        Setting(name: "1 thread", threads: 1),
        Setting(name: "no prefix cache", prefixCaching: false),
        Setting(name: "up to 8 guesses a step", draftTokenCount: 8),
        // 32 sequences need up to 32 × 13 blocks.
        Setting(name: "a pool that forces preemption", blockCount: 140),
    ]
}

/// Prompts and what each gives when it is alone in the engine; computed once.
actor SoloReference {
    static let shared = SoloReference()
    private var result: [Generation]?

    /// 32 prompts of 3 to 160 tokens, a third of which share a prefix.
    static let prompts: [[TokenID]] = {
        var state: UInt64 = 0x9E37_79B9_7F4A_7C15
        func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
        let shared = (0..<75).map { _ in TokenID(1000 + next(40_000)) }
        return (0..<32).map { index in
            let own = (0..<3 + next(80)).map { _ in TokenID(1000 + next(40_000)) }
            return index % 3 == 0 ? shared + own : own
        }
    }()
    static let newTokens = 32

    func generations() async throws -> [Generation] {
        if let result { return result }
        let engine = try await RealModel.engine { $0.enablePrefixCaching = false }
        var generations: [Generation] = []
        for prompt in Self.prompts {
            generations += try await engine.generate(
                [prompt], maxNewTokens: Self.newTokens, sampling: SamplingParameters(logprobCount: 0))
        }
        await engine.drain(timeout: .seconds(5))
        result = generations
        return generations
    }
}

@Suite(.serialized) struct InvarianceTests {
    @Test(arguments: Setting.all)
    func `32 concurrent greedy streams equal each alone, bit for bit`(_ setting: Setting) async throws {
        let expected = try await SoloReference.shared.generations()
        let engine = try await RealModel.engine(BackendOptions(threads: setting.threads)) {
            $0.blockSize = setting.blockSize
            $0.tokenBudget = setting.tokenBudget
            $0.enablePrefixCaching = setting.prefixCaching
            $0.blockCountOverride = setting.blockCount
            $0.speculation = SpeculationLimits(draftTokenCount: setting.draftTokenCount)
        }
        let actual = try await engine.generate(
            SoloReference.prompts, maxNewTokens: SoloReference.newTokens,
            sampling: SamplingParameters(logprobCount: 0))
        for (index, (one, other)) in zip(expected, actual).enumerated() {
            #expect(one.tokens == other.tokens, "sequence \(index)")
            #expect(one.logprobs.map(\.bitPattern) == other.logprobs.map(\.bitPattern), "sequence \(index)")
        }
        let statistics = engine.statistics
        print("\(setting.name): \(statistics.preemptions) preemptions, \(statistics.prefixHits) tokens from the cache")
        if setting.blockCount != nil { #expect(statistics.preemptions > 0) }
        if !setting.prefixCaching { #expect(statistics.prefixHits == 0) }
        if setting.draftTokenCount > 0 { #expect(statistics.speculation.acceptedTokens > 0) }
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `a second run is served from the prefix cache and gives the same bits`() async throws {
        let expected = try await SoloReference.shared.generations()
        let engine = try await RealModel.engine()
        for _ in 0..<2 {
            let actual = try await engine.generate(
                SoloReference.prompts, maxNewTokens: SoloReference.newTokens,
                sampling: SamplingParameters(logprobCount: 0))
            #expect(actual.map(\.tokens) == expected.map(\.tokens))
            #expect(actual.map(\.logprobs) == expected.map(\.logprobs))
        }
        #expect(engine.statistics.prefixHits > 0)
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `sampling with a seed gives the same tokens in any company`() async throws {
        let engine = try await RealModel.engine()
        let sampling = SamplingParameters(temperature: 0.9, topP: 0.95, topK: 50, seed: 7)
        let prompts = Array(SoloReference.prompts.prefix(8))
        let together = try await engine.generate(prompts, maxNewTokens: 24, sampling: sampling)
        for (prompt, expected) in zip(prompts, together) {
            let alone = try await engine.generate([prompt], maxNewTokens: 24, sampling: sampling)[0]
            #expect(alone.tokens == expected.tokens)
        }
        await engine.drain(timeout: .seconds(5))
    }
}
