// Unicode's four normalization forms (Standard Annex 15) over UTF-8, with the tables of the reference tokenizer's own
// Unicode version, so that text becomes what the vocabulary was trained on and not what a newer library makes of it.

/// The forms that tokenizers ask for.
package enum NormalizationForm: String, Sendable {
    case canonicalComposition = "NFC"
    case canonicalDecomposition = "NFD"
    case compatibilityComposition = "NFKC"
    case compatibilityDecomposition = "NFKD"

    var composes: Bool { self == .canonicalComposition || self == .compatibilityComposition }
    var isCompatibility: Bool { self == .compatibilityComposition || self == .compatibilityDecomposition }
}

/// Unicode normalization.
package struct UnicodeNormalization: Sendable {
    /// Scalar to a number, in pages of 256; page 0 is all 0.
    private struct Pages {
        var pageOfBlock = [UInt16](repeating: 0, count: 0x110000 >> 8)
        var values = [UInt16](repeating: 0, count: 256)

        @inline(__always)
        subscript(scalar: UInt32) -> UInt16 {
            values[Int(pageOfBlock[Int(scalar >> 8)]) << 8 | Int(scalar & 0xFF)]
        }

        mutating func set(_ scalar: UInt32, to value: UInt16) {
            let block = Int(scalar >> 8)
            if pageOfBlock[block] == 0 {
                pageOfBlock[block] = UInt16(values.count >> 8)
                values.append(contentsOf: repeatElement(0, count: 256))
            }
            values[Int(pageOfBlock[block]) << 8 | Int(scalar & 0xFF)] = value
        }
    }

    // Hangul syllables are computed: first, leading, vowel and trailing letters, and how many there are of each.
    private static let syllables: UInt32 = 0xAC00
    private static let syllableCount: UInt32 = 11_172
    private static let (leads, vowels, trails): (UInt32, UInt32, UInt32) = (0x1100, 0x1161, 0x11A7)
    private static let (leadCount, vowelCount, trailCount): (UInt32, UInt32, UInt32) = (19, 21, 28)

    /// One table for the process; it takes a few milliseconds to fill.
    package static let shared = UnicodeNormalization()

    /// Scalar to the number of its decomposition, from 1; 0 is itself.
    private var canonical = Pages()
    private var compatibility = Pages()
    private var combiningClasses = Pages()
    /// [decompositions + 1] where each ends in `decomposed`.
    private var ends: [Int32] = [0]
    private var decomposed: [UInt32] = []
    /// (first, second) to the scalar that they compose to.
    private var compositions = PairTable(capacity: 2048)

    private init() {
        fill(NormalizationTables.canonical, isCanonical: true)
        fill(NormalizationTables.compatibility, isCanonical: false)
        var reader = DigitReader(NormalizationTables.combiningClasses)
        var scalar: UInt32 = 0
        while let distance = reader.next(), let count = reader.next(), let kind = reader.next() {
            scalar += distance
            for _ in 0..<count {
                combiningClasses.set(scalar, to: UInt16(kind))
                scalar += 1
            }
        }
        fillCompositions()
    }

    /// What composes is joined mark by mark, so the shorter decompositions come first.
    private mutating func fillCompositions() {
        var reader = DigitReader(NormalizationTables.compositions)
        var scalar: UInt32 = 0
        var composites: [UInt32] = []
        while let distance = reader.next() {
            scalar += distance
            composites.append(scalar)
        }
        for length in 2...4 {
            for scalar in composites {
                let range = decomposition(canonical[scalar])
                guard range.count == length else { continue }
                var first = decomposed[range.lowerBound]
                for mark in decomposed[(range.lowerBound + 1)..<(range.upperBound - 1)] {
                    first = compositions[first, mark]
                }
                if first != PairTable.absent { compositions.set(first, decomposed[range.upperBound - 1], to: scalar) }
            }
        }
    }

    private mutating func fill(_ table: StaticString, isCanonical: Bool) {
        var reader = DigitReader(table)
        var scalar: UInt32 = 0
        var previous: UInt32 = 0
        while let distance = reader.next(), let count = reader.next() {
            scalar += distance
            for _ in 0..<count {
                let step = reader.next() ?? 0
                previous = step & 1 == 0 ? previous + step / 2 : previous - (step + 1) / 2
                decomposed.append(previous)
            }
            ends.append(Int32(decomposed.count))
            let number = UInt16(ends.count - 1)
            if isCanonical { canonical.set(scalar, to: number) }
            compatibility.set(scalar, to: number)
        }
    }

    private func decomposition(_ number: UInt16) -> Range<Int> { Int(ends[Int(number) - 1])..<Int(ends[Int(number)]) }

    /// `bytes`, which are UTF-8, in the form asked for.
    package func normalize(_ bytes: [UInt8], to form: NormalizationForm) -> [UInt8] {
        let span = bytes.span
        // Everything below U+0300 composes already, and ASCII has every form.
        let safeBelow: UInt8 = form == .canonicalComposition ? 0xCC : 0x80
        var firstUnsafe = 0
        while firstUnsafe < bytes.count, span[firstUnsafe] < safeBelow { firstUnsafe += 1 }
        if firstUnsafe == bytes.count { return bytes }

        var scalars: [UInt32] = []
        scalars.reserveCapacity(bytes.count)
        var position = 0
        while position < bytes.count {
            let (scalar, end) = Characters.next(span, position, bytes.count)
            position = end
            append(scalar, to: &scalars, isCompatibility: form.isCompatibility)
        }
        sortMarks(&scalars)
        if form.composes { compose(&scalars) }
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        for scalar in scalars { Characters.append(scalar, to: &result) }
        return result
    }

    private func append(_ scalar: UInt32, to scalars: inout [UInt32], isCompatibility: Bool) {
        if scalar >= Self.syllables, scalar < Self.syllables + Self.syllableCount {
            let index = scalar - Self.syllables
            scalars.append(Self.leads + index / (Self.vowelCount * Self.trailCount))
            scalars.append(Self.vowels + index / Self.trailCount % Self.vowelCount)
            if index % Self.trailCount > 0 { scalars.append(Self.trails + index % Self.trailCount) }
            return
        }
        let number = isCompatibility ? compatibility[scalar] : canonical[scalar]
        if number == 0 { return scalars.append(scalar) }
        for index in decomposition(number) { scalars.append(decomposed[index]) }
    }

    /// Puts each run of marks in the order of their classes, those of one class as they came.
    private func sortMarks(_ scalars: inout [UInt32]) {
        var start = 0
        while start < scalars.count {
            guard combiningClasses[scalars[start]] > 0 else {
                start += 1
                continue
            }
            var end = start
            var isSorted = true
            var last: UInt16 = 0
            while end < scalars.count, combiningClasses[scalars[end]] > 0 {
                let kind = combiningClasses[scalars[end]]
                if kind < last { isSorted = false }
                last = kind
                end += 1
            }
            if !isSorted {
                // By class, then by place: a text of marks alone costs n log n.
                let marks = scalars[start..<end].enumerated().sorted { left, right in
                    let kinds = (combiningClasses[left.element], combiningClasses[right.element])
                    return (kinds.0, left.offset) < (kinds.1, right.offset)
                }
                for (offset, mark) in marks.enumerated() { scalars[start + offset] = mark.element }
            }
            start = end
        }
    }

    private func compose(_ scalars: inout [UInt32]) {
        var count = 0
        var starter = -1
        var last: UInt16 = 0
        for index in scalars.indices {
            let scalar = scalars[index]
            let kind = combiningClasses[scalar]
            // A mark joins the starter unless one of its own class or higher stands between them.
            if starter >= 0, count == starter + 1 || last < kind, let joined = composite(scalars[starter], scalar) {
                scalars[starter] = joined
                continue
            }
            if kind == 0 { starter = count }
            last = kind
            scalars[count] = scalar
            count += 1
        }
        scalars.removeSubrange(count...)
    }

    private func composite(_ first: UInt32, _ second: UInt32) -> UInt32? {
        if first >= Self.leads, first < Self.leads + Self.leadCount, second >= Self.vowels,
            second < Self.vowels + Self.vowelCount
        {
            return Self.syllables
                + ((first - Self.leads) * Self.vowelCount + second - Self.vowels) * Self.trailCount
        }
        if first >= Self.syllables, first < Self.syllables + Self.syllableCount,
            (first - Self.syllables) % Self.trailCount == 0, second > Self.trails,
            second < Self.trails + Self.trailCount
        {
            return first + second - Self.trails
        }
        let joined = compositions[first, second]
        return joined == PairTable.absent ? nil : joined
    }
}

/// Reads the numbers of `NormalizationTables`.
private struct DigitReader {
    private let letters: [UInt8]
    private var position = 0
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private let digitOfLetter: [UInt8]

    init(_ table: StaticString) {
        letters = Array(table.description.utf8)
        var digits = [UInt8](repeating: 0, count: 256)
        for (digit, letter) in Self.alphabet.enumerated() { digits[Int(letter)] = UInt8(digit) }
        digitOfLetter = digits
    }

    mutating func next() -> UInt32? {
        var value: UInt32 = 0
        var shift: UInt32 = 0
        while position < letters.count {
            let digit = UInt32(digitOfLetter[Int(letters[position])])
            position += 1
            value |= (digit & 31) << shift
            if digit < 32 { return value }
            shift += 5
        }
        return nil
    }
}
