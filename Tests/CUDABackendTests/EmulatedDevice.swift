// A backend on the emulated device, and steps of a tiny model on it.

import CUDABackend
import CUDADriver
import CUDAEmulator
import Tensors
import Testing

/// Backends on the emulator: the same Swift code as on a GPU, over a driver that runs the kernels on the host. There is
/// one device for the whole process, so that whatever uses it is a suite inside and takes its turn.
@Suite(.serialized) enum EmulatedDevice {
    /// What the emulator takes for compiled kernels.
    static let kernels = KernelImages(
        origin: "the emulator", images: [(name: "emulated", bytes: Array("EMULATED".utf8))])

    /// The driver's calls, for tests that replace some.
    static var calls: cuda_driver {
        guard let calls = unsafe cuda_emulator_driver() else { preconditionFailure("the emulator has no driver") }
        return unsafe calls.pointee
    }

    static func driver() -> Driver { Driver(calls) }

    /// How often a member of the driver was called so far.
    static func calls(_ name: String) -> Int64 { unsafe cuda_emulator_calls(name) }

    /// What a block has on most devices for desktops: compute capability 8.6, 8.9 and 12.0.
    static let smallSharedBytes: UInt32 = 99 * 1024

    /// Does `body` on a new device like this, and leaves one as at first.
    static func configured<Result>(
        memoryBytes: UInt64 = 1 << 30, sharedBytes: UInt32 = UInt32(CUDA_EMULATOR_SHARED_BYTES),
        _ body: () throws -> Result
    ) rethrows -> Result {
        cuda_emulator_reset()
        cuda_emulator_configure(4, memoryBytes, sharedBytes)
        defer { cuda_emulator_reset() }
        return try body()
    }

    static func backend(
        use: KernelUse = KernelUse(), _ adjust: (inout CUDABackend.Options) -> Void = { _ in }
    ) throws -> CUDABackend {
        var options = CUDABackend.Options()
        options.stagingBytes = 1 << 16
        adjust(&options)
        var kernels = kernels
        kernels.use = use
        return try CUDABackend(options, driver: driver(), kernels: kernels)
    }
}
