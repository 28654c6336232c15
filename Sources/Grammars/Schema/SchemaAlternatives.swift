// A schema as a list of alternatives without choice: references are followed, `allOf` is merged, `anyOf` and `oneOf`
// are multiplied out. `oneOf` is a choice only where no value can satisfy two branches.

import JSON

extension SchemaTranslation {
    /// Branches still to be chosen from, and the schemas that lead to them.
    private struct Group {
        let branches: SchemaBranches
        let path: [SchemaID]
    }

    /// Combinations of schemas without choice; a value satisfies all of `schemas` exactly if it satisfies all
    /// schemas of one of them. `base` are schemas without choice that each combination begins with.
    mutating func alternatives(
        of schemas: [SchemaID], base: [SchemaID] = [], path: [SchemaID] = []
    ) throws(GrammarError) -> [[SchemaID]] {
        var result: [[SchemaID]] = []
        try expand(schemas, path: path, base: base, visited: base, groups: [], into: &result)
        return result
    }

    private mutating func expand(
        _ schemas: [SchemaID], path: [SchemaID], base: [SchemaID], visited: [SchemaID], groups: [Group],
        into result: inout [[SchemaID]]
    ) throws(GrammarError) {
        var base = base
        var visited = visited
        var groups = groups
        for schema in schemas {
            guard try flatten(schema, path: path, base: &base, visited: &visited, groups: &groups) else { return }
        }
        guard !groups.isEmpty else {
            if !result.contains(base) { result.append(base) }
            try document.spend(1 + base.count + result.count)
            guard result.count <= options.limits.branches else {
                throw GrammarError.overBudget(
                    what: "combinations of anyOf and oneOf", value: result.count, limit: options.limits.branches)
            }
            return
        }
        let group = groups.removeFirst()
        guard group.path.count <= Self.nesting else { throw tooNested(group.path.count) }
        var branches = group.branches.schemas.map { [$0] }
        if group.branches.isExclusive {
            branches = try exclusive(group.branches, base: base, path: group.path)
        }
        for branch in branches {
            try expand(branch, path: group.path, base: base, visited: visited, groups: groups, into: &result)
        }
    }

    private static var nesting: Int { 128 }

    private func tooNested(_ depth: Int) -> GrammarError {
        .overBudget(what: "$ref, allOf, anyOf and oneOf inside one another", value: depth, limit: Self.nesting)
    }

    /// Adds a schema and all that it refers to; false if nothing satisfies it.
    private mutating func flatten(
        _ schema: SchemaID, path: [SchemaID], base: inout [SchemaID], visited: inout [SchemaID], groups: inout [Group]
    ) throws(GrammarError) -> Bool {
        try document.spend(1 + path.count / 16)
        guard !path.contains(schema) else {
            throw GrammarError.unsupported(
                place: document.place(of: schema).description,
                what: "a reference that leads back to itself before any text")
        }
        guard path.count <= Self.nesting else { throw tooNested(path.count) }
        guard !visited.contains(schema) else { return true }
        visited.append(schema)
        switch try document.read(schema) {
        case .always: return true
        case .never(let place):
            lastNever = place
            return false
        case .keywords(let keywords):
            if keywords.hasConstraints { base.append(schema) }
            let here = path + [schema]
            for reference in keywords.references {
                guard try flatten(reference, path: here, base: &base, visited: &visited, groups: &groups) else {
                    return false
                }
            }
            groups += keywords.branches.map { Group(branches: $0, path: here) }
            return true
        }
    }

    // MARK: oneOf

    /// The branches of a `oneOf`, if no value can satisfy two of them. Where they are told apart by a property that
    /// some may lack, each is made to require it.
    private mutating func exclusive(
        _ group: SchemaBranches, base: [SchemaID], path: [SchemaID]
    ) throws(GrammarError) -> [[SchemaID]] {
        // A proof takes any branch for possible: that makes it harder and never wrong.
        if isProving { return group.schemas.map { [$0] } }
        let key = [group.schemas, base]
        if let known = exclusiveBranches[key] { return known }
        isProving = true
        let result = try provenExclusive(group, base: base, path: path)
        isProving = false
        exclusiveBranches[key] = result
        return result
    }

