// Devices differ in how much shared memory a block may have. Kernels make do with less, and compute the same bits.

import CUDABackend
import CUDAEmulator
import CUDAKernels
import Conformance
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct SharedMemoryTests {
        static let types: [DType] = [
            .f32, .f16, .bf16, .q8_0, .q4_0, .q4_1, .q4_k, .q5_k, .q6_k, .int4, .int8, .mxfp4, .e4m3,
        ]

        init() { cuda_emulator_reset() }

        @Test func `every launch of a product fits the device`() {
            for format in 0..<Int32(CUDA_WEIGHT_FORMAT_COUNT) {
                for tokens in [1, 8, 9, 16, 17, 32, 33, 64, 65, 1000] as [Int32] {
                    // What A100 and H200 give a block, and what most others do.
                    for limit in [163 * 1024, 227 * 1024, Int32(EmulatedDevice.smallSharedBytes)] as [Int32] {
                        var arguments = cuda_linear_arguments()
                        (arguments.matrix.format, arguments.matrix.rows) = (format, 1000)
                        (arguments.token_count, arguments.shared_limit) = (tokens, limit)
                        let launch = unsafe withUnsafePointer(to: arguments) { unsafe cuda_linear_launch($0) }
                        #expect(launch.shared_bytes <= limit, "format \(format), \(tokens) tokens")
                        #expect(launch.shared_bytes > 40 * 1024, "format \(format), \(tokens) tokens")
                    }
                }
            }
        }

        @Test(arguments: types)
        func `products are the same bits with rings of fewer stages`(dtype: DType) throws {
            let large = try products(dtype)
            let small = try EmulatedDevice.configured(sharedBytes: EmulatedDevice.smallSharedBytes) {
                try products(dtype)
            }
            #expect(small == large)
        }

        /// Products with so many columns that rings go round several times, for each kernel of a format.
        private func products(_ dtype: DType) throws -> [UInt32] {
            let (rows, columns) = (48, dtype.blockElementCount == 256 ? 2304 : 2112)
            var use = KernelUse()
            use.takesHopper = false
            let backend = try EmulatedDevice.backend(use: use)
            let weight = try backend.prepare([EncodedMatrix(dtype, rows: rows, columns: columns, seed: 5).tensor])
            return try [5, 12, 30, 60, 70].flatMap { tokens in
                var numbers = SeededNumbers(UInt64(tokens))
                let x = try backend.allocate([tokens, columns], .bf16, purpose: "a test")
                backend.upload(numbers.normals(tokens * columns), to: x)
                let output = try backend.allocate([tokens, rows], .f32, purpose: "a test")
                backend.linear(x, weight, into: output, mode: .overwrite)
                try backend.synchronize()
                return backend.download(output).map(\.bitPattern)
            }
        }

        @Test func `heads whose attention does not fit the device are refused while loading`() throws {
            try EmulatedDevice.configured(sharedBytes: EmulatedDevice.smallSharedBytes) {
                let backend = try EmulatedDevice.backend()
                for headDim in [64, 80, 96, 128] {
                    _ = try backend.allocateKVLayer(blockCount: 1, kvHeads: 1, blockSize: 16, headDim: headDim)
                }
                #expect {
                    _ = try backend.allocateKVLayer(blockCount: 1, kvHeads: 1, blockSize: 16, headDim: 256)
                } throws: {
                    "\($0)" == "This backend cannot perform attention heads of 256 on Emulated device: "
                        + "they take 131072 bytes of shared memory, and it gives a block 101376."
                }
            }
        }

        @Test func `a kernel is given more shared memory once, and then all that blocks may share`() throws {
            let backend = try EmulatedDevice.backend()
            let before = EmulatedDevice.calls("function_set_attribute")
            let weight = try backend.prepare([EncodedMatrix(.bf16, rows: 16, columns: 64, seed: 1).tensor])
            let x = try backend.allocate([1, 64], .bf16, purpose: "a test")
            let output = try backend.allocate([1, 16], .f32, purpose: "a test")
            for _ in 0..<3 { backend.linear(x, weight, into: output, mode: .overwrite) }
            try backend.synchronize()
            #expect(EmulatedDevice.calls("function_set_attribute") == before + 2)
        }
    }
}
