// Blocks that work in pairs: what the emulator makes of them, with mistakes that have to show; and the products that use
// them, by each width of tiles.

import CUDADriver
import CUDAEmulator
import CUDAKernels
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct PairTests {
        init() { cuda_emulator_reset() }

        @Test(arguments: [0, 1, 2, 3, 4, 5, 6] as [UInt64])
        func `blocks of a pair each copy half of a box for both`(order: UInt64) throws {
            let seen = try #require(try copyInPairs(order: order))
            let boxes = (0..<2 * 16 * 64).map {
                UInt16(HopperTests.right[($0 / 64 + 4) * 72 + $0 % 64].bitPattern >> 16)
            }
            #expect(seen == boxes + boxes)
        }

        @Test(arguments: [1, 2, 5] as [Int32], [0, 1, 2, 3] as [UInt64])
        func `a pair of blocks that does not wait for each other ends the launch`(variant: Int32, order: UInt64) throws
        {
            #expect(try copyInPairs(variant: variant, order: order) == nil)
        }

        @Test(arguments: [3, 4] as [Int32])
        func `a box that lands too early, or is read too early, shows`(variant: Int32) throws {
            let right = try #require(try copyInPairs())
            #expect(try copyInPairs(variant: variant) != right)
        }

        @Test(arguments: [(3, 5), (6, 7), (132, 0)] as [(Int32, UInt64)])
        func `every width of tiles gives the same bits, however they end`(multiprocessors: Int32, order: UInt64) throws
        {
            // Two pairs of tiles of rows, the last empty; slices of no unit, of one and of two; up to four tiles of tokens.
            for columns in [64, 456] {
                let product = WideProduct(rows: 352, columns: columns, tokens: 390)
                for ending in columns == 64 ? [.stored] : WideProduct.Ending.allCases {
                    let bits = try (3...8).map { variant in
                        try #require(try product.run(variant, multiprocessors, ending, order: order))
                    }
                    #expect(bits.allSatisfy { $0 == bits[0] }, "\(columns) columns, \(ending)")
                    #expect(bits[0] != product.before.map(\.bitPattern))
                }
            }
        }

        /// [block 2][box 2][16 × 64], or nil if the launch failed.
        private func copyInPairs(variant: Int32 = 0, order: UInt64 = 0) throws -> [UInt16]? {
            let matrix = HopperTests.right.map { UInt16($0.bitPattern >> 16) }
            let memory = UnsafeMutableRawPointer.allocate(byteCount: 1 << 16, alignment: 64)
            defer { unsafe memory.deallocate() }
            unsafe matrix.withUnsafeBytes { bytes in
                let place = unsafe UnsafeMutableRawBufferPointer(start: memory + 128, count: bytes.count)
                unsafe place.copyMemory(from: bytes)
            }
            let described = unsafe EmulatedDevice.calls.tensor_map_encode(
                memory, Int32(CUDA_TENSOR_MAP_BF16), 2, memory + 128, [72, 200], [144], [64, 8], [1, 1], 0,
                Int32(CUDA_TENSOR_MAP_SWIZZLE_128), 0, 0)
            try #require(described == 0)
            var arguments = cuda_hopper_example_arguments()
            (arguments.row, arguments.variant) = (4, variant)
            arguments.b = unsafe memory.load(as: cuda_tensor_map.self)
            var output = [UInt16](repeating: 0, count: 4 * 1024)
            let result = unsafe output.withUnsafeMutableBytes { output in
                arguments.output = UInt64(UInt(bitPattern: output.baseAddress))
                var shape = cuda_launch()
                (shape.grid_x, shape.grid_y, shape.grid_z) = (2, 1, 1)
                (shape.threads, shape.shared_bytes) = (128, 2048)
                cuda_emulator_set_order(order)
                defer { cuda_emulator_set_order(0) }
                return unsafe cuda_emulator_launch_named("apus_example_pair", &shape, &arguments)
            }
            return result == 0 ? output : nil
        }
    }
}
