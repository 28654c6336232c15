// GPT-4's way of cutting and the variants that other families made of it, as one scanner with four switches. In each
// the alternatives are tried in the order of the expression; a run is looked through at most twice.

/// `[^\r\n\p{L}\p{N}]?\p{L}+`, numbers, punctuation with the line ends after it, line ends, spaces.
struct WordPattern: Sendable, Equatable {
    /// Where 's, 't, 're, 've, 'm, 'll and 'd go, in either case.
    enum Contractions { case none, apart, attached }

    /// Whether a word ends where lower case is followed by upper.
    var splitsAtCapitals = false
    var contractions = Contractions.apart
    /// The most digits in one piece.
    var digits = 3
    /// Whether slashes go with the line ends after punctuation.
    var takesSlashes = false

    static let gpt4 = WordPattern()
    static let qwen2 = WordPattern(digits: 1)
    static let gpt4o = WordPattern(splitsAtCapitals: true, contractions: .attached, takesSlashes: true)
    static let tekken = WordPattern(splitsAtCapitals: true, contractions: .none, digits: 1, takesSlashes: true)

    private static let tail = #"\s+(?!\S)|\s+"#
    private static let capitals = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    private static let smalls = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    private static let prefix = #"[^\r\n\p{L}\p{N}]?"#
    private static let suffix = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"

    /// The expressions known, as tokenizer.json files spell them.
    private static let expressions: [String: WordPattern] = {
        let marks = #" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"# + tail
        let slashes = #" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|"# + tail
        let words = suffix + "|" + prefix + #"\p{L}+|"#
        let gpt4o = [
            prefix + capitals + "*" + smalls + "+" + suffix + "?",
            prefix + capitals + "+" + smalls + "*" + suffix + "?",
        ]
        let tekken = [prefix + capitals + "*" + smalls + "+", prefix + capitals + "+" + smalls + "*"]
        return [
            words + #"\p{N}{1,3}|"# + marks: .gpt4,
            words + #"\p{N}|"# + marks: .qwen2,
            words + #"\p{N}+|"# + marks: WordPattern(digits: .max),
            // As OpenAI publishes it: possessive, and one line end where a run of them is matched all the same.
            #"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|"# + tail:
                .gpt4,
            gpt4o.joined(separator: "|") + #"|\p{N}{1,3}|"# + slashes: .gpt4o,
            tekken.joined(separator: "|") + #"|\p{N}|"# + slashes: .tekken,
        ]
    }()

    init(
        splitsAtCapitals: Bool = false, contractions: Contractions = .apart, digits: Int = 3, takesSlashes: Bool = false
    ) {
        self.splitsAtCapitals = splitsAtCapitals
        self.contractions = contractions
        self.digits = digits
        self.takesSlashes = takesSlashes
    }

    /// The pattern that is spelled `source`, if it is known.
    init?(expression source: String) {
        guard let known = Self.expressions[source] else { return nil }
        self = known
    }

    func end(ofPieceAt start: Int, in bytes: Span<UInt8>, limit: Int, _ classes: CharacterClasses) -> Int {
        if contractions == .apart, let end = endOfContraction(at: start, in: bytes, limit: limit) { return end }
        let (first, second) = Characters.next(bytes, start, limit)
        let kind = classes[first]
        if let end = endOfWord(at: start, first, second, in: bytes, limit: limit, classes) { return end }
        if kind == .number { return endOfDigits(from: second, in: bytes, limit: limit, classes) }
        if kind != .space { return endOfMarks(from: second, in: bytes, limit: limit, classes) }
        if first == 0x20, second < limit {
            let next = Characters.next(bytes, second, limit)
            if isMark(classes[next.scalar]) { return endOfMarks(from: next.end, in: bytes, limit: limit, classes) }
        }
        return endOfSpaces(from: start, in: bytes, limit: limit, classes)
    }

    private func isMark(_ kind: CharacterClass) -> Bool { kind == .other || kind == .laterDigit }

    // MARK: Words

