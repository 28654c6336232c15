// Whether no value can satisfy two schemas at once. It says yes only where that is certain.

import JSON

extension SchemaTranslation {
    /// Whether no value satisfies both. `name` is a property that any object is known to have.
    mutating func areDisjoint(
        _ left: SchemaConstraints, _ right: SchemaConstraints, requiring name: MemberName?, depth: Int
    ) throws(GrammarError) -> Bool {
        try document.spend()
        if let values = left.values ?? right.values {
            for value in values.value where try accepts(value, left) {
                if try accepts(value, right) { return false }
            }
            return true
        }
        let common = left.types.intersection(right.types)
        if common.contains(.null) || common.contains(.boolean) { return false }
        if !common.isDisjoint(with: .number), !Self.isBelow(left, right), !Self.isBelow(right, left) { return false }
        if common.contains(.string), try !haveDisjointStrings(left, right) { return false }
        if common.contains(.array), try !haveDisjointArrays(left, right, depth: depth) { return false }
        if common.contains(.object), try !haveDisjointObjects(left, right, requiring: name, depth: depth) {
            return false
        }
        return true
    }

    /// Whether no value satisfies all schemas of both lists.
    private mutating func areDisjoint(
        _ left: [SchemaID], _ right: [SchemaID], depth: Int
    ) throws(GrammarError) -> Bool {
        guard depth < 4 else { return false }
        let rightAlternatives = try alternatives(of: right)
        for first in try alternatives(of: left) {
            for second in rightAlternatives {
                let firstConstraints = try constraints(of: first)
                let secondConstraints = try constraints(of: second)
                guard try areDisjoint(firstConstraints, secondConstraints, requiring: nil, depth: depth + 1) else {
                    return false
                }
            }
        }
        return true
    }

    /// Whether all numbers of `left` are smaller than all of `right`.
    private static func isBelow(_ left: SchemaConstraints, _ right: SchemaConstraints) -> Bool {
        guard let maximum = left.maximum, let minimum = right.minimum else { return false }
        if maximum.value == minimum.value { return maximum.isExclusive || minimum.isExclusive }
        return maximum.value < minimum.value
    }

    private mutating func haveDisjointStrings(
        _ left: SchemaConstraints, _ right: SchemaConstraints
    ) throws(GrammarError) -> Bool {
        if let longest = left.maxLength, longest.value < right.minLength { return true }
        if let longest = right.maxLength, longest.value < left.minLength { return true }
        guard !left.patterns.isEmpty, !right.patterns.isEmpty else { return false }
        var both = try patternContent(left.patterns[0])
        for pattern in left.patterns.dropFirst() + right.patterns {
            both = .intersection(both, try patternContent(pattern))
        }
        return try isEmpty(both)
    }

    private mutating func haveDisjointArrays(
        _ left: SchemaConstraints, _ right: SchemaConstraints, depth: Int
    ) throws(GrammarError) -> Bool {
        if let most = left.maxItems, most.value < right.minItems { return true }
        if let most = right.maxItems, most.value < left.minItems { return true }
        for index in 0..<min(max(left.minItems, right.minItems), 16)
        where try areDisjoint(left.element(index), right.element(index), depth: depth) {
            return true
        }
        return false
    }

    private mutating func haveDisjointObjects(
        _ left: SchemaConstraints, _ right: SchemaConstraints, requiring name: MemberName?, depth: Int
    ) throws(GrammarError) -> Bool {
        var known = left.required.map(\.value)
        for other in right.required where !left.requires(other.value) { known.append(other.value) }
        if let name, !known.contains(name) { known.insert(name, at: 0) }
        for property in known {
            guard let first = try schemas(of: property, in: left), let second = try schemas(of: property, in: right)
            else { return true }
            if try areDisjoint(first, second, depth: depth) { return true }
        }
        return false
    }
}
