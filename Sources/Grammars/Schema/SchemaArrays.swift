// Lists and tuples, and the few lists whose elements can be kept different.

import JSON

extension SchemaTranslation {
    mutating func arrayExpression(_ constraints: SchemaConstraints) throws(GrammarError) -> Expression {
        let least = constraints.minItems
        var most = constraints.maxItems?.value
        if let maximum = constraints.maxItems, maximum.value < least {
            return try nothing(
                maximum.place, "a list needs \(least) elements and may have \(maximum.value) of them")
        }
        if let place = constraints.unique, most.map({ $0 > 1 }) ?? true {
            return try uniqueArray(constraints, place)
        }
        if constraints.arrays.isEmpty, least == 0, most == nil { return try shared(.array) }
        var (rest, isOpen) = constraints.rest(afterPrefixOf: 0)
        var length = constraints.arrays.map(\.prefix.count).max() ?? 0
        for schema in rest {
            if case .never = try document.read(schema) {
                isOpen = false
                rest = [schema]
            }
        }
        // Elements behind a tuple are generated where a schema speaks of them, or where `minItems` needs them.
        if !isOpen, rest.isEmpty, least > length { isOpen = true }
        if !isOpen {
            guard least <= length else {
                return try nothing(constraints.place, "a list needs \(least) elements and may have \(length)")
            }
            most = min(most ?? length, length)
        }
        length = min(length, most ?? length)
        guard length <= Self.tupleLength else {
            throw GrammarError.overBudget(what: "elements of a tuple", value: length, limit: Self.tupleLength)
        }
        return try enclosed("[", "]", try arrayContent(constraints, length, rest, least, most))
    }

    private static var tupleLength: Int { 64 }

    /// `length` elements of their own and then others that satisfy `rest`.
    private mutating func arrayContent(
        _ constraints: SchemaConstraints, _ length: Int, _ rest: [SchemaID], _ least: Int, _ most: Int?
    ) throws(GrammarError) -> SeparatedContent {
        guard length > 0 else {
            if most == 0 { return SeparatedContent(filled: .nothing, mayBeEmpty: true) }
            return try separated(try value(rest), least, most)
        }
        let comma = try comma()
        var tail = Expression.empty
        if most.map({ $0 > length }) ?? true {
            tail = .repetition(
                .sequence([comma, try value(rest)]), atLeast: max(0, least - length), atMost: most.map { $0 - length })
        }
        for index in stride(from: length - 1, to: 0, by: -1) {
            tail = .sequence([comma, try value(constraints.element(index)), tail])
            if index >= least { tail = .optional(tail) }
        }
        return SeparatedContent(
            filled: .sequence([try value(constraints.element(0)), tail]), mayBeEmpty: least == 0)
    }

    /// Different elements of a given set: each at most once, in the order of the set.
    private mutating func uniqueArray(
        _ constraints: SchemaConstraints, _ place: SchemaPlace
    ) throws(GrammarError) -> Expression {
        let refusal = GrammarError.unsupported(
            place: place.description, what: "uniqueItems of anything but elements from a given set")
        guard constraints.arrays.allSatisfy({ $0.prefix.isEmpty }), !constraints.arrays.isEmpty else { throw refusal }
        var values: [JSONValue] = []
        for combination in try alternatives(of: constraints.rest(afterPrefixOf: 0).schemas) {
            let element = try self.constraints(of: combination)
            guard let given = element.values else { throw refusal }
            for value in given.value where try accepts(value, element) {
                try document.spend(values.count)
                if !values.contains(where: { $0.isSame(as: value) }) { values.append(value) }
            }
        }
        var members: [SequenceMember] = []
        for value in values { members.append(SequenceMember(isRequired: false, text: try literal(value))) }
        let least = Placed(value: constraints.minItems, place: place)
        if members.isEmpty, least.value == 0 { return .text("[]") }
        return try enclosed("[", "]", try content(members, nil, least, constraints.maxItems))
    }
}