    private func endOfWord(
        at start: Int, _ first: UInt32, _ second: Int, in bytes: Span<UInt8>, limit: Int, _ classes: CharacterClasses
    ) -> Int? {
        let kind = classes[first]
        let mayPrefix = kind != .letter && kind != .number && first != 0x0D && first != 0x0A
        guard splitsAtCapitals else {
            if kind == .letter { return endOfLetters(from: second, in: bytes, limit: limit, classes) }
            guard mayPrefix, second < limit else { return nil }
            let next = Characters.next(bytes, second, limit)
            return classes[next.scalar] == .letter
                ? endOfLetters(from: next.end, in: bytes, limit: limit, classes) : nil
        }
        // Both alternatives are tried with the first character as a prefix, then without; the one that ends in small
        // letters goes first.
        let after = mayPrefix ? capitalized(from: second, in: bytes, limit: limit, classes) : nil
        let own = capitalized(from: start, in: bytes, limit: limit, classes)
        let end = after?.small ?? own?.small ?? after?.capital ?? own?.capital
        guard let end else { return nil }
        return contractions == .attached ? endOfContraction(at: end, in: bytes, limit: limit) ?? end : end
    }

    private func endOfLetters(
        from start: Int, in bytes: Span<UInt8>, limit: Int, _ classes: CharacterClasses
    ) -> Int {
        var position = start
        while position < limit {
            let (scalar, next) = Characters.next(bytes, position, limit)
            guard classes[scalar] == .letter else { break }
            position = next
        }
        return position
    }

    /// Where `[capitals]*[smalls]+` ends and where `[capitals]+[smalls]*` would if that fails, from `start`.
    private func capitalized(
        from start: Int, in bytes: Span<UInt8>, limit: Int, _ classes: CharacterClasses
    ) -> (small: Int?, capital: Int?)? {
        var position = start
        var endOfLastSmall: Int?
        while position < limit {
            let (scalar, next) = Characters.next(bytes, position, limit)
            let traits = classes.traits(of: scalar)
            if !traits.contains(.leading) {
                guard traits.contains(.following) else { break }
                // A small letter after the capitals: the run of those that may follow is taken.
                position = next
                while position < limit {
                    let (scalar, next) = Characters.next(bytes, position, limit)
                    guard classes.traits(of: scalar).contains(.following) else { break }
                    position = next
                }
                return (position, nil)
            }
            // A letter without case, or a mark, can be the small one when no other comes.
            if traits.contains(.following) { endOfLastSmall = next }
            position = next
        }
        if position == start { return nil }
        return (endOfLastSmall, position)
    }

    /// The end of an apostrophe and s, t, re, ve, m, ll or d at `start`, if they are there.
    private func endOfContraction(at start: Int, in bytes: Span<UInt8>, limit: Int) -> Int? {
        guard start + 1 < limit, bytes[start] == UInt8(ascii: "'") else { return nil }
        // U+017F is an s when case does not count.
        if bytes[start + 1] == 0xC5, start + 2 < limit, bytes[start + 2] == 0xBF { return start + 3 }
        let second: UInt8
        switch bytes[start + 1] | 0x20 {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return start + 2
        case UInt8(ascii: "r"), UInt8(ascii: "v"): second = UInt8(ascii: "e")
        case UInt8(ascii: "l"): second = UInt8(ascii: "l")
        default: return nil
        }
        return start + 2 < limit && bytes[start + 2] | 0x20 == second ? start + 3 : nil
    }

    // MARK: Everything else

    private func endOfDigits(
        from start: Int, in bytes: Span<UInt8>, limit: Int, _ classes: CharacterClasses
    ) -> Int {
        var position = start
        var count = 1
        while position < limit, count < digits {
            let (scalar, next) = Characters.next(bytes, position, limit)
            guard classes[scalar] == .number else { break }
            position = next
            count += 1
        }
        return position
    }

    private func endOfMarks(
        from start: Int, in bytes: Span<UInt8>, limit: Int, _ classes: CharacterClasses
    ) -> Int {
        var position = start
        while position < limit {
            let (scalar, next) = Characters.next(bytes, position, limit)
            guard isMark(classes[scalar]) else { break }
            position = next
        }
        while position < limit {
            let byte = bytes[position]
            guard byte == 0x0D || byte == 0x0A || takesSlashes && byte == UInt8(ascii: "/") else { break }
            position += 1
        }
        return position
    }

    /// White space up to its last line end; without one all of it at the end of the text, otherwise all but the last,
    /// unless that is all.
    private func endOfSpaces(
        from start: Int, in bytes: Span<UInt8>, limit: Int, _ classes: CharacterClasses
    ) -> Int {
        var (position, last) = (start, start)
        var endOfLine: Int?
        while position < limit {
            let (scalar, next) = Characters.next(bytes, position, limit)
            guard classes[scalar] == .space else { break }
            (last, position) = (position, next)
            if scalar == 0x0D || scalar == 0x0A { endOfLine = next }
        }
        if let endOfLine { return endOfLine }
        return position < limit && last > start ? last : position
    }
}
