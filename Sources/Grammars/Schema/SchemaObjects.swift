// Objects: declared members in declared order with exact commas, those that are not required skippable, and then
// members of other names where a schema permits them.

import JSON

extension SchemaTranslation {
    mutating func objectExpression(_ constraints: SchemaConstraints) throws(GrammarError) -> Expression {
        if let minimum = constraints.minProperties, let maximum = constraints.maxProperties,
            minimum.value > maximum.value
        {
            return try nothing(
                minimum.place, "an object needs \(minimum.value) members and may have \(maximum.value) of them")
        }
        let isBare = constraints.objects.isEmpty && constraints.required.isEmpty && constraints.names.isEmpty
        if isBare, constraints.minProperties == nil, constraints.maxProperties == nil { return try shared(.object) }
        let givenNames = try enumeratedNames(constraints)
        var declared: [MemberName] = []
        var known: Set<MemberName> = []
        for object in constraints.objects {
            for property in object.properties where known.insert(property.name).inserted {
                declared.append(property.name)
            }
        }
        for name in constraints.required.map(\.value) + (constraints.isOpen ? givenNames ?? [] : [])
        where known.insert(name).inserted {
            declared.append(name)
        }
        var members: [SequenceMember] = []
        for name in declared {
            let requirement = constraints.required.first { $0.value == name }
            try document.spend(1 + constraints.required.count / 16)
            guard let schemas = try schemas(of: name, in: constraints) else {
                guard let requirement else { continue }
                return try nothing(
                    requirement.place, "propertyNames excludes the required \(JSONValue.quoted(name.text))")
            }
            if requirement == nil, try includeFalse(schemas) { continue }
            let text = Expression.sequence([self.name(name.text), colon, try value(schemas)])
            members.append(SequenceMember(isRequired: requirement != nil, text: text))
        }
        let other = givenNames == nil ? try otherMember(constraints, declared) : nil
        return try enclosed(
            "{", "}",
            try members.count == 0 && other == nil && constraints.minProperties == nil
                ? SeparatedContent(filled: .nothing, mayBeEmpty: true)
                : content(members, other, constraints.minProperties, constraints.maxProperties))
    }

    private mutating func includeFalse(_ schemas: [SchemaID]) throws(GrammarError) -> Bool {
        for schema in schemas {
            if case .never = try document.read(schema) { return true }
        }
        return false
    }

    /// All names that `propertyNames` permits, if they are given one by one.
    private mutating func enumeratedNames(_ constraints: SchemaConstraints) throws(GrammarError) -> [MemberName]? {
        guard !constraints.names.isEmpty else { return nil }
        var result: [MemberName] = []
        for combination in try alternatives(of: constraints.names) {
            let names = try self.constraints(of: combination)
            if !names.types.contains(.string) { continue }
            guard let values = names.values else { return nil }
            for value in values.value {
                if case .string(let text) = value { result.append(MemberName(text)) }
            }
        }
        return result
    }

    // MARK: Members of other names

    /// A member whose name is not declared; nil if there may be none.
    private mutating func otherMember(
        _ constraints: SchemaConstraints, _ declared: [MemberName]
    ) throws(GrammarError) -> Expression? {
        var patterns: [Placed<String>] = []
        for object in constraints.objects {
            for (pattern, _) in object.patterns {
                if !patterns.contains(where: { $0.value.hasBytes(of: pattern.value) }) { patterns.append(pattern) }
            }
        }
        guard patterns.count <= 4 else {
            throw GrammarError.unsupported(
                place: patterns[4].place.description, what: "patternProperties with more than 4 patterns")
        }
        guard constraints.isOpen || !patterns.isEmpty else { return nil }
        let names = try nameContent(constraints, isCommon: patterns.contains { Self.namesClass($0.value) })
        var choices: [Expression] = []
        for subset in 0..<(1 << patterns.count) where subset > 0 || constraints.isOpen {
            let matched = patterns.indices.filter { subset >> $0 & 1 == 1 }.map { patterns[$0].value }
            let schemas = schemasOfOther(constraints, matching: matched)
            if try includeFalse(schemas) { continue }
            var content = names
            var excluded = declared.map { Expression.bytes(JSONSpelling.content($0.text)) }
            for (index, pattern) in patterns.enumerated() {
                let language = JSONSpelling.spelled(try patternContent(pattern))
                if subset >> index & 1 == 1 {
                    content = .intersection(content, language)
                } else {
                    excluded.append(language)
                }
            }
            if !excluded.isEmpty { content = .difference(content, .choice(excluded)) }
            if !patterns.isEmpty, try isEmpty(content) { continue }
            let name = try addRule("name beside the declared ones", JSONSpelling.quoted(content))
            choices.append(.sequence([.rule(name), colon, try value(schemas)]))
        }
        return choices.isEmpty ? nil : .choice(choices)
    }

    /// What a member must satisfy whose name is not declared and matches exactly those patterns.
    private func schemasOfOther(_ constraints: SchemaConstraints, matching matched: [String]) -> [SchemaID] {
        var result: [SchemaID] = []
        for object in constraints.objects {
            let own = object.patterns.filter { entry in matched.contains { $0.hasBytes(of: entry.pattern.value) } }
            if own.isEmpty, let additional = object.additional {
                result.append(additional)
            } else {
                result += own.map(\.schema)
            }
        }
        return result
    }

    /// What stands between the quotes of a name that is made up. Where patterns decide on it, it is of ASCII.
    private mutating func nameContent(
        _ constraints: SchemaConstraints, isCommon: Bool
    ) throws(GrammarError) -> Expression {
        let character = isCommon ? JSONSpelling.commonNameCharacter : JSONSpelling.nameCharacter
        let any = Expression.repetition(character, atLeast: 0, atMost: nil)
        guard !constraints.names.isEmpty else { return any }
        var choices: [Expression] = []
        for combination in try alternatives(of: constraints.names) {
            let names = try self.constraints(of: combination)
            guard names.types.contains(.string) else { continue }
            if let values = names.values {
                for value in values.value where try acceptsListed(value, names) {
                    if case .string(let text) = value { choices.append(.bytes(JSONSpelling.content(text))) }
                }
            } else if let content = try stringContent(names) {
                choices.append(isCommon ? .intersection(any, content) : content)
            } else {
                choices.append(any)
            }
        }
        return .choice(choices)
    }
}
