// The machine's limits: measured on every instruction set, and in the order that instruction sets promise.

import CPUBackend
import Tensors
import Testing

@Test(arguments: CPUInstructionSet.available)
func `limits are measured on every instruction set`(_ instructionSet: CPUInstructionSet) throws {
    let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 1)
    #expect(try backend.readBandwidth(byteCount: 1 << 20, duration: .milliseconds(5)) > 1e8)
    // Less than a step of the reader is rounded up, not divided by.
    #expect(try backend.readBandwidth(byteCount: 1, duration: .zero) > 1e8)
    #expect(try #require(backend.productRate(.int8, duration: .milliseconds(5))) > 1e8)
    #expect(try #require(backend.productRate(.f32, duration: .milliseconds(5))) > 1e8)
    #expect((backend.productRate(.bf16, duration: .zero) != nil) == (instructionSet == .avx512BF16))
}

@Test func `products of 8 bits are faster than of 32 on a native instruction set`() throws {
    guard let best = CPUInstructionSet.available.first, best != .portable else { return }
    let backend = try CPUBackend(precision: .auto, instructionSet: best, threads: 1)
    let narrow = try #require(backend.productRate(.int8, duration: .milliseconds(20)))
    let wide = try #require(backend.productRate(.f32, duration: .milliseconds(20)))
    #expect(narrow > 1.3 * wide)
}
