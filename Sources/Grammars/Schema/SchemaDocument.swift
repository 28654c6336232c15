// The whole schema with every part read at most once, and its references followed.

import JSON

/// An arena of schemas, filled as they are needed.
struct SchemaDocument {
    let root: JSONValue
    let limits: JSONSchema.Limits
    /// A schema is read when it is first asked for: a reference may lead to a schema that is being read.
    private var nodes: [(value: JSONValue, place: SchemaPlace, read: SchemaNode?)] = []
    private var targets: [MemberName: SchemaID] = [:]
    private var anchors: [MemberName: (value: JSONValue, place: SchemaPlace)]?
    private var steps = 0
    /// `prefixItems` means nothing before the draft 2020-12.
    let hasPrefixItems: Bool

    init(root: JSONValue, limits: JSONSchema.Limits) {
        self.root = root
        self.limits = limits
        if case .string(let dialect) = root[member: "$schema"] {
            hasPrefixItems = !["draft-04", "draft-06", "draft-07", "2019-09"].contains { dialect.contains($0) }
        } else {
            hasPrefixItems = true
        }
    }

    /// Counts work, so that what a small schema expands to stays bounded.
    mutating func spend(_ count: Int = 1) throws(GrammarError) {
        steps += count
        guard steps <= limits.steps else {
            throw GrammarError.overBudget(what: "steps of translating the schema", value: steps, limit: limits.steps)
        }
    }

    /// The schema as a whole.
    mutating func rootSchema() throws(GrammarError) -> SchemaID {
        if let known = targets[MemberName("")] { return known }
        let id = try add(root, .root)
        targets[MemberName("")] = id
        return id
    }

    /// Takes `value`, which stands at `place`, into the arena.
    mutating func add(_ value: JSONValue, _ place: SchemaPlace) throws(GrammarError) -> SchemaID {
        try spend()
        nodes.append((value, place, nil))
        return SchemaID(index: nodes.count - 1)
    }

    /// A schema that stands nowhere, for example that a member is required.
    mutating func add(_ keywords: SchemaKeywords) throws(GrammarError) -> SchemaID {
        try spend()
        nodes.append((.null, keywords.place, .keywords(keywords)))
        return SchemaID(index: nodes.count - 1)
    }

    func place(of id: SchemaID) -> SchemaPlace { nodes[id.index].place }

    /// What the schema says.
    mutating func read(_ id: SchemaID) throws(GrammarError) -> SchemaNode {
        let (value, place, known) = nodes[id.index]
        if let known { return known }
        let node: SchemaNode
        switch value {
        case .bool(let permits): node = permits ? .always : .never(place: place)
        case .object(let members):
            node = members.isEmpty ? .always : .keywords(try SchemaReader.read(members, place, in: &self))
        default:
            throw GrammarError.malformed(place: place.description, reason: "a schema is an object or a boolean")
        }
        nodes[id.index].read = node
        return node
    }

    // MARK: References

    /// The schema that `reference` names: `#`, `#/a/pointer` or `#anchor`.
    mutating func target(of reference: String, from place: SchemaPlace) throws(GrammarError) -> SchemaID {
        guard reference.utf8.first == UInt8(ascii: "#") else {
            throw GrammarError.unsupported(
                place: place.description, what: "a reference outside of the schema, \(JSONValue.quoted(reference)),")
        }
        guard let fragment = Self.withoutPercentEscapes(reference.dropFirst()) else {
            throw GrammarError.malformed(
                place: place.description, reason: "\(JSONValue.quoted(reference)) is not a reference")
        }
        if let known = targets[MemberName(fragment)] { return known }
        guard targets.count < limits.references else {
            throw GrammarError.overBudget(
                what: "targets of $ref", value: targets.count + 1, limit: limits.references)
        }
        if fragment.isEmpty { return try rootSchema() }
        let found: (value: JSONValue, place: SchemaPlace)
        if fragment.utf8.first == UInt8(ascii: "/") {
            found = try follow(fragment, from: place)
        } else {
            if anchors == nil { anchors = try SchemaAnchors.collect(root) }
            guard let anchor = anchors?[MemberName(fragment)] else { throw Self.dangling(reference, place) }
            found = anchor
        }
        let id = try add(found.value, found.place)
        targets[MemberName(fragment)] = id
        return id
    }

