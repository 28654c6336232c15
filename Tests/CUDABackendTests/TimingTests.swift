// Times are the device's: what is captured is launched as a graph once a round, and everything ran before.

import CUDABackend
import CUDAEmulator
import Tensors
import Testing

@Suite(.serialized)
struct TimingTests {
    @Test(arguments: [true, false])
    func `every round is timed, and captured rounds are replayed`(isCaptured: Bool) throws {
        let backend = try EmulatedDevice.backend()
        let x = try backend.allocate([4, 64], .f32, purpose: "a test")
        backend.upload([Float](repeating: 1, count: 256), to: x)
        let output = try backend.allocate([4, 32], .bf16, purpose: "a test")
        let before = EmulatedDevice.calls("graph_launch")
        let launches = EmulatedDevice.calls("launch")
        let times = try backend.time(rounds: 5, isCaptured: isCaptured) {
            for _ in 0..<3 { backend.gate(x, into: output) }
        }
        #expect(times.count == 5)
        #expect(times.allSatisfy { $0 >= .zero } && times.contains { $0 > .zero })
        #expect(EmulatedDevice.calls("graph_launch") - before == (isCaptured ? 5 : 0))
        // Once for nothing, then five rounds or one capture.
        #expect(EmulatedDevice.calls("launch") - launches == (isCaptured ? 2 : 6) * 3)
    }

    @Test func `a device that fails while it is timed says so`() throws {
        let backend = try EmulatedDevice.backend()
        let x = try backend.allocate([1, 64], .f32, purpose: "a test")
        let output = try backend.allocate([1, 32], .bf16, purpose: "a test")
        #expect(unsafe cuda_emulator_fail("event_synchronize", 1, 700))
        let failed = #expect(throws: BackendError.self) {
            _ = try backend.time(rounds: 3, isCaptured: true) { backend.gate(x, into: output) }
        }
        #expect(failed?.description.contains("a measurement") == true)
        cuda_emulator_reset()
    }
}
