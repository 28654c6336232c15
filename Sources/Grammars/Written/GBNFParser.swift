// Reads GBNF: rules `name ::= body` with texts, classes, groups, `.`, alternatives and quantifiers. A body goes on over
// lines until the next definition begins.

struct GBNFParser {
    private static let nameCharacters = "-."

    var source: GrammarSource

    mutating func parse(into rules: inout RuleNames) throws(GrammarError) {
        skipSpace()
        while !source.isAtEnd {
            let place = source.place(source.position)
            guard let name = source.name(also: Self.nameCharacters) else {
                throw source.malformed("a rule begins with its name")
            }
            skipSpace()
            guard source.skip("::=") else { throw source.malformed("'::=' must follow the name '\(name)'") }
            try rules.define(name, as: try alternatives(&rules), at: place)
            if source.next == ")" { throw source.malformed("')' has no '('") }
        }
    }

    private mutating func skipSpace() { source.skipSpace(comments: ["#"]) }

    private mutating func alternatives(_ rules: inout RuleNames) throws(GrammarError) -> Expression {
        var choices: [Expression] = []
        repeat {
            var parts: [Expression] = []
            skipSpace()
            while let scalar = source.next, scalar != "|", scalar != ")", !isDefinition() {
                parts.append(try repeated(&rules))
                skipSpace()
            }
            choices.append(parts.isEmpty ? .empty : parts.count == 1 ? parts[0] : .sequence(parts))
        } while source.skip("|")
        return choices.count == 1 ? choices[0] : .choice(choices)
    }

    /// Whether `name ::=` begins here.
    private func isDefinition() -> Bool {
        var ahead = source
        guard ahead.name(also: Self.nameCharacters) != nil else { return false }
        ahead.skipSpace(comments: ["#"])
        return ahead.follows("::=")
    }

    private mutating func repeated(_ rules: inout RuleNames) throws(GrammarError) -> Expression {
        var part = try atom(&rules)
        while let scalar = source.next {
            let start = source.position
            switch scalar {
            case "*": part = .repetition(part, atLeast: 0, atMost: nil)
            case "+": part = .repetition(part, atLeast: 1, atMost: nil)
            case "?": part = .optional(part)
            case "{":
                let (least, most) = try bounds()
                part = .repetition(part, atLeast: least, atMost: most)
            default: return part
            }
            if source.position == start { source.advance() }
        }
        return part
    }

    /// `{m}`, `{m,}`, `{,n}` or `{m,n}`.
    private mutating func bounds() throws(GrammarError) -> (Int, Int?) {
        let start = source.position
        source.advance()
        skipSpace()
        let least = try source.number()
        skipSpace()
        var most = least
        if source.skip(",") {
            skipSpace()
            most = try source.number()
            skipSpace()
        } else if least == nil {
            throw source.malformed("'{' needs a number", at: start)
        }
        guard source.skip("}") else { throw source.malformed("this '{' has no '}'", at: start) }
        if let most, most < least ?? 0 { throw source.malformed("the bounds are reversed", at: start) }
        return (least ?? 0, most)
    }

    private mutating func atom(_ rules: inout RuleNames) throws(GrammarError) -> Expression {
        let start = source.position
        if source.skip("\"") { return .text(try source.quoted()) }
        if source.skip("[") { return try characterClass(start) }
        if source.skip(".") { return .scalar(["\0"..."\u{10FFFF}"]) }
        if source.skip("(") {
            if source.next == "=" || source.next == "!" { throw source.unsupported("look-ahead", at: start) }
            try source.enterGroup()
            let result = try alternatives(&rules)
            source.leaveGroup()
            guard source.skip(")") else { throw source.malformed("this '(' has no ')'", at: start) }
            return result
        }
        guard let name = source.name(also: "-") else {
            throw source.malformed("a text, a class, a name or '(' must be here")
        }
        return .rule(rules.rule(name, at: source.place(start)))
    }

    private mutating func characterClass(_ start: Int) throws(GrammarError) -> Expression {
        let isInverted = source.skip("^")
        var set = CharacterSet()
        while !source.skip("]") {
            let place = source.position
            let low = try member(start)
            var high = low
            if source.next == "-" {
                source.advance()
                if source.next == "]" {
                    set.formUnion(CharacterSet(["-"..."-"]))
                } else {
                    high = try member(start)
                }
            }
            guard low <= high else { throw source.malformed("the ends of a range are reversed", at: place) }
            set.formUnion(CharacterSet([low...high]))
        }
        let result = isInverted ? set.inverted : set
        return result.isEmpty ? .nothing : result.expression
    }

    private mutating func member(_ start: Int) throws(GrammarError) -> Unicode.Scalar {
        guard let scalar = source.next, scalar != "\n" else { throw source.malformed("this '[' has no ']'", at: start) }
        source.advance()
        return scalar == "\\" ? try source.escape(literal: "\\\"'/[]-^.$|(){}*+?") : scalar
    }
}
