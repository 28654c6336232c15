// The keywords of JSON Schema, each with what it must hold. Annotations are listed: any other name is refused.

import JSON

/// Reads the members of a schema object.
enum SchemaReader {
    static func read(
        _ members: [JSONValue.Member], _ place: SchemaPlace, in document: inout SchemaDocument
    ) throws(GrammarError) -> SchemaKeywords {
        var keywords = SchemaKeywords(place: place)
        let whole = JSONValue.object(members)
        for member in members {
            try document.spend()
            let here = pointer(place, member.name)
            if try readValueKeyword(member, here, whole, into: &keywords) { continue }
            if try readArrayKeyword(member, here, whole, into: &keywords, in: &document) { continue }
            if try readObjectKeyword(member, here, into: &keywords, in: &document) { continue }
            if try readCombination(member, here, whole, into: &keywords, in: &document) { continue }
            guard try isAnnotation(member, here, place) else {
                throw GrammarError.unsupported(
                    place: here.description, what: "the keyword \(JSONValue.quoted(member.name))")
            }
        }
        return keywords
    }

    /// Whether the keyword says nothing about what is valid.
    private static func isAnnotation(
        _ member: JSONValue.Member, _ here: SchemaPlace, _ place: SchemaPlace
    ) throws(GrammarError) -> Bool {
        switch member.name {
        case "title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly",
            "$schema", "$comment", "$defs", "definitions", "$anchor", "discriminator", "externalDocs", "xml",
            "markdownDescription":
            return true
        case "$id":
            guard case .root = place else {
                throw GrammarError.unsupported(place: here.description, what: "a schema with an address of its own")
            }
            return true
        default: return member.name.hasPrefix("x-")
        }
    }

    /// Keywords about null, booleans, numbers and strings, and about any value.
    private static func readValueKeyword(
        _ member: JSONValue.Member, _ here: SchemaPlace, _ whole: JSONValue, into keywords: inout SchemaKeywords
    ) throws(GrammarError) -> Bool {
        let value = member.value
        switch member.name {
        case "type":
            var types = try SchemaField.types(value, here)
            if whole[member: "nullable"] == .bool(true) { types.insert(.null) }
            keywords.types.formIntersection(types)
        case "nullable": _ = try SchemaField.flag(value, here)
        case "enum": keywords.enumerations.append(Placed(value: try SchemaField.list(value, here), place: here))
        case "const": keywords.enumerations.append(Placed(value: [value], place: here))
        case "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum":
            let bound = NumberBound(
                value: try SchemaField.number(value, here), isExclusive: member.name.hasPrefix("exclusive"),
                place: here)
            if member.name.hasSuffix("inimum") {
                keywords.minimums.append(bound)
            } else {
                keywords.maximums.append(bound)
            }
        case "multipleOf":
            let number = try SchemaField.number(value, here)
            guard !number.isNegative, !number.isZero else {
                throw GrammarError.malformed(
                    place: here.description, reason: "needs a number above 0, not \(value.summary)")
            }
            keywords.multiples.append(Placed(value: number, place: here))
        case "minLength": keywords.minLength = try SchemaField.count(value, here)
        case "maxLength": keywords.maxLength = try SchemaField.count(value, here)
        case "pattern": keywords.patterns.append(Placed(value: try SchemaField.text(value, here), place: here))
        case "format": keywords.formats.append(Placed(value: try SchemaField.text(value, here), place: here))
        case "contentEncoding", "contentMediaType", "contentSchema":
            keywords.refused.append((.string, here, "the keyword \(JSONValue.quoted(member.name))"))
        default: return false
        }
        return true
    }

    private static func readArrayKeyword(
        _ member: JSONValue.Member, _ here: SchemaPlace, _ whole: JSONValue, into keywords: inout SchemaKeywords,
        in document: inout SchemaDocument
    ) throws(GrammarError) -> Bool {
        let value = member.value
        var array = keywords.array ?? ArrayKeywords()
        switch member.name {
        case "items":
            if case .array(let elements) = value {
                guard whole[member: "prefixItems"] == nil else {
                    throw GrammarError.malformed(place: here.description, reason: "a list here excludes prefixItems")
                }
                array.prefix = try schemas(elements, here, in: &document)
            } else {
                array.items = try document.add(value, here)
            }
            keywords.array = array
        case "prefixItems":
            guard document.hasPrefixItems else {
                throw GrammarError.unsupported(place: here.description, what: "prefixItems in the declared draft")
            }
            array.prefix = try schemas(try SchemaField.list(value, here), here, in: &document)
            keywords.array = array
        case "additionalItems":
            // Says nothing but beside a list in `items`.
            guard case .array = whole[member: "items"] else { return true }
            array.items = try document.add(value, here)
            keywords.array = array
        case "minItems": keywords.minItems = try SchemaField.count(value, here)
        case "maxItems": keywords.maxItems = try SchemaField.count(value, here)
        case "uniqueItems": if try SchemaField.flag(value, here) { keywords.unique = here }
        case "contains", "minContains", "maxContains", "unevaluatedItems":
            keywords.refused.append((.array, here, "the keyword \(JSONValue.quoted(member.name))"))
        default: return false
        }
        return true
    }

