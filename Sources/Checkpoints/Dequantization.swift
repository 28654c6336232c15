// Stored elements as 32-bit floats, one row at a time: the reference every other decoder is checked against.
//
// Written to be obviously right rather than fast, and bit for bit what the format's own reference does: a product,
// then a sum, never fused.

import Tensors

extension StoredTensor {
    /// Rows of the tensor: the product of all extents but the innermost.
    package var storedRowCount: Int { shape.dropLast().reduce(1, *) }

    /// Elements in one row: the innermost extent.
    package var storedRowElementCount: Int { shape.last ?? 1 }

    /// Row `row` as floats. [storedRowElementCount]
    package func dequantizedRow(_ row: Int) -> [Float] {
        let count = storedRowElementCount
        let rowBytes = count / dtype.blockElementCount * dtype.blockByteCount
        precondition(row >= 0 && row < storedRowCount, "row \(row) of a tensor with \(storedRowCount)")
        let stored = unsafe UnsafeRawBufferPointer(rebasing: bytes[row * rowBytes..<(row + 1) * rowBytes])
        var values: [Float] = []
        values.reserveCapacity(count)
        for block in stride(from: 0, to: rowBytes, by: dtype.blockByteCount) {
            unsafe appendBlock(
                UnsafeRawBufferPointer(rebasing: stored[block..<block + dtype.blockByteCount]), to: &values)
        }
        return values
    }

    /// All rows as floats, row-major.
    package func dequantized() -> [Float] {
        (0..<storedRowCount).flatMap { dequantizedRow($0) }
    }

    private func appendBlock(_ block: UnsafeRawBufferPointer, to values: inout [Float]) {
        switch dtype {
        case .f32: values.append(Float(bitPattern: unsafe block.word(0)))
        case .f16: values.append(unsafe block.half(0))
        case .bf16: values.append(Float(bitPattern: UInt32(unsafe block.bits(0)) << 16))
        case .i32: values.append(Float(Int32(bitPattern: unsafe block.word(0))))
        case .q8_0:
            let scale = unsafe block.half(0)
            for index in 0..<32 { values.append(Float(Int8(bitPattern: unsafe block[2 + index])) * scale) }
        case .q4_0:
            let scale = unsafe block.half(0)
            for index in 0..<16 { values.append(Float(Int(unsafe block[2 + index] & 15) - 8) * scale) }
            for index in 0..<16 { values.append(Float(Int(unsafe block[2 + index] >> 4) - 8) * scale) }
        case .q4_1:
            let scale = unsafe block.half(0)
            let minimum = unsafe block.half(2)
            for index in 0..<16 { values.append(Float(unsafe block[4 + index] & 15) * scale + minimum) }
            for index in 0..<16 { values.append(Float(unsafe block[4 + index] >> 4) * scale + minimum) }
        }
    }
}

extension UnsafeRawBufferPointer {
    fileprivate func bits(_ offset: Int) -> UInt16 {
        unsafe UInt16(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    fileprivate func word(_ offset: Int) -> UInt32 {
        unsafe UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    fileprivate func half(_ offset: Int) -> Float { Float(Float16(bitPattern: unsafe bits(offset))) }
}
