// `linear` against f64 sums of exactly decoded weights, and bit for bit across batches, tiles and threads.

import CPUBackend
import Conformance
import Tensors
import Testing

private let weightTypes: [DType] = [.f32, .f16, .bf16, .q8_0, .q4_0, .q4_1]

/// Rounds a row to 8 bits in blocks of 32, as the kernels document it.
private func roundedToBlocks(_ row: ArraySlice<Float>) -> [Double] {
    var result: [Double] = []
    let row = Array(row)
    for start in stride(from: 0, to: row.count, by: 32) {
        let block = row[start..<start + 32]
        let largest = block.map(abs).max() ?? 0
        let scale = largest / 127
        for value in block {
            let quant = largest == 0 ? 0 : (value * (127 / largest)).rounded(.toNearestOrEven)
            result.append(Double(scale) * Double(quant))
        }
    }
    return result
}

/// How a weight's kernels round their activations.
private enum Rounding {
    case none, blocks, bf16

    /// On `instructionSet`, unless everything is computed in 32 bits.
    static func of(_ dtype: DType, _ instructionSet: CPUInstructionSet) -> Rounding {
        if dtype == .bf16 && instructionSet == .avx512BF16 { return .bf16 }
        return dtype.isQuantized ? .blocks : .none
    }
}

/// The bf16 number next to a float, of two equally near the even one.
private func roundedToBF16(_ value: Float) -> Double {
    let bits = value.bitPattern
    return Double(Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000))
}

struct LinearTests {
    /// Largest error of `output` against f64, as a fraction of the bound (4√K + 4) · 2⁻²⁴ · Σ|w·x|.
    private func worstRatio(
        _ output: [Float], _ parts: [EncodedMatrix], x: [Float], rounding: (DType) -> Rounding
    ) -> Double {
        let columns = parts[0].columns, rows = parts.reduce(0) { $0 + $1.rows }
        var worst = 0.0
        for token in 0..<x.count / columns {
            let row = x[token * columns..<(token + 1) * columns]
            let exact = row.map(Double.init)
            let inBlocks = columns % 32 == 0 ? roundedToBlocks(row) : exact
            let inBF16 = row.map(roundedToBF16)
            var outputIndex = token * rows
            for part in parts {
                let input =
                    switch rounding(part.tensor.dtype) {
                    case .none: exact
                    case .blocks: inBlocks
                    case .bf16: inBF16
                    }
                for r in 0..<part.rows {
                    var sum = 0.0, size = 0.0
                    for k in 0..<columns {
                        let product = part.values[r * columns + k] * input[k]
                        sum += product
                        size += abs(product)
                    }
                    // Q4_1's two terms, scale · q and minimum, may cancel in the weight but not in the rounding.
                    let slack = part.tensor.dtype == .q4_1 ? 4.0 : 1.0
                    let bound = slack * (4 * Double(columns).squareRoot() + 4) * 0x1p-24 * size + 1e-30
                    let error = abs(Double(output[outputIndex]) - sum)
                    worst = error.isNaN ? .infinity : max(worst, error / bound)
                    outputIndex += 1
                }
            }
        }
        return worst
    }