    private static func readObjectKeyword(
        _ member: JSONValue.Member, _ here: SchemaPlace, into keywords: inout SchemaKeywords,
        in document: inout SchemaDocument
    ) throws(GrammarError) -> Bool {
        let value = member.value
        switch member.name {
        case "properties":
            for property in try SchemaField.members(value, here) {
                let schema = try document.add(property.value, pointer(here, property.name))
                let name = MemberName(property.name)
                keywords.object.properties.append((name, schema))
                keywords.object.schemaOfName[name] = schema
            }
        case "patternProperties":
            for pattern in try SchemaField.members(value, here) {
                let place = pointer(here, pattern.name)
                let schema = try document.add(pattern.value, place)
                keywords.object.patterns.append((Placed(value: pattern.name, place: place), schema))
            }
        case "additionalProperties": keywords.object.additional = try document.add(value, here)
        case "required":
            for (index, element) in try SchemaField.list(value, here).enumerated() {
                let place = pointer(here, "\(index)")
                let name = try SchemaField.text(element, place)
                keywords.required.append(Placed(value: MemberName(name), place: place))
            }
        case "minProperties": keywords.minProperties = try SchemaField.count(value, here)
        case "maxProperties": keywords.maxProperties = try SchemaField.count(value, here)
        case "propertyNames": keywords.names.append(try document.add(value, here))
        case "dependencies", "dependentRequired", "dependentSchemas", "unevaluatedProperties":
            keywords.refused.append((.object, here, "the keyword \(JSONValue.quoted(member.name))"))
        default: return false
        }
        return true
    }

    /// Keywords that hold schemas for the same value.
    private static func readCombination(
        _ member: JSONValue.Member, _ here: SchemaPlace, _ whole: JSONValue, into keywords: inout SchemaKeywords,
        in document: inout SchemaDocument
    ) throws(GrammarError) -> Bool {
        let value = member.value
        switch member.name {
        case "$ref":
            keywords.references.append(
                try document.target(of: try SchemaField.text(value, here), from: here))
        case "allOf", "anyOf", "oneOf":
            let elements = try SchemaField.list(value, here)
            guard !elements.isEmpty else {
                throw GrammarError.malformed(place: here.description, reason: "needs a schema")
            }
            guard elements.count <= document.limits.branches else {
                throw GrammarError.overBudget(
                    what: "branches at \(here)", value: elements.count, limit: document.limits.branches)
            }
            let parts = try schemas(elements, here, in: &document)
            if member.name == "allOf" {
                keywords.references += parts
            } else {
                var branches = SchemaBranches(isExclusive: member.name == "oneOf", schemas: parts, place: here)
                if case .string(let name) = whole[member: "discriminator"]?[member: "propertyName"] {
                    branches.discriminator = name
                }
                keywords.branches.append(branches)
            }
        case "not": keywords.types.formIntersection(try complement(value, here))
        default: return false
        }
        return true
    }

    private static func schemas(
        _ elements: [JSONValue], _ place: SchemaPlace, in document: inout SchemaDocument
    ) throws(GrammarError) -> [SchemaID] {
        var result: [SchemaID] = []
        for (index, element) in elements.enumerated() {
            result.append(try document.add(element, pointer(place, "\(index)")))
        }
        return result
    }

    /// The types that `not` leaves, where it speaks of types alone.
    private static func complement(_ value: JSONValue, _ here: SchemaPlace) throws(GrammarError) -> JSONTypes {
        switch value {
        case .bool(let permits): return permits ? [] : .all
        case .object(let members):
            if members.isEmpty { return [] }
            if members.count == 1, members[0].name == "type" {
                return JSONTypes.all.subtracting(try SchemaField.types(members[0].value, pointer(here, "type")))
            }
        default: throw GrammarError.malformed(place: here.description, reason: "a schema is an object or a boolean")
        }
        throw GrammarError.unsupported(place: here.description, what: "the keyword \"not\" of anything but types")
    }
}
