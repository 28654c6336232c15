// Tokens to a tree: expressions by precedence climbing (this file), what follows an operand and statements beside it.
// Names of filters, tests and functions are resolved here, so a template that needs more than there is fails at load.

extension Jinja {
    /// Parses one template.
    struct Parser {
        let limits: TemplateLimits
        let tokens: [Token]
        /// The token that is next.
        var position = 0

        private var depth = 0
        /// Loops around the current statement; `break` needs one.
        var loopDepth = 0
        private(set) var names: [String] = []
        private var symbols: [String: Int] = [:]
        /// Names the template gives a value to, and names it calls, to find functions that exist nowhere.
        private var assigned: Set<String> = ["caller", "loop"]
        var called: [(name: String, location: TemplateLocation)] = []
        /// Names read since the innermost macro began.
        var mentioned: Set<Int> = []

        private init(tokens: [Token], limits: TemplateLimits) {
            self.tokens = tokens
            self.limits = limits
        }

        /// The program that `source` spells.
        static func parse(_ source: String, limits: TemplateLimits) throws(TemplateError) -> Program {
            let start = TemplateLocation(line: 1, column: 1)
            guard source.utf8.count <= limits.sourceBytes else {
                throw .exceeded(.source, limit: limits.sourceBytes, start)
            }
            var parser = Parser(tokens: try Lexer.tokens(of: source, nesting: limits.nesting), limits: limits)
            let body = try parser.parseBody(until: [])
            for (name, location) in parser.called
            where !parser.assigned.contains(name) && Function(rawValue: name) == nil {
                throw .unknown(.function, name: name, location)
            }
            return Program(body: body, names: parser.names)
        }
    }
}

// MARK: - Cursor

extension Jinja.Parser {
    var current: Jinja.Token { tokens[min(position, tokens.count - 1)] }
    var location: TemplateLocation { current.location }

    mutating func advance() { position = min(position + 1, tokens.count - 1) }

    func isName(_ name: String) -> Bool { current.kind == .name(name) }

    mutating func skipName(_ name: String) -> Bool {
        guard isName(name) else { return false }
        advance()
        return true
    }

    mutating func skip(_ symbol: Jinja.Symbol) -> Bool {
        guard current.kind == .symbol(symbol) else { return false }
        advance()
        return true
    }

    mutating func expect(_ kind: Jinja.Token.Kind, _ what: String) throws(TemplateError) {
        guard current.kind == kind else { throw unexpected(what) }
        advance()
    }

    mutating func expect(_ symbol: Jinja.Symbol) throws(TemplateError) {
        try expect(.symbol(symbol), "'\(symbol.rawValue)'")
    }

    mutating func expectName(_ what: String) throws(TemplateError) -> String {
        guard case .name(let name) = current.kind else { throw unexpected(what) }
        advance()
        return name
    }

    func unexpected(_ wanted: String) -> TemplateError {
        let found =
            switch current.kind {
            case .data: "text"
            case .blockBegin: "'{%'"
            case .blockEnd: "'%}'"
            case .variableBegin: "'{{'"
            case .variableEnd: "'}}'"
            case .name(let name): "'\(name)'"
            case .string: "a string"
            case .integer, .float: "a number"
            case .symbol(let symbol): "'\(symbol.rawValue)'"
            case .end: "the end of the template"
            }
        return .malformed(location, reason: "expected \(wanted), found \(found)")
    }

    /// The index of a name.
    mutating func symbol(_ name: String) -> Int {
        if let known = symbols[name] { return known }
        symbols[name] = names.count
        names.append(name)
        return names.count - 1
    }

    /// The index of a name that the template gives a value to.
    mutating func assignedSymbol(_ name: String) -> Int {
        assigned.insert(name)
        return symbol(name)
    }

    /// Enters a level of nesting; `leave` ends it.
    mutating func enter() throws(TemplateError) {
        guard depth < limits.nesting else { throw .exceeded(.nesting, limit: limits.nesting, location) }
        depth += 1
    }

    mutating func leave() { depth -= 1 }
}

// MARK: - Expressions

extension Jinja.Parser {
    /// Binding strength, from the weakest.
    private enum Level: Int, Comparable {
        case or, and, not, compare, additive, concatenate, multiplicative, power, unary

