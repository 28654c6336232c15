// Ranges of characters as ranges of UTF-8 bytes: a range is cut where the length of the encoding changes and then
// where all bytes but the last few stop being the same, until every piece is a plain product of byte ranges.

/// Byte ranges in sequence: one to four of them spell one character.
typealias ByteRangeSequence = [ClosedRange<UInt8>]

enum ScalarRanges {
    /// `ranges` sorted, without overlap, neighbours joined.
    static func normalized(_ ranges: [ClosedRange<Unicode.Scalar>]) -> [ClosedRange<UInt32>] {
        var result: [ClosedRange<UInt32>] = []
        for range in ranges.map({ $0.lowerBound.value...$0.upperBound.value }).sorted(by: {
            $0.lowerBound < $1.lowerBound
        }) {
            if let last = result.last, range.lowerBound <= last.upperBound + 1 {
                result[result.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                result.append(range)
            }
        }
        return result
    }

    /// The byte range sequences that spell the characters of `ranges` and nothing else. There is no character in
    /// D800...DFFF, so a range that spans these values leaves them out.
    static func sequences(_ ranges: [ClosedRange<UInt32>]) -> [ByteRangeSequence] {
        let sameLength: [ClosedRange<UInt32>] = [
            0...0x7F, 0x80...0x7FF, 0x800...0xD7FF, 0xE000...0xFFFF, 0x10000...0x10FFFF,
        ]
        var result: [ByteRangeSequence] = []
        for range in ranges {
            for piece in sameLength where range.overlaps(piece) {
                split(range.clamped(to: piece), into: &result)
            }
        }
        return result
    }

    /// Cuts a range of one encoded length into products.
    private static func split(_ range: ClosedRange<UInt32>, into result: inout [ByteRangeSequence]) {
        var waiting = [range]
        next: while let range = waiting.popLast() {
            let (low, high) = (range.lowerBound, range.upperBound)
            for continuation in 1...3 as ClosedRange<UInt32> where high > 0x7F {
                let mask: UInt32 = 1 << (6 * continuation) - 1
                guard low & ~mask != high & ~mask else { continue }
                if low & mask != 0 {
                    waiting.append((low | mask) + 1...high)
                    waiting.append(low...(low | mask))
                    continue next
                }
                if high & mask != mask {
                    waiting.append(high & ~mask...high)
                    waiting.append(low...(high & ~mask) - 1)
                    continue next
                }
            }
            result.append(zip(encoded(low), encoded(high)).map { $0...$1 })
        }
    }

    private static func encoded(_ value: UInt32) -> [UInt8] {
        switch value {
        case ...0x7F: [UInt8(value)]
        case ...0x7FF: [0xC0 | UInt8(value >> 6), 0x80 | UInt8(value & 0x3F)]
        case ...0xFFFF:
            [0xE0 | UInt8(value >> 12), 0x80 | UInt8(value >> 6 & 0x3F), 0x80 | UInt8(value & 0x3F)]
        default:
            [
                0xF0 | UInt8(value >> 18), 0x80 | UInt8(value >> 12 & 0x3F), 0x80 | UInt8(value >> 6 & 0x3F),
                0x80 | UInt8(value & 0x3F),
            ]
        }
    }
}
