// Products of 8-bit floats (E4M3) on compute capability 9.0: near the f64 product of the quantized operands, near the
// kernels for 8.0, which keep activations in bf16, and the same bits in any company. The emulated instruction adds with
// the 14 bits that Hopper's is said to have, so that a chain that is too long shows.

import CUDABackend
import CUDADriver
import CUDAEmulator
import CUDAKernels
import Conformance
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct ByteProductTests {
        init() { cuda_emulator_reset() }

        /// A matrix whose maker had inputs quantized too, with a scale for each `groupColumns` of a row.
        static func matrix(rows: Int, columns: Int, groupColumns: Int, isDeclared: Bool = true) -> EncodedMatrix {
            EncodedMatrix(
                .e4m3, rows: rows, columns: columns, seed: UInt64(columns), groupColumns: groupColumns,
                quantizesInput: isDeclared)
        }

        static func product(
            _ backend: CUDABackend, _ weight: PreparedWeight, _ x: [Float], rows: Int
        ) throws -> [Float] {
            let tokens = x.count / weight.columnCount
            let input = try backend.allocate([tokens, weight.columnCount], .bf16, purpose: "a test")
            let output = try backend.allocate([tokens, rows], .f32, purpose: "a test")
            backend.upload(x, to: input)
            backend.linear(input, weight, into: output, mode: .overwrite)
            try backend.synchronize()
            return backend.download(output)
        }

        // MARK: The instruction

        @Test func `a chain of products loses what 14 bits cannot hold, and short ones do not`() throws {
            // 1.125² has seven bits: beside a sum of 4,096 half of them are lost.
            let exact = Float(256 * 128) * 1.265625
            let short = try chain(times: 256, isOne: false), long = try chain(times: 256, isOne: true)
            #expect(short.allSatisfy { abs($0 - exact) < 0.002 * exact })
            #expect(long.allSatisfy { abs($0 - exact) > 0.1 * exact })
        }

        private func chain(times: Int32, isOne: Bool) throws -> [Float] {
            // 1.125, as 8 bits.
            let tile = [UInt8](repeating: 0x39, count: 8192 + 64)
            var output = [Float](repeating: 0, count: 4 * 128)
            var arguments = cuda_hopper_example_arguments()
            (arguments.row, arguments.variant) = (times, isOne ? 1 : 0)
            let result = unsafe output.withUnsafeMutableBytes { output in
                unsafe tile.withUnsafeBytes { tile in
                    arguments.output = UInt64(UInt(bitPattern: output.baseAddress))
                    arguments.a = UInt64((UInt(bitPattern: tile.baseAddress) + 15) / 16 * 16)
                    var shape = cuda_launch()
                    (shape.grid_x, shape.grid_y, shape.grid_z) = (1, 1, 1)
                    (shape.threads, shape.shared_bytes) = (128, 8192)
                    return unsafe cuda_emulator_launch_named("apus_example_chain", &shape, &arguments)
                }
            }
            #expect(result == 0)
            return output
        }

        // MARK: Against f64

        @Test(
            arguments: [
                (rows: 64, columns: 128, group: 128, tokens: [1, 9]), (70, 608, 608, [3, 40, 130]),
                (200, 1056, 128, [1, 64]), (130, 512, 256, [20, 65]),
            ] as [(rows: Int, columns: Int, group: Int, tokens: [Int])], [0, 2] as [UInt64])
        func `products are those of the quantized operands`(
            shape: (rows: Int, columns: Int, group: Int, tokens: [Int]), order: UInt64
        ) throws {
            cuda_emulator_set_order(order)
            defer { cuda_emulator_set_order(0) }
            let backend = try EmulatedDevice.backend()
            let matrix = Self.matrix(rows: shape.rows, columns: shape.columns, groupColumns: shape.group)
            let weight = try backend.prepare([matrix.tensor])
            for tokens in shape.tokens {
                var numbers = SeededNumbers(UInt64(tokens))
                let x = numbers.normals(tokens * shape.columns)
                let results = try Self.product(backend, weight, x, rows: shape.rows)
                for token in 0..<tokens {
                    let row = Array(x[token * shape.columns..<(token + 1) * shape.columns])
                    for r in 0..<shape.rows {
                        let weights = matrix.values[r * shape.columns..<(r + 1) * shape.columns]
                        let (exact, allowed) = Self.reference(row, Array(weights))
                        let error = abs(Double(results[token * shape.rows + r]) - exact)
                        try #require(error <= allowed, "row \(r), token \(token) of \(shape)")
                    }
                }
            }
        }

        @Test func `sums of 16,384 columns of one sign lose no more than those of 128`() throws {
            let backend = try EmulatedDevice.backend()
            let columns = 16384
            let values = [Float](repeating: 1.125, count: columns)
            let matrix = EncodedMatrix(
                .e4m3, rows: 64, columns: columns, seed: 3, groupColumns: columns, quantizesInput: true, code: 0x39)
            let results = try Self.product(backend, backend.prepare([matrix.tensor]), values, rows: 64)
            for (row, result) in results.enumerated() {
                let exact = matrix.values[row * columns] * 1.125 * Double(columns)
                #expect(abs(Double(result) - exact) <= 0.002 * abs(exact), "row \(row)")
            }
        }

        /// The product of a row that is quantized as the kernel does it, and how far off the device may be.
        private static func reference(_ row: [Float], _ weights: [Double]) -> (exact: Double, allowed: Double) {
            let rounded = row.map(bf16)
            let largest = rounded.map(abs).max() ?? 0
            // The least power of two with which the largest is at most 448.
            var scale = Float(1)
            while largest / scale > 448 { scale *= 2 }
            while largest / (scale / 2) <= 448 { scale /= 2 }
            let x = rounded.map { Double(nearest8($0 / scale) * scale) }
            var (exact, allowed, size) = (0.0, 0.0, 0.0)
            for unit in stride(from: 0, to: row.count, by: 128) {
                var sum = 0.0
                for step in stride(from: unit, to: min(unit + 128, row.count), by: 32) {
                    let products = (step..<min(step + 32, row.count)).map { weights[$0] * x[$0] }
                    // 33 terms, each cut off 13 bits below the largest's first.
                    let most = max(products.map(abs).max() ?? 0, 1.01 * abs(sum))
                    allowed += 33 * 0x1p-13 * 1.01 * most
                    sum += products.reduce(0, +)
                    size += products.reduce(0) { $0 + abs($1) }
                }
                exact += sum
            }
            return (exact, allowed + (4 * Double(row.count).squareRoot() + 4) * 0x1p-24 * size + 1e-30)
        }

        private static func bf16(_ value: Float) -> Float {
            Float(bitPattern: (value.bitPattern + 0x7FFF + (value.bitPattern >> 16 & 1)) & 0xFFFF_0000)
        }

        /// The nearest 8-bit float, ties to even.
        private static func nearest8(_ value: Float) -> Float {
            let step = max(Float(sign: .plus, exponent: max(abs(value), 0x1p-20).exponent - 3, significand: 1), 0x1p-9)
            return (value / step).rounded(.toNearestOrEven) * step
        }

        // MARK: Against the other kernels, and itself

        @Test func `products are near those of bf16 activations`() throws {
            let (rows, columns, tokens) = (96, 1024, 20)
            let matrix = Self.matrix(rows: rows, columns: columns, groupColumns: 128)
            var numbers = SeededNumbers(5)
            let x = numbers.normals(tokens * columns)
            var use = KernelUse()
            let here = try EmulatedDevice.backend(use: use)
            let results = try Self.product(here, here.prepare([matrix.tensor]), x, rows: rows)
            use.takesHopper = false
            let oracle = try EmulatedDevice.backend(use: use)
            let expected = try Self.product(oracle, oracle.prepare([matrix.tensor]), x, rows: rows)
            #expect(results != expected)
            for token in 0..<tokens {
                for row in 0..<rows {
                    // Codes have four bits, the last of which is half right; and the sums' 14.
                    let size = (0..<columns).reduce(0.0) {
                        $0 + abs(matrix.values[row * columns + $1] * Double(x[token * columns + $1]))
                    }
                    let error = abs(Double(results[token * rows + row] - expected[token * rows + row]))
                    try #require(error <= (0x1p-4 + 33 * 4 * 0x1p-13) * size)
                    // As errors of either sign add up, far less.
                    try #require(error <= 0.02 * size)
                }
            }
        }

        @Test func `matrices that do not ask for it, and finer scales, keep bf16 activations`() throws {
            var numbers = SeededNumbers(6)
            let x = numbers.normals(3 * 256)
            for (group, isDeclared) in [(128, false), (64, true), (32, true)] {
                let matrix = Self.matrix(rows: 64, columns: 256, groupColumns: group, isDeclared: isDeclared)
                let results = try [true, false].map { takesHopper in
                    var use = KernelUse()
                    use.takesHopper = takesHopper
                    let backend = try EmulatedDevice.backend(use: use)
                    return try Self.product(backend, backend.prepare([matrix.tensor]), x, rows: 64)
                }
                #expect(results[0] == results[1])
            }
        }

        @Test(arguments: [1, 16, 132] as [Int32])
        func `a row's bits depend on nothing but the row`(multiprocessors: Int32) throws {
            let reference = try Self.lastRows(multiprocessors: 4, order: 0)
            #expect(Set(reference).count == 1)
            for order in [0, 3] as [UInt64] {
                #expect(try Self.lastRows(multiprocessors: multiprocessors, order: order) == reference)
            }
        }

        /// The bits of a row's products, alone and as the last of many, for every size of tile.
        private static func lastRows(multiprocessors: Int32, order: UInt64) throws -> [[UInt32]] {
            cuda_emulator_reset()
            cuda_emulator_configure(multiprocessors, 1 << 30, UInt32(CUDA_EMULATOR_SHARED_BYTES))
            cuda_emulator_set_order(order)
            defer {
                cuda_emulator_set_order(0)
                cuda_emulator_reset()
            }
            let (rows, columns) = (150, 928)
            let backend = try EmulatedDevice.backend()
            let weight = try backend.prepare([matrix(rows: rows, columns: columns, groupColumns: 928).tensor])
            var numbers = SeededNumbers(9)
            let row = numbers.normals(columns)
            return try [1, 9, 20, 50, 100, 190].map { tokens in
                // Neighbours whose scales are others.
                let others = numbers.normals((tokens - 1) * columns).map { 100 * $0 }
                return try product(backend, weight, others + row, rows: rows).suffix(rows).map(\.bitPattern)
            }
        }

        @Test func `what is no number in a row shows in that row alone`() throws {
            let backend = try EmulatedDevice.backend()
            let weight = try backend.prepare([Self.matrix(rows: 64, columns: 128, groupColumns: 128).tensor])
            for wrong in [Float.nan, .infinity, -.infinity] {
                var x = [Float](repeating: 1, count: 3 * 128)
                x[128 + 77] = wrong
                let results = try Self.product(backend, weight, x, rows: 64)
                for (index, value) in results.enumerated() { #expect(value.isNaN == (index / 64 == 1)) }
            }
            let zeros = try Self.product(backend, weight, [Float](repeating: 0, count: 128), rows: 64)
            #expect(zeros.allSatisfy { $0 == 0 })
        }
    }
}