        static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }
        var next: Level { Level(rawValue: rawValue + 1) ?? .unary }
    }

    mutating func parseExpression(allowsCondition: Bool = true) throws(TemplateError) -> Jinja.Expression {
        try enter()
        defer { leave() }
        var expression = try parseOperators(.or)
        while allowsCondition, skipName("if") {
            let condition = try parseOperators(.or)
            let otherwise = skipName("else") ? try parseExpression() : nil
            expression = .conditional(expression, if: condition, otherwise: otherwise)
            // A chain without `else` nests to the left.
            if isName("if") { throw unexpected("the end of the inline if-expression") }
        }
        return expression
    }

    /// The level of the operator that is next, if one is.
    private var currentLevel: Level? {
        switch current.kind {
        case .name("or"): .or
        case .name("and"): .and
        case .name("in"): .compare
        case .name("not"): position + 1 < tokens.count && tokens[position + 1].kind == .name("in") ? .compare : nil
        case .symbol(.equal), .symbol(.notEqual), .symbol(.less), .symbol(.lessOrEqual), .symbol(.greater),
            .symbol(.greaterOrEqual):
            .compare
        case .symbol(.add), .symbol(.subtract): .additive
        case .symbol(.concatenate): .concatenate
        case .symbol(.multiply), .symbol(.divide), .symbol(.floorDivide), .symbol(.modulo): .multiplicative
        case .symbol(.power): .power
        default: nil
        }
    }

    private mutating func parseOperators(_ minimum: Level) throws(TemplateError) -> Jinja.Expression {
        var left: Jinja.Expression
        if minimum <= .not, isName("not") {
            try enter()
            defer { leave() }
            advance()
            left = .not(try parseOperators(.not))
        } else {
            left = try parseUnary(allowsFilters: true)
        }
        while let level = currentLevel, level >= minimum {
            left = try parseChain(of: level, from: left)
        }
        return left
    }

    /// All operators of one level that follow `first`.
    private mutating func parseChain(
        of level: Level, from first: Jinja.Expression
    ) throws(TemplateError) -> Jinja.Expression {
        var comparisons: [Jinja.Operand<Jinja.Comparison>] = []
        var operations: [Jinja.Operand<Jinja.Arithmetic>] = []
        var operands = [first]
        let start = location
        while currentLevel == level {
            let location = location
            let spelling = parseOperator()
            let value = try parseOperators(level.next)
            if let symbol = Jinja.Comparison(rawValue: spelling) {
                comparisons.append(.init(symbol: symbol, value: value, location: location))
            } else if let symbol = Jinja.Arithmetic(rawValue: spelling) {
                operations.append(.init(symbol: symbol, value: value, location: location))
            } else {
                operands.append(value)
            }
        }
        return switch level {
        case .or: .any(operands)
        case .and: .all(operands)
        case .compare: .compare(first, comparisons)
        case .concatenate: .concatenate(operands, start)
        default: .arithmetic(first, operations)
        }
    }

    private mutating func parseOperator() -> String {
        defer { advance() }
        switch current.kind {
        case .symbol(let symbol): return symbol.rawValue
        case .name("not"):
            advance()
            return "not in"
        case .name(let name): return name
        default: return ""
        }
    }

    private mutating func parseUnary(allowsFilters: Bool) throws(TemplateError) -> Jinja.Expression {
        let location = location
        var expression: Jinja.Expression
        if current.kind == .symbol(.subtract) || current.kind == .symbol(.add) {
            let negates = current.kind == .symbol(.subtract)
            try enter()
            defer { leave() }
            advance()
            let operand = try parseUnary(allowsFilters: false)
            expression = negates ? .negate(operand, location) : .plus(operand, location)
        } else {
            expression = try parsePrimary()
        }
        let postfixes = try parsePostfixes(of: expression, allowsFilters: allowsFilters)
        if !postfixes.isEmpty { expression = .postfix(expression, postfixes) }
        return expression
    }

    mutating func parsePrimary() throws(TemplateError) -> Jinja.Expression {
        let token = current
        switch token.kind {
        case .name(let name):
            advance()
            switch name {
            case "true", "True": return .constant(.bool(true))
            case "false", "False": return .constant(.bool(false))
            case "none", "None": return .constant(.none)
            default:
                let symbol = symbol(name)
                mentioned.insert(symbol)
                return .name(symbol, token.location)
            }
        case .string(var text):
            advance()
            while case .string(let next) = current.kind {
                text += next
                advance()
            }
            return .constant(.text(text, trusted: true))
        case .integer(let value):
            advance()
            return .constant(.int(value))
        case .float(let value):
            advance()
            return .constant(.float(value))
        case .symbol(.leftParenthesis):
            advance()
            let expression = try parseTuple(allowsEmpty: true)
            try expect(.rightParenthesis)
            return expression
        case .symbol(.leftBracket):
            advance()
            return .list(try parseList())
        case .symbol(.leftBrace):
            advance()
            return try parseMapping(token.location)
        default:
            throw unexpected("an expression")
        }
    }

    private mutating func parseList() throws(TemplateError) -> [Jinja.Expression] {
        var elements: [Jinja.Expression] = []
        while !skip(.rightBracket) {
            if !elements.isEmpty {
                try expect(.comma)
                if skip(.rightBracket) { break }
            }
            elements.append(try parseExpression())
        }
        return elements
    }

    private mutating func parseMapping(_ location: TemplateLocation) throws(TemplateError) -> Jinja.Expression {
        var members: [(key: Jinja.Expression, value: Jinja.Expression)] = []
        while !skip(.rightBrace) {
            if !members.isEmpty {
                try expect(.comma)
                if skip(.rightBrace) { break }
            }
            let key = try parseExpression()
            try expect(.colon)
            members.append((key, try parseExpression()))
        }
        return .mapping(members, location)
    }

    /// One expression, or several between commas, which make a tuple.
    mutating func parseTuple(
        allowsCondition: Bool = true, allowsEmpty: Bool = false, endsBefore name: String? = nil
    ) throws(TemplateError) -> Jinja.Expression {
        var elements: [Jinja.Expression] = []
        var isTuple = false
        while !endsTuple(before: name) {
            elements.append(try parseExpression(allowsCondition: allowsCondition))
            guard skip(.comma) else { break }
            isTuple = true
        }
        if !isTuple, let only = elements.first { return only }
        guard isTuple || allowsEmpty else { throw unexpected("an expression") }
        return .tuple(elements)
    }

    private func endsTuple(before name: String?) -> Bool {
        switch current.kind {
        case .variableEnd, .blockEnd, .symbol(.rightParenthesis): true
        default: name.map { isName($0) } ?? false
        }
    }
}
