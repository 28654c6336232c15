// Sampling: exact choices, distributions by χ², filters against a sort, and what is not finite.

import CPUBackend
import CPUKernels
import Conformance
import Foundation
import Tensors
import Testing

struct SamplingTests {
    private func sample(
        _ backend: CPUBackend, _ logits: [Float], vocab: Int, _ rows: [SamplingRow]
    ) throws -> SamplingResults {
        var results = SamplingResults(rowCapacity: rows.count)
        backend.sample(try backend.tensor(logits, [rows.count, vocab]), rows)
        try backend.collect(into: &results)
        return results
    }

    /// Draws `count` times from one row of logits, at successive positions.
    private func draws(_ backend: CPUBackend, _ logits: [Float], _ row: SamplingRow, count: Int) throws -> [Int: Int] {
        var counts: [Int: Int] = [:]
        let batch = 500, repeated = Array(repeating: logits, count: batch).flatMap { $0 }
        for start in stride(from: 0, to: count, by: batch) {
            let rows = (0..<batch).map { offset in
                var row = row
                row.position = UInt64(start + offset)
                return row
            }
            for token in try sample(backend, repeated, vocab: logits.count, rows).tokens {
                counts[Int(token), default: 0] += 1
            }
        }
        return counts
    }

    @Test func `Philox gives the published vectors`() {
        func philox(_ counter: [UInt32], _ key: [UInt32]) -> [UInt32] {
            var output: [UInt32] = [0, 0, 0, 0]
            unsafe cpu_philox(counter, key, &output)
            return output
        }
        #expect(philox([0, 0, 0, 0], [0, 0]) == [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8])
        let ones = UInt32.max
        #expect(
            philox([ones, ones, ones, ones], [ones, ones]) == [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd])
        #expect(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0])
                == [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1])
    }

    @Test(arguments: instructionSets)
    func `greedy takes the highest logit and the lowest id among equals`(_ instructionSet: CPUInstructionSet) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        for vocab in [1, 5, 16, 17, 1000] {
            var numbers = SeededNumbers(UInt64(vocab))
            for _ in 0..<20 {
                // Few distinct values, so that ties are common.
                let logits = (0..<vocab).map { _ in Float(Int.random(in: -3...3, using: &numbers)) }
                let result = try sample(backend, logits, vocab: vocab, [SamplingRow()])
                #expect(Int(result.tokens[0]) == logits.firstIndex(of: logits.max() ?? 0))
                #expect(result.isFinite[0])
            }
        }
    }

    @Test(arguments: instructionSets)
    func `draws follow the tempered distribution`(_ instructionSet: CPUInstructionSet) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        var numbers = SeededNumbers(77)
        let logits = numbers.normals(40).map { $0 * 2 }
        for row in [
            SamplingRow(temperature: 1, seed: 1), SamplingRow(temperature: 0.5, seed: 2),
            SamplingRow(temperature: 1.5, topP: 0.9, topK: 12, minP: 0.02, seed: 3),
        ] {
            let count = 100_000
            let counts = try draws(backend, logits, row, count: count)
            let expected = ConformanceCase.survivors(logits, row)
            #expect(Set(counts.keys).isSubset(of: Set(expected.keys)))
            var chiSquare = 0.0, cells = 0
            for (token, probability) in expected where probability * Double(count) >= 5 {
                let difference = Double(counts[token, default: 0]) - probability * Double(count)
                chiSquare += difference * difference / (probability * Double(count))
                cells += 1
            }
            // Five standard deviations above the mean of χ² with that many degrees of freedom.
            #expect(chiSquare < Double(cells) + 5 * (2 * Double(cells)).squareRoot())
        }
    }

    @Test(arguments: instructionSets)
    func `filters keep exactly the tokens a sort would keep, ties included`(
        _ instructionSet: CPUInstructionSet
    ) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        var numbers = SeededNumbers(5)
        // Multiples of 1/2 with many ties; 24 tokens, so that 4000 draws find every survivor.
        let logits = (0..<24).map { _ in Float(Int.random(in: 0...5, using: &numbers)) / 2 }
        let filters: [(topP: Float, topK: Int, minP: Float)] = [
            (1, 3, 0), (1, 10, 0), (0.5, 0, 0), (0.85, 0, 0), (1, 0, 0.3), (0.7, 9, 0.2), (0, 0, 0), (1, 1, 0),
            (1, 24, 0), (1, 99, 0), (0.999, 0, 0),
        ]
        for (topP, topK, minP) in filters {
            let row = SamplingRow(temperature: 1, topP: topP, topK: topK, minP: minP, seed: 9)
            var expected = Set(ConformanceCase.survivors(logits, row).keys)
            if topP == 0 { expected = [logits.firstIndex(of: logits.max() ?? 0) ?? 0] }
            let drawn = Set(try draws(backend, logits, row, count: 4000).keys)
            #expect(drawn == expected, "top-p \(topP), top-k \(topK), min-p \(minP)")
        }
    }

    @Test(arguments: instructionSets)
    func `over a large vocabulary draws stay among the tokens a sort would keep`(
        _ instructionSet: CPUInstructionSet
    ) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        var numbers = SeededNumbers(15)
        // Rounded to quarters, so that the limits fall among equals.
        let logits = numbers.normals(20_011).map { ($0 * 12).rounded() / 4 }
        for (topP, topK, minP) in [(1, 5, 0), (0.6, 0, 0), (0.9, 0, 0.01), (0.8, 300, 0), (1, 5000, 0)]
            as [(Float, Int, Float)]
        {
            let row = SamplingRow(temperature: 0.9, topP: topP, topK: topK, minP: minP, seed: 2)
            let expected = ConformanceCase.survivors(logits, row)
            let drawn = Set(try draws(backend, logits, row, count: 2000).keys)
            #expect(drawn.isSubset(of: Set(expected.keys)), "top-p \(topP), top-k \(topK), min-p \(minP)")
            if topK == 5 { #expect(drawn == Set(expected.keys)) }
            // Whoever is likely enough to be drawn thirty times is drawn.
            #expect(expected.filter { $0.value > 30 / 2000 }.allSatisfy { drawn.contains($0.key) })
        }
    }

    @Test func `a draw depends on seed and position only`() throws {
        var numbers = SeededNumbers(6)
        let vocab = 5000, logits = numbers.normals(7 * vocab)
        let rows = (0..<7).map { SamplingRow(temperature: 1, topP: 0.95, topK: 100, seed: UInt64($0), position: 40) }
        let results = try (1...3).map { threads in
            let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: threads)
            return try sample(backend, logits, vocab: vocab, rows).tokens
        }
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 2)
        let alone = try rows.indices.map {
            try sample(backend, Array(logits[$0 * vocab..<($0 + 1) * vocab]), vocab: vocab, [rows[$0]]).tokens[0]
        }
        #expect(results.allSatisfy { $0 == alone })
    }

    @Test(arguments: instructionSets)
    func `log-probabilities are raw, alternatives best first with ties by id`(
        _ instructionSet: CPUInstructionSet
    ) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        var numbers = SeededNumbers(8)
        let vocab = 3001
        var logits = numbers.normals(vocab).map { $0 * 4 }
        for i in stride(from: 100, to: 400, by: 50) { logits[i] = 20 }
        let result = try sample(
            backend, logits, vocab: vocab, [SamplingRow(temperature: 0.3, topK: 3, seed: 4, logprobCount: 20)])
        let highest = Double(logits.max() ?? 0)
        let logSum = highest + log(logits.reduce(0.0) { $0 + exp(Double($1) - highest) })
        #expect(abs(Double(result.logprobs[0]) - (Double(logits[Int(result.tokens[0])]) - logSum)) < 2e-6)
        let ranked = logits.indices.sorted { logits[$0] > logits[$1] || (logits[$0] == logits[$1] && $0 < $1) }
        #expect(result.alternativeTokens.prefix(20).map(Int.init) == Array(ranked.prefix(20)))
        for i in 0..<20 {
            #expect(abs(Double(result.alternativeLogprobs[i]) - (Double(logits[ranked[i]]) - logSum)) < 4e-6)
        }
    }

    @Test(arguments: instructionSets)
    func `rows with a NaN or without a finite logit are reported and harm no other`(
        _ instructionSet: CPUInstructionSet
    ) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        let vocab = 37
        var logits = [Float](repeating: 0, count: 5 * vocab)
        logits[36] = .nan
        for i in vocab..<2 * vocab { logits[i] = -.infinity }
        for i in 2 * vocab..<3 * vocab where i != 2 * vocab + 30 { logits[i] = -.infinity }
        logits[3 * vocab + 3] = .infinity
        let rows = Array(repeating: SamplingRow(temperature: 1, seed: 3, logprobCount: 2), count: 5)
        let result = try sample(backend, logits, vocab: vocab, rows)
        #expect(result.isFinite == [false, false, true, false, true])
        #expect(result.tokens[2] == 30 && result.logprobs[2] == 0)
    }

    @Test func `extreme temperatures and filters still choose`() throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 1)
        var numbers = SeededNumbers(10)
        let vocab = 49_152, logits = numbers.normals(vocab).map { $0 * 5 }
        let best = Int32(logits.firstIndex(of: logits.max() ?? 0) ?? 0)
        for temperature: Float in [1e-30, 1e-4] {
            let row = SamplingRow(temperature: temperature, topP: 0.9, topK: 50, minP: 0.1, seed: 1)
            #expect(try sample(backend, logits, vocab: vocab, [row]).tokens[0] == best)
        }
        let flat = SamplingRow(temperature: 1e30, topP: 0.5, topK: 40_000, seed: 1)
        let token = try sample(backend, logits, vocab: vocab, [flat]).tokens[0]
        #expect((0..<Int32(vocab)).contains(token))
    }
}