    @Test(arguments: instructionSets, weightTypes)
    func `products of every weight type stay within the bound of f64`(
        _ instructionSet: CPUInstructionSet, _ dtype: DType
    ) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        for (rows, columns) in [(1, 32), (7, 64), (16, 96), (33, 576), (40, 1536), (130, 160)] {
            let matrix = EncodedMatrix(dtype, rows: rows, columns: columns, seed: UInt64(rows))
            let weight = try backend.prepare([matrix.tensor])
            for tokens in [1, 2, 3, 4, 5, 6, 7, 9, 17, 33] {
                var numbers = SeededNumbers(UInt64(tokens))
                let x = numbers.normals(tokens * columns)
                let output = try backend.multiply(weight, x)
                let ratio = worstRatio(output, [matrix], x: x) { Rounding.of($0, instructionSet) }
                #expect(ratio <= 1, "\(dtype) [\(rows), \(columns)] × \(tokens) tokens")
            }
        }
    }

    @Test(arguments: instructionSets, weightTypes)
    func `float32 multiplies exactly decoded weights with unrounded activations`(
        _ instructionSet: CPUInstructionSet, _ dtype: DType
    ) throws {
        let backend = try CPUBackend(precision: .float32, instructionSet: instructionSet, threads: 2)
        let columns = dtype.isQuantized ? 96 : 83
        let matrix = EncodedMatrix(dtype, rows: 37, columns: columns, seed: 5)
        let weight = try backend.prepare([matrix.tensor])
        for tokens in [1, 2, 3, 4, 9] {
            var numbers = SeededNumbers(UInt64(tokens))
            let x = numbers.normals(tokens * columns)
            #expect(worstRatio(try backend.multiply(weight, x), [matrix], x: x, rounding: { _ in .none }) <= 1)
        }
    }

    @Test(arguments: instructionSets)
    func `stacked parts may differ in type and need not be whole row groups`(
        _ instructionSet: CPUInstructionSet
    ) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 3)
        let parts = [
            EncodedMatrix(.q4_1, rows: 24, columns: 64, seed: 1), EncodedMatrix(.q4_1, rows: 5, columns: 64, seed: 2),
            EncodedMatrix(.q4_1, rows: 16, columns: 64, seed: 3), EncodedMatrix(.q8_0, rows: 9, columns: 64, seed: 4),
            EncodedMatrix(.f32, rows: 11, columns: 64, seed: 5), EncodedMatrix(.q4_0, rows: 48, columns: 64, seed: 6),
            EncodedMatrix(.bf16, rows: 19, columns: 64, seed: 7),
        ]
        let weight = try backend.prepare(parts.map(\.tensor))
        #expect(weight.rowCount == 132)
        for tokens in [1, 2, 5] {
            var numbers = SeededNumbers(UInt64(tokens))
            let x = numbers.normals(tokens * 64)
            let output = try backend.multiply(weight, x)
            #expect(worstRatio(output, parts, x: x) { Rounding.of($0, instructionSet) } <= 1)
        }
    }

    @Test(arguments: instructionSets, weightTypes)
    func `a row's result is bit for bit the same in any batch and on any number of threads`(
        _ instructionSet: CPUInstructionSet, _ dtype: DType
    ) throws {
        let rows = 150, columns = 576
        let matrix = EncodedMatrix(dtype, rows: rows, columns: columns, seed: 9)
        var numbers = SeededNumbers(3)
        let x = numbers.normals(33 * columns)
        var alone: [UInt32] = []
        for threads in 1...3 {
            let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: threads)
            let weight = try backend.prepare([matrix.tensor])
            if alone.isEmpty {
                for token in 0..<33 {
                    alone += bits(try backend.multiply(weight, Array(x[token * columns..<(token + 1) * columns])))
                }
            }
            for tokens in [1, 2, 3, 4, 5, 6, 7, 8, 11, 15, 16, 33] {
                let output = try backend.multiply(weight, Array(x[0..<tokens * columns]))
                #expect(bits(output) == Array(alone[0..<tokens * rows]), "\(tokens) tokens, \(threads) threads")
            }
        }
    }

    @Test(.enabled(if: CPUInstructionSet.avx2.isAvailable), arguments: weightTypes)
    func `eight-row and sixteen-row layouts give the same bits`(_ dtype: DType) throws {
        let matrix = EncodedMatrix(dtype, rows: 77, columns: 576, seed: 21)
        var numbers = SeededNumbers(8)
        let x = numbers.normals(7 * 576)
        let results = try [CPUInstructionSet.avx2, .avx512Emulated, .avx512].filter(\.isAvailable).map {
            let backend = try CPUBackend(precision: .auto, instructionSet: $0, threads: 1)
            return bits(try backend.multiply(try backend.prepare([matrix.tensor]), x))
        }
        #expect(results.allSatisfy { $0 == results[0] })
    }

    @Test(arguments: instructionSets)
    func `accumulating adds to what is there`(_ instructionSet: CPUInstructionSet) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        let matrix = EncodedMatrix(.q4_1, rows: 21, columns: 64, seed: 2)
        let weight = try backend.prepare([matrix.tensor])
        var numbers = SeededNumbers(1)
        let x = numbers.normals(3 * 64), residual = numbers.normals(3 * 21)
        let product = try backend.multiply(weight, x)
        let output = try backend.tensor(residual, [3, 21])
        backend.linear(try backend.tensor(x, [3, 64]), weight, into: output, mode: .accumulate)
        #expect(backend.download(output) == zip(residual, product).map { $0 + $1 })
    }

    @Test(arguments: instructionSets)
    func `infinities and NaN in one row reach that row's results and no other's`(
        _ instructionSet: CPUInstructionSet
    ) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 1)
        let matrix = EncodedMatrix(.q4_0, rows: 16, columns: 64, seed: 2)
        let weight = try backend.prepare([matrix.tensor])
        var x = [Float](repeating: 1, count: 4 * 64)
        x[64 + 40] = .nan
        x[2 * 64 + 3] = -.infinity
        let output = try backend.multiply(weight, x)
        for token in 0..<4 {
            let isFinite = output[token * 16..<(token + 1) * 16].map(\.isFinite)
            #expect(isFinite == [Bool](repeating: token == 0 || token == 3, count: 16))
        }
    }

    @Test(arguments: instructionSets)
    func `extreme activations and weights do not overflow the integer sums`(
        _ instructionSet: CPUInstructionSet
    ) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 1)
        for dtype in [DType.q4_0, .q4_1, .q8_0] {
            let blockBytes = dtype.blockByteCount
            // Scale 1 (and minimum 0), every quant at one end of its range.
            for quant: UInt8 in dtype == .q8_0 ? [0x80, 0x7F] : [0x00, 0xFF] {
                var block = [UInt8](repeating: quant, count: blockBytes)
                block[0...1] = [0x00, 0x3C]
                if dtype == .q4_1 { block[2...3] = [0, 0] }
                let owner = OwnedBytes(Array(repeating: block, count: 8 * 2).flatMap { $0 })
                let tensor = unsafe StoredTensor(
                    name: "extreme", dtype: dtype, shape: [8, 64], bytes: owner.bytes, owner: owner)
                let weight = try backend.prepare([tensor])
                let value: Float =
                    switch dtype {
                    case .q8_0: Float(Int8(bitPattern: quant))
                    case .q4_1: Float(quant & 15)
                    default: Float(quant & 15) - 8
                    }
                for sign: Float in [-1, 1] {
                    let output = try backend.multiply(weight, [Float](repeating: sign * 127, count: 64))
                    #expect(output == [Float](repeating: 64 * 127 * sign * value, count: 8))
                }
            }
        }
    }

    @Test func `weights that cannot be multiplied are refused with a sentence`() throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 1)
        let owner = OwnedBytes([UInt8](repeating: 0, count: 64))
        let integers = unsafe StoredTensor(
            name: "ids", dtype: .i32, shape: [2, 8], bytes: owner.bytes, owner: owner)
        #expect(
            throws: BackendError.unsupported(
                operation: "the weight ids", reason: "its type i32 is not a weight's")
        ) { try backend.prepare([integers]) }
        let short = unsafe StoredTensor(name: "w", dtype: .f32, shape: [3, 8], bytes: owner.bytes, owner: owner)
        #expect(
            throws: BackendError.unsupported(
                operation: "the weight w", reason: "64 bytes are not [3, 8] of f32")
        ) { try backend.prepare([short]) }
        #expect(throws: BackendError.unsupported(operation: "a weight", reason: "it has no rows")) {
            try backend.prepare([])
        }
    }
}
