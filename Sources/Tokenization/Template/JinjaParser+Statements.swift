// Statements: one method per tag. A tag this engine does not have is an error at load.

extension Jinja.Parser {
    /// Statements up to a tag named in `ends`, which is left for the caller; or up to the end of the template.
    mutating func parseBody(until ends: [String]) throws(TemplateError) -> [Jinja.Statement] {
        try enter()
        defer { leave() }
        var body: [Jinja.Statement] = []
        while true {
            switch current.kind {
            case .data(let bytes):
                advance()
                body.append(.text(Jinja.Text(bytes: bytes, trusted: true)))
            case .variableBegin:
                advance()
                body.append(.output(try parseTuple()))
                try expect(.variableEnd, "'}}'")
            case .blockBegin:
                advance()
                if case .name(let name) = current.kind, ends.contains(name) { return body }
                body.append(try parseStatement())
                try expect(.blockEnd, "'%}'")
            case .end where ends.isEmpty:
                return body
            default:
                throw unexpected("'{% \(ends.first ?? "") %}'")
            }
        }
    }

    /// A body that begins after this tag's end and runs to `end`, whose name is consumed.
    private mutating func parseBlock(until end: String) throws(TemplateError) -> [Jinja.Statement] {
        try expect(.blockEnd, "'%}'")
        let body = try parseBody(until: [end])
        advance()
        return body
    }

    private mutating func parseStatement() throws(TemplateError) -> Jinja.Statement {
        let location = location
        let name = try expectName("the name of a tag")
        switch name {
        case "set": return try parseSet()
        case "if": return try parseIf()
        case "for": return try parseFor(location)
        case "break", "continue":
            guard loopDepth > 0 else { throw .malformed(location, reason: "'\(name)' is outside of a loop") }
            return name == "break" ? .breakLoop : .continueLoop
        case "macro": return .macro(try parseMacro())
        case "call": return .call(try parseCall(location))
        case "filter":
            let filters = try parseFilters()
            return .filter(filters, try parseBlock(until: "endfilter"))
        case "with": return try parseWith()
        case "generation": return .scope(try parseBlock(until: "endgeneration"))
        case "print": return .output(try parseTuple())
        case _ where name == "elif" || name == "else" || name.hasPrefix("end"):
            throw .malformed(location, reason: "'\(name)' closes nothing that is open")
        default:
            throw .unknown(.tag, name: name, location)
        }
    }

    private mutating func parseFilters() throws(TemplateError) -> [Jinja.FilterCall] {
        var filters = [try parseFilter()]
        while skip(.pipe) { filters.append(try parseFilter()) }
        return filters
    }

    private mutating func parseSet() throws(TemplateError) -> Jinja.Statement {
        let target = try parseTargets(allowsAttribute: true)
        if skip(.assign) { return .assign(target, try parseTuple()) }
        let filters = skip(.pipe) ? try parseFilters() : []
        return .assignBlock(target, filters, try parseBlock(until: "endset"))
    }

    private mutating func parseIf() throws(TemplateError) -> Jinja.Statement {
        var branches: [Jinja.Branch] = []
        var otherwise: [Jinja.Statement] = []
        while true {
            let condition = try parseTuple(allowsCondition: false)
            try expect(.blockEnd, "'%}'")
            branches.append(.init(condition: condition, body: try parseBody(until: ["elif", "else", "endif"])))
            if skipName("elif") { continue }
            if skipName("else") { otherwise = try parseBlock(until: "endif") } else { advance() }
            return .branch(branches, otherwise: otherwise)
        }
    }

    private mutating func parseFor(_ location: TemplateLocation) throws(TemplateError) -> Jinja.Statement {
        let target = try parseTargets(allowsAttribute: false)
        guard skipName("in") else { throw unexpected("'in'") }
        let iterated = try parseTuple(allowsCondition: false, endsBefore: "recursive")
        let condition = skipName("if") ? try parseExpression() : nil
        let isRecursive = skipName("recursive")
        try expect(.blockEnd, "'%}'")
        loopDepth += 1
        let body = try parseBody(until: ["endfor", "else"])
        loopDepth -= 1
        var otherwise: [Jinja.Statement] = []
        if skipName("else") { otherwise = try parseBlock(until: "endfor") } else { advance() }
        return .loop(
            Jinja.Loop(
                target: target, iterated: iterated, condition: condition, isRecursive: isRecursive, body: body,
                otherwise: otherwise, location: location))
    }

    private mutating func parseWith() throws(TemplateError) -> Jinja.Statement {
        var bindings: [(target: Jinja.Target, value: Jinja.Expression)] = []
        while current.kind != .blockEnd {
            if !bindings.isEmpty { try expect(.comma) }
            let target = try parseTarget(allowsAttribute: false)
            try expect(.assign)
            bindings.append((target, try parseExpression()))
        }
        return .with(bindings, try parseBlock(until: "endwith"))
    }
}

// MARK: - Macros

