// JSON Schema to grammar: whatever the grammar matches is valid under the schema. The grammar may match less than the
// schema permits (one spelling of a string, declared members in declared order) but never more: what cannot be
// expressed is refused by name, with its place.

import JSON

/// The translation that `response_format`, `structured_outputs` and the parameters of tools share.
package enum JSONSchema {
    /// The white space between the parts of lists and objects.
    package enum Whitespace: Sendable, Equatable {
        /// None, one space, or a line break and at most 20 spaces: compact, spaced and pretty-printed JSON. No white
        /// space comes after white space without end, which weak models would fall into.
        case formatted
        /// None.
        case compact
    }

    /// What one schema may cost. Exceeding any of them is `GrammarError.overBudget`.
    package struct Limits: Sendable {
        /// Bytes of the schema, written compactly.
        package var bytes = 64 << 10
        /// Lists and objects inside one another.
        package var depth = 64
        /// Different targets of `$ref`.
        package var references = 256
        /// Values of one `enum`.
        package var enumeratedValues = 4096
        /// Branches of one `anyOf` or `oneOf`, and their combinations at one place.
        package var branches = 256
        /// Rules of the grammar.
        package var rules = 8192
        /// Keywords, members and values looked at, each time that one is.
        package var steps = 200_000
        /// `minItems`, `minLength` and `minProperties`; a greater maximum is allowed.
        package var count = 1000
        /// Bytes of one regular expression.
        package var patternBytes = 4096

        package init() {}
    }

    package struct Options: Sendable {
        package var whitespace = Whitespace.formatted
        package var limits = Limits()

        package init() {}
    }

    /// A grammar all of whose texts are JSON that is valid under `schema`. Every text ends with the value.
    package static func grammar(
        for schema: JSONValue, options: Options = Options()
    ) throws(GrammarError) -> Grammar {
        try SchemaSource.measure(schema, limits: options.limits)
        var translation = SchemaTranslation(schema: schema, options: options)
        return try translation.grammar()
    }

    /// Any JSON object, for the response format `json_object`.
    package static func anyObject(options: Options = Options()) throws(GrammarError) -> Grammar {
        try grammar(for: .object([JSONValue.Member(name: "type", value: .string("object"))]), options: options)
    }
}

/// Where a schema's text is, and how often parts of it were looked at.
struct SchemaSource {
    /// Refuses what is too large or too deep before anything else reads it.
    static func measure(_ schema: JSONValue, limits: JSONSchema.Limits) throws(GrammarError) {
        var bytes = 0
        try measure(schema, depth: 0, bytes: &bytes, limits: limits)
    }

    private static func measure(
        _ value: JSONValue, depth: Int, bytes: inout Int, limits: JSONSchema.Limits
    ) throws(GrammarError) {
        guard depth <= limits.depth else {
            throw GrammarError.overBudget(what: "nesting of the schema", value: depth, limit: limits.depth)
        }
        switch value {
        case .null, .bool, .integer, .number: bytes += 4
        case .string(let text): bytes += text.utf8.count + 2
        case .array(let elements):
            bytes += 2
            for element in elements {
                bytes += 1
                try measure(element, depth: depth + 1, bytes: &bytes, limits: limits)
            }
        case .object(let members):
            bytes += 2
            for member in members {
                bytes += member.name.utf8.count + 4
                try measure(member.value, depth: depth + 1, bytes: &bytes, limits: limits)
            }
        }
        guard bytes <= limits.bytes else {
            throw GrammarError.overBudget(what: "bytes of the schema", value: bytes, limit: limits.bytes)
        }
    }
}
