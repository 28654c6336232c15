// Grammars as people write them: GBNF (`root ::= "a" | [0-9]+`) and the part of Lark's language that has a meaning
// without a parser (`start: "a" | /[0-9]+/`). Which of the two a text is, its first definition tells.

/// Translates written grammars.
package enum GrammarText {
    /// The grammar that `source` writes. Places in errors are lines and columns from 1.
    package static func grammar(
        _ source: String, limits: GrammarLimits = GrammarLimits()
    ) throws(GrammarError) -> Grammar {
        guard source.utf8.count <= limits.sourceBytes else {
            throw .overBudget(what: "bytes of the grammar", value: source.utf8.count, limit: limits.sourceBytes)
        }
        let text = GrammarSource(source, limits: limits)
        try text.refuseNUL()
        var rules = RuleNames()
        if isLark(text) {
            var parser = LarkParser(source: text)
            try parser.parse(into: &rules)
            return try rules.grammar(start: "start")
        }
        var parser = GBNFParser(source: text)
        try parser.parse(into: &rules)
        return try rules.grammar(start: "root")
    }

    /// Whether the first definition is `name:` and not `name ::=`.
    private static func isLark(_ source: GrammarSource) -> Bool {
        var text = source
        text.skipSpace(comments: ["#", "//"])
        if text.next == "%" || text.next == "?" || text.next == "!" { return true }
        guard text.name(also: "-.") != nil else { return false }
        text.skipSpace(comments: [])
        return text.next == ":" && !text.follows("::=")
    }
}

/// A text and where in it the reader is.
struct GrammarSource {
    let limits: GrammarLimits
    private let text: [Unicode.Scalar]
    private(set) var position = 0
    /// Groups that the reader is in.
    private var depth = 0

    init(_ source: String, limits: GrammarLimits) {
        text = Array(source.unicodeScalars)
        self.limits = limits
    }

    var next: Unicode.Scalar? { position < text.count ? text[position] : nil }

    /// Characters in all.
    var count: Int { text.count }

    var isAtEnd: Bool { position == text.count }

    func refuseNUL() throws(GrammarError) {
        if let place = text.firstIndex(of: "\0") { throw malformed("a NUL cannot be part of a grammar", at: place) }
    }

    mutating func advance() { position = min(position + 1, text.count) }

    mutating func rewind(to place: Int) { position = place }

    mutating func skip(_ scalar: Unicode.Scalar) -> Bool {
        guard next == scalar else { return false }
        position += 1
        return true
    }

    func follows(_ word: String) -> Bool { text[position...].starts(with: word.unicodeScalars) }

    mutating func skip(_ word: String) -> Bool {
        guard follows(word) else { return false }
        position += word.unicodeScalars.count
        return true
    }

    /// Skips white space and comments to the ends of their lines; true when a line has ended.
    @discardableResult
    mutating func skipSpace(comments: [String]) -> Bool {
        var isNewLine = false
        while let scalar = next {
            if comments.contains(where: { follows($0) }) {
                while let scalar = next, scalar != "\n" { position += 1 }
            } else if scalar == " " || scalar == "\t" || scalar == "\r" || scalar == "\n" {
                if scalar == "\n" { isNewLine = true }
                position += 1
            } else {
                break
            }
        }
        return isNewLine
    }

    /// A name of ASCII letters, digits, `_` and what `also` holds; nil when none begins here.
    mutating func name(also: String) -> String? {
        let start = position
        while let scalar = next,
            scalar.isASCII && (scalar.properties.isAlphabetic || scalar.properties.numericType != nil)
                || scalar == "_" || also.unicodeScalars.contains(scalar)
        { position += 1 }
        guard position > start else { return nil }
        var name = String.UnicodeScalarView()
        name.append(contentsOf: text[start..<position])
        return String(name)
    }

    /// The text between two places.
    func text(_ range: Range<Int>) -> String {
        var result = String.UnicodeScalarView()
        result.append(contentsOf: text[range])
        return String(result)
    }

    /// Goes into a group, or says that there are too many around it.
    mutating func enterGroup() throws(GrammarError) {
        guard depth < limits.groupDepth else {
            throw .overBudget(what: "groups inside one another", value: depth + 1, limit: limits.groupDepth)
        }
        depth += 1
    }

    mutating func leaveGroup() { depth -= 1 }

