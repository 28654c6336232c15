// The backend as a whole: what it can be asked for, what it refuses, and its worker pool under stress.

import CPUBackend
import CPUKernels
import Foundation
import Tensors
import Testing

struct CPUBackendTests {
    @Test func `the best instruction set of the machine is chosen, others on request`() throws {
        let best = try CPUBackend(precision: .auto, instructionSet: nil, threads: 1)
        #expect(best.instructionSet == CPUInstructionSet.available[0])
        let portable = try CPUBackend(precision: .auto, instructionSet: .portable, threads: 2)
        #expect(portable.summary == "CPU, portable, 2 threads")
    }

    @Test(.enabled(if: !CPUInstructionSet.avx512.isAvailable))
    func `an instruction set the machine lacks is refused with those it has`() {
        let names = CPUInstructionSet.available.map(\.rawValue).joined(separator: ", ")
        #expect(
            throws: BackendError.unsupported(
                operation: "avx512 kernels", reason: "this machine has only \(names)")
        ) {
            try CPUBackend(precision: .auto, instructionSet: .avx512, threads: 1)
        }
    }

    @Test(arguments: [0, -1, CPUBackend.maxThreads + 1])
    func `a number of threads outside the limits is refused`(_ threads: Int) {
        #expect(
            throws: BackendError.unsupported(
                operation: "\(threads) threads", reason: "the number of threads is 1 to 512")
        ) {
            try CPUBackend(precision: .auto, instructionSet: nil, threads: threads)
        }
    }

    @Test func `an allocation that cannot be had says so`() throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 1)
        #expect(throws: BackendError.outOfMemory(byteCount: 1 << 60, purpose: "a test")) {
            try backend.allocate([1 << 58], .f32, purpose: "a test")
        }
    }

    @Test func `allocated memory is zero`() throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 1)
        let tensor = try backend.allocate([3, 1000], .f32, purpose: "a test")
        #expect(backend.download(tensor).allSatisfy { $0 == 0 })
    }
}

struct WorkerPoolTests {
    @Test(arguments: 1...4)
    func `every thread takes part in every run, spinning or parked`(_ threads: Int) throws {
        guard let context = unsafe cpu_context_create(Int32(CPU_PORTABLE), Int32(threads)) else {
            Issue.record("no context")
            return
        }
        defer { unsafe cpu_context_destroy(context) }
        var visits = [Int64](repeating: 0, count: threads)
        // More threads than cores take turns, a time slice each.
        let runs = threads <= 2 ? 10_000 : 1000
        for run in 0..<runs {
            unsafe cpu_visit(context, &visits)
            // Now and then the workers are left to fall asleep.
            if run % 100 == 0 { usleep(500) }
        }
        #expect(visits == [Int64](repeating: Int64(runs), count: threads))
    }

    @Test func `pools come and go`() throws {
        for _ in 0..<100 {
            guard let context = unsafe cpu_context_create(Int32(CPU_PORTABLE), 4) else {
                Issue.record("no context")
                return
            }
            unsafe cpu_context_destroy(context)
        }
    }
}
