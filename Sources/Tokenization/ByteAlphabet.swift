// Byte-level BPE's spelling: each of the 256 bytes is written as one printable character, so that a vocabulary is a
// list of readable strings. Printable Latin-1 bytes are themselves; the other 68 take the characters from U+0100 on.

/// The two-way table between bytes and the characters that stand for them in vocabularies and merges.
struct ByteAlphabet {
    /// [324] the byte that each scalar below U+0144 stands for, or -1.
    private var byteOfScalar: [Int16] = []
    /// [256] the scalar that stands for each byte.
    private(set) var scalarOfByte: [UInt32] = []

    init() {
        var next: UInt32 = 0x100
        for byte in UInt32(0)..<256 {
            let isPrintable = (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE
            scalarOfByte.append(isPrintable ? byte : next)
            if !isPrintable { next += 1 }
        }
        byteOfScalar = [Int16](repeating: -1, count: Int(next))
        for byte in 0..<256 { byteOfScalar[Int(scalarOfByte[byte])] = Int16(byte) }
    }

    /// Appends to `bytes` what the spelled piece stands for, or the piece as it is if some character of it stands for
    /// no byte; the reference decoder does the same.
    func append(piece: Range<Int>, of spelled: Span<UInt8>, to bytes: inout [UInt8]) {
        let start = bytes.count
        var position = piece.lowerBound
        while position < piece.upperBound {
            // Every scalar of the alphabet has one or two UTF-8 bytes.
            let lead = UInt32(spelled[position])
            var scalar = lead
            position += 1
            if lead >= 0x80 {
                guard lead & 0xE0 == 0xC0, position < piece.upperBound, spelled[position] & 0xC0 == 0x80 else {
                    scalar = .max
                    break
                }
                scalar = (lead & 0x1F) << 6 | UInt32(spelled[position] & 0x3F)
                position += 1
            }
            guard scalar < byteOfScalar.count, byteOfScalar[Int(scalar)] >= 0 else { break }
            bytes.append(UInt8(truncatingIfNeeded: byteOfScalar[Int(scalar)]))
            if position == piece.upperBound { return }
        }
        bytes.removeSubrange(start...)
        for index in piece { bytes.append(spelled[index]) }
    }

    /// The UTF-8 bytes of the character that stands for `byte`.
    func spelling(of byte: UInt8) -> [UInt8] {
        let scalar = scalarOfByte[Int(byte)]
        if scalar < 0x80 { return [UInt8(scalar)] }
        return [UInt8(0xC0 | scalar >> 6), UInt8(0x80 | scalar & 0x3F)]
    }
}