    /// A number of repetitions; nil when none begins here.
    mutating func number() throws(GrammarError) -> Int? {
        var value: Int?
        let start = position
        while let digit = next, ("0"..."9").contains(digit) {
            value = (value ?? 0) * 10 + Int(digit.value - 0x30)
            position += 1
            if let value, value > limits.repetitions {
                throw .overBudget(
                    what: "repetitions at \(place(start))", value: value, limit: limits.repetitions)
            }
        }
        return value
    }

    /// `count` hexadecimal digits.
    mutating func hexadecimal(_ count: Int) throws(GrammarError) -> Unicode.Scalar {
        let start = position
        var value: UInt32 = 0
        for _ in 0..<count {
            guard let digit = next, digit.isASCII, let digitValue = Character(digit).hexDigitValue else {
                throw malformed("this escape needs \(count) hexadecimal digits", at: start)
            }
            value = value << 4 | UInt32(digitValue)
            position += 1
        }
        guard let scalar = Unicode.Scalar(value) else { throw malformed("this escape is no character", at: start) }
        return scalar
    }

    /// What follows a backslash in a text or a class; characters in `literal` stand for themselves.
    mutating func escape(literal: String) throws(GrammarError) -> Unicode.Scalar {
        let start = position - 1
        guard let scalar = next else { throw malformed("a backslash at the end", at: start) }
        position += 1
        switch scalar {
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "f": return "\u{C}"
        case "v": return "\u{B}"
        case "b": return "\u{8}"
        case "0": return "\0"
        case "x": return try hexadecimal(2)
        case "u": return try hexadecimal(4)
        case "U": return try hexadecimal(8)
        default:
            guard literal.unicodeScalars.contains(scalar) else {
                throw malformed("'\\\(scalar)' is no escape", at: start)
            }
            return scalar
        }
    }

    /// A text in double quotes, whose first has been read.
    mutating func quoted() throws(GrammarError) -> String {
        let start = position - 1
        var result = String.UnicodeScalarView()
        while let scalar = next, scalar != "\n" {
            position += 1
            if scalar == "\"" { return String(result) }
            result.append(scalar == "\\" ? try escape(literal: "\\\"'/[]-") : scalar)
        }
        throw malformed("this text has no closing quote", at: start)
    }

    // MARK: Errors

    func place(_ position: Int) -> String {
        let before = text[..<min(position, text.count)]
        let line = before.reduce(1) { $0 + ($1 == "\n" ? 1 : 0) }
        let column = before.count - (before.lastIndex(of: "\n").map { $0 + 1 } ?? 0) + 1
        return "line \(line), column \(column)"
    }

    /// An error at the present place, or at `position`.
    func malformed(_ reason: String, at position: Int? = nil) -> GrammarError {
        .malformed(place: place(position ?? self.position), reason: reason)
    }

    func unsupported(_ what: String, at position: Int? = nil) -> GrammarError {
        .unsupported(place: place(position ?? self.position), what: what)
    }
}

/// The rules of a written grammar by their names.
struct RuleNames {
    private var names: [String: Int] = [:]
    private var bodies: [(name: String, body: Expression?, firstUse: String)] = []

    /// The rule of this name, used or defined at `place`.
    mutating func rule(_ name: String, at place: @autoclosure () -> String) -> RuleID {
        if let known = names[name] { return RuleID(known) }
        names[name] = bodies.count
        bodies.append((name, nil, place()))
        return RuleID(bodies.count - 1)
    }

    mutating func define(_ name: String, as body: Expression, at place: String) throws(GrammarError) {
        let rule = rule(name, at: place)
        guard bodies[rule.index].body == nil else {
            throw .malformed(place: place, reason: "the rule '\(name)' is defined twice")
        }
        bodies[rule.index].body = body
    }

    func grammar(start: String) throws(GrammarError) -> Grammar {
        guard let first = names[start], bodies[first].body != nil else {
            throw .malformed(place: "the grammar", reason: "it has no rule '\(start)'")
        }
        var rules: [Grammar.Rule] = []
        for (name, body, firstUse) in bodies {
            guard let body else { throw .malformed(place: firstUse, reason: "there is no rule '\(name)'") }
            rules.append(Grammar.Rule(name: name, body: body))
        }
        return Grammar(rules: rules, start: RuleID(first))
    }
}
