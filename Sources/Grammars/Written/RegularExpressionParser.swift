// Reads a regular expression by descent over groups, whose depth is limited.

struct RegularExpressionParser {
    private let text: [Unicode.Scalar]
    private let limits: GrammarLimits
    var position = 0
    private var depth = 0

    init(_ pattern: String, limits: GrammarLimits) {
        text = Array(pattern.unicodeScalars)
        self.limits = limits
    }

    var next: Unicode.Scalar? { position < text.count ? text[position] : nil }

    mutating func skip(_ scalar: Unicode.Scalar) -> Bool {
        guard next == scalar else { return false }
        position += 1
        return true
    }

    private mutating func skip(_ word: String) -> Bool {
        let scalars = Array(word.unicodeScalars)
        guard text[position...].starts(with: scalars) else { return false }
        position += scalars.count
        return true
    }

    /// An error at the present character, or at `place`.
    func malformed(_ reason: String, at place: Int? = nil) -> GrammarError {
        .malformed(place: "character \((place ?? position) + 1)", reason: reason)
    }

    func unsupported(_ what: String, at place: Int? = nil) -> GrammarError {
        .unsupported(place: "character \((place ?? position) + 1)", what: what)
    }

    mutating func parse() throws(GrammarError) -> AnchoredExpression {
        if let place = text.firstIndex(of: "\0") { throw malformed("a NUL cannot be part of an expression", at: place) }
        let result = try alternatives()
        guard position == text.count else { throw malformed("')' has no '('") }
        return result
    }

    private mutating func alternatives() throws(GrammarError) -> AnchoredExpression {
        var choices: [AnchoredExpression] = []
        repeat {
            var parts: [AnchoredExpression] = []
            while let scalar = next, scalar != "|", scalar != ")" { parts.append(try repeated()) }
            choices.append(parts.isEmpty ? .empty : .sequence(parts))
        } while skip("|")
        return .choice(choices)
    }

    private mutating func repeated() throws(GrammarError) -> AnchoredExpression {
        let place = position
        let part = try atom()
        guard let (least, most) = try quantifier() else { return part }
        // A lazy quantifier prefers another match of the same texts.
        if !skip("?"), next == "+" { throw unsupported("a possessive quantifier") }
        if let scalar = next, scalar == "*" || scalar == "+" || scalar == "?" {
            throw malformed("a quantifier follows a quantifier")
        }
        if let free = part.free { return AnchoredExpression(.repetition(free, atLeast: least, atMost: most)) }
        guard most == 1 else { throw unsupported("an anchor that is repeated", at: place) }
        return least == 1 ? part : .choice([.empty, part])
    }

    private mutating func quantifier() throws(GrammarError) -> (Int, Int?)? {
        switch next {
        case "*":
            position += 1
            return (0, nil)
        case "+":
            position += 1
            return (1, nil)
        case "?":
            position += 1
            return (0, 1)
        case "{": return try bounds()
        default: return nil
        }
    }

    /// `{m}`, `{m,}` or `{m,n}`; any other brace stands for itself.
    private mutating func bounds() throws(GrammarError) -> (Int, Int?)? {
        let start = position
        position += 1
        let least = try number(from: start)
        var most = least
        if skip(",") {
            if least == nil, next.map({ ("0"..."9").contains($0) }) ?? false {
                throw unsupported("'{,n}', which means different things to different engines", at: start)
            }
            most = try number(from: start)
        }
        guard let least, skip("}") else {
            position = start
            return nil
        }
        if let most, most < least { throw malformed("the bounds of a quantifier are reversed", at: start) }
        return (least, most)
    }

    private mutating func number(from start: Int) throws(GrammarError) -> Int? {
        var value: Int?
        while let digit = next, ("0"..."9").contains(digit) {
            value = (value ?? 0) * 10 + Int(digit.value - 0x30)
            position += 1
            if let value, value > limits.repetitions {
                throw .overBudget(
                    what: "repetitions in the quantifier at character \(start + 1)", value: value,
                    limit: limits.repetitions)
            }
        }
        return value
    }

    private mutating func atom() throws(GrammarError) -> AnchoredExpression {
        let start = position
        guard let scalar = next else { return .empty }
        switch scalar {
        case "(": return try group()
        case "[":
            let set = try characterClass()
            guard !set.isEmpty else { return AnchoredExpression(.nothing) }
            return AnchoredExpression(set.expression)
        case ".":
            position += 1
            return AnchoredExpression(CharacterSet.lineEnds.inverted.expression)
        case "^":
            position += 1
            return .atBegin
        case "$":
            position += 1
            return .atEnd
        case "\\":
            position += 1
            if next == "A" || next == "Z" || next == "z" {
                let begins = next == "A"
                position += 1
                return begins ? .atBegin : .atEnd
            }
            return AnchoredExpression(try escape(inClass: false, from: start).expression)
        case "*", "+", "?": throw malformed("there is nothing to repeat here")
        case "{":
            if try bounds() != nil { throw malformed("there is nothing to repeat here", at: start) }
            position += 1
            return AnchoredExpression(.text("{"))
        default:
            position += 1
            return AnchoredExpression(.text(String(scalar)))
        }
    }

    private mutating func group() throws(GrammarError) -> AnchoredExpression {
        let start = position
        position += 1
        if skip("?") {
            if skip("=") || skip("!") || skip("<=") || skip("<!") {
                throw unsupported("look-around", at: start)
            } else if skip("P=") {
                throw unsupported("a back-reference", at: start)
            } else if skip("P<") || skip("<") {
                try skipName(from: start)
            } else if !skip(":") {
                throw unsupported("this kind of group", at: start)
            }
        }
        guard depth < limits.groupDepth else {
            throw .overBudget(what: "groups inside one another", value: depth + 1, limit: limits.groupDepth)
        }
        depth += 1
        let result = try alternatives()
        depth -= 1
        guard skip(")") else { throw malformed("this '(' has no ')'", at: start) }
        return result
    }

