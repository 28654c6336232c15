// Keys and values in 8 bits on the emulated device: what they take, what is not finite, and what is refused. That
// attention over them is right is for the conformance cases.

import CUDABackend
import CUDAEmulator
import CUDAKernels
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct ByteCacheTests {
        static let types = [KVCacheType.fp8, .int8PerTokenHead]

        init() { cuda_emulator_reset() }

        @Test(arguments: types)
        func `a token takes a byte for each element, and a scale for each head's key and value`(
            type: KVCacheType
        ) throws {
            let backend = try EmulatedDevice.backend()
            for (kvHeads, headDim) in [(3, 64), (1, 80), (8, 128)] {
                let bytes = try backend.kvBytesPerToken(kvHeads: kvHeads, headDim: headDim, type: type)
                #expect(bytes == 2 * kvHeads * (headDim + 4))
                let before = cuda_emulator_live_bytes()
                let layer = try backend.allocateKVLayer(
                    blockCount: 5, kvHeads: kvHeads, blockSize: 32, headDim: headDim, type: type)
                #expect(cuda_emulator_live_bytes() - before == UInt64(5 * 32 * bytes))
                #expect(layer.type == type)
            }
        }

        @Test func `a device has bf16 and 8 bits, and says so`() throws {
            let backend = try EmulatedDevice.backend()
            #expect(try backend.kvCacheType(.auto) == .bfloat16)
            #expect(
                throws: BackendError.unsupported(
                    operation: "a KV cache of float32 on a GPU", reason: "it has bfloat16, fp8 and int8_per_token_head")
            ) { try backend.kvCacheType(.float32) }
        }

        @Test(arguments: types)
        func `what is not finite stays visible, zeros are zeros, and nobody else sees either`(type: KVCacheType) throws
        {
            let backend = try EmulatedDevice.backend()
            for (bad, isKey) in [(Float.nan, true), (.nan, false), (.infinity, true), (-.infinity, false), (0, true)] {
                var rows = [Float](repeating: bad == 0 ? 0 : 1, count: 2 * 192)
                rows[(isKey ? 64 : 128) + 3] = bad
                // Two sequences of one token, the first of which is bad.
                let result = try attend(backend, rows, type)
                if bad == 0 {
                    #expect(result.allSatisfy { $0 == 0 })
                } else {
                    #expect(result[..<64].contains { !$0.isFinite })
                    #expect(result[64...].allSatisfy { abs($0 - 1) < 0.01 })
                }
            }
        }

        /// [2, 64] The tokens' outputs, each alone in its sequence.
        private func attend(_ backend: CUDABackend, _ rows: [Float], _ type: KVCacheType) throws -> [Float] {
            let cache = try backend.allocateKVLayer(blockCount: 2, kvHeads: 1, blockSize: 16, headDim: 64, type: type)
            func integers(_ values: [Int32], _ shape: Shape) throws -> Tensor {
                let tensor = try backend.allocate(shape, .i32, purpose: "a test")
                backend.upload(values, count: values.count, to: tensor)
                return tensor
            }
            let x = try backend.allocate([2, 192], .f32, purpose: "a test")
            backend.upload(rows, to: x)
            let slots = try integers([0, 16], [2])
            backend.storeKV(x, keyOffset: 64, valueOffset: 128, kvHeads: 1, headDim: 64, slots: slots, cache: cache)
            let batch = AttentionBatch(
                tokenCount: 2, sequenceCount: 2, maxQueryLength: 1, maxContextLength: 1,
                queryStarts: try integers([0, 1, 2], [3]), contextLengths: try integers([1, 1], [2]),
                blockTables: try integers([0, 1], [2, 1]), slotMapping: slots, positions: try integers([0, 0], [2]))
            let output = try backend.allocate([2, 64], .bf16, purpose: "a test")
            backend.attend(x, heads: 1, kvHeads: 1, headDim: 64, scale: 1, cache: cache, batch: batch, into: output)
            try backend.synchronize()
            return backend.download(output)
        }

        @Test func `prefill in 8 bits fits the devices that have it in bf16, but for heads of 256 on small ones`() {
            for type in [CUDA_KV_E4M3, CUDA_KV_INT8] {
                for (headDim, limit) in [(64, 99), (80, 99), (96, 99), (128, 99), (256, 163)] as [(Int32, UInt32)] {
                    var arguments = cuda_attend_arguments()
                    (arguments.batch.heads, arguments.batch.kv_heads, arguments.batch.head_dim) = (1, 1, headDim)
                    (arguments.batch.token_count, arguments.multiprocessors) = (64, 4)
                    (arguments.cache.block_size, arguments.cache.type) = (16, Int32(type))
                    arguments.batch.sequence_count = 1
                    let launch = unsafe cuda_attend_prefill_launch(&arguments)
                    // A kilobyte is left for what the kernel has of its own.
                    #expect(launch.shared_bytes + 1024 <= limit * 1024, "\(headDim)")
                }
            }
        }
    }
}
