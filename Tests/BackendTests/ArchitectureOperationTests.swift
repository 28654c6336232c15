// What architectures other than Llama need, on every instruction set: against f64, and in recorded steps.

import CPUBackend
import Conformance
import Foundation
import Tensors
import Testing

private let cases = ConformanceCase.all.filter { check in
    [
        "rmsNorm adds", "normalizeHeads", "addBias", "apply", "gate by", "gate with", "rotate multiplies",
        "attention over a window", "attention with",
    ].contains { check.name.hasPrefix($0) }
}

struct ArchitectureOperationTests {
    @Test(arguments: instructionSets)
    func `operations of every architecture agree with f64`(_ instructionSet: CPUInstructionSet) throws {
        #expect(cases.count == 19)
        for check in cases {
            let backend = try CPUBackend(precision: .float32, instructionSet: instructionSet, threads: 2)
            let worst = try check.worstError(backend)
            #expect(worst <= 1, "\(check.name)")
        }
    }

    @Test(arguments: instructionSets)
    func `windows change no bit over a bf16 cache either`(_ instructionSet: CPUInstructionSet) throws {
        for check in cases where check.name.contains("same bits") {
            for threads in 1...3 {
                let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: threads)
                let worst = try check.worstError(backend)
                #expect(worst <= 1, "\(check.name), \(threads) threads")
            }
        }
    }
}