    private mutating func skipName(from start: Int) throws(GrammarError) {
        let nameStart = position
        while let scalar = next, scalar.properties.isAlphabetic || ("0"..."9").contains(scalar) || scalar == "_" {
            position += 1
        }
        guard position > nameStart, skip(">") else { throw malformed("the name of this group has no end", at: start) }
    }

    // MARK: Classes and escapes

    private mutating func characterClass() throws(GrammarError) -> CharacterSet {
        let start = position
        position += 1
        let isInverted = skip("^")
        if next == "]" { throw unsupported("an empty class", at: start) }
        var set = CharacterSet()
        while !skip("]") {
            let place = position
            guard next != nil else { throw malformed("this '[' has no ']'", at: start) }
            if next == "[", position + 1 < text.count, ":=.".unicodeScalars.contains(text[position + 1]) {
                throw unsupported("a POSIX class", at: place)
            }
            let first = try member()
            guard next == "-", position + 1 < text.count, text[position + 1] != "]" else {
                set.formUnion(first)
                continue
            }
            position += 1
            let last = try member()
            guard let low = first.only, let high = last.only else {
                throw malformed("a range needs a character at both ends", at: place)
            }
            guard low <= high else { throw malformed("the ends of a range are reversed", at: place) }
            set.formUnion(CharacterSet([low...high]))
        }
        return isInverted ? set.inverted : set
    }

    private mutating func member() throws(GrammarError) -> CharacterSet {
        let start = position
        guard let scalar = next else { throw malformed("the class has no end") }
        position += 1
        return scalar == "\\" ? try escape(inClass: true, from: start) : CharacterSet([scalar...scalar])
    }

    /// What follows a backslash, which has been read.
    private mutating func escape(inClass: Bool, from start: Int) throws(GrammarError) -> CharacterSet {
        guard let scalar = next else { throw malformed("a backslash at the end", at: start) }
        position += 1
        switch scalar {
        case "d": return .digits
        case "D": return CharacterSet.digits.inverted
        case "w": return .wordCharacters
        case "W": return CharacterSet.wordCharacters.inverted
        case "s": return .spaces
        case "S": return CharacterSet.spaces.inverted
        case "t": return CharacterSet(["\t"..."\t"])
        case "n": return CharacterSet(["\n"..."\n"])
        case "r": return CharacterSet(["\r"..."\r"])
        case "f": return CharacterSet(["\u{C}"..."\u{C}"])
        case "v": return CharacterSet(["\u{B}"..."\u{B}"])
        case "x": return try coded(try hexadecimal(2, start), start)
        case "u": return try coded(try unicodeEscape(start), start)
        case "U": return try coded(try hexadecimal(8, start), start)
        case "p", "P": return try property(isInverted: scalar == "P", start)
        case "0":
            if let digit = next, ("0"..."9").contains(digit) { throw unsupported("an octal escape", at: start) }
            return CharacterSet(["\0"..."\0"])
        case "1"..."9", "k": throw unsupported("a back-reference", at: start)
        case "b" where inClass: return CharacterSet(["\u{8}"..."\u{8}"])
        case "b", "B": throw unsupported("a word boundary", at: start)
        case "a"..."z", "A"..."Z": throw unsupported("the escape '\\\(scalar)'", at: start)
        default: return CharacterSet([scalar...scalar])
        }
    }

    private func coded(_ value: UInt32, _ start: Int) throws(GrammarError) -> CharacterSet {
        guard let scalar = Unicode.Scalar(value) else { throw malformed("this escape is no character", at: start) }
        return CharacterSet([scalar...scalar])
    }

    private mutating func hexadecimal(_ count: Int, _ start: Int) throws(GrammarError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<count {
            guard let digit = next, digit.isASCII, let digitValue = Character(digit).hexDigitValue else {
                throw malformed("this escape needs \(count) hexadecimal digits", at: start)
            }
            value = value << 4 | UInt32(digitValue)
            position += 1
        }
        return value
    }

    /// `\uHHHH`, a pair of them for one character beyond FFFF, or `\u{…}`.
    private mutating func unicodeEscape(_ start: Int) throws(GrammarError) -> UInt32 {
        if skip("{") {
            var value: UInt32 = 0
            var count = 0
            while let digit = next, digit.isASCII, let digitValue = Character(digit).hexDigitValue, count < 6 {
                value = value << 4 | UInt32(digitValue)
                count += 1
                position += 1
            }
            guard count > 0, skip("}") else { throw malformed("'\\u{' needs one to six digits and '}'", at: start) }
            return value
        }
        let high = try hexadecimal(4, start)
        guard (0xD800...0xDBFF).contains(high), skip("\\u") else { return high }
        let low = try hexadecimal(4, start)
        guard (0xDC00...0xDFFF).contains(low) else { throw malformed("half of a surrogate pair", at: start) }
        return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
    }

    private mutating func property(isInverted: Bool, _ start: Int) throws(GrammarError) -> CharacterSet {
        var name = ""
        guard skip("{") else { throw unsupported("a property without braces", at: start) }
        while let scalar = next, scalar != "}", name.unicodeScalars.count < 32 {
            name.unicodeScalars.append(scalar)
            position += 1
        }
        guard skip("}") else { throw malformed("this property has no '}'", at: start) }
        guard let set = CharacterSet.category(name) else { throw unsupported("the property '\(name)'", at: start) }
        return isInverted ? set.inverted : set
    }
}
