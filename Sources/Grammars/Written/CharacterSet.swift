// Sets of characters, as classes of regular expressions and written grammars name them.

struct CharacterSet: Equatable {
    /// Sorted, without overlap, neighbours joined; may span the values that are no characters.
    private var ranges: [ClosedRange<UInt32>] = []

    init() {}

    init(_ ranges: [ClosedRange<Unicode.Scalar>]) { self.ranges = ScalarRanges.normalized(ranges) }

    private static let last: UInt32 = 0x10FFFF

    static let digits = CharacterSet(["0"..."9"])
    static let wordCharacters = CharacterSet(["0"..."9", "A"..."Z", "_"..."_", "a"..."z"])
    static let spaces = CharacterSet([
        "\t"..."\r", " "..." ", "\u{A0}"..."\u{A0}", "\u{1680}"..."\u{1680}", "\u{2000}"..."\u{200A}",
        "\u{2028}"..."\u{2029}", "\u{202F}"..."\u{202F}", "\u{205F}"..."\u{205F}", "\u{3000}"..."\u{3000}",
        "\u{FEFF}"..."\u{FEFF}",
    ])
    static let lineEnds = CharacterSet(["\n"..."\n", "\r"..."\r", "\u{2028}"..."\u{2029}"])

    var isEmpty: Bool { ranges.isEmpty }

    /// The one character of the set, when it has one.
    var only: Unicode.Scalar? {
        guard ranges.count == 1, ranges[0].count == 1 else { return nil }
        return Unicode.Scalar(ranges[0].lowerBound)
    }

    var expression: Expression {
        // Bounds within D800...DFFF are no characters; the next ones are.
        .scalar(
            ranges.compactMap { range in
                guard let low = Unicode.Scalar(range.lowerBound) ?? Unicode.Scalar(0xE000),
                    let high = Unicode.Scalar(range.upperBound) ?? Unicode.Scalar(0xD7FF)
                else { return nil }
                return low <= high ? low...high : nil
            })
    }

    mutating func formUnion(_ other: CharacterSet) {
        let all = (ranges + other.ranges).sorted { $0.lowerBound < $1.lowerBound }
        var result: [ClosedRange<UInt32>] = []
        for range in all {
            if let last = result.last, range.lowerBound <= last.upperBound + 1 {
                result[result.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                result.append(range)
            }
        }
        ranges = result
    }

    /// All characters that are not in the set.
    var inverted: CharacterSet {
        var result = CharacterSet()
        var next: UInt32 = 0
        for range in ranges {
            if range.lowerBound > next { result.ranges.append(next...range.lowerBound - 1) }
            next = range.upperBound + 1
        }
        if next <= Self.last { result.ranges.append(next...Self.last) }
        return result
    }

    /// The characters of a general category or of a group of them, by its short name; nil for an unknown name.
    static func category(_ name: String) -> CharacterSet? {
        guard (1...2).contains(name.count), categoryNames.contains(where: { $0.hasPrefix(name) }) else { return nil }
        var result = CharacterSet()
        for run in runs where run.category.hasPrefix(name) { result.formUnionLater(run.range) }
        return result
    }

    /// Appends a range after all others.
    private mutating func formUnionLater(_ range: ClosedRange<UInt32>) {
        if let last = ranges.last, last.upperBound + 1 == range.lowerBound {
            ranges[ranges.count - 1] = last.lowerBound...range.upperBound
        } else {
            ranges.append(range)
        }
    }

    private static let categoryNames = [
        "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
        "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp",
    ]

    /// Neighbouring characters of one category.
    private static let runs: [(range: ClosedRange<UInt32>, category: String)] = {
        var result: [(range: ClosedRange<UInt32>, category: String)] = []
        for value in 0...last {
            guard let scalar = Unicode.Scalar(value), let name = shortName(scalar.properties.generalCategory) else {
                continue
            }
            if let run = result.last, run.category == name, run.range.upperBound + 1 == value {
                result[result.count - 1].range = run.range.lowerBound...value
            } else {
                result.append((value...value, name))
            }
        }
        return result
    }()

    private static func shortName(_ category: Unicode.GeneralCategory) -> String? {
        switch category {
        case .uppercaseLetter: "Lu"
        case .lowercaseLetter: "Ll"
        case .titlecaseLetter: "Lt"
        case .modifierLetter: "Lm"
        case .otherLetter: "Lo"
        case .nonspacingMark: "Mn"
        case .spacingMark: "Mc"
        case .enclosingMark: "Me"
        case .decimalNumber: "Nd"
        case .letterNumber: "Nl"
        case .otherNumber: "No"
        case .connectorPunctuation: "Pc"
        case .dashPunctuation: "Pd"
        case .openPunctuation: "Ps"
        case .closePunctuation: "Pe"
        case .initialPunctuation: "Pi"
        case .finalPunctuation: "Pf"
        case .otherPunctuation: "Po"
        case .mathSymbol: "Sm"
        case .currencySymbol: "Sc"
        case .modifierSymbol: "Sk"
        case .otherSymbol: "So"
        case .spaceSeparator: "Zs"
        case .lineSeparator: "Zl"
        case .paragraphSeparator: "Zp"
        default: nil
        }
    }
}
