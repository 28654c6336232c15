// One character of UTF-8 at a time. The text is valid where it matters; where it is not, the answers are meaningless
// but still make progress and stay within the text.

/// Reads the scalars of UTF-8.
enum Characters {
    /// The scalar that begins at `position`, below U+110000, and where the next one begins, at most `limit`.
    @inline(__always)
    static func next(_ bytes: Span<UInt8>, _ position: Int, _ limit: Int) -> (scalar: UInt32, end: Int) {
        let lead = UInt32(bytes[position])
        if lead < 0x80 { return (lead, position + 1) }
        let length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2
        let end = min(position + length, limit)
        var scalar = lead & (0x7F >> UInt32(length))
        for index in (position + 1)..<end { scalar = scalar << 6 | UInt32(bytes[index] & 0x3F) }
        return (min(scalar, 0x10FFFF), end)
    }

    /// Where the scalar that ends at `end` begins, at least `start`; `end` must be above `start`.
    @inline(__always)
    static func start(ofLast bytes: Span<UInt8>, _ start: Int, _ end: Int) -> Int {
        var position = end - 1
        while position > start, end - position < 4, bytes[position] & 0xC0 == 0x80 { position -= 1 }
        return position
    }

    /// Appends the UTF-8 of `scalar`.
    static func append(_ scalar: UInt32, to bytes: inout [UInt8]) {
        if scalar < 0x80 { return bytes.append(UInt8(scalar)) }
        if scalar < 0x800 {
            bytes.append(UInt8(0xC0 | scalar >> 6))
        } else {
            if scalar < 0x10000 {
                bytes.append(UInt8(0xE0 | scalar >> 12))
            } else {
                bytes.append(UInt8(0xF0 | scalar >> 18 & 7))
                bytes.append(UInt8(0x80 | scalar >> 12 & 0x3F))
            }
            bytes.append(UInt8(0x80 | scalar >> 6 & 0x3F))
        }
        bytes.append(UInt8(0x80 | scalar & 0x3F))
    }
}
