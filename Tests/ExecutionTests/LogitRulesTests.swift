// Rules of the logits and scores of prompts on the real model: the same alone, in company, and planned ahead.

import Execution
import Scheduling
import Tensors
import TestSupport
import Testing

@Suite(.serialized) struct LogitRulesTests {
    private static let rules: [LogitRules] = [
        LogitRules(presencePenalty: 1, frequencyPenalty: 0.5), LogitRules(repetitionPenalty: 1.3),
        LogitRules(biases: [TokenBias(token: 28, bias: 5), TokenBias(token: 30, bias: -100)]),
        LogitRules(bannedSequences: [[28], [504, 260]]), LogitRules(minNewTokens: 20, endTokens: [2, 0, 28, 30]),
        LogitRules(repetitionPenalty: 1.1, bannedSequences: [[260, 1]], minNewTokens: 3, endTokens: [28]),
    ]

    private func generate(
        _ engine: Engine, promptLogprobCount: Int? = nil, together: Bool = true
    ) async throws -> [Generation] {
        let requests = Self.rules.enumerated().map { index, rules in
            GenerationRequest(
                id: engine.makeRequestID(), prompt: SoloReference.prompts[index], maxNewTokens: 24,
                sampling: SamplingParameters(
                    temperature: index % 2 == 0 ? 0 : 0.8, seed: 5, logprobCount: 2, rules: rules),
                promptLogprobCount: promptLogprobCount)
        }
        if together { return try await engine.run(requests) }
        var generations: [Generation] = []
        for request in requests { generations += try await engine.run([request]) }
        return generations
    }

    @Test func `rules hold alike alone, together and planned ahead`() async throws {
        let plain = try await RealModel.engine()
        let alone = try await generate(plain, together: false)
        let together = try await generate(plain)
        await plain.drain(timeout: .seconds(5))
        let ahead = try await RealModel.engine(BackendOptions(deferral: Deferral())) {
            $0.maxSequences = 4
            $0.tokenBudget = 24
        }
        let deferred = try await generate(ahead)
        await ahead.drain(timeout: .seconds(5))
        for other in [together, deferred] {
            #expect(other.map(\.tokens) == alone.map(\.tokens))
            #expect(other.map(\.logprobs) == alone.map(\.logprobs))
        }
        #expect(!alone[3].tokens.contains(28))
        #expect(alone[4].tokens.prefix(20).allSatisfy { ![2, 0, 28, 30].contains($0) })
        // A token is penalized more with each time it comes, so none comes as often as all the others together.
        #expect(Set(alone[0].tokens).count > 12)
    }

    @Test func `scores of prompts are the log-probabilities of one pass`() async throws {
        let prompt = Array(SoloReference.prompts[0].prefix(60))
        let engine = try await RealModel.engine(BackendOptions(precision: .float32)) { $0.maxSequences = 4 }
        let requests = (0..<2).map { _ in
            GenerationRequest(
                id: engine.makeRequestID(), prompt: prompt, maxNewTokens: 2, promptLogprobCount: 3)
        }
        let generations =
            try await engine.run(requests)
            + engine.run([
                GenerationRequest(id: engine.makeRequestID(), prompt: prompt, maxNewTokens: 2, promptLogprobCount: 3)
            ])
        await engine.drain(timeout: .seconds(5))
        let direct = try DirectForward(RealModel.parts(BackendOptions(precision: .float32)), capacity: 512)
        let expected = try direct.logprobs(prompt)
        for generation in generations {
            #expect(generation.promptScores.map(\.token) == Array(prompt.dropFirst()))
            #expect(generation.cachedTokens == 0)
            for (position, score) in generation.promptScores.enumerated() {
                let row = expected[position]
                #expect(abs(score.logprob - row[Int(score.token)]) < 1e-3)
                #expect(score.topLogprobs.count == 3)
                if score.rank == 1 { #expect(score.topLogprobs[0].token == score.token) }
                #expect(abs(score.topLogprobs[0].logprob - (row.max() ?? 0)) < 1e-3)
            }
        }
    }
}

extension Engine {
    /// Submits requests together and waits for all.
    fileprivate func run(_ requests: [GenerationRequest]) async throws -> [Generation] {
        let streams = try submit(requests, reservation: reserve(requests: requests.count, promptTokenEstimate: 0))
        var generations: [Generation] = []
        for stream in streams { generations.append(try await collect(stream)) }
        return generations
    }
}
