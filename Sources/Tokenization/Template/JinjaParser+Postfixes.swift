// What follows an operand: attributes, elements, calls, filters, tests. Filters and tests are looked up by name here,
// so that a name there is none of is an error at load.

extension Jinja.Parser {
    mutating func parsePostfixes(
        of operand: Jinja.Expression, allowsFilters: Bool
    ) throws(TemplateError) -> [Jinja.Postfix] {
        var postfixes: [Jinja.Postfix] = []
        var isFiltered = false
        while true {
            let location = location
            switch current.kind {
            case .symbol(.dot) where !isFiltered:
                advance()
                postfixes.append(try parseAttribute(location))
            case .symbol(.leftBracket) where !isFiltered:
                advance()
                postfixes.append(try parseSubscript(location))
            case .symbol(.leftParenthesis):
                if postfixes.isEmpty, case .name(let symbol, _) = operand { called.append((names[symbol], location)) }
                advance()
                postfixes.append(.call(try parseArguments(), location))
            case .symbol(.pipe) where allowsFilters:
                isFiltered = true
                advance()
                postfixes.append(.filter(try parseFilter()))
            case .name("is") where allowsFilters:
                isFiltered = true
                advance()
                postfixes.append(try parseTest(location))
            default:
                return postfixes
            }
        }
    }

    private mutating func parseAttribute(_ location: TemplateLocation) throws(TemplateError) -> Jinja.Postfix {
        if case .integer(let index) = current.kind {
            advance()
            return .element(.constant(.int(index)), location)
        }
        let name = try expectName("the name of an attribute")
        return .attribute(Jinja.Text(name, trusted: true), Jinja.Method(rawValue: name), location)
    }

    private mutating func parseSubscript(_ location: TemplateLocation) throws(TemplateError) -> Jinja.Postfix {
        var elements: [Jinja.Expression] = []
        while !skip(.rightBracket) {
            if !elements.isEmpty { try expect(.comma) }
            let lower = current.kind == .symbol(.colon) ? nil : try parseExpression()
            guard skip(.colon) else {
                if let lower { elements.append(lower) }
                continue
            }
            guard elements.isEmpty else { throw unexpected("an index") }
            let upper = try parseBound()
            let stride = skip(.colon) ? try parseBound() : nil
            try expect(.rightBracket)
            return .slice(lower, upper, stride, location)
        }
        if elements.count == 1 { return .element(elements[0], location) }
        return .element(.tuple(elements), location)
    }

    private mutating func parseBound() throws(TemplateError) -> Jinja.Expression? {
        switch current.kind {
        case .symbol(.colon), .symbol(.rightBracket): nil
        default: try parseExpression()
        }
    }

    /// The arguments of a call, after its opening parenthesis.
    mutating func parseArguments() throws(TemplateError) -> Jinja.Arguments {
        var arguments = Jinja.Arguments()
        var isFirst = true
        while !skip(.rightParenthesis) {
            if !isFirst {
                try expect(.comma)
                if skip(.rightParenthesis) { break }
            }
            isFirst = false
            if skip(.multiply) {
                guard arguments.unpacked == nil, arguments.unpackedNamed == nil else { throw unexpected("an argument") }
                arguments.unpacked = try parseExpression()
            } else if skip(.power) {
                guard arguments.unpackedNamed == nil else { throw unexpected("an argument") }
                arguments.unpackedNamed = try parseExpression()
            } else if case .name(let name) = current.kind, position + 1 < tokens.count,
                tokens[position + 1].kind == .symbol(.assign)
            {
                guard arguments.unpackedNamed == nil, !arguments.named.contains(where: { $0.name == name }) else {
                    throw unexpected("an argument")
                }
                advance()
                advance()
                arguments.named.append((name, try parseExpression()))
            } else {
                guard arguments.named.isEmpty, arguments.unpacked == nil, arguments.unpackedNamed == nil else {
                    throw unexpected("a named argument")
                }
                arguments.positional.append(try parseExpression())
            }
        }
        return arguments
    }

    /// A filter and its arguments, after the `|`.
    mutating func parseFilter() throws(TemplateError) -> Jinja.FilterCall {
        let location = location
        let name = try parseDottedName("the name of a filter")
        guard let filter = Jinja.Filter(rawValue: name) else { throw .unknown(.filter, name: name, location) }
        let arguments = skip(.leftParenthesis) ? try parseArguments() : Jinja.Arguments()
        try checkNames(in: arguments, of: filter)
        return Jinja.FilterCall(filter: filter, arguments: arguments, location: location)
    }

    /// Refuses `map('nonesuch')` at load, where the name is a literal.
    private func checkNames(in arguments: Jinja.Arguments, of filter: Jinja.Filter) throws(TemplateError) {
        let place: Int
        switch filter {
        case .map, .select, .reject: place = 0
        case .selectattr, .rejectattr: place = 1
        default: return
        }
        guard arguments.positional.count > place,
            case .constant(.string(let name)) = arguments.positional[place]
        else { return }
        if filter == .map {
            guard Jinja.Filter(rawValue: name.string) != nil else {
                throw .unknown(.filter, name: name.string, location)
            }
        } else if Jinja.Test(rawValue: name.string) == nil {
            throw .unknown(.test, name: name.string, location)
        }
    }

    private mutating func parseTest(_ location: TemplateLocation) throws(TemplateError) -> Jinja.Postfix {
        let isNegated = skipName("not")
        let nameLocation = self.location
        let name = try parseDottedName("the name of a test")
        guard let test = Jinja.Test(rawValue: name) else { throw .unknown(.test, name: name, nameLocation) }
        var arguments = Jinja.Arguments()
        switch current.kind {
        case .symbol(.leftParenthesis):
            advance()
            arguments = try parseArguments()
        case .name("else"), .name("or"), .name("and"):
            break
        case .name("is"):
            throw unexpected("something other than a second test")
        case .name, .string, .integer, .float, .symbol(.leftBracket), .symbol(.leftBrace):
            try enter()
            defer { leave() }
            let operand = try parsePrimary()
            let postfixes = try parsePostfixes(of: operand, allowsFilters: false)
            arguments.positional = [postfixes.isEmpty ? operand : .postfix(operand, postfixes)]
        default:
            break
        }
        return .test(test, arguments, negated: isNegated, location)
    }

    private mutating func parseDottedName(_ what: String) throws(TemplateError) -> String {
        var name = try expectName(what)
        while skip(.dot) { name += "." + (try expectName(what)) }
        return name
    }
}
