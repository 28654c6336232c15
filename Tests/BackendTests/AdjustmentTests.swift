// Penalties, biases, bans and allow-lists: what they do to the choice, and that log-probabilities do not see them.

import CPUBackend
import Conformance
import Foundation
import Tensors
import Testing

@Suite struct AdjustmentTests {
    private func sample(_ logits: [Float], vocab: Int, _ rows: [SamplingRow]) throws -> SamplingResults {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 2)
        var results = SamplingResults(rowCapacity: rows.count)
        backend.sample(try backend.tensor(logits, [rows.count, vocab]), rows)
        try backend.collect(into: &results)
        return results
    }

    /// The greedy choice under `adjustments`.
    private func choice(_ logits: [Float], _ adjustments: LogitAdjustments) throws -> Int32 {
        try sample(logits, vocab: logits.count, [SamplingRow(adjustments: adjustments)]).tokens[0]
    }

    private typealias Count = LogitAdjustments.Count
    private typealias Bias = LogitAdjustments.Bias

    @Test func `a bias is added, and minus infinity bans`() throws {
        let logits: [Float] = [1, 2, 3, 0]
        #expect(try choice(logits, LogitAdjustments(biases: [Bias(token: 0, bias: 2.5)])) == 0)
        #expect(try choice(logits, LogitAdjustments(biases: [Bias(token: 2, bias: -.infinity)])) == 1)
        // Biases of one token add up, and a ban wins over any of them.
        let banned = [Bias(token: 2, bias: 100), Bias(token: 2, bias: -.infinity), Bias(token: 2, bias: 100)]
        #expect(try choice(logits, LogitAdjustments(biases: banned)) == 1)
    }

    @Test func `an allow-list leaves nothing else`() throws {
        var numbers = SeededNumbers(3)
        let logits = numbers.normals(1003)
        for allowed in [[0], [1002], [5, 6, 7], [0, 500, 1002], Array(Int32(0)..<1003)] as [[Int32]] {
            let best = allowed.max { logits[Int($0)] < logits[Int($1)] }
            #expect(try choice(logits, LogitAdjustments(allowedTokens: allowed)) == best)
            let rows = (0..<50).map {
                SamplingRow(
                    temperature: 2, topP: 0.9, seed: 1, position: $0,
                    adjustments: LogitAdjustments(allowedTokens: allowed))
            }
            let drawn = try sample(Array(repeating: logits, count: 50).flatMap { $0 }, vocab: 1003, rows).tokens
            #expect(Set(drawn).isSubset(of: allowed))
        }
    }

    @Test(arguments: instructionSets)
    func `masks leave the tokens whose bits are set, and hide no NaN`(_ instructionSet: CPUInstructionSet) throws {
        let cases = ConformanceCase.all.filter { $0.name.contains("mask") || $0.name.contains("NaN") }
        #expect(cases.count == 2)
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        for check in cases { #expect(try check.worstError(backend) <= 1, "\(check.name)") }
    }

    @Test func `penalties follow their definitions`() throws {
        // Repetition: prompt and output, division above zero, multiplication below.
        let seen = [Count(token: 2, generated: 0, isInPrompt: true)]
        #expect(try choice([1, 2.5, 4, 0], LogitAdjustments(counts: seen, repetitionPenalty: 1.5)) == 2)
        #expect(try choice([1, 2.5, 4, 0], LogitAdjustments(counts: seen, repetitionPenalty: 2)) == 1)
        #expect(try choice([-3, -2, -1], LogitAdjustments(counts: seen, repetitionPenalty: 2.5)) == 1)
        // Presence and frequency: output only, once and for each time.
        #expect(try choice([1, 2, 3], LogitAdjustments(counts: seen, presencePenalty: 2, frequencyPenalty: 2)) == 2)
        let twice = [Count(token: 2, generated: 2, isInPrompt: false)]
        #expect(try choice([1, 2, 3], LogitAdjustments(counts: twice, presencePenalty: 0.9)) == 2)
        #expect(try choice([1, 2, 3], LogitAdjustments(counts: twice, presencePenalty: 1.1)) == 1)
        #expect(try choice([1, 2, 3], LogitAdjustments(counts: twice, frequencyPenalty: 0.4)) == 2)
        #expect(try choice([1, 2, 3], LogitAdjustments(counts: twice, frequencyPenalty: 0.6)) == 1)
        // Repetition comes before the others: 4 / 2 − 2 · 0.25 − 0.1 = 1.4.
        let all = LogitAdjustments(
            counts: twice, presencePenalty: 0.1, frequencyPenalty: 0.25, repetitionPenalty: 2)
        #expect(try choice([1.39, 0, 4], all) == 2)
        #expect(try choice([1.41, 0, 4], all) == 0)
    }

    @Test func `rows beside an adjusted one and all log-probabilities are as if it were not there`() throws {
        var numbers = SeededNumbers(4)
        let vocab = 777
        let logits = numbers.normals(3 * vocab)
        let plain = (0..<3).map { SamplingRow(temperature: 1, seed: 9, position: $0, logprobCount: 5) }
        var adjusted = plain
        adjusted[1].adjustments = LogitAdjustments(allowedTokens: [123])
        let before = try sample(logits, vocab: vocab, plain)
        let after = try sample(logits, vocab: vocab, adjusted)
        #expect(after.tokens[1] == 123)
        for row in [0, 2] {
            #expect(after.tokens[row] == before.tokens[row] && after.logprobs[row] == before.logprobs[row])
        }
        #expect(after.alternativeTokens == before.alternativeTokens)
        #expect(after.alternativeLogprobs == before.alternativeLogprobs)
        let row = logits[vocab..<2 * vocab].map(Double.init)
        let expected = row[123] - log(row.reduce(0) { $0 + exp($1) })
        #expect(abs(Double(after.logprobs[1]) - expected) < 1e-5)
    }

    @Test func `a row in which nothing may be chosen is reported`() throws {
        let bans = (0..<3).map { Bias(token: $0, bias: -.infinity) }
        let rows = [SamplingRow(adjustments: LogitAdjustments(biases: bans)), SamplingRow()]
        #expect(try sample([1, 2, 3, 1, 2, 3], vocab: 3, rows).isFinite == [false, true])
    }

    @Test func `a scored token has its log-probability and rank`() throws {
        let logits: [Float] = [1, 3, 2, 3, 0]
        let rows = (0..<5).map { SamplingRow(logprobCount: 1, scoredToken: $0) }
        let results = try sample(Array(repeating: logits, count: 5).flatMap { $0 }, vocab: 5, rows)
        #expect(results.ranks == [4, 1, 3, 1, 5])
        let total = log(logits.reduce(0.0) { $0 + exp(Double($1)) })
        for token in 0..<5 { #expect(abs(Double(results.logprobs[token]) - Double(logits[token]) + total) < 1e-5) }
        #expect(results.alternativeTokens[0] == 1)
    }
}
