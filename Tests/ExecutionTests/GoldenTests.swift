// The exact path against the reference implementation, and the fast path against the exact one.

import CPUBackend
import Execution
import Foundation
import Models
import Scheduling
import Tensors
import TestSupport
import Testing

@Suite(.serialized) struct GoldenTests {
    @Test func `in 32-bit floats, greedy tokens are those of the reference implementation`() async throws {
        let engine = try await RealModel.engine(BackendOptions(precision: .float32))
        let goldens = try GoldenCompletions.smollm2().completions
        #expect(goldens.count == 5)
        for golden in goldens {
            let generation = try await engine.generate(
                [golden.prompt_ids], maxNewTokens: golden.output_ids.count, stopTokens: [2])[0]
            #expect(generation.tokens == golden.output_ids, "prompt: \(golden.prompt)")
        }
        await engine.drain(timeout: .seconds(5))
    }

    /// Teacher-forced over the golden texts: what each path says of every next token.
    @Test(arguments: CPUInstructionSet.available)
    func `the default path stays within 0.05 nat and 97 percent of the exact one`(_ set: CPUInstructionSet) throws {
        let (mean, agreement) = try distance(BackendOptions(instructionSet: set), .auto, "\(set)")
        #expect(mean <= 0.05)
        #expect(agreement >= 0.97)
    }

    /// With exact weights and activations what is left is the cache's own rounding; then both together.
    @Test func `8-bit keys and values move the exact path by less than 0.02 nat, the default one by little`() throws {
        let type = KVCacheType.int8PerTokenHead
        let alone = try distance(BackendOptions(precision: .float32), type, "float32 but for 8-bit keys and values")
        #expect(alone.mean <= 0.02 && alone.agreement >= 0.98)
        let both = try distance(BackendOptions(), type, "the default path with 8-bit keys and values")
        #expect(both.mean <= 0.05 && both.agreement >= 0.97)
    }

    /// Mean |Δ log-probability| of the texts' tokens against the exact path, and how often both prefer the same token.
    private func distance(
        _ options: BackendOptions, _ type: KVCacheType, _ name: String
    ) throws -> (mean: Double, agreement: Double) {
        let texts = try GoldenCompletions.smollm2().completions.map { $0.prompt_ids + $0.output_ids }
        let capacity = StepCapacity(tokens: 64, sampledRows: 64)
        let exact = try DirectForward(
            RealModel.parts(BackendOptions(precision: .float32), capacity: capacity), capacity: 64)
        let fast = try DirectForward(RealModel.parts(options, capacity: capacity), capacity: 64, kvCacheType: type)
        var difference = 0.0
        var agreements = 0
        var positions = 0
        for text in texts {
            let (expected, actual) = (try exact.logprobs(text), try fast.logprobs(text))
            for position in 0..<text.count - 1 {
                let next = Int(text[position + 1])
                difference += abs(Double(expected[position][next] - actual[position][next]))
                agreements += expected[position].best == actual[position].best ? 1 : 0
                positions += 1
            }
        }
        let mean = difference / Double(positions)
        let agreement = Double(agreements) / Double(positions)
        print("\(name): mean |Δ logprob| \(mean) nat, top-1 agreement \(agreement) over \(positions) positions")
        return (mean, agreement)
    }
}

extension [Float] {
    /// Index of the largest element, the first among equals.
    fileprivate var best: Int { indices.max { self[$0] < self[$1] || (self[$0] == self[$1] && $0 > $1) } ?? 0 }
}
