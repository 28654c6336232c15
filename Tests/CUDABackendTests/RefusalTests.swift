// What cannot be used is refused with a sentence that says what to do: devices, drivers, kernels and weights that do not
// fit. The emulated driver is told to fail, or one of its calls is replaced.

import CUDABackend
import CUDADriver
import CUDAEmulator
import Conformance
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct RefusalTests {
        init() { cuda_emulator_reset() }

        private func sentence(_ body: () throws -> Void) -> String {
            do { try body() } catch { return "\(error)" }
            return "nothing was refused"
        }

        // MARK: Devices

        /// A driver with three devices, the UUIDs of which begin with 10203000, 10203040 and a0203040.
        private func threeDevices() -> Driver {
            var calls = EmulatedDevice.calls
            unsafe calls.device_count = { count in
                unsafe count?.pointee = 3
                return 0
            }
            unsafe calls.device_get = { device, ordinal in
                unsafe device?.pointee = ordinal
                return 0
            }
            unsafe calls.device_name = { name, capacity, _ in
                unsafe EmulatedDevice.calls.device_name(name, capacity, 0)
            }
            unsafe calls.device_attribute = { value, attribute, _ in
                unsafe EmulatedDevice.calls.device_attribute(value, attribute, 0)
            }
            unsafe calls.device_uuid = { uuid, device in
                guard let uuid = unsafe uuid else { return 1 }
                for index in 0..<16 { unsafe uuid[index] = UInt8(truncatingIfNeeded: (index + 1) << 4) }
                if device == 0 { unsafe uuid[3] = 0 }
                if device == 2 { unsafe uuid[0] = 0xA0 }
                unsafe (uuid[1], uuid[2]) = (0x20, 0x30)
                return 0
            }
            return Driver(calls)
        }

        @Test func `a device is chosen by its number`() throws {
            let driver = threeDevices()
            #expect(try Device.look(.first, driver: driver).ordinal == 0)
            for ordinal in 0..<3 { #expect(try Device.look(.ordinal(ordinal), driver: driver).ordinal == ordinal) }
            for ordinal in [3, -1] {
                #expect(
                    sentence { _ = try Device.look(.ordinal(ordinal), driver: driver) }
                        == "This backend cannot perform CUDA device \(ordinal): "
                        + "the driver shows 3, numbered from 0.")
            }
        }

        @Test func `a device or an instance of one is chosen by as much of its UUID as it takes`() throws {
            let driver = threeDevices()
            for (text, ordinal) in [
                ("GPU-10203000", 0), ("MIG-10203040", 1), ("1020304", 1), ("gpu-A0", 2), ("mig-a", 2),
            ] {
                #expect(try Device.look(.uuid(text), driver: driver).ordinal == ordinal, "\(text)")
            }
            let shown =
                "the driver shows 10203000-5060-7080-90a0-b0c0d0e0f000 (Emulated device), "
                + "10203040-5060-7080-90a0-b0c0d0e0f000 (Emulated device), "
                + "a0203040-5060-7080-90a0-b0c0d0e0f000 (Emulated device)."
            for (text, found) in [
                ("GPU-10", "2 devices have"), ("MIG-7", "no device has"), ("GPU-", "no device has"),
            ] {
                #expect(
                    sentence { _ = try Device.look(.uuid(text), driver: driver) }
                        == "This backend cannot perform CUDA device \(text): \(found) that UUID; \(shown)")
            }
        }

        @Test func `a device older than Ampere is refused`() {
            var calls = EmulatedDevice.calls
            unsafe calls.device_attribute = { value, attribute, device in
                let result = unsafe EmulatedDevice.calls.device_attribute(value, attribute, device)
                if attribute == Int32(CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) { unsafe value?.pointee = 7 }
                if attribute == Int32(CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) { unsafe value?.pointee = 5 }
                return result
            }
            #expect(
                sentence { _ = try CUDABackend(.init(), driver: Driver(calls), kernels: EmulatedDevice.kernels) }
                    == "This backend cannot perform Emulated device: its compute capability is 7.5, "
                    + "and the kernels need 8.0 (Ampere) or later.")
        }

        // MARK: Drivers

        @Test func `a machine without a driver, or with one too old, is told so`() {
            let absent = sentence { _ = try Driver(library: "libnope.so") }
            #expect(
                absent.hasPrefix("This backend cannot perform CUDA: no usable NVIDIA driver was found (libnope.so: "))
            #expect(
                sentence { _ = try Driver(library: "libc.so.6") }
                    == "This backend cannot perform CUDA: no usable NVIDIA driver was found "
                    + "(libc.so.6 lacks cuInit; the driver is older than CUDA 12).")
        }

        @Test func `a driver that does not start, and one without devices, are refused`() {
            #expect(unsafe cuda_emulator_fail("init", 0, 100))
            #expect(
                sentence { _ = try EmulatedDevice.backend() }
                    == "This backend cannot perform CUDA: the driver did not start: "
                    + "CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected).")
            var calls = EmulatedDevice.calls
            unsafe calls.device_count = { count in
                unsafe count?.pointee = 0
                return 0
            }
            #expect(
                sentence { _ = try Device.look(.first, driver: Driver(calls)) }
                    == "This backend cannot perform CUDA: the driver shows no device.")
        }

        @Test(
            arguments: [
                "device_count", "context_retain", "context_set_current", "stream_create", "module_load",
                "module_function", "host_allocate", "event_create", "memory_allocate", "launch", "copy_to_host",
                "stream_synchronize",
            ])
        func `a start that fails anywhere is an error, and leaves nothing behind`(call: String) {
            #expect(unsafe cuda_emulator_fail(call, 0, 999))
            #expect(throws: BackendError.self) { _ = try EmulatedDevice.backend() }
            #expect(cuda_emulator_live_allocations() == 0)
        }

        // MARK: Kernels

        @Test func `kernels of another version are refused`() {
            var calls = EmulatedDevice.calls
            unsafe calls.copy_to_host = { target, address, byteCount, stream in
                let result = unsafe EmulatedDevice.calls.copy_to_host(target, address, byteCount, stream)
                if let target = unsafe target, byteCount == 8 {
                    unsafe target.storeBytes(of: 1 << 32, as: UInt64.self)
                }
                return result
            }
            #expect(
                sentence { _ = try CUDABackend(.init(), driver: Driver(calls), kernels: EmulatedDevice.kernels) }
                    == "This backend cannot perform the kernels in the emulator: "
                    + "they are of another version. Rebuild them with `make kernels`.")
            #expect(cuda_emulator_live_allocations() == 0)
        }

        @Test func `a kernel that is missing is named`() {
            var calls = EmulatedDevice.calls
            unsafe calls.module_function = { function, module, name in
                guard let name = unsafe name, unsafe String(cString: name) != "apus_gate" else { return 500 }
                return unsafe EmulatedDevice.calls.module_function(function, module, name)
            }
            #expect(
                sentence { _ = try CUDABackend(.init(), driver: Driver(calls), kernels: EmulatedDevice.kernels) }
                    == "This backend cannot perform the kernels in the emulator: "
                    + "apus_gate is missing; they are of another version. Rebuild them with `make kernels`.")
        }

        @Test func `what are no kernels is refused by name`() {
            let images = KernelImages(origin: "a folder", images: [(name: "linear.fatbin", bytes: Array("text".utf8))])
            #expect(
                sentence { _ = try CUDABackend(.init(), driver: EmulatedDevice.driver(), kernels: images) }
                    == "This backend cannot perform kernels of linear.fatbin: the driver refused them: "
                    + "CUDA_ERROR_INVALID_IMAGE (device kernel image is invalid). Rebuild them with `make kernels`.")
        }

        // MARK: Weights

        @Test func `a weight that does not fit names itself and its bytes`() throws {
            try EmulatedDevice.configured(memoryBytes: 8 << 20) {
                let backend = try EmulatedDevice.backend()
                let free = try backend.memory().free
                let rows = free / (64 * 2) / 16 * 16
                let matrix = EncodedMatrix(.bf16, rows: rows + 16, columns: 64, seed: 1)
                #expect(
                    sentence { _ = try backend.prepare([matrix.tensor]) }
                        == "Could not allocate \((rows + 16) * 64 * 2) bytes for check.bf16. "
                        + "Lower --kv-cache-memory-bytes or --max-num-batched-tokens.")
                // It is not the device that failed: what fits still loads and computes.
                #expect(try backend.memory().free == free)
                _ = try backend.prepare([EncodedMatrix(.bf16, rows: 16, columns: 64, seed: 1).tensor])
                try backend.synchronize()
            }
        }

        @Test func `the scales of a weight that do not fit give back its data`() throws {
            let backend = try EmulatedDevice.backend()
            let free = try backend.memory().free
            let matrix = EncodedMatrix(.q8_0, rows: 32, columns: 64, seed: 1)
            #expect(unsafe cuda_emulator_fail("memory_allocate", 1, 2))
            #expect(
                sentence { _ = try backend.prepare([matrix.tensor]) }
                    == "Could not allocate 128 bytes for check.q8_0. "
                    + "Lower --kv-cache-memory-bytes or --max-num-batched-tokens.")
            #expect(try backend.memory().free == free)
        }
    }
}
