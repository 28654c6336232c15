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

/// What prompts are reduced to when each is alone in the engine; computed once.
private actor SoloVectors {
    static let shared = SoloVectors()
    static let prompts = Array(SoloReference.prompts.prefix(10))
    private var result: [[[Float]]] = []

    func vectors(_ pooling: Pooling) async throws -> [[Float]] {
        if result.isEmpty {
            let engine = try await RealModel.engine { $0.enablePrefixCaching = false }
            for pooling in poolings {
                var vectors: [[Float]] = []
                for prompt in Self.prompts { vectors.append(try await engine.pool([prompt], pooling)[0].pooled) }
                result.append(vectors)
            }
            await engine.drain(timeout: .seconds(5))
        }
        return result[pooling == .mean ? 1 : 0]
    }
}

@Suite(.serialized) struct PoolingTests {
    /// Measured: 8-bit activations 0.9989 for a prompt of 5 tokens, 0.9996 for one of 61; exact ones 1 − 3·10⁻¹².
    @Test(arguments: [(ComputePrecision.auto, 0.998), (.float32, 0.999_999_999)])
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

    private static let settings = Setting.all.filter {
        ["32 at once", "64 tokens a step", "no prefix cache", "a pool that forces preemption"].contains($0.name)
    }

    @Test(arguments: Self.settings, [false, true])
    func `a vector is the same bits in any company`(_ setting: Setting, isDeferred: Bool) async throws {
        let prompts = SoloVectors.prompts
        // Made first, so that nothing below waits while the answers go on.
        _ = try await SoloVectors.shared.vectors(.mean)
        let engine = try await RealModel.engine(
            BackendOptions(threads: setting.threads, deferral: isDeferred ? Deferral() : nil)
        ) {
            $0.blockSize = setting.blockSize
            $0.tokenBudget = setting.tokenBudget
            $0.enablePrefixCaching = setting.prefixCaching
            $0.blockCountOverride = setting.blockCount
        }
        // Answers beside them, so that steps are mixed and, in one of the settings, the pool is short.
        let isShort = setting.blockCount != nil
        let others = isShort ? SoloReference.prompts : Array(SoloReference.prompts.suffix(4))
        async let answers = engine.generate(others, maxNewTokens: isShort ? SoloReference.newTokens : 8)
        for pooling in poolings {
            let expected = try await SoloVectors.shared.vectors(pooling)
            for round in 0..<2 {
                let together = try await engine.pool(prompts, pooling)
                #expect(together.map(\.pooled) == expected, "\(pooling)")
                #expect(together.allSatisfy { $0.reason == .complete && $0.tokens.isEmpty })
                // What is found in the cache was computed for others, and its states are gone.
                if pooling == .mean { #expect(together.allSatisfy { $0.cachedTokens == 0 }) }
                if pooling == .lastToken, round == 1, setting.prefixCaching, !isShort {
                    #expect(together.contains { $0.cachedTokens > 0 })
                }
            }
        }
        _ = try await answers
        if isShort { #expect(engine.statistics.preemptions > 0) }
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
