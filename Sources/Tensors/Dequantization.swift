// Stored elements as 32-bit floats, one row at a time: the reference every other decoder is checked against.
//
// Written to be obviously right rather than fast, and bit for bit what the format's own reference does: a product,
// then a sum, never fused.

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
        case .int4:
            let scale = Float(bitPattern: unsafe block.word(0))
            let zero = Int(unsafe block[4])
            for index in 0..<32 { values.append(Float(unsafe block.nibble(5, index) - zero) * scale) }
        case .int8:
            let scale = Float(bitPattern: unsafe block.word(0))
            let zero = Int(unsafe block[4])
            for index in 0..<32 { values.append(Float(Int(unsafe block[5 + index]) - zero) * scale) }
        case .e4m3:
            let scale = Float(bitPattern: unsafe block.word(0))
            for index in 0..<32 { values.append(Self.e4m3(unsafe block[4 + index]) * scale) }
        case .q2_k, .q3_k, .q4_k, .q5_k, .q6_k, .iq4_xs: unsafe appendSuperBlock(block, to: &values)
        default: unsafe appendShortBlock(block, to: &values)
        }
    }

    /// A GGUF block of 32.
    private func appendShortBlock(_ block: UnsafeRawBufferPointer, to values: inout [Float]) {
        switch dtype {
        case .q8_0:
            let scale = unsafe block.half(0)
            for index in 0..<32 { values.append(Float(Int8(bitPattern: unsafe block[2 + index])) * scale) }
        case .q4_0:
            let scale = unsafe block.half(0)
            for index in 0..<32 { values.append(Float(unsafe block.nibble(2, index) - 8) * scale) }
        case .q4_1:
            let scale = unsafe block.half(0)
            let minimum = unsafe block.half(2)
            for index in 0..<32 { values.append(Float(unsafe block.nibble(4, index)) * scale + minimum) }
        case .q5_0:
            let scale = unsafe block.half(0)
            for index in 0..<32 {
                let code = unsafe block.nibble(6, index) | block.bit(2, index) << 4
                values.append(Float(code - 16) * scale)
            }
        case .q5_1:
            let scale = unsafe block.half(0)
            let minimum = unsafe block.half(2)
            for index in 0..<32 {
                let code = unsafe block.nibble(8, index) | block.bit(4, index) << 4
                values.append(Float(code) * scale + minimum)
            }
        case .iq4_nl:
            let scale = unsafe block.half(0)
            for index in 0..<32 { values.append(scale * Self.iq4Table[unsafe block.nibble(2, index)]) }
        case .mxfp4:
            // The table holds twice the floats, and the exponent 0 stands for half of 2^(−127).
            let exponent = UInt32(unsafe block[0])
            let scale = Float(bitPattern: exponent < 2 ? 0x20_0000 << exponent : (exponent - 1) << 23)
            for index in 0..<32 { values.append(scale * Self.fp4Table[unsafe block.nibble(1, index)]) }
        default: preconditionFailure("\(dtype.rawValue) has no blocks of 32")
        }
    }

    /// A GGUF block of 256.
    private func appendSuperBlock(_ block: UnsafeRawBufferPointer, to values: inout [Float]) {
        for index in 0..<256 {
            let (column, of32) = (index % 32, index / 32)
            switch dtype {
            case .q2_k:
                let scale = Int(unsafe block[index / 16])
                let code = Int(unsafe block[16 + index / 128 * 32 + column]) >> (of32 % 4 * 2) & 3
                let step = unsafe block.half(80) * Float(scale & 15)
                let minimum = unsafe block.half(82) * Float(scale >> 4)
                values.append(step * Float(code) - minimum)
            case .q3_k:
                let low = Int(unsafe block[32 + index / 128 * 32 + column]) >> (of32 % 4 * 2) & 3
                let high = Int(unsafe block[column]) >> of32 & 1
                let sixteen = index / 16
                let scale =
                    Int(unsafe block[96 + sixteen % 8]) >> (sixteen / 8 * 4) & 15
                    | (Int(unsafe block[104 + sixteen % 4]) >> (sixteen / 4 * 2) & 3) << 4
                values.append(unsafe block.half(108) * Float(scale - 32) * Float(low - (1 - high) * 4))
            case .q4_k, .q5_k:
                let (scale, minimum) = unsafe block.sixBitScale(4, of32)
                var code = Int(unsafe block[(dtype == .q4_k ? 16 : 48) + of32 / 2 * 32 + column]) >> (of32 % 2 * 4) & 15
                if dtype == .q5_k { code |= (Int(unsafe block[16 + column]) >> of32 & 1) << 4 }
                let offset = unsafe block.half(2) * Float(minimum)
                values.append(unsafe block.half(0) * Float(scale) * Float(code) - offset)
            case .q6_k:
                let low = Int(unsafe block[index / 128 * 64 + index % 64]) >> (index / 64 % 2 * 4) & 15
                let high = Int(unsafe block[128 + index / 128 * 32 + column]) >> (of32 % 4 * 2) & 3
                let scale = Int8(bitPattern: unsafe block[192 + index / 16])
                values.append(unsafe block.half(208) * Float(scale) * Float((low | high << 4) - 32))
            default:
                let low = Int(unsafe block[4 + of32 / 2]) >> (of32 % 2 * 4) & 15
                let high = Int(unsafe block.bits(2)) >> (2 * of32) & 3
                let code = unsafe block.nibble(8 + 16 * of32, column)
                values.append(unsafe block.half(0) * Float((low | high << 4) - 32) * Self.iq4Table[code])
            }
        }
    }

    /// One sign, four exponent and three mantissa bits; without infinities.
    package static func e4m3(_ bits: UInt8) -> Float {
        let (exponent, mantissa) = (Int(bits >> 3 & 15), Float(bits & 7))
        let magnitude: Float
        if bits & 0x7F == 0x7F {
            magnitude = .nan
        } else if exponent == 0 {
            magnitude = mantissa * 0x1p-9
        } else {
            magnitude = (8 + mantissa) * Float(sign: .plus, exponent: exponent - 10, significand: 1)
        }
        return bits & 0x80 == 0 ? magnitude : -magnitude
    }

    /// What the codes of IQ4_NL and IQ4_XS stand for.
    private static let iq4Table: [Float] = [
        -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
    ]
    /// Twice the floats of one sign, two exponent and one mantissa bits.
    private static let fp4Table: [Float] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]
}

