// The weight formats that only this backend multiplies: the conformance cases on every instruction set, the same bits
// on all of them, and the ends of each format's range.

import CPUBackend
import Conformance
import Tensors
import Testing

struct FormatTests {
    @Test(arguments: instructionSets)
    func `every format multiplies within the bound and embeds bit for bit`(_ instructionSet: CPUInstructionSet) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        for check in ConformanceCase.furtherTypes {
            #expect(try check.worstError(backend) <= 1, "\(check.name) (\(instructionSet.rawValue))")
        }
    }

    @Test(arguments: furtherWeightTypes)
    func `float32 keeps exactly decoded weights`(_ dtype: DType) throws {
        let matrix = EncodedMatrix(dtype, rows: 37, columns: 256, seed: 5)
        var identity = [Float](repeating: 0, count: 256 * 256)
        for index in 0..<256 { identity[257 * index] = 1 }
        for instructionSet in instructionSets {
            let backend = try CPUBackend(precision: .float32, instructionSet: instructionSet, threads: 2)
            let columns = try backend.multiply(try backend.prepare([matrix.tensor]), identity)
            let rows = (0..<37).flatMap { row in (0..<256).map { columns[$0 * 37 + row] } }
            #expect(rows == matrix.tensor.dequantized(), "\(instructionSet.rawValue)")
        }
    }

    @Test(.enabled(if: CPUInstructionSet.avx2.isAvailable), arguments: furtherWeightTypes)
    func `eight-row and sixteen-row layouts give the same bits on any number of threads`(_ dtype: DType) throws {
        let matrix = EncodedMatrix(dtype, rows: 77, columns: 768, seed: 21)
        var numbers = SeededNumbers(8)
        let x = numbers.normals(7 * 768)
        let results = try [CPUInstructionSet.avx2, .avx512Emulated, .avx512].filter(\.isAvailable).flatMap { set in
            try (1...3).map { threads in
                let backend = try CPUBackend(precision: .auto, instructionSet: set, threads: threads)
                return bits(try backend.multiply(try backend.prepare([matrix.tensor]), x))
            }
        }
        #expect(results.allSatisfy { $0 == results[0] })
    }

    @Test(arguments: instructionSets, [UInt8(0), 0xFF])
    func `the ends of every format's range do not overflow the integer sums`(
        _ instructionSet: CPUInstructionSet, _ fill: UInt8
    ) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 1)
        for dtype in furtherWeightTypes {
            var block = [UInt8](repeating: fill, count: dtype.blockByteCount)
            switch dtype {
            case .q5_0, .iq4_nl, .iq4_xs: block[0...1] = [0x00, 0x3C]
            case .q5_1, .q4_k, .q5_k: block[0...3] = [0x00, 0x3C, 0, 0]
            case .q2_k: block[80...83] = [0x00, 0x3C, 0, 0]
            case .q3_k: block[108...109] = [0x00, 0x3C]
            case .q6_k: block[208...209] = [0x00, 0x3C]
            case .mxfp4: block[0] = 128
            case .e4m3: block = [0, 0, 0x80, 0x3F] + [UInt8](repeating: fill & 0xFE, count: 32)
            default: block[0...3] = [0, 0, 0x80, 0x3F]
            }
            let owner = OwnedBytes(Array(repeating: block, count: 8).flatMap { $0 })
            let columns = dtype.blockElementCount
            let tensor = unsafe StoredTensor(
                name: "extreme", dtype: dtype, shape: [8, columns], bytes: owner.bytes, owner: owner)
            let sum = tensor.dequantizedRow(0).reduce(0) { $0 + Double($1) }
            for sign: Float in [-1, 1] {
                let x = [Float](repeating: sign * 127, count: columns)
                let output = try backend.multiply(try backend.prepare([tensor]), x)
                #expect(output == [Float](repeating: Float(127 * Double(sign) * sum), count: 8), "\(dtype.rawValue)")
            }
        }
    }

    @Test(arguments: instructionSets)
    func `parts of different formats stack`(_ instructionSet: CPUInstructionSet) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 3)
        let parts = [DType.q4_k, .q6_k, .q3_k, .q6_k, .q8_0, .iq4_nl].enumerated().map {
            EncodedMatrix($1, rows: 16 * ($0 + 1), columns: 256, seed: UInt64($0))
        }
        var numbers = SeededNumbers(2)
        let x = numbers.normals(3 * 256)
        let together = try backend.multiply(try backend.prepare(parts.map(\.tensor)), x)
        let separate = try parts.map { try backend.multiply(try backend.prepare([$0.tensor]), x) }
        let expected = (0..<3).flatMap { token in
            zip(parts, separate).flatMap { part, output in output[token * part.rows..<(token + 1) * part.rows] }
        }
        #expect(bits(together) == bits(expected))
    }
}
