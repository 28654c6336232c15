// Every operation of the CUDA backend on the emulated device, by the cases that a real GPU is checked with.

import CUDAEmulator
import Conformance
import Testing

extension ConformanceCase: CustomTestStringConvertible {
    public var testDescription: String { name }
}

@Suite(.serialized)
struct ConformanceTests {
    @Test(arguments: ConformanceCase.all)
    func `an operation is right on the emulated device`(_ check: ConformanceCase) throws {
        let worst = try check.worstError(EmulatedDevice.backend())
        #expect(worst <= 1, "\(check.name)")
    }
}