    private static func dangling(_ reference: String, _ place: SchemaPlace) -> GrammarError {
        .malformed(place: place.description, reason: "there is nothing at \(JSONValue.quoted(reference))")
    }

    private func follow(
        _ fragment: String, from place: SchemaPlace
    ) throws(GrammarError) -> (value: JSONValue, place: SchemaPlace) {
        var value = root
        var target = SchemaPlace.root
        for token in fragment.split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
            let name = Self.unescaped(token)
            switch value {
            case .object:
                guard let next = value[member: name] else { throw Self.dangling("#" + fragment, place) }
                value = next
            case .array(let elements):
                guard !name.hasPrefix("+"), let index = Int(name), elements.indices.contains(index) else {
                    throw Self.dangling("#" + fragment, place)
                }
                value = elements[index]
            default: throw Self.dangling("#" + fragment, place)
            }
            target = pointer(target, name)
            if case .string = value[member: "$id"] {
                throw GrammarError.unsupported(
                    place: pointer(target, "$id").description, what: "a schema with an address of its own")
            }
        }
        return (value, target)
    }

    private static func unescaped(_ token: Substring) -> String {
        var result: [UInt8] = []
        var afterTilde = false
        for byte in token.utf8 {
            if afterTilde {
                result.append(byte == UInt8(ascii: "1") ? UInt8(ascii: "/") : UInt8(ascii: "~"))
                if byte != UInt8(ascii: "0"), byte != UInt8(ascii: "1") { result.append(byte) }
                afterTilde = false
            } else if byte == UInt8(ascii: "~") {
                afterTilde = true
            } else {
                result.append(byte)
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    private static func withoutPercentEscapes(_ text: Substring) -> String? {
        var result: [UInt8] = []
        let bytes = Array(text.utf8)
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%") {
                guard index + 2 < bytes.count,
                    let high = Character(Unicode.Scalar(bytes[index + 1])).hexDigitValue,
                    let low = Character(Unicode.Scalar(bytes[index + 2])).hexDigitValue
                else { return nil }
                result.append(UInt8(high << 4 | low))
                index += 3
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return String(validating: result, as: UTF8.self)
    }
}

/// Where a schema names its parts with `$anchor`.
enum SchemaAnchors {
    static func collect(_ root: JSONValue) throws(GrammarError) -> [MemberName: (value: JSONValue, place: SchemaPlace)]
    {
        var result: [MemberName: (value: JSONValue, place: SchemaPlace)] = [:]
        try collect(root, .root, into: &result)
        return result
    }

    private static func collect(
        _ schema: JSONValue, _ place: SchemaPlace,
        into result: inout [MemberName: (value: JSONValue, place: SchemaPlace)]
    ) throws(GrammarError) {
        guard case .object(let members) = schema else { return }
        for member in members {
            let here = pointer(place, member.name)
            switch (member.name, member.value) {
            case ("$anchor", .string(let name)):
                guard result[MemberName(name)] == nil else {
                    throw GrammarError.malformed(
                        place: here.description, reason: "the anchor \(JSONValue.quoted(name)) occurs twice")
                }
                result[MemberName(name)] = (schema, place)
            case ("properties", .object(let parts)), ("patternProperties", .object(let parts)),
                ("$defs", .object(let parts)), ("definitions", .object(let parts)):
                for part in parts { try collect(part.value, pointer(here, part.name), into: &result) }
            case ("allOf", .array(let parts)), ("anyOf", .array(let parts)), ("oneOf", .array(let parts)),
                ("prefixItems", .array(let parts)), ("items", .array(let parts)):
                for (index, part) in parts.enumerated() { try collect(part, pointer(here, "\(index)"), into: &result) }
            case ("items", _), ("additionalItems", _), ("additionalProperties", _), ("propertyNames", _), ("not", _):
                try collect(member.value, here, into: &result)
            default: break
            }
        }
    }
}