    private mutating func provenExclusive(
        _ group: SchemaBranches, base: [SchemaID], path: [SchemaID]
    ) throws(GrammarError) -> [[SchemaID]] {
        var satisfiable: [(branch: Int, constraints: [SchemaConstraints])] = []
        for (index, schema) in group.schemas.enumerated() {
            var constraints: [SchemaConstraints] = []
            for combination in try alternatives(of: [schema], base: base, path: path) {
                let candidate = try self.constraints(of: combination)
                if !candidate.types.isEmpty { constraints.append(candidate) }
            }
            if !constraints.isEmpty { satisfiable.append((index, constraints)) }
        }
        guard let overlap = try overlap(satisfiable, requiring: nil) else {
            return satisfiable.map { [group.schemas[$0.branch]] }
        }
        for name in discriminators(of: group, satisfiable.map(\.constraints)) {
            guard try self.overlap(satisfiable, requiring: name) == nil else { continue }
            var keywords = SchemaKeywords(place: group.place)
            keywords.required = [Placed(value: name, place: group.place)]
            let requirement = try document.add(keywords)
            return satisfiable.map { [group.schemas[$0.branch], requirement] }
        }
        if let result = try separated(satisfiable, of: group) { return result }
        throw GrammarError.unsupported(
            place: group.place.description,
            what: "oneOf whose branches \(overlap.first) and \(overlap.second) a value may satisfy both")
    }

    private mutating func overlap(
        _ branches: [(branch: Int, constraints: [SchemaConstraints])], requiring name: MemberName?
    ) throws(GrammarError) -> (first: Int, second: Int)? {
        for (offset, first) in branches.enumerated() {
            for second in branches[(offset + 1)...] {
                for left in first.constraints {
                    for right in second.constraints
                    where try !areDisjoint(left, right, requiring: name, depth: 0) {
                        return (first.branch, second.branch)
                    }
                }
            }
        }
        return nil
    }

    /// Properties by which branches may be told apart, the declared one first.
    private func discriminators(of group: SchemaBranches, _ branches: [[SchemaConstraints]]) -> [MemberName] {
        var result: [MemberName] = group.discriminator.map { [MemberName($0)] } ?? []
        for object in branches.first?.first?.objects ?? [] {
            for property in object.properties.prefix(16) where !result.contains(property.name) {
                result.append(property.name)
            }
        }
        return result
    }

    /// Branches made exclusive by what they require: each may not have what it need not have and another needs. Nil
    /// where one requires no more than another.
    private mutating func separated(
        _ branches: [(branch: Int, constraints: [SchemaConstraints])], of group: SchemaBranches
    ) throws(GrammarError) -> [[SchemaID]]? {
        var forbidden = branches.map { _ in [MemberName]() }
        for (first, left) in branches.enumerated() {
            for (second, right) in branches.enumerated() where first != second {
                guard let mine = left.constraints.first, left.constraints.count == 1,
                    let other = right.constraints.first, right.constraints.count == 1
                else { return nil }
                if try areDisjoint(mine, other, requiring: nil, depth: 0) { continue }
                guard mine.types.intersection(other.types) == .object, mine.values == nil, other.values == nil,
                    let name = other.required.first(where: { !mine.requires($0.value) })?.value
                else { return nil }
                if !forbidden[first].contains(name) { forbidden[first].append(name) }
            }
        }
        let never = try document.add(.bool(false), group.place)
        var result: [[SchemaID]] = []
        for (index, names) in forbidden.enumerated() {
            var keywords = SchemaKeywords(place: group.place)
            for name in names {
                keywords.object.properties.append((name, never))
                keywords.object.schemaOfName[name] = never
            }
            result.append([group.schemas[branches[index].branch]])
            if !names.isEmpty { result[index].append(try document.add(keywords)) }
        }
        return result
    }
}
