// A backend on the emulated device, and steps of a tiny model on it.

import CUDABackend
import CUDADriver
import CUDAEmulator
import Tensors

/// Backends on the emulator: the same Swift code as on a GPU, over a driver that runs the kernels on the host.
enum EmulatedDevice {
    /// What the emulator takes for compiled kernels.
    static let kernels = KernelImages(origin: "the emulator", images: [(name: "emulated", bytes: Array("EMULATED".utf8))])

    static func driver() -> Driver {
        guard let calls = unsafe cuda_emulator_driver() else { preconditionFailure("the emulator has no driver") }
        return unsafe Driver(calls.pointee)
    }

    /// How often a member of the driver was called so far.
    static func calls(_ name: String) -> Int64 { unsafe cuda_emulator_calls(name) }

    static func backend(_ adjust: (inout CUDABackend.Options) -> Void = { _ in }) throws -> CUDABackend {
        var options = CUDABackend.Options()
        options.stagingBytes = 1 << 16
        adjust(&options)
        return try CUDABackend(options, driver: driver(), kernels: kernels)
    }
}
