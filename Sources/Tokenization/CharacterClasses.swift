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

/// What newer patterns and other pre-tokenizers tell apart beyond the class.
struct CharacterTraits: OptionSet {
    let rawValue: UInt8

    /// May begin a capitalized word: `\p{Lu}`, `\p{Lt}`, `\p{Lm}`, `\p{Lo}` and `\p{M}`.
    static let leading = CharacterTraits(rawValue: 1 << 3)
    /// May go on in one: `\p{Ll}`, `\p{Lm}`, `\p{Lo}` and `\p{M}`.
    static let following = CharacterTraits(rawValue: 1 << 4)
    /// `\w`.
    static let word = CharacterTraits(rawValue: 1 << 5)
    /// Cut out by the Punctuation pre-tokenizer.
    static let punctuation = CharacterTraits(rawValue: 1 << 6)
}

/// The classes of all scalars.
struct CharacterClasses: Sendable {
    /// [0x1100] the page of each block of 256 scalars.
    private var pageOfBlock: [UInt16]
    /// [pages × 256] the raw value of a `CharacterClass` in the low three bits, `CharacterTraits` above; page 0 is 0.
    private var pages: [UInt8]

    /// One table for the process; it takes a millisecond to fill.
    static let shared = CharacterClasses()

    private init() {
        pageOfBlock = [UInt16](repeating: 0, count: 0x110000 >> 8)
        pages = [UInt8](repeating: 0, count: 256)
        let both = CharacterTraits.leading.rawValue | CharacterTraits.following.rawValue
        fill(CharacterClassRanges.letters) { _ in CharacterClass.letter.rawValue | both }
        fill(CharacterTraitRanges.upperCase) { $0 & ~CharacterTraits.following.rawValue }
        fill(CharacterTraitRanges.lowerCase) { $0 & ~CharacterTraits.leading.rawValue }
        fill(CharacterTraitRanges.marks) { $0 | both }
        fill(CharacterClassRanges.numbers) { $0 | CharacterClass.number.rawValue }
        fill(CharacterClassRanges.spaces) { $0 | CharacterClass.space.rawValue }
        fill(CharacterClassRanges.laterDigits) { $0 | CharacterClass.laterDigit.rawValue }
        fill(CharacterTraitRanges.words) { $0 | CharacterTraits.word.rawValue }
        fill(CharacterTraitRanges.punctuation) { $0 | CharacterTraits.punctuation.rawValue }
    }

    private mutating func fill(_ ranges: [UInt32], _ change: (UInt8) -> UInt8) {
        for index in stride(from: 0, to: ranges.count, by: 2) {
            for scalar in ranges[index]...ranges[index + 1] {
                let block = Int(scalar >> 8)
                if pageOfBlock[block] == 0 {
                    pageOfBlock[block] = UInt16(pages.count >> 8)
                    pages.append(contentsOf: repeatElement(0, count: 256))
                }
                let entry = Int(pageOfBlock[block]) << 8 | Int(scalar & 0xFF)
                pages[entry] = change(pages[entry])
            }
        }
    }

    /// The class of `scalar`, which must be below U+110000.
    @inline(__always)
    subscript(scalar: UInt32) -> CharacterClass { CharacterClass(rawValue: entry(scalar) & 7) ?? .other }

    /// The traits of `scalar`, which must be below U+110000.
    @inline(__always)
    func traits(of scalar: UInt32) -> CharacterTraits { CharacterTraits(rawValue: entry(scalar) & ~7) }

    @inline(__always)
    private func entry(_ scalar: UInt32) -> UInt8 {
        pages[Int(pageOfBlock[Int(scalar >> 8)]) << 8 | Int(scalar & 0xFF)]
    }
}