extension Jinja.Parser {
    private mutating func parseMacro() throws(TemplateError) -> Jinja.Macro {
        let name = try expectName("the name of a macro")
        return try parseMacro(name, symbol: assignedSymbol(name), hasParameters: true, end: "endmacro")
    }

    private mutating func parseCall(_ location: TemplateLocation) throws(TemplateError) -> Jinja.CallBlock {
        let parametersStart = position
        if current.kind == .symbol(.leftParenthesis) { try skipParentheses() }
        let callLocation = self.location
        let expression = try parseExpression()
        guard case .postfix(let operand, var postfixes) = expression,
            case .call(let arguments, _)? = postfixes.popLast()
        else { throw .malformed(callLocation, reason: "the tag 'call' needs a call") }
        let end = position
        position = parametersStart
        let hasParameters = current.kind == .symbol(.leftParenthesis)
        let macro = try parseMacro(
            "caller", symbol: symbol("caller"), hasParameters: hasParameters, end: "endcall", from: end)
        let callee = postfixes.isEmpty ? operand : .postfix(operand, postfixes)
        return Jinja.CallBlock(callee: callee, arguments: arguments, macro: macro, location: location)
    }

    /// A signature, if there is one, and a body that begins at token `bodyStart`, or right after it.
    private mutating func parseMacro(
        _ name: String, symbol: Int, hasParameters: Bool, end: String, from bodyStart: Int? = nil
    ) throws(TemplateError) -> Jinja.Macro {
        let outerMentioned = mentioned
        let outerLoops = loopDepth
        mentioned = []
        loopDepth = 0
        let parameters = hasParameters ? try parseParameters() : []
        if let bodyStart { position = bodyStart }
        let body = try parseBlock(until: end)
        let names = Set(parameters.map(\.symbol))
        func extra(_ name: String, _ parser: inout Self) -> Int? {
            let symbol = parser.symbol(name)
            return parser.mentioned.contains(symbol) && !names.contains(symbol) ? symbol : nil
        }
        let macro = Jinja.Macro(
            name: name, symbol: symbol, parameters: parameters, body: body,
            extraPositional: extra("varargs", &self), extraNamed: extra("kwargs", &self),
            caller: extra("caller", &self))
        mentioned.formUnion(outerMentioned)
        loopDepth = outerLoops
        return macro
    }

    private mutating func parseParameters() throws(TemplateError) -> [Jinja.Macro.Parameter] {
        var parameters: [Jinja.Macro.Parameter] = []
        var seen: Set<String> = []
        try expect(.leftParenthesis)
        while !skip(.rightParenthesis) {
            if !parameters.isEmpty { try expect(.comma) }
            let start = location
            let name = try expectName("the name of a parameter")
            guard seen.insert(name).inserted else {
                throw .malformed(start, reason: "the parameter '\(name)' appears twice")
            }
            let symbol = assignedSymbol(name)
            let fallback = skip(.assign) ? try parseExpression() : nil
            if fallback == nil, parameters.last?.fallback != nil {
                throw .malformed(start, reason: "the parameter '\(name)' needs a default, as the one before it has one")
            }
            parameters.append(.init(symbol: symbol, name: name, fallback: fallback))
        }
        return parameters
    }

    /// Steps over a bracketed stretch, which the lexer has balanced.
    private mutating func skipParentheses() throws(TemplateError) {
        var open = 0
        repeat {
            switch current.kind {
            case .symbol(.leftParenthesis): open += 1
            case .symbol(.rightParenthesis): open -= 1
            case .blockEnd, .end: throw unexpected("')'")
            default: break
            }
            advance()
        } while open > 0
    }
}

// MARK: - Targets of assignments

extension Jinja.Parser {
    private mutating func parseTargets(allowsAttribute: Bool) throws(TemplateError) -> Jinja.Target {
        let start = location
        let first = try parseTarget(allowsAttribute: allowsAttribute)
        guard current.kind == .symbol(.comma) else { return first }
        var targets = [first]
        while skip(.comma) {
            guard current.kind != .symbol(.assign), !isName("in"), current.kind != .blockEnd else { break }
            targets.append(try parseTarget(allowsAttribute: allowsAttribute))
        }
        return .tuple(targets, start)
    }

    private mutating func parseTarget(allowsAttribute: Bool) throws(TemplateError) -> Jinja.Target {
        let start = location
        if skip(.leftParenthesis) {
            try enter()
            defer { leave() }
            let target = try parseTargets(allowsAttribute: false)
            try expect(.rightParenthesis)
            return target
        }
        let name = try expectName("a name to assign to")
        guard !["true", "false", "none", "True", "False", "None"].contains(name) else {
            throw .malformed(start, reason: "'\(name)' cannot be assigned to")
        }
        if allowsAttribute, skip(.dot) {
            let attribute = try expectName("the name of an attribute")
            return .attribute(symbol(name), name: Jinja.Text(attribute, trusted: true), start)
        }
        if !allowsAttribute, name == "loop" {
            throw .malformed(start, reason: "'loop' cannot be assigned to in a for loop")
        }
        return .name(assignedSymbol(name))
    }
}
