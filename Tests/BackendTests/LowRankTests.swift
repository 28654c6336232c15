// What adapters add to rows, in every instruction set, alone and as part of a step.

import CPUBackend
import Conformance
import Tensors
import Testing

struct LowRankTests {
    @Test(arguments: CPUInstructionSet.available, [1, 3])
    func `adapters' changes are right in every instruction set`(_ set: CPUInstructionSet, threads: Int) throws {
        for check in ConformanceCase.lowRankCases {
            let backend = try CPUBackend(precision: .auto, instructionSet: set, threads: threads)
            #expect(try check.worstError(backend) <= 1, "\(check.name)")
        }
    }

    @Test func `a step gives what its operations give one by one`() throws {
        var results: [[Float]] = []
        for (threads, isWhole) in [(1, false), (2, true), (4, true)] {
            let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: threads)
            var numbers = SeededNumbers(8)
            let weight = try backend.prepare([EncodedMatrix(.q8_0, rows: 96, columns: 64, seed: 1).tensor])
            let x = try backend.tensor(numbers.normals(40 * 64), [40, 64])
            let output = try backend.allocate([40, 96], .f32, purpose: "a test")
            let deltas = LowRankDeltas(
                maxRank: 4, down: try backend.tensor(numbers.normals(8 * 64), [8, 64]),
                up: try backend.tensor(numbers.normals(8 * 32), [8, 32]), ranks: try backend.tensor([4, 2] as [Int32]),
                firstColumn: 32)
            let choices = try backend.tensor((0..<40).map { Int32($0 / 7 % 3) - 1 })
            let operations = {
                backend.linear(x, weight, into: output, mode: .overwrite)
                backend.addLowRank(x, deltas, choices: choices, into: output)
            }
            let shape = StepShape(tokenCount: 40, sequenceCount: 1, sampledRowCount: 1, isDecodeOnly: false)
            if isWhole { backend.perform(shape, operations) } else { operations() }
            try backend.synchronize()
            results.append(backend.download(output))
        }
        #expect(results[0] == results[1] && results[0] == results[2])
    }
}
