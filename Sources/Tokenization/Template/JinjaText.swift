// A string inside the interpreter: UTF-8 bytes, and which of them come from the template's own literals.
// Only those may become control tokens, so every operation on text carries the marks along; where bytes of both
// kinds decide a result, the result is untrusted. Bytes compare as Python's code points do, and slice in O(1).

/// The namespace of the interpreter's own types.
enum Jinja {}

extension Jinja {
    /// Text with its provenance.
    struct Text: Sendable {
        /// Always valid UTF-8.
        private(set) var bytes: [UInt8]
        /// Whether the first byte is trusted.
        private(set) var startsTrusted: Bool
        /// Offsets at which trust changes, ascending, inside the text. Empty for nearly every string.
        private(set) var flips: [Int]

        init(bytes: [UInt8], trusted: Bool) {
            self.bytes = bytes
            startsTrusted = trusted
            flips = []
        }

        init(_ string: String, trusted: Bool = false) {
            self.init(bytes: Array(string.utf8), trusted: trusted)
        }

        /// The empty string.
        static var empty: Text { Text(bytes: [], trusted: false) }

        var count: Int { bytes.count }
        var isEmpty: Bool { bytes.isEmpty }
        var string: String { String(decoding: bytes, as: UTF8.self) }
        /// Whether no byte of it came from the caller.
        var isTrusted: Bool { startsTrusted && flips.isEmpty }
        private var endsTrusted: Bool { startsTrusted != (flips.count % 2 == 1) }

        /// Appends bytes of one provenance.
        mutating func append(_ other: some Collection<UInt8>, trusted: Bool) {
            guard !other.isEmpty else { return }
            if bytes.isEmpty {
                startsTrusted = trusted
            } else if trusted != endsTrusted {
                flips.append(bytes.count)
            }
            bytes.append(contentsOf: other)
        }

        mutating func append(_ other: Text) {
            guard !other.isEmpty else { return }
            let base = bytes.count
            append(other.bytes, trusted: other.startsTrusted)
            for flip in other.flips { flips.append(base + flip) }
        }

        /// The text `count` times over, built by doubling.
        func repeated(_ count: Int) -> Text {
            var result = Text.empty
            var unit = self
            var rest = count
            while rest > 0 {
                if rest & 1 == 1 { result.append(unit) }
                rest >>= 1
                if rest > 0 {
                    let half = unit
                    unit.append(half)
                }
            }
            return result
        }

        /// The part of the text in `range`, which must lie inside it and on character borders.
        subscript(range: Range<Int>) -> Text {
            if range.count == bytes.count { return self }
            guard !range.isEmpty else { return .empty }
            var part = Text(bytes: Array(bytes[range]), trusted: isTrusted(at: range.lowerBound))
            for flip in flips[flipCount(through: range.lowerBound)...] {
                guard flip < range.upperBound else { break }
                part.flips.append(flip - range.lowerBound)
            }
            return part
        }

        /// Whether the byte at `offset` is trusted.
        func isTrusted(at offset: Int) -> Bool {
            startsTrusted != (flipCount(through: offset) % 2 == 1)
        }

        /// Whether every byte of `range` is trusted.
        func isTrusted(in range: Range<Int>) -> Bool {
            let passed = flipCount(through: range.lowerBound)
            guard startsTrusted != (passed % 2 == 1) else { return false }
            return passed == flips.count || flips[passed] >= range.upperBound
        }

        /// How many of the flips lie at or before `offset`.
        private func flipCount(through offset: Int) -> Int {
            var low = 0
            var high = flips.count
            while low < high {
                let middle = (low + high) / 2
                if flips[middle] <= offset { low = middle + 1 } else { high = middle }
            }
            return low
        }

        /// The text with each byte replaced by one of the same provenance.
        func mapBytes(_ transform: (UInt8) -> UInt8) -> Text {
            var result = self
            for index in bytes.indices { result.bytes[index] = transform(bytes[index]) }
            return result
        }

        /// The same bytes, none of them trusted.
        var untrusted: Text { Text(bytes: bytes, trusted: false) }

        /// The stretches of one provenance, in order.
        var runs: [(range: Range<Int>, trusted: Bool)] {
            guard !isEmpty else { return [] }
            var runs: [(range: Range<Int>, trusted: Bool)] = []
            var start = 0
            var trusted = startsTrusted
            for flip in flips {
                runs.append((start..<flip, trusted))
                start = flip
                trusted.toggle()
            }
            runs.append((start..<bytes.count, trusted))
            return runs
        }
    }
}

