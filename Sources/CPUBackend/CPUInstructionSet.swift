// The instruction sets the CPU kernels are compiled for, and which of them this machine has.

import CPUKernels

/// An instruction set of the CPU kernels; the raw value is its spelling in flags and reports.
package enum CPUInstructionSet: String, Sendable, CaseIterable {
    /// The same with dot products of bf16, for attention and bf16 weights.
    case avx512BF16 = "avx512-bf16"
    /// AVX-512 with VNNI: 16 rows at a time, four 8-bit products to a lane.
    case avx512
    /// AVX2 with FMA and F16C: 8 rows at a time.
    case avx2
    /// No more than the architecture guarantees.
    case portable
    /// AVX-512's data layout and code over plain vector expressions: slow, for tests on machines without AVX-512.
    case avx512Emulated = "avx512-emulated"

    /// Those this machine can run, best first; the emulation is not among them.
    package static var available: [CPUInstructionSet] {
        [.avx512BF16, .avx512, .avx2, .portable].filter(\.isAvailable)
    }

    /// Whether this machine can run it.
    package var isAvailable: Bool { cpu_isa_available(Int32(identifier)) }

    /// Its number in the C interface.
    var identifier: Int {
        switch self {
        case .avx512BF16: CPU_AVX512_BF16
        case .avx512: CPU_AVX512
        case .avx2: CPU_AVX2
        case .portable: CPU_PORTABLE
        case .avx512Emulated: CPU_AVX512_EMULATED
        }
    }
}
