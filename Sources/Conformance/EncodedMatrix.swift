// Matrices as a checkpoint would store them, with what their elements are exactly.

import Tensors

/// Bytes with a stable address for as long as the object lives.
@safe
package final class OwnedBytes {
    package let bytes: UnsafeRawBufferPointer

    package init(_ source: [UInt8]) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: source.count, alignment: 16)
        unsafe copy.copyBytes(from: source)
        unsafe bytes = UnsafeRawBufferPointer(copy)
    }

    deinit { unsafe bytes.deallocate() }
}

/// A matrix of random weights.
package struct EncodedMatrix {
    package let tensor: StoredTensor
    package let rows: Int
    package let columns: Int
    /// [rows × columns]
    package let values: [Double]

    /// - Parameters:
    ///   - groupColumns: columns of a row that share what their blocks begin with, for types with f32 scales.
    ///   - quantizesInput: as `StoredTensor` has it.
    ///   - code: what all 8-bit floats are, instead of anything.
    package init(
        _ dtype: DType, rows: Int, columns: Int, seed: UInt64, groupColumns: Int? = nil, quantizesInput: Bool = false,
        code: UInt8? = nil
    ) {
        var numbers = SeededNumbers(seed)
        var bytes: [UInt8] = []
        var values: [Double] = []
        values.reserveCapacity(rows * columns)
        for _ in 0..<(rows * columns / dtype.blockElementCount) {
            Self.appendBlock(dtype, &numbers, &bytes, &values)
        }
        if let groupColumns {
            let (size, header) = (dtype.blockByteCount, dtype == .e4m3 ? 4 : 5)
            let (perRow, perGroup) = (columns / 32, groupColumns / 32)
            for block in 0..<rows * perRow {
                let first = block / perRow * perRow + block % perRow / perGroup * perGroup
                bytes.replaceSubrange(
                    block * size..<block * size + header, with: bytes[first * size..<first * size + header])
            }
        }
        if let code, dtype == .e4m3 {
            for place in bytes.indices where place % 36 >= 4 { bytes[place] = code }
        }
        let owner = OwnedBytes(bytes)
        var tensor = unsafe StoredTensor(
            name: "check.\(dtype.rawValue)", dtype: dtype, shape: [rows, columns], bytes: owner.bytes, owner: owner)
        tensor.quantizesInput = quantizesInput
        self.tensor = tensor
        self.rows = rows
        self.columns = columns
        self.values = values.isEmpty ? tensor.dequantized().map(Double.init) : values
    }

    private static func appendBlock(
        _ dtype: DType, _ numbers: inout SeededNumbers, _ bytes: inout [UInt8], _ values: inout [Double]
    ) {
        switch dtype {
        case .f32:
            let value = numbers.normal()
            append(value.bitPattern, to: &bytes)
            values.append(Double(value))
        case .f16:
            let value = Float16(numbers.normal())
            append(value.bitPattern, to: &bytes)
            values.append(Double(value))
        case .bf16:
            let value = numbers.normal().roundedToBF16
            append(UInt16(value.bitPattern >> 16), to: &bytes)
            values.append(Double(value))
        case .q8_0:
            let scale = Float16(numbers.normal() / 64)
            append(scale.bitPattern, to: &bytes)
            for _ in 0..<32 {
                let q = Int8.random(in: -128...127, using: &numbers)
                bytes.append(UInt8(bitPattern: q))
                values.append(Double(scale) * Double(q))
            }
        case .q4_0, .q4_1:
            let scale = Float16(numbers.normal() / 8)
            let minimum = dtype == .q4_1 ? Float16(numbers.normal()) : scale * -8
            append(scale.bitPattern, to: &bytes)
            if dtype == .q4_1 { append(minimum.bitPattern, to: &bytes) }
            let q = (0..<32).map { _ in UInt8.random(in: 0...15, using: &numbers) }
            for i in 0..<16 { bytes.append(q[i] | q[i + 16] << 4) }
            for x in q { values.append(Double(scale) * Double(x) + Double(minimum)) }
        case .i32: break
        default: appendRandomBlock(dtype, &numbers, &bytes)
        }
    }

    /// A block of any bits but for its scales, which keep the elements near 1. What they are, the decoder tells.
    private static func appendRandomBlock(_ dtype: DType, _ numbers: inout SeededNumbers, _ bytes: inout [UInt8]) {
        var block = (0..<dtype.blockByteCount).map { _ in UInt8.random(in: 0...255, using: &numbers) }
        func set<T: FixedWidthInteger>(_ offset: Int, _ bits: T) {
            for place in 0..<T.bitWidth / 8 { block[offset + place] = UInt8(truncatingIfNeeded: bits >> T(8 * place)) }
        }
        func setHalf(_ offset: Int, _ size: Float) { set(offset, Float16(numbers.normal() * size).bitPattern) }
        switch dtype {
        case .q5_0, .q5_1: setHalf(0, 1 / 16)
        case .q2_k: setHalf(80, 1 / 8)
        case .q3_k: setHalf(108, 1 / 32)
        case .q4_k, .q5_k: setHalf(0, 1 / 256)
        case .q6_k: setHalf(208, 1 / 1024)
        case .iq4_nl: setHalf(0, 1 / 64)
        case .iq4_xs: setHalf(0, 1 / 1024)
        case .mxfp4: block[0] = UInt8.random(in: 118...126, using: &numbers)
        // f16, as files have them.
        case .int4: set(0, Float(Float16(numbers.normal() / 8)).bitPattern)
        case .int8: set(0, (numbers.normal() / 64).bitPattern)
        case .e4m3:
            set(0, (numbers.normal() / 64).bitPattern)
            for place in 4..<36 where block[place] & 0x7F == 0x7F { block[place] = 0x7E }
        default: break
        }
        switch dtype {
        case .q5_1: setHalf(2, 1)
        case .q2_k: setHalf(82, 1 / 8)
        case .q4_k, .q5_k: setHalf(2, 1 / 32)
        case .int4: block[4] &= 15
        default: break
        }
        bytes += block
    }

    private static func append<T: FixedWidthInteger>(_ value: T, to bytes: inout [UInt8]) {
        for shift in stride(from: 0, to: T.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> T(shift)))
        }
    }
}