extension Jinja.Text: Hashable {
    /// Texts are equal when their characters are: provenance decides nothing but control tokens.
    static func == (left: Self, right: Self) -> Bool { left.bytes == right.bytes }

    func hash(into hasher: inout Hasher) { hasher.combine(bytes) }

    static func < (left: Self, right: Self) -> Bool { left.bytes.lexicographicallyPrecedes(right.bytes) }
}

// MARK: - Characters

extension Jinja.Text {
    /// Whether the byte begins a character.
    @inline(__always)
    static func isBoundary(_ byte: UInt8) -> Bool { byte & 0xC0 != 0x80 }

    /// The number of characters (Unicode scalars, as Python counts).
    var length: Int {
        var length = 0
        for byte in bytes where Self.isBoundary(byte) { length += 1 }
        return length
    }

    /// The byte offset of each character, and the end.
    var boundaries: [Int] {
        var offsets: [Int] = []
        offsets.reserveCapacity(bytes.count + 1)
        for index in bytes.indices where Self.isBoundary(bytes[index]) { offsets.append(index) }
        offsets.append(bytes.count)
        return offsets
    }

    /// The characters, with the byte range of each.
    func forEachScalar(_ body: (Unicode.Scalar, Range<Int>) -> Void) {
        var offset = 0
        for scalar in string.unicodeScalars {
            let width = UTF8.width(scalar)
            body(scalar, offset..<offset + width)
            offset += width
        }
    }

    /// The text with each character replaced by some of the same provenance.
    func mapScalars(_ transform: (Unicode.Scalar) -> String) -> Jinja.Text {
        var result = Jinja.Text.empty
        forEachScalar { scalar, range in
            result.append(transform(scalar).utf8, trusted: isTrusted(at: range.lowerBound))
        }
        return result
    }
}

// MARK: - Searching

extension Jinja.Text {
    /// The first occurrence of `needle` at or after `start`, in time linear in both.
    func firstRange(of needle: [UInt8], from start: Int = 0) -> Range<Int>? {
        var search = Jinja.TextSearch(needle)
        return search.next(in: bytes, from: start)
    }

    /// The places where `needle` occurs, left to right and not overlapping, `limit` at most.
    func ranges(of needle: [UInt8], limit: Int = .max) -> [Range<Int>] {
        var search = Jinja.TextSearch(needle)
        var ranges: [Range<Int>] = []
        var start = 0
        while ranges.count < limit, let range = search.next(in: bytes, from: start) {
            ranges.append(range)
            start = range.upperBound
        }
        return ranges
    }

    /// The last occurrence of `needle` that ends at or before `end`.
    func lastRange(of needle: [UInt8], before end: Int) -> Range<Int>? {
        var search = Jinja.TextSearch(needle.reversed())
        guard let range = search.next(in: bytes[..<end].reversed(), from: 0) else { return nil }
        return end - range.upperBound..<end - range.lowerBound
    }

    func hasPrefix(_ prefix: [UInt8]) -> Bool { bytes.starts(with: prefix) }
    func hasSuffix(_ suffix: [UInt8]) -> Bool {
        bytes.count >= suffix.count && bytes[(bytes.count - suffix.count)...].elementsEqual(suffix)
    }
}

extension Jinja {
    /// Knuth, Morris and Pratt's search: linear also for the needles that make a plain search quadratic.
    struct TextSearch {
        private let needle: [UInt8]
        private var borders: [Int] = []

        /// A search for `needle`; an empty one is never found.
        init(_ needle: [UInt8]) { self.needle = needle }

        mutating func next(in bytes: [UInt8], from start: Int) -> Range<Int>? {
            guard let first = needle.first, start <= bytes.count - needle.count else { return nil }
            if borders.isEmpty { borders = Self.borders(of: needle) }
            var matched = 0
            var index = start
            while index < bytes.count {
                let byte = bytes[index]
                if matched == 0, byte != first {
                    index += 1
                    continue
                }
                while matched > 0, byte != needle[matched] { matched = borders[matched - 1] }
                if byte == needle[matched] { matched += 1 }
                index += 1
                if matched == needle.count { return index - matched..<index }
            }
            return nil
        }

        /// For each prefix the length of its longest proper prefix that is also its suffix.
        private static func borders(of needle: [UInt8]) -> [Int] {
            var borders = [Int](repeating: 0, count: needle.count)
            var length = 0
            for index in needle.indices.dropFirst() {
                while length > 0, needle[index] != needle[length] { length = borders[length - 1] }
                if needle[index] == needle[length] { length += 1 }
                borders[index] = length
            }
            return borders
        }
    }
}
