// Reads the part of Lark's language that says what texts are: rules and terminals with texts, ranges, regular
// expressions, groups and quantifiers. What is about trees (`?rule`, `-> name`, priorities) is read and changes
// nothing; `%ignore`, `%import` and templates are refused.

struct LarkParser {
    var source: GrammarSource

    mutating func parse(into rules: inout RuleNames) throws(GrammarError) {
        skipLines()
        while !source.isAtEnd {
            let start = source.position
            if source.skip("%") {
                throw source.unsupported("'%\(source.name(also: "") ?? "")'", at: start)
            }
            guard let name = definedName() else { throw source.malformed("a rule begins with its name and ':'") }
            try rules.define(name, as: try alternatives(&rules), at: source.place(start))
            if let scalar = source.next, scalar == ")" || scalar == "]" {
                throw source.malformed("'\(scalar)' has no beginning")
            }
        }
    }

    @discardableResult private mutating func skipLines() -> Bool { source.skipSpace(comments: ["//", "#"]) }

    /// The name of the rule whose definition begins here, read with its ':'; nil and nothing read if none does.
    private mutating func definedName() -> String? {
        let start = source.position
        while source.skip("?") || source.skip("!") {}
        if let name = source.name(also: "") {
            if source.skip(".") { _ = source.name(also: "-") }
            skipLines()
            if source.skip(":") { return name }
        }
        source.rewind(to: start)
        return nil
    }

    private func isDefinition() -> Bool {
        var ahead = self
        return ahead.source.next == "%" || ahead.definedName() != nil
    }

    private mutating func alternatives(_ rules: inout RuleNames) throws(GrammarError) -> Expression {
        var choices: [Expression] = []
        repeat {
            var parts: [Expression] = []
            skipLines()
            while let scalar = source.next, scalar != "|", scalar != ")", scalar != "]" {
                if source.skip("->") {
                    skipLines()
                    guard source.name(also: "") != nil else { throw source.malformed("'->' needs a name") }
                } else {
                    parts.append(try repeated(&rules))
                }
                if skipLines(), isDefinition() { break }
            }
            choices.append(parts.isEmpty ? .empty : parts.count == 1 ? parts[0] : .sequence(parts))
        } while source.skip("|")
        return choices.count == 1 ? choices[0] : .choice(choices)
    }

    private mutating func repeated(_ rules: inout RuleNames) throws(GrammarError) -> Expression {
        let part = try atom(&rules)
        let start = source.position
        if source.skip("*") { return .repetition(part, atLeast: 0, atMost: nil) }
        if source.skip("+") { return .repetition(part, atLeast: 1, atMost: nil) }
        if source.skip("?") { return .optional(part) }
        var ahead = source
        ahead.skipSpace(comments: [])
        guard ahead.skip("~") else { return part }
        source = ahead
        source.skipSpace(comments: [])
        guard let least = try source.number() else {
            throw source.malformed("'~' needs a number", at: start)
        }
        var most = least
        if source.skip("..") {
            guard let number = try source.number() else {
                throw source.malformed("'..' needs a number", at: start)
            }
            most = number
        }
        guard most >= least else { throw source.malformed("the bounds are reversed", at: start) }
        return .repetition(part, atLeast: least, atMost: most)
    }

    private mutating func atom(_ rules: inout RuleNames) throws(GrammarError) -> Expression {
        let start = source.position
        if source.skip("\"") { return try text(start) }
        if source.next == "/" { return try regularExpression() }
        if source.next == "(" || source.next == "[" {
            let isOptional = source.next == "["
            source.advance()
            try source.enterGroup()
            let result = try alternatives(&rules)
            source.leaveGroup()
            guard source.skip(isOptional ? "]" : ")" as Unicode.Scalar) else {
                throw source.malformed("this '\(isOptional ? "[" : "(")' has no end", at: start)
            }
            return isOptional ? .optional(result) : result
        }
        guard let name = source.name(also: "") else {
            throw source.malformed("a text, a regular expression, a name, '(' or '[' must be here")
        }
        if source.next == "{" { throw source.unsupported("a template", at: start) }
        return .rule(rules.rule(name, at: source.place(start)))
    }

    /// A text, its letters in either case after `i`, or a range of characters.
    private mutating func text(_ start: Int) throws(GrammarError) -> Expression {
        let text = try source.quoted()
        if source.skip("..") {
            guard source.skip("\"") else { throw source.malformed("a range needs a character at both ends", at: start) }
            let scalars = (Array(text.unicodeScalars), Array(try source.quoted().unicodeScalars))
            guard scalars.0.count == 1, scalars.1.count == 1, scalars.0[0] <= scalars.1[0] else {
                throw source.malformed("a range needs a character at both ends, the lower first", at: start)
            }
            return .scalar([scalars.0[0]...scalars.1[0]])
        }
        guard source.next == "i" else { return .text(text) }
        source.advance()
        guard text.unicodeScalars.allSatisfy(\.isASCII) else {
            throw source.unsupported("a text in either case that is not ASCII", at: start)
        }
        return .sequence(
            text.utf8.map { byte in
                let isLetter = (0x41...0x5A).contains(byte & 0xDF)
                return .byte(ByteSet(isLetter ? [byte & 0xDF, byte | 0x20] : [byte]))
            })
    }

    private mutating func regularExpression() throws(GrammarError) -> Expression {
        let start = source.position
        source.advance()
        while let scalar = source.next, scalar != "/", scalar != "\n" {
            source.advance()
            if scalar == "\\" { source.advance() }
        }
        let pattern = source.text(start + 1..<min(source.position, source.count))
        guard source.skip("/") else { throw source.malformed("this regular expression has no closing '/'", at: start) }
        if let flag = source.next, "imslux".unicodeScalars.contains(flag) {
            throw source.unsupported("the flag '\(flag)' of a regular expression")
        }
        do {
            return try RegularExpression.expression(pattern, extent: .whole, limits: source.limits)
        } catch .malformed(let place, let reason) {
            throw .malformed(place: "\(source.place(start)), \(place)", reason: reason)
        } catch .unsupported(let place, let what) {
            throw .unsupported(place: "\(source.place(start)), \(place)", what: what)
        }
    }
}
