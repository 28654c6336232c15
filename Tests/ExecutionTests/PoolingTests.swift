// Prompts that are reduced to a vector: the vector is the model's own, and the same bits however it was computed.

import Execution
import Foundation
import Scheduling
import Tensors
import TestSupport
import Testing

/// Vectors of a reference implementation, of the same weights in 32-bit floats.
private struct GoldenVectors: Decodable {
    struct Case: Decodable {
        let prompt_ids: [TokenID]
        /// Normalized to length 1.
        let last: [Float]
        let mean: [Float]
    }

    let cases: [Case]

    static func smollm2() throws -> GoldenVectors {
        try JSONDecoder().decode(
            GoldenVectors.self, from: Data(contentsOf: Fixtures.url("goldens/smollm2-vectors.json")))
    }
}

private func cosine(_ one: [Float], _ other: [Float]) -> Double {
    func dot(_ left: [Float], _ right: [Float]) -> Double {
        zip(left, right).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
    return dot(one, other) / (dot(one, one) * dot(other, other)).squareRoot()
}

private let poolings: [Pooling] = [.lastToken, .mean]

@Suite(.serialized) struct PoolingTests {
    @Test(arguments: [(ComputePrecision.auto, 0.999), (.float32, 0.999_999)])
    func `a vector is the reference implementation's`(precision: ComputePrecision, least: Double) async throws {
        let engine = try await RealModel.engine(BackendOptions(precision: precision))
        for golden in try GoldenVectors.smollm2().cases {
            for pooling in poolings {
                let vector = try await engine.pool([golden.prompt_ids], pooling)[0].pooled
                let expected = pooling == .mean ? golden.mean : golden.last
                let likeness = cosine(vector, expected)
                #expect(likeness >= least, "\(pooling), \(precision)")
                print("\(pooling) \(precision): 1 - \(1 - likeness)")
            }
        }
        await engine.drain(timeout: .seconds(5))
    }

    @Test(arguments: Setting.all, [false, true])
    func `a vector is the same bits in any company`(_ setting: Setting, isDeferred: Bool) async throws {
        let prompts = Array(SoloReference.prompts.prefix(16))
        let alone = try await RealModel.engine { $0.enablePrefixCaching = false }
        let engine = try await RealModel.engine(
            BackendOptions(threads: setting.threads, deferral: isDeferred ? Deferral() : nil)
        ) {
            $0.blockSize = setting.blockSize
            $0.tokenBudget = setting.tokenBudget
            $0.enablePrefixCaching = setting.prefixCaching
            $0.blockCountOverride = setting.blockCount
        }
        for pooling in poolings {
            var expected: [Generation] = []
            for prompt in prompts { expected += try await alone.pool([prompt], pooling) }
            // Answers beside them, so that steps are mixed and the pool is short.
            async let others = engine.generate(SoloReference.prompts, maxNewTokens: 24)
            for _ in 0..<2 {
                let together = try await engine.pool(prompts, pooling)
                #expect(together.map(\.pooled) == expected.map(\.pooled), "\(pooling)")
                #expect(together.allSatisfy { $0.reason == .complete && $0.tokens.isEmpty })
                // What is found in the cache was computed for others, and its states are gone.
                if pooling == .mean { #expect(together.allSatisfy { $0.cachedTokens == 0 }) }
                if pooling == .lastToken, setting.prefixCaching, setting.blockCount == nil {
                    #expect(together.contains { $0.cachedTokens > 0 })
                }
            }
            _ = try await others
        }
        if setting.blockCount != nil { #expect(engine.statistics.preemptions > 0) }
        await alone.drain(timeout: .seconds(5))
        await engine.drain(timeout: .seconds(5))
    }

    @Test func `a prompt that is only read may fill the context, and counts no generated token`() async throws {
        let engine = try await RealModel.engine { $0.maxModelLength = 40 }
        let prompt = (0..<40).map { TokenID(1000 + $0) }
        let generation = try await engine.pool([prompt], .lastToken)[0]
        #expect(generation.pooled.count == 576)
        #expect(engine.statistics.generationTokens == 0)
        #expect(engine.statistics.promptTokens == 40)
        await #expect(throws: EngineError.self) { try await engine.pool([prompt + [7]], .mean) }
        await engine.drain(timeout: .seconds(5))
    }
}
