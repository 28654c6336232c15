// The rules of a schema's grammar: one for each set of schemas that some value must satisfy together. Bodies are
// made from a list of waiting rules, so that references may lead anywhere, also back.

import JSON

/// A schema on its way to a grammar.
struct SchemaTranslation {
    /// What a waiting rule matches.
    private enum Work {
        /// Values that satisfy all of these.
        case schemas([SchemaID])
        /// The same, where the schemas leave no choice.
        case combination([SchemaID])
    }

    /// Rules that every schema shares.
    enum SharedRule: Hashable {
        case space
        case string
        case number
        case integer
        case value
        case object
        case array
    }

    let options: JSONSchema.Options
    var document: SchemaDocument
    var knownConstraints: [[SchemaID]: SchemaConstraints] = [:]
    var exclusiveBranches: [[[SchemaID]]: [[SchemaID]]] = [:]
    /// A `oneOf` is being proven exclusive: what may satisfy a schema must not be taken for less than it is.
    var isProving = false
    var stringRules: [StringForm: RuleID] = [:]
    var numberRules: [NumberForm: RuleID] = [:]
    var patternExpressions: [MemberName: Expression] = [:]
    var patternAutomata: [MemberName: CompiledGrammar] = [:]
    /// The `false` that was met last, for the sentence that refuses a schema without any value.
    var lastNever = SchemaPlace.root
    private var rules: [Grammar.Rule] = []
    private var waiting: [(rule: RuleID, work: Work)] = []
    private var ruleOfSchemas: [[SchemaID]: RuleID] = [:]
    private var ruleOfCombination: [[SchemaID]: RuleID] = [:]
    private var sharedRules: [SharedRule: RuleID] = [:]
    /// Why a rule matches nothing.
    private var reasons: [RuleID: (place: SchemaPlace, reason: String)] = [:]

    init(schema: JSONValue, options: JSONSchema.Options) {
        self.options = options
        document = SchemaDocument(root: schema, limits: options.limits)
    }

    mutating func grammar() throws(GrammarError) -> Grammar {
        let start = try addRule("\(SchemaPlace.root)", .nothing)
        rules[start.index].body = try value([try document.rootSchema()])
        while let (rule, work) = waiting.popLast() {
            switch work {
            case .schemas(let schemas): rules[rule.index].body = try alternatives(schemas)
            case .combination(let schemas): rules[rule.index].body = try expression(try constraints(of: schemas))
            }
        }
        let productivity = GrammarProductivity(rules)
        if let barren = productivity.firstCause(from: start, in: rules, isCause: { reasons[$0] != nil }) {
            guard let (place, reason) = reasons[barren] else {
                throw GrammarError.unsatisfiable(
                    place: rules[barren.index].name, reason: "every value would contain another one without end")
            }
            throw GrammarError.unsatisfiable(place: place.description, reason: reason)
        }
        return Grammar(rules: rules, start: start)
    }

    // MARK: Rules

    mutating func addRule(_ name: String, _ body: Expression) throws(GrammarError) -> RuleID {
        guard rules.count < options.limits.rules else {
            throw GrammarError.overBudget(
                what: "rules of the schema's grammar", value: rules.count + 1, limit: options.limits.rules)
        }
        rules.append(Grammar.Rule(name: name, body: body))
        return RuleID(rules.count - 1)
    }

    /// Matches nothing; `reason` says why if that makes the whole schema unsatisfiable.
    mutating func nothing(_ place: SchemaPlace, _ reason: String) throws(GrammarError) -> Expression {
        let rule = try addRule("\(place)", .nothing)
        reasons[rule] = (place, reason)
        return .rule(rule)
    }

    /// A rule that is made once.
    mutating func shared(_ rule: SharedRule) throws(GrammarError) -> Expression {
        if let known = sharedRules[rule] { return .rule(known) }
        let id = try addRule("\(rule)", .nothing)
        sharedRules[rule] = id
        rules[id.index].body = try body(of: rule)
        return .rule(id)
    }

    /// Any value that satisfies all of `schemas`.
    mutating func value(_ schemas: [SchemaID]) throws(GrammarError) -> Expression {
        var needed: [SchemaID] = []
        for schema in schemas {
            let schema = try referenced(schema)
            if needed.contains(schema) { continue }
            switch try document.read(schema) {
            case .always: continue
            case .never(let place): return try nothing(place, "the schema is false")
            case .keywords(let keywords):
                if keywords.saysSomething { needed.append(schema) }
            }
        }
        guard let first = needed.first else { return try shared(.value) }
        if let known = ruleOfSchemas[needed] { return .rule(known) }
        let rule = try addRule("\(document.place(of: first))", .nothing)
        ruleOfSchemas[needed] = rule
        waiting.append((rule, .schemas(needed)))
        return .rule(rule)
    }

    /// Where a schema that is a reference and nothing else leads to, so that all that refer share one rule.
    private mutating func referenced(_ schema: SchemaID) throws(GrammarError) -> SchemaID {
        var schema = schema
        for _ in 0..<64 {
            guard case .keywords(let keywords) = try document.read(schema), !keywords.hasConstraints,
                keywords.branches.isEmpty, keywords.references.count == 1
            else { return schema }
            schema = keywords.references[0]
        }
        return schema
    }

