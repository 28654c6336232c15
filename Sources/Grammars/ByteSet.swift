// A set of bytes in four words.

/// Any of the 256 byte values.
package struct ByteSet: Hashable, Sendable {
    /// Bit b of word w is byte 64·w + b.
    private var words = SIMD4<UInt64>()

    package init() {}

    package init(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { insert(byte) }
    }

    package mutating func insert(_ byte: UInt8) { words[Int(byte >> 6)] |= 1 << UInt64(byte & 63) }

    package func contains(_ byte: UInt8) -> Bool { words[Int(byte >> 6)] >> UInt64(byte & 63) & 1 != 0 }

    package var isEmpty: Bool { words == SIMD4() }

    package var inverted: ByteSet {
        var result = self
        result.words = ~words
        return result
    }

    package func union(_ other: ByteSet) -> ByteSet {
        var result = self
        result.words |= other.words
        return result
    }

    package func intersection(_ other: ByteSet) -> ByteSet {
        var result = self
        result.words &= other.words
        return result
    }
}
