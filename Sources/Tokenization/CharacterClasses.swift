// The class of a Unicode scalar in two array reads: scalars are grouped into pages of 256, and the thousands of pages
// with nothing but "other" in them share one.

/// What a pre-tokenizer needs to know about a character.
enum CharacterClass: UInt8 {
    /// None of the others: punctuation, symbols, marks, controls, unassigned.
    case other = 0
    /// `\p{L}`.
    case letter = 1
    /// `\p{N}`.
    case number = 2
    /// `\s`.
    case space = 3
    /// A digit to the reference's digit splitter, whose Unicode is newer than its regex engine's; to the latter, other.
    case laterDigit = 4
}

/// The classes of all scalars.
struct CharacterClasses: Sendable {
    /// [0x1100] the page of each block of 256 scalars.
    private var pageOfBlock: [UInt16]
    /// [pages × 256] raw values of `CharacterClass`; page 0 is all `other`.
    private var pages: [UInt8]

    /// One table for the process; it takes a millisecond to fill.
    static let shared = CharacterClasses()

    private init() {
        pageOfBlock = [UInt16](repeating: 0, count: 0x110000 >> 8)
        pages = [UInt8](repeating: CharacterClass.other.rawValue, count: 256)
        fill(CharacterClassRanges.letters, with: .letter)
        fill(CharacterClassRanges.numbers, with: .number)
        fill(CharacterClassRanges.spaces, with: .space)
        fill(CharacterClassRanges.laterDigits, with: .laterDigit)
    }

    private mutating func fill(_ ranges: [UInt32], with kind: CharacterClass) {
        for index in stride(from: 0, to: ranges.count, by: 2) {
            for scalar in ranges[index]...ranges[index + 1] {
                let block = Int(scalar >> 8)
                if pageOfBlock[block] == 0 {
                    pageOfBlock[block] = UInt16(pages.count >> 8)
                    pages.append(contentsOf: repeatElement(CharacterClass.other.rawValue, count: 256))
                }
                pages[Int(pageOfBlock[block]) << 8 | Int(scalar & 0xFF)] = kind.rawValue
            }
        }
    }

    /// The class of `scalar`, which must be below U+110000.
    subscript(scalar: UInt32) -> CharacterClass {
        CharacterClass(rawValue: pages[Int(pageOfBlock[Int(scalar >> 8)]) << 8 | Int(scalar & 0xFF)]) ?? .other
    }
}
