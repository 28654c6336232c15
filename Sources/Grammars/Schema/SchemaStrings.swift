// Strings: length, patterns and formats as one regular language, spelled as JSON spells strings.

import JSON

/// What decides which strings are generated. Equal ones share a rule.
struct StringForm: Hashable {
    let minLength: Int
    let maxLength: Int?
    let patterns: [MemberName]
    let formats: [MemberName]

    init(_ constraints: SchemaConstraints) {
        minLength = constraints.minLength
        maxLength = constraints.maxLength?.value
        patterns = constraints.patterns.map { MemberName($0.value) }
        formats = constraints.formats.map { MemberName($0.value) }
    }
}

extension SchemaTranslation {
    mutating func stringExpression(_ constraints: SchemaConstraints) throws(GrammarError) -> Expression {
        let form = StringForm(constraints)
        if let known = stringRules[form] { return .rule(known) }
        let rule = try addRule("\(constraints.place)", try newStringExpression(constraints))
        stringRules[form] = rule
        return .rule(rule)
    }

    private mutating func newStringExpression(_ constraints: SchemaConstraints) throws(GrammarError) -> Expression {
        if let longest = constraints.maxLength, longest.value < constraints.minLength {
            return try nothing(
                longest.place, "a string needs \(constraints.minLength) characters and may have \(longest.value)")
        }
        guard let content = try stringContent(constraints) else { return try shared(.string) }
        if try isSuspect(constraints), try isEmpty(content) {
            let place = constraints.patterns.first?.place ?? constraints.formats.first?.place ?? constraints.place
            if let longest = constraints.maxLength, longest.value > Self.countedLength {
                throw GrammarError.unsupported(
                    place: place.description, what: "a pattern of more than \(Self.countedLength) characters")
            }
            return try nothing(place, "no string satisfies its length, patterns and formats together")
        }
        return JSONSpelling.quoted(content)
    }

    /// Whether it takes the automaton to know that some string satisfies all.
    private func isSuspect(_ constraints: SchemaConstraints) throws(GrammarError) -> Bool {
        let languages = constraints.patterns.count + constraints.formats.count
        let isBounded = constraints.minLength > 0 || constraints.maxLength != nil
        guard languages < 2, let format = constraints.formats.first else {
            return languages > 1 || (languages == 1 && isBounded)
        }
        // A format has strings of every length it has room for.
        let lengths = SchemaFormat.lengths(of: format.value)
        return constraints.maxLength.map { $0.value < lengths.least } ?? false || constraints.minLength > 32
    }

    /// Where a pattern is counted as well, every count has its own states: more than this is not generated.
    private static var countedLength: Int { 512 }

    /// What stands between the quotes; nil if that may be anything.
    mutating func stringContent(_ constraints: SchemaConstraints) throws(GrammarError) -> Expression? {
        var languages: [Expression] = []
        var isCommon = false
        var least = constraints.minLength
        var most = constraints.maxLength?.value
        for pattern in constraints.patterns {
            languages.append(JSONSpelling.spelled(try patternContent(pattern)))
            if Self.dependsOnDialect(pattern.value) { isCommon = true }
        }
        for format in constraints.formats {
            guard let language = try SchemaFormat.content(of: format) else { continue }
            let lengths = SchemaFormat.lengths(of: format.value)
            if lengths.least >= least { least = 0 }
            if let longest = lengths.most, let limit = most, longest <= limit { most = nil }
            if least > 0 || most != nil, let counted = SchemaFormat.counted(format.value), counted.limit >= least {
                languages.append(counted.content)
                most = min(most ?? counted.limit, counted.limit)
            } else {
                languages.append(language)
            }
        }
        let isBounded = least > 0 || most != nil
        guard let first = languages.first else {
            guard isBounded else { return nil }
            return .repetition(JSONSpelling.character, atLeast: least, atMost: most)
        }
        var content = first
        for language in languages.dropFirst() { content = .intersection(content, language) }
        let character = isCommon ? JSONSpelling.commonCharacter : JSONSpelling.character
        if isBounded || isCommon {
            let limit = most.map { max(least, min($0, Self.countedLength)) }
            content = .intersection(content, .repetition(character, atLeast: least, atMost: limit))
        }
        return content
    }

    /// Dialects of regular expressions disagree beyond ASCII on what is a digit, a letter or a space. It matters
    /// where a class says what a character is not, and for spaces.
    private static func dependsOnDialect(_ pattern: String) -> Bool {
        var afterBackslash = false
        var negatedSet = false
        var namesClass = false
        var previous: UInt8 = 0
        for byte in pattern.utf8 {
            if afterBackslash {
                if "DWSsbB".utf8.contains(byte) { return true }
                if "dw".utf8.contains(byte) { namesClass = true }
                afterBackslash = false
            } else if byte == UInt8(ascii: "\\") {
                afterBackslash = true
            } else if byte == UInt8(ascii: "^"), previous == UInt8(ascii: "[") {
                negatedSet = true
            }
            previous = byte
        }
        return negatedSet && namesClass
    }

    /// Whether a class of characters is named at all, of which another dialect may have more.
    static func namesClass(_ pattern: String) -> Bool {
        var afterBackslash = false
        for byte in pattern.utf8 {
            if afterBackslash, "dDwWsSbBpP".utf8.contains(byte) { return true }
            afterBackslash = byte == UInt8(ascii: "\\") && !afterBackslash
        }
        return false
    }

    // MARK: Regular languages

    /// The strings in which `pattern` is found, not yet spelled as JSON.
    mutating func patternContent(_ pattern: Placed<String>) throws(GrammarError) -> Expression {
        let key = MemberName(pattern.value)
        if let known = patternExpressions[key] { return known }
        let count = pattern.value.utf8.count
        guard count <= options.limits.patternBytes else {
            throw GrammarError.overBudget(
                what: "bytes of the pattern at \(pattern.place)", value: count, limit: options.limits.patternBytes)
        }
        let expression = try SchemaPattern.expression(pattern.value, pattern.place)
        patternExpressions[key] = expression
        return expression
    }

    /// Whether `pattern` is found in `text`.
    mutating func matches(_ text: String, _ pattern: Placed<String>) throws(GrammarError) -> Bool {
        let key = MemberName(pattern.value)
        let automaton: CompiledGrammar
        if let known = patternAutomata[key] {
            automaton = known
        } else {
            let content = try patternContent(pattern)
            automaton = try CompiledGrammar(Grammar(.choice([.text(Self.unlikelyText), content])))
            try document.spend(automaton.work / 256)
            patternAutomata[key] = automaton
        }
        try document.spend(1 + text.utf8.count / 64)
        if text.hasBytes(of: Self.unlikelyText) {
            return try !isEmpty(.intersection(.text(text), try patternContent(pattern)))
        }
        var matcher = GrammarMatcher(automaton)
        return matcher.advance(text.utf8) && matcher.canEnd
    }

    /// Keeps the automaton of a pattern that nothing matches from being refused.
    private static var unlikelyText: String { "\u{10FFFF}" }

    /// Whether `expression`, which refers to no rule, matches nothing.
    mutating func isEmpty(_ expression: Expression) throws(GrammarError) -> Bool {
        do throws(GrammarError) {
            let automaton = try CompiledGrammar(Grammar(expression))
            try document.spend(automaton.work / 256)
            return false
        } catch .unsatisfiable {
            return true
        }
    }
}
