// Every operation of the CUDA backend on the emulated device, by the cases that a real GPU is checked with.

import CUDAEmulator
import Conformance
import Testing

extension ConformanceCase: CustomTestStringConvertible {
    /// What the test report calls it.
    public var testDescription: String { name }
}

extension EmulatedDevice {
    @Suite(.serialized) struct ConformanceTests {
        init() { cuda_emulator_reset() }

        @Test(arguments: ConformanceCase.all, [0, 1, 2] as [UInt64])
        func `an operation is right on the emulated device, in any order of threads`(
            _ check: ConformanceCase, order: UInt64
        ) throws {
            cuda_emulator_set_order(order)
            defer { cuda_emulator_set_order(0) }
            let worst = try check.worstError(EmulatedDevice.backend())
            #expect(worst <= 1, "\(check.name), threads in order \(order)")
        }

        @Test(arguments: ConformanceCase.all.filter { $0.name.hasPrefix("linear") })
        func `products are right on a device with 99 KB of shared memory for a block`(_ check: ConformanceCase) throws {
            let worst = try EmulatedDevice.configured(sharedBytes: EmulatedDevice.smallSharedBytes) {
                try check.worstError(EmulatedDevice.backend())
            }
            #expect(worst <= 1, "\(check.name)")
        }
    }
}
