// What several schemas demand of one value together, sorted by the kind of value. `allOf`, `$ref` with siblings and a
// chosen branch of `anyOf` all end here.

import JSON

/// All that one value must satisfy, with no choice left.
struct SchemaConstraints {
    let place: SchemaPlace
    var types = JSONTypes.all
    /// The values that `enum` and `const` leave; nil where they say nothing.
    var values: Placed<[JSONValue]>?
    var minimum: NumberBound?
    var maximum: NumberBound?
    var multiples: [Placed<DecimalNumber>] = []
    var minLength = 0
    var maxLength: Placed<Int>?
    var patterns: [Placed<String>] = []
    var formats: [Placed<String>] = []
    var arrays: [ArrayKeywords] = []
    var minItems = 0
    var maxItems: Placed<Int>?
    var unique: SchemaPlace?
    var objects: [ObjectKeywords] = []
    var required: [Placed<MemberName>] = []
    var minProperties: Placed<Int>?
    var maxProperties: Placed<Int>?
    var names: [SchemaID] = []

    init(place: SchemaPlace) { self.place = place }

    /// Adds what one schema object says; refuses what it says and cannot be guaranteed for types that remain.
    mutating func add(_ keywords: SchemaKeywords) {
        types.formIntersection(keywords.types)
        for enumeration in keywords.enumerations {
            guard let known = values else {
                values = enumeration
                continue
            }
            values = Placed(
                value: known.value.filter { value in enumeration.value.contains { $0.isSame(as: value) } },
                place: enumeration.place)
        }
        for bound in keywords.minimums where minimum.map({ Self.isStricter(bound, than: $0, sign: 1) }) ?? true {
            minimum = bound
        }
        for bound in keywords.maximums where maximum.map({ Self.isStricter(bound, than: $0, sign: -1) }) ?? true {
            maximum = bound
        }
        for multiple in keywords.multiples where !multiples.contains(where: { $0.value == multiple.value }) {
            multiples.append(multiple)
        }
        minLength = max(minLength, keywords.minLength?.value ?? 0)
        maxLength = Self.smaller(maxLength, keywords.maxLength)
        patterns += keywords.patterns
        formats += keywords.formats
        if let array = keywords.array { arrays.append(array) }
        minItems = max(minItems, keywords.minItems?.value ?? 0)
        maxItems = Self.smaller(maxItems, keywords.maxItems)
        unique = unique ?? keywords.unique
        if !keywords.object.isEmpty { objects.append(keywords.object) }
        for name in keywords.required where !required.contains(where: { $0.value == name.value }) {
            required.append(name)
        }
        if keywords.minProperties?.value ?? 0 > minProperties?.value ?? 0 { minProperties = keywords.minProperties }
        maxProperties = Self.smaller(maxProperties, keywords.maxProperties)
        names += keywords.names
    }

    private static func smaller(_ left: Placed<Int>?, _ right: Placed<Int>?) -> Placed<Int>? {
        guard let left else { return right }
        guard let right else { return left }
        return right.value < left.value ? right : left
    }

    private static func isStricter(_ bound: NumberBound, than other: NumberBound, sign: Int) -> Bool {
        if bound.value == other.value { return bound.isExclusive && !other.isExclusive }
        return (bound.value > other.value) == (sign > 0)
    }

    func requires(_ name: MemberName) -> Bool { required.contains { $0.value == name } }

    /// What the elements behind all prefixes must satisfy, and whether a schema says that there may be any.
    func rest(afterPrefixOf count: Int) -> (schemas: [SchemaID], isOpen: Bool) {
        let says = arrays.contains { $0.items != nil }
        return (arrays.compactMap(\.items), says || arrays.allSatisfy { $0.prefix.isEmpty })
    }

    /// What the element at `index` must satisfy.
    func element(_ index: Int) -> [SchemaID] {
        arrays.compactMap { $0.prefix.indices.contains(index) ? $0.prefix[index] : $0.items }
    }

    /// Members that no schema names may be generated: a schema says so, or none speaks of members.
    var isOpen: Bool {
        objects.contains { $0.additional != nil }
            || objects.allSatisfy { $0.properties.isEmpty && $0.patterns.isEmpty }
    }
}

extension SchemaKeywords {
    /// Something is said beside references and branches.
    var hasConstraints: Bool {
        types != .all || !enumerations.isEmpty || !minimums.isEmpty || !maximums.isEmpty || !multiples.isEmpty
            || minLength != nil || maxLength != nil || !patterns.isEmpty || !formats.isEmpty || array != nil
            || minItems != nil || maxItems != nil || unique != nil || !object.isEmpty || !required.isEmpty
            || minProperties != nil || maxProperties != nil || !names.isEmpty || !refused.isEmpty
    }
}

extension SchemaTranslation {
    /// The constraints of schemas without choice, as `alternatives` finds them.
    mutating func constraints(of schemas: [SchemaID]) throws(GrammarError) -> SchemaConstraints {
        if let known = knownConstraints[schemas] { return known }
        var result = SchemaConstraints(place: schemas.first.map { document.place(of: $0) } ?? .root)
        var refused: [(types: JSONTypes, place: SchemaPlace, what: String)] = []
        for schema in schemas {
            guard case .keywords(let keywords) = try document.read(schema) else { continue }
            try document.spend(keywords.object.properties.count + keywords.required.count + 1)
            for enumeration in keywords.enumerations {
                try checkSize(of: enumeration)
                try document.spend(enumeration.value.count * (1 + (result.values?.value.count ?? 0)))
            }
            try document.spend(keywords.required.count * result.required.count)
            result.add(keywords)
            refused += keywords.refused
        }
        for entry in refused where !entry.types.isDisjoint(with: result.types) {
            throw GrammarError.unsupported(place: entry.place.description, what: entry.what)
        }
        if result.types.contains(.fraction), !result.types.contains(.integer), result.values == nil {
            throw GrammarError.unsupported(place: result.place.description, what: "a number that is no integer")
        }
        knownConstraints[schemas] = result
        return result
    }

    private func checkSize(of enumeration: Placed<[JSONValue]>) throws(GrammarError) {
        let limit = options.limits.enumeratedValues
        guard enumeration.value.count <= limit else {
            throw GrammarError.overBudget(
                what: "values at \(enumeration.place)", value: enumeration.value.count, limit: limit)
        }
    }

    /// What the member `name` must satisfy; nil if there may be none of that name.
    mutating func schemas(
        of name: MemberName, in constraints: SchemaConstraints
    ) throws(GrammarError) -> [SchemaID]? {
        var result: [SchemaID] = []
        for object in constraints.objects {
            var isNamed = false
            if let schema = object.schemaOfName[name] {
                result.append(schema)
                isNamed = true
            }
            for (pattern, schema) in object.patterns where try matches(name.text, pattern) {
                result.append(schema)
                isNamed = true
            }
            if !isNamed, let additional = object.additional { result.append(additional) }
        }
        try document.spend(constraints.objects.count + 1)
        if !constraints.names.isEmpty, try !accepts(.string(name.text), constraints.names) { return nil }
        return result
    }
}