    /// Whether the schemas refer to no others for the same value: then they are their own only combination.
    private mutating func areComplete(_ schemas: [SchemaID]) throws(GrammarError) -> Bool {
        for schema in schemas {
            guard case .keywords(let keywords) = try document.read(schema) else { return false }
            if !keywords.references.isEmpty || !keywords.branches.isEmpty { return false }
        }
        return true
    }

    private mutating func alternatives(_ schemas: [SchemaID]) throws(GrammarError) -> Expression {
        let combinations = try alternatives(of: schemas)
        guard !combinations.isEmpty else { return try nothing(lastNever, "the schema is false") }
        var choices: [Expression] = []
        for combination in combinations {
            let constraints = try constraints(of: combination)
            let isSmall = constraints.types.isDisjoint(with: [.object, .array])
            if isSmall || combination == schemas {
                choices.append(try expression(constraints))
            } else if try areComplete(combination) {
                choices.append(try value(combination))
            } else if let known = ruleOfCombination[combination] {
                choices.append(.rule(known))
            } else {
                let rule = try addRule("\(constraints.place)", .nothing)
                ruleOfCombination[combination] = rule
                waiting.append((rule, .combination(combination)))
                choices.append(.rule(rule))
            }
        }
        return choices.count == 1 ? choices[0] : .choice(choices)
    }

    /// Any value that satisfies `constraints`.
    private mutating func expression(_ constraints: SchemaConstraints) throws(GrammarError) -> Expression {
        if constraints.types.isEmpty {
            return try nothing(constraints.place, "no type satisfies all that is said of it")
        }
        if let values = constraints.values {
            var choices: [Expression] = []
            for value in values.value where try acceptsListed(value, constraints) { choices.append(try literal(value)) }
            if choices.isEmpty { return try nothing(values.place, "none of its values satisfies the rest") }
            return choices.count == 1 ? choices[0] : .choice(choices)
        }
        var choices: [Expression] = []
        let types = constraints.types
        if types.contains(.object) { choices.append(try objectExpression(constraints)) }
        if types.contains(.array) { choices.append(try arrayExpression(constraints)) }
        if types.contains(.string) { choices.append(try stringExpression(constraints)) }
        if !types.isDisjoint(with: .number) { choices.append(try numberExpression(constraints)) }
        if types.contains(.boolean) { choices += [.text("true"), .text("false")] }
        if types.contains(.null) { choices.append(.text("null")) }
        return choices.count == 1 ? choices[0] : .choice(choices)
    }

    // MARK: Shared rules

    private mutating func body(of rule: SharedRule) throws(GrammarError) -> Expression {
        switch rule {
        case .space: return JSONSpelling.space
        case .string: return JSONSpelling.quoted(.repetition(JSONSpelling.character, atLeast: 0, atMost: nil))
        case .number: return NumberText.anyNumber
        case .integer: return NumberText.anyInteger
        case .value:
            return .choice([
                try shared(.object), try shared(.array), try shared(.string), try shared(.number), .text("true"),
                .text("false"), .text("null"),
            ])
        case .object:
            let name = JSONSpelling.quoted(.repetition(JSONSpelling.nameCharacter, atLeast: 0, atMost: nil))
            let member = Expression.sequence([name, colon, try shared(.value)])
            return try enclosed("{", "}", try separated(member, 0, nil))
        case .array: return try enclosed("[", "]", try separated(try shared(.value), 0, nil))
        }
    }

    // MARK: Punctuation

    /// Between a name and its value.
    var colon: Expression {
        options.whitespace == .compact ? .text(":") : .sequence([.text(":"), .optional(.text(" "))])
    }

    /// Between elements or members.
    mutating func comma() throws(GrammarError) -> Expression {
        options.whitespace == .compact ? .text(",") : .sequence([.text(","), try shared(.space)])
    }

    /// `content` in brackets. Empty content has no white space around it.
    mutating func enclosed(
        _ open: String, _ close: String, _ content: SeparatedContent
    ) throws(GrammarError) -> Expression {
        var inner = content.filled
        if options.whitespace == .formatted { inner = .sequence([try shared(.space), inner, try shared(.space)]) }
        if content.mayBeEmpty { inner = .optional(inner) }
        return .sequence([.text(open), inner, .text(close)])
    }

    /// Between `least` and `most` times `element`, with commas.
    mutating func separated(
        _ element: Expression, _ least: Int, _ most: Int?
    ) throws(GrammarError) -> SeparatedContent {
        let more = Expression.repetition(
            .sequence([try comma(), element]), atLeast: max(0, least - 1), atMost: most.map { $0 - 1 })
        return SeparatedContent(filled: .sequence([element, more]), mayBeEmpty: least == 0)
    }
}

/// What stands between brackets.
struct SeparatedContent {
    /// One or more elements.
    var filled: Expression
    var mayBeEmpty: Bool
}

extension SchemaKeywords {
    /// Something restricts the value.
    var saysSomething: Bool { hasConstraints || !references.isEmpty || !branches.isEmpty }
}