extension UnsafeRawBufferPointer {
    fileprivate func bits(_ offset: Int) -> UInt16 {
        unsafe UInt16(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    fileprivate func word(_ offset: Int) -> UInt32 {
        unsafe UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    /// Element `index` of 32 nibbles: the low halves of 16 bytes, then the high halves.
    fileprivate func nibble(_ offset: Int, _ index: Int) -> Int {
        Int(unsafe self[offset + index % 16]) >> (index / 16 * 4) & 15
    }

    fileprivate func bit(_ offset: Int, _ index: Int) -> Int {
        Int(unsafe self[offset + index / 8]) >> (index % 8) & 1
    }

    /// Scale and minimum `index` of eight, 6 bits each, in 12 bytes.
    fileprivate func sixBitScale(_ offset: Int, _ index: Int) -> (scale: Int, minimum: Int) {
        let (a, b) = unsafe (Int(self[offset + index % 4]), Int(self[offset + 4 + index % 4]))
        if index < 4 { return (a & 63, b & 63) }
        let c = Int(unsafe self[offset + 8 + index % 4])
        return (c & 15 | (a >> 6) << 4, c >> 4 | (b >> 6) << 4)
    }

    fileprivate func half(_ offset: Int) -> Float { Float(Float16(bitPattern: unsafe bits(offset))) }
}
