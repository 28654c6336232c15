// What compute capability 9.0 has for itself: the emulator's idea of it, with mistakes that have to show; the layout of
// weights, the order of tiles and the launches; and that a row's bits depend on nothing but the row.

import CUDABackend
import CUDADriver
import CUDAEmulator
import CUDAKernels
import Conformance
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct HopperTests {
        init() { cuda_emulator_reset() }

        // MARK: The emulator

        /// 64 rows of 64, and a matrix of 200 rows of 72: small integers, exact in bf16 as their sums are in f32.
        static let left = (0..<64 * 64).map { Float($0 * 7 % 31) - 15 }
        static let right = (0..<200 * 72).map { Float($0 * 5 % 23) - 11 }

        @Test(arguments: [8, 16, 32, 64, 128, 160, 192, 224, 256], [0, 1, 2] as [UInt64])
        func `a warpgroup's product is that of the tiles, wherever a box begins`(columns: Int, order: UInt64) throws {
            for (column, row) in [(0, 0), (8, 3), (0, max(0, 200 - columns / 2))] {
                let sums = try #require(try multiply(columns, column: column, row: row, order: order))
                for thread in 0..<128 {
                    for index in 0..<columns / 2 {
                        let r = thread / 32 * 16 + thread % 32 / 4 + index / 2 % 2 * 8
                        let c = index / 4 * 8 + thread % 4 * 2 + index % 2
                        let exact = (0..<64).reduce(Float(1)) { sum, k in
                            let inside = row + c < 200 && column + k < 72
                            return sum + Self.left[64 * r + k] * (inside ? Self.right[72 * (row + c) + column + k] : 0)
                        }
                        try #require(sums[thread * columns / 2 + index] == exact, "\(r), \(c) at \(column), \(row)")
                    }
                }
            }
        }

        @Test(arguments: [1, 2, 3, 5, 7] as [Int32])
        func `reading or writing too early shows in the sums`(variant: Int32) throws {
            let right = try #require(try multiply(16, column: 0, row: 0))
            let wrong = try multiply(16, column: 0, row: 0, variant: variant)
            #expect(wrong != right)
        }

        @Test(arguments: [4, 6, 8, 9, 10] as [Int32], [0, 1] as [UInt64])
        func `what would hang, or is no such operand, ends the launch`(variant: Int32, order: UInt64) throws {
            #expect(try multiply(16, column: 0, row: 0, variant: variant, order: order) == nil)
        }

        @Test(arguments: [64, 128], [0, 1, 2] as [UInt64])
        func `fragments are multiplied with columns that lie side by side`(columns: Int, order: UInt64) throws {
            let sums = try #require(try multiplyColumns(columns, order: order))
            for thread in 0..<128 {
                for index in 0..<columns / 2 {
                    let r = thread / 32 * 16 + thread % 32 / 4 + index / 2 % 2 * 8
                    let c = index / 4 * 8 + thread % 4 * 2 + index % 2
                    let exact = (0..<16).reduce(Float(1)) { $0 + Self.left[16 * r + $1] * Self.right[columns * $1 + c] }
                    try #require(sums[thread * columns / 2 + index] == exact, "\(r), \(c)")
                }
            }
        }

        @Test func `fragments that change meanwhile, and columns from elsewhere, show in the sums`() throws {
            let right = try #require(try multiplyColumns(128))
            for variant in [1, 2] as [Int32] {
                #expect(try multiplyColumns(128, variant: variant) != right)
            }
            #expect(try multiplyColumns(64, variant: 3) == nil)
        }

        @Test func `a matrix that a copy engine cannot take is refused`() throws {
            #expect(try describe(address: 1 << 20, columns: 64, box: (64, 8)) == 0)
            #expect(try describe(address: (1 << 20) + 8, columns: 64, box: (64, 8)) == 1)
            #expect(try describe(address: 1 << 20, columns: 68, box: (64, 8)) == 1)
            #expect(try describe(address: 1 << 20, columns: 64, box: (32, 8)) == 1)
            #expect(try describe(address: 1 << 20, columns: 64, box: (64, 257)) == 1)
        }

        // MARK: Layouts and lists

        @Test func `weights lie where the instruction looks for them`() throws {
            let (rows, columns) = (70, 136)
            let source = (0..<rows * columns).map { UInt16($0 % 65521) }
            let packed = Self.pack(source, rows: rows, columns: columns)
            #expect(packed.count * 2 == 2 * 3 * 8192)
            // From the manual: rows of 128 bytes, whose address bits 4–6 are exchanged by bits 7–9.
            for row in 0..<128 {
                for column in 0..<192 {
                    let tile = (row / 64 * 3 + column / 64) * 8192
                    let logical = row % 64 * 128 + column % 64 * 2
                    let value = packed[(tile + logical ^ (logical >> 7 & 7) << 4) / 2]
                    let isInside = row < rows && column < columns
                    try #require(value == (isInside ? source[row * columns + column] : 0), "\(row), \(column)")
                }
            }
        }

        @Test func `cached keys and values lie where the instruction looks for them`() {
            // A group of 16 tokens is a tile of 64 dimensions after the other.
            for token in 0..<16 {
                for dimension in 0..<256 {
                    let logical = dimension / 64 * 2048 + token * 128 + dimension % 64 * 2
                    let found = cuda_example_panel_element(Int32(token), Int32(dimension))
                    #expect(Int(found) * 2 == logical ^ (logical >> 7 & 7) << 4, "\(token), \(dimension)")
                }
            }
        }

        @Test func `a descriptor has the address, the stride and the swizzle in their bits`() {
            for address in [0, 1024, 0x2F400, 227 * 1024] as [UInt32] {
                let bits = cuda_example_descriptor(address)
                #expect(bits & 0x3FFF == UInt64(address) >> 4)
                #expect(bits >> 32 & 0x3FFF == 1024 >> 4)
                #expect(bits >> 62 == 1)
                #expect(bits & (0x3 << 14 | 0x3 << 30 | 0x1FFF << 46 | 0x3FF << 52) == 0)
            }
        }

        @Test func `every tile is taken once, and neighbours share rows`() {
            for (rows, tokens) in [(1, 1), (3, 5), (32, 8), (7, 9), (5, 27), (112, 43)] as [(Int32, Int32)] {
                let order = (0..<rows * tokens).map { cuda_example_tile($0, rows, tokens) }
                #expect(order.sorted() == Array(0..<rows * tokens), "\(rows) by \(tokens)")
            }
            // Eight tiles of tokens, then the next row.
            #expect((0..<10).map { cuda_example_tile($0, 32, 16) } == [0, 1, 2, 3, 4, 5, 6, 7, 16, 17])
        }

        @Test func `slices cover a row's units in order`() {
            for units in [1, 2, 3, 4, 5, 64, 224] as [Int32] {
                let starts = (0...4).map { cuda_example_slice_start(units, $0) }
                #expect(starts[0] == 0 && starts[4] == units && starts == starts.sorted(), "\(units)")
            }
        }

        @Test func `launches fit the device, twice where the next is to overlap, and fill it`() {
            // Of an 8B model: rows of qkv, o, gate and up, down, the head.
            for rows in [6144, 4096, 28672, 128_256] as [Int32] {
                for tokens in [1, 8, 9, 16, 33, 64, 65, 128, 256, 512, 2048, 8192] as [Int32] {
                    var arguments = cuda_linear_hopper_arguments()
                    (arguments.matrix.rows, arguments.matrix.columns) = (rows, 4096)
                    (arguments.token_count, arguments.multiprocessors) = (tokens, 132)
                    let launch = unsafe cuda_linear_hopper_launch(&arguments)
                    let blocks: UInt32 = tokens <= 64 ? 2 : 1
                    // 228 KB, of which each block takes one for the system and one for its barriers.
                    #expect((launch.shared_bytes + 2048) * blocks <= 228 * 1024)
                    #expect(launch.shared_bytes <= cuda_linear_hopper_shared_bytes())
                    // Hardly any leaves a tenth of the device idle: a wide tile may be worth it.
                    #expect(
                        launch.grid_x >= (rows == 6144 && tokens == 512 ? 96 : 119), "\(rows) rows, \(tokens) tokens")
                    #expect(launch.grid_x <= 132 * blocks)
                }
            }
        }

        @Test func `a tile is as wide as suits the device, by what binds`() {
            // Tensor cores take 4 cycles a token; shared memory is what narrow tiles wait for.
            #expect([128, 192, 256].map { cuda_example_unit_cycles($0) } == [640, 832, 1024])
            let bf16 = Int32(CUDA_WEIGHT_BF16)
            // On an H200's 66 pairs of multiprocessors, 16 row tiles of 256 by four of tokens are a round.
            for tokens in stride(from: Int32(512), through: 1024, by: 128) {
                #expect(cuda_example_width(bf16, 4096, 4096, tokens, 132) == tokens / 4, "\(tokens) tokens")
            }
            // 24 by 5 are two that are fuller than of 24 by 4.
            #expect(cuda_example_width(bf16, 6144, 4096, 1024, 132) == 224)
            for tokens in [2048, 4096, 8192] as [Int32] {
                for rows in [4096, 6144, 28672] as [Int32] {
                    #expect(cuda_example_width(bf16, rows, 4096, tokens, 132) == 256, "\(rows) rows, \(tokens) tokens")
                }
            }
            #expect(cuda_example_width(Int32(CUDA_WEIGHT_E4M3), 4096, 4096, 8192, 132) == 128)
            for (tokens, width) in [(1, 8), (8, 8), (9, 16), (17, 32), (33, 64), (64, 64)] as [(Int32, Int32)] {
                #expect(cuda_example_width(bf16, 4096, 4096, tokens, 132) == width)
            }
        }

        @Test(arguments: [64, 128] as [Int32])
        func `prefill's queries and ring fit a multiprocessor`(headDim: Int32) {
            var arguments = cuda_attend_arguments()
            (arguments.batch.head_dim, arguments.batch.heads, arguments.batch.kv_heads) = (headDim, 32, 8)
            (arguments.batch.token_count, arguments.batch.sequence_count) = (4096, 1)
            (arguments.cache.type, arguments.multiprocessors) = (Int32(CUDA_KV_PANELS), 132)
            let launch = unsafe cuda_attend_prefill_launch(&arguments)
            // Beside them lie barriers and two items.
            #expect(launch.shared_bytes + 2048 <= 227 * 1024)
            #expect(launch.grid_x == 132 && launch.threads == 384)
        }

        @Test func `matrices of a type are stacked, and multiplied by one launch`() throws {
            let backend = try EmulatedDevice.backend()
            for rows in [[64, 128, 70], [64, 70, 64], [70, 64], [5, 3]] {
                let parts = rows.enumerated().map {
                    EncodedMatrix(.bf16, rows: $0.element, columns: 72, seed: UInt64($0.offset))
                }
                let x = try backend.allocate([3, 72], .bf16, purpose: "a test")
                var numbers = SeededNumbers(4)
                backend.upload(numbers.normals(3 * 72), to: x)
                let together = try backend.allocate([3, rows.reduce(0, +)], .f32, purpose: "a test")
                let stacked = try backend.prepare(parts.map(\.tensor))
                let before = EmulatedDevice.calls("launch")
                backend.linear(x, stacked, into: together, mode: .overwrite)
                #expect(EmulatedDevice.calls("launch") - before == 1)
                let alone = try parts.map { part in
                    let output = try backend.allocate([3, part.tensor.shape[0]], .f32, purpose: "a test")
                    backend.linear(x, try backend.prepare([part.tensor]), into: output, mode: .overwrite)
                    return backend.download(output)
                }
                try backend.synchronize()
                let expected = (0..<3).flatMap { token in
                    zip(rows, alone).flatMap { $1[token * $0..<(token + 1) * $0] }
                }
                #expect(backend.download(together) == expected)
            }
        }

        @Test func `steps with prompts are filled up to few shapes, which hold every smaller step`() throws {
            let backend = try EmulatedDevice.backend()
            var shapes: Set<StepShape> = []
            let largest = backend.padded(
                StepShape(tokenCount: 2048, sequenceCount: 200, sampledRowCount: 200, isDecodeOnly: false))
            for tokens in 2...2048 {
                for sequences in [1, 2, 3, 17, 64, 100, 200] where sequences < tokens {
                    for sampled in [0, 1, sequences] {
                        let used = StepShape(
                            tokenCount: tokens, sequenceCount: sequences, sampledRowCount: sampled, isDecodeOnly: false)
                        let shape = backend.padded(used)
                        shapes.insert(shape)
                        try #require(backend.padded(shape) == shape)
                        let step = tokens <= 64 ? 8 : tokens <= 1024 ? 64 : 128
                        try #require((0..<step).contains(shape.tokenCount - tokens))
                        try #require(shape.sequenceCount >= sequences && shape.sampledRowCount >= sampled)
                        try #require((shape.sampledRowCount == 0) == (sampled == 0))
                        try #require(
                            shape.tokenCount <= largest.tokenCount && shape.sequenceCount <= largest.sequenceCount
                                && shape.sampledRowCount <= largest.sampledRowCount)
                    }
                }
            }
            #expect(shapes.count < 450)
        }

        // MARK: Bits

        @Test(arguments: [1, 2, 16, 132] as [Int32])
        func `a row's bits do not depend on how the work is cut`(multiprocessors: Int32) throws {
            let reference = try EmulatedDevice.configured { try Self.products(multiprocessors: 4, order: 0) }
            for order in [0, 3] as [UInt64] {
                let bits = try Self.products(multiprocessors: multiprocessors, order: order)
                #expect(bits == reference)
            }
        }

        @Test(arguments: ConformanceCase.all.filter { $0.name.contains("linear") && !$0.name.contains("q") })
        func `the kernels for 8.0 can be asked for, and compute the same products`(_ check: ConformanceCase) throws {
            var use = KernelUse()
            use.takesHopper = false
            let backend = try EmulatedDevice.backend(use: use)
            #expect(try check.worstError(backend) <= 1)
        }

        @Test func `kernels overlap only if they may`() throws {
            for overlaps in [true, false] {
                let before = EmulatedDevice.calls("launch_with")
                var use = KernelUse()
                use.overlaps = overlaps
                let backend = try EmulatedDevice.backend(use: use)
                let x = try backend.allocate([1, 64], .f32, purpose: "a test")
                backend.apply(.multiply(2), to: x)
                try backend.synchronize()
                #expect((EmulatedDevice.calls("launch_with") > before) == overlaps)
            }
        }

        /// The bits of a row's products, alone and as the last of many, for every size of tile.
        private static func products(multiprocessors: Int32, order: UInt64) throws -> [[UInt32]] {
            cuda_emulator_reset()
            cuda_emulator_configure(multiprocessors, 1 << 30, UInt32(CUDA_EMULATOR_SHARED_BYTES))
            cuda_emulator_set_order(order)
            defer {
                cuda_emulator_set_order(0)
                cuda_emulator_reset()
            }
            let (rows, columns) = (150, 904)
            let backend = try EmulatedDevice.backend()
            let weight = try backend.prepare([EncodedMatrix(.bf16, rows: rows, columns: columns, seed: 5).tensor])
            var numbers = SeededNumbers(9)
            let row = numbers.normals(columns)
            return try [1, 9, 20, 50, 100, 190, 400].map { tokens in
                let x = try backend.allocate([tokens, columns], .bf16, purpose: "a test")
                backend.upload(numbers.normals((tokens - 1) * columns) + row, to: x)
                let output = try backend.allocate([tokens, rows], .f32, purpose: "a test")
                backend.linear(x, weight, into: output, mode: .overwrite)
                try backend.synchronize()
                return backend.download(output).suffix(rows).map(\.bitPattern)
            }
        }

        @Test(arguments: [64, 128], [nil, 77, 200])
        func `prefill gives the bits of the kernels for 8.0`(headDim: Int, window: Int?) throws {
            defer { cuda_emulator_set_order(0) }
            let runs: [(takesHopper: Bool, order: UInt64)] = [(true, 0), (true, 2), (false, 0)]
            let results = try runs.map { takesHopper, order in
                cuda_emulator_set_order(order)
                var use = KernelUse()
                use.takesHopper = takesHopper
                // The wider window with a cap.
                let options = AttentionOptions(
                    scale: 0.1, slidingWindow: window, logitSoftCap: window == 200 ? 3 : nil)
                return try Self.attention(EmulatedDevice.backend(use: use), headDim: headDim, options: options)
            }
            #expect(!results[0].contains { $0.isNaN })
            #expect(results[0] == results[2] && results[1] == results[2])
        }

        /// Of the last 100 rows of a sequence of 300, of all 70 of another, and of the last 5 of one of 1,100, whose
        /// context is cut into runs.
        private static func attention(
            _ backend: CUDABackend, headDim: Int, options: AttentionOptions
        ) throws -> [Float] {
            let (heads, kvHeads, blockSize) = (6, 2, 16)
            let (lengths, queries) = ([300, 70, 1100], [100, 70, 5])
            let blocks = lengths.map { ($0 + blockSize - 1) / blockSize }
            let most = blocks.max() ?? 0
            let cache = try backend.allocateKVLayer(
                blockCount: blocks.reduce(0, +), kvHeads: kvHeads, blockSize: blockSize, headDim: headDim)
            var numbers = SeededNumbers(UInt64(headDim))
            var tables: [Int32] = []
            for (sequence, length) in lengths.enumerated() {
                let first = blocks[..<sequence].reduce(0, +)
                let own = (0..<blocks[sequence]).reversed().map { Int32(first + $0) }
                tables += own + Array(repeating: 0, count: most - own.count)
                let rows = try tensor(backend, numbers.normals(length * 2 * kvHeads * headDim), length)
                let slots = (0..<length).map { own[$0 / blockSize] * Int32(blockSize) + Int32($0 % blockSize) }
                backend.storeKV(
                    rows, keyOffset: 0, valueOffset: kvHeads * headDim, kvHeads: kvHeads, headDim: headDim,
                    slots: try integers(backend, slots), cache: cache)
            }
            let count = queries.reduce(0, +)
            let positions = zip(lengths, queries).flatMap { Int32($0 - $1)..<Int32($0) }
            let starts = (0...queries.count).map { Int32(queries[..<$0].reduce(0, +)) }
            let blockTables = try backend.allocate([lengths.count, most], .i32, purpose: "a test")
            backend.upload(tables, count: tables.count, to: blockTables)
            let batch = AttentionBatch(
                tokenCount: count, sequenceCount: lengths.count, maxQueryLength: 100, maxContextLength: 1100,
                queryStarts: try integers(backend, starts),
                contextLengths: try integers(backend, lengths.map(Int32.init)), blockTables: blockTables,
                slotMapping: try integers(backend, positions), positions: try integers(backend, positions))
            let output = try backend.allocate([count, heads * headDim], .bf16, purpose: "a test")
            backend.attend(
                try tensor(backend, numbers.normals(count * heads * headDim), count), heads: heads, kvHeads: kvHeads,
                headDim: headDim, options: options, cache: cache, batch: batch, into: output)
            try backend.synchronize()
            return backend.download(output)
        }

        private static func tensor(_ backend: CUDABackend, _ values: [Float], _ rows: Int) throws -> Tensor {
            let result = try backend.allocate([rows, values.count / rows], .f32, purpose: "a test")
            backend.upload(values, to: result)
            return result
        }

        private static func integers(_ backend: CUDABackend, _ values: [Int32]) throws -> Tensor {
            let result = try backend.allocate([values.count], .i32, purpose: "a test")
            backend.upload(values, count: values.count, to: result)
            return result
        }

        // MARK: Running the example

        private static func pack(_ source: [UInt16], rows: Int, columns: Int) -> [UInt16] {
            let byteCount = Int(cuda_swizzled_bytes(Int64(rows), Int64(columns)))
            var packed = [UInt8](repeating: 0xAA, count: byteCount)
            let bytes = source.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
            unsafe cuda_pack_swizzled(
                bytes, Int64(rows), Int64(columns), 0, Int64((rows + 63) / 64), &packed)
            return stride(from: 0, to: byteCount, by: 2).map { UInt16(packed[$0]) | UInt16(packed[$0 + 1]) << 8 }
        }

        private static func copy(_ bytes: UnsafeRawBufferPointer, to place: UnsafeMutableRawPointer) {
            unsafe UnsafeMutableRawBufferPointer(start: place, count: bytes.count).copyMemory(from: bytes)
        }

        /// [thread 128][columns / 2], or nil if the launch failed.
        private func multiply(
            _ columns: Int, column: Int, row: Int, variant: Int32 = 0, order: UInt64 = 0
        ) throws -> [Float]? {
            let packed = Self.pack(Self.left.map { UInt16($0.bitPattern >> 16) }, rows: 64, columns: 64)
            let matrix = Self.right.map { UInt16($0.bitPattern >> 16) }
            // Maps want addresses that are multiples of 16.
            let memory = UnsafeMutableRawPointer.allocate(byteCount: 1 << 16, alignment: 64)
            defer { unsafe memory.deallocate() }
            var output = [Float](repeating: 0, count: 64 * columns)
            var arguments = cuda_hopper_example_arguments()
            (arguments.column, arguments.row, arguments.variant) = (Int32(column), Int32(row), variant)
            unsafe matrix.withUnsafeBytes { unsafe Self.copy($0, to: memory + 128) }
            let described = unsafe EmulatedDevice.calls.tensor_map_encode(
                memory, Int32(CUDA_TENSOR_MAP_BF16), 2, memory + 128, [72, 200], [144], [64, UInt32(columns)], [1, 1],
                0,
                Int32(CUDA_TENSOR_MAP_SWIZZLE_128), 0, 0)
            try #require(described == 0)
            arguments.b = unsafe memory.load(as: cuda_tensor_map.self)
            let packedBytes = unsafe memory + 128 + 2 * 200 * 72
            unsafe packed.withUnsafeBytes { unsafe Self.copy($0, to: packedBytes) }
            arguments.a = UInt64(UInt(bitPattern: packedBytes))
            let shared = UInt32(8192 + columns * 128)
            let result = unsafe output.withUnsafeMutableBytes { output in
                arguments.output = UInt64(UInt(bitPattern: output.baseAddress))
                var shape = cuda_launch()
                (shape.grid_x, shape.grid_y, shape.grid_z) = (1, 1, 1)
                (shape.threads, shape.shared_bytes) = (128, shared)
                cuda_emulator_set_order(order)
                defer { cuda_emulator_set_order(0) }
                return unsafe cuda_emulator_launch_named("apus_example_wgmma_\(columns)", &shape, &arguments)
            }
            return result == 0 ? output : nil
        }

        /// [thread 128][columns / 2] of 64 rows of 16 by 16 rows of columns, or nil if the launch failed.
        private func multiplyColumns(_ columns: Int, variant: Int32 = 0, order: UInt64 = 0) throws -> [Float]? {
            var memory = Self.left[..<1024].map { UInt16($0.bitPattern >> 16) }
            let first = memory.count
            memory += Array(repeating: 0, count: 16 * columns)
            for k in 0..<16 {
                for column in 0..<columns {
                    let logical = column / 64 * 2048 + k * 128 + column % 64 * 2
                    let value = Self.right[columns * k + column]
                    memory[first + (logical ^ (logical >> 7 & 7) << 4) / 2] = UInt16(value.bitPattern >> 16)
                }
            }
            var output = [Float](repeating: 0, count: 64 * columns)
            var arguments = cuda_hopper_example_arguments()
            arguments.variant = variant
            let place = UnsafeMutableRawPointer.allocate(byteCount: 2 * memory.count, alignment: 16)
            defer { unsafe place.deallocate() }
            unsafe memory.withUnsafeBytes { unsafe Self.copy($0, to: place) }
            arguments.a = UInt64(UInt(bitPattern: place))
            let result = unsafe output.withUnsafeMutableBytes { output in
                arguments.output = UInt64(UInt(bitPattern: output.baseAddress))
                var shape = cuda_launch()
                (shape.grid_x, shape.grid_y, shape.grid_z) = (1, 1, 1)
                // With room for what a mistaken descriptor reads.
                (shape.threads, shape.shared_bytes) = (128, 8192)
                cuda_emulator_set_order(order)
                defer { cuda_emulator_set_order(0) }
                return unsafe cuda_emulator_launch_named("apus_example_columns_\(columns)", &shape, &arguments)
            }
            return result == 0 ? output : nil
        }

        private func describe(address: UInt, columns: UInt64, box: (UInt32, UInt32)) throws -> Int32 {
            let map = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 64)
            defer { unsafe map.deallocate() }
            return unsafe EmulatedDevice.calls.tensor_map_encode(
                map, Int32(CUDA_TENSOR_MAP_BF16), 2, UnsafeMutableRawPointer(bitPattern: address), [columns, 10],
                [2 * columns], [box.0, box.1], [1, 1], 0, Int32(CUDA_TENSOR_MAP_SWIZZLE_128), 0, 0)
        }
    }
}
