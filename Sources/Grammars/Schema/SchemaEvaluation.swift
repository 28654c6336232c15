// Whether a value that a schema spells out, in `enum` or `const`, satisfies the schema's other keywords.

import JSON

extension SchemaTranslation {
    /// Whether `value` satisfies all of `schemas`. Recursion ends with the value's depth.
    mutating func accepts(_ value: JSONValue, _ schemas: [SchemaID]) throws(GrammarError) -> Bool {
        for combination in try alternatives(of: schemas) {
            let constraints = try constraints(of: combination)
            if try accepts(value, constraints) { return true }
        }
        return false
    }

    mutating func accepts(_ value: JSONValue, _ constraints: SchemaConstraints) throws(GrammarError) -> Bool {
        if let values = constraints.values {
            try document.spend(values.value.count / 16)
            guard values.value.contains(where: { $0.isSame(as: value) }) else { return false }
        }
        return try acceptsListed(value, constraints)
    }

    /// The same for a value that is known to be listed, if any are.
    mutating func acceptsListed(
        _ value: JSONValue, _ constraints: SchemaConstraints
    ) throws(GrammarError) -> Bool {
        try document.spend()
        guard constraints.types.isSuperset(of: JSONTypes(of: value)) else { return false }
        switch value {
        case .null, .bool: return true
        case .integer, .number: return try acceptsNumber(value, constraints)
        case .string(let text): return try acceptsString(text, constraints)
        case .array(let elements): return try acceptsArray(elements, constraints)
        case .object(let members): return try acceptsObject(members, constraints)
        }
    }

    private func acceptsNumber(_ value: JSONValue, _ constraints: SchemaConstraints) throws(GrammarError) -> Bool {
        guard let number = DecimalNumber(value) else { return false }
        if let bound = constraints.minimum {
            guard number > bound.value || (number == bound.value && !bound.isExclusive) else { return false }
        }
        if let bound = constraints.maximum {
            guard number < bound.value || (number == bound.value && !bound.isExclusive) else { return false }
        }
        guard !constraints.multiples.isEmpty else { return true }
        guard let step = try NumberStep(constraints.multiples) else { return true }
        return step.divides(number)
    }

    private mutating func acceptsString(
        _ text: String, _ constraints: SchemaConstraints
    ) throws(GrammarError) -> Bool {
        let length = text.unicodeScalars.count
        guard length >= constraints.minLength, length <= constraints.maxLength?.value ?? length else { return false }
        for pattern in constraints.patterns where try !matches(text, pattern) { return false }
        // Formats as they are generated are less than what their standards permit.
        for format in constraints.formats where !isProving {
            guard let content = try SchemaFormat.content(of: format) else { continue }
            if try isEmpty(.intersection(.text(text), content)) { return false }
        }
        return true
    }

    private mutating func acceptsArray(
        _ elements: [JSONValue], _ constraints: SchemaConstraints
    ) throws(GrammarError) -> Bool {
        guard elements.count >= constraints.minItems, elements.count <= constraints.maxItems?.value ?? elements.count
        else { return false }
        for (index, element) in elements.enumerated() {
            if try !accepts(element, constraints.element(index)) { return false }
            guard constraints.unique != nil else { continue }
            try document.spend(index)
            if elements[..<index].contains(where: { $0.isSame(as: element) }) { return false }
        }
        return true
    }

    private mutating func acceptsObject(
        _ members: [JSONValue.Member], _ constraints: SchemaConstraints
    ) throws(GrammarError) -> Bool {
        guard members.count >= constraints.minProperties?.value ?? 0,
            members.count <= constraints.maxProperties?.value ?? members.count
        else { return false }
        for name in constraints.required where !members.contains(where: { MemberName($0.name) == name.value }) {
            return false
        }
        for member in members {
            guard let schemas = try schemas(of: MemberName(member.name), in: constraints) else { return false }
            if try !accepts(member.value, schemas) { return false }
        }
        return true
    }
}
