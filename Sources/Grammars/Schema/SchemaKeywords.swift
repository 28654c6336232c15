// One schema object, read: every keyword checked and sorted by what it constrains. A keyword that is not known is
// refused here, for a misspelt one would otherwise permit everything.

import JSON

/// A schema's place in the arena of its document.
struct SchemaID: Hashable {
    let index: Int
}

/// A constraint and where it stands.
struct Placed<Value> {
    let value: Value
    let place: SchemaPlace
}

/// A bound of a number.
struct NumberBound {
    let value: DecimalNumber
    let isExclusive: Bool
    let place: SchemaPlace
}

/// The keywords of one schema object about lists.
struct ArrayKeywords {
    var prefix: [SchemaID] = []
    /// What follows the prefix; nil where the schema does not say.
    var items: SchemaID?
}

/// The keywords of one schema object about members.
struct ObjectKeywords {
    var properties: [(name: MemberName, schema: SchemaID)] = []
    var schemaOfName: [MemberName: SchemaID] = [:]
    var patterns: [(pattern: Placed<String>, schema: SchemaID)] = []
    /// Members that neither of these names; nil where the schema does not say.
    var additional: SchemaID?

    var isEmpty: Bool { properties.isEmpty && patterns.isEmpty && additional == nil }
}

/// `anyOf` or `oneOf`.
struct SchemaBranches {
    let isExclusive: Bool
    let schemas: [SchemaID]
    let place: SchemaPlace
    /// The property that the schema itself names as the one to tell branches by.
    var discriminator: String?
}

/// What a schema object says.
struct SchemaKeywords {
    var place: SchemaPlace
    var types = JSONTypes.all
    var enumerations: [Placed<[JSONValue]>] = []
    var references: [SchemaID] = []
    var branches: [SchemaBranches] = []
    var minimums: [NumberBound] = []
    var maximums: [NumberBound] = []
    var multiples: [Placed<DecimalNumber>] = []
    var minLength: Placed<Int>?
    var maxLength: Placed<Int>?
    var patterns: [Placed<String>] = []
    var formats: [Placed<String>] = []
    var array: ArrayKeywords?
    var minItems: Placed<Int>?
    var maxItems: Placed<Int>?
    var unique: SchemaPlace?
    var object = ObjectKeywords()
    var required: [Placed<MemberName>] = []
    var minProperties: Placed<Int>?
    var maxProperties: Placed<Int>?
    var names: [SchemaID] = []
    /// Keywords that matter only if a value may be of these types, and are refused then.
    var refused: [(types: JSONTypes, place: SchemaPlace, what: String)] = []

    init(place: SchemaPlace) { self.place = place }
}

/// A schema in the arena: true, false, or an object of keywords.
enum SchemaNode {
    case always
    case never(place: SchemaPlace)
    case keywords(SchemaKeywords)
}

/// Where something stands in the schema. Written out only for messages: paths of long names would add up.
indirect enum SchemaPlace: Sendable, CustomStringConvertible {
    case root
    case child(SchemaPlace, String)

    /// A JSON pointer as a fragment, each name cut after 64 characters and safe to print.
    var description: String {
        var tokens: [String] = []
        var place = self
        while case .child(let parent, let token) = place {
            tokens.append(Self.printable(token))
            place = parent
        }
        return tokens.reversed().reduce(into: "#") { $0 += "/" + $1 }
    }

    private static func printable(_ token: String) -> String {
        var result = ""
        for scalar in token.unicodeScalars.prefix(64) {
            switch scalar {
            case "~": result += "~0"
            case "/": result += "~1"
            case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value):
                result += scalar.escaped(asASCII: true)
            default: result.unicodeScalars.append(scalar)
            }
        }
        return token.unicodeScalars.count > 64 ? result + "…" : result
    }
}

/// The place of `name` within `place`.
func pointer(_ place: SchemaPlace, _ name: String) -> SchemaPlace { .child(place, name) }

/// What a place needs to hold, checked.
enum SchemaField {
    static func count(_ value: JSONValue, _ place: SchemaPlace) throws(GrammarError) -> Placed<Int> {
        guard let number = DecimalNumber(value), number.isInteger, !number.isNegative else {
            throw GrammarError.malformed(
                place: place.description, reason: "needs an integer of 0 or more, not \(value.summary)")
        }
        // A count beyond 10¹⁸ is the same as 10¹⁸ for any text that can be generated.
        return Placed(value: number.integerValue ?? 1_000_000_000_000_000_000, place: place)
    }

    static func number(_ value: JSONValue, _ place: SchemaPlace) throws(GrammarError) -> DecimalNumber {
        guard let number = DecimalNumber(value) else {
            throw GrammarError.malformed(place: place.description, reason: "needs a number, not \(value.summary)")
        }
        return number
    }

    static func text(_ value: JSONValue, _ place: SchemaPlace) throws(GrammarError) -> String {
        guard case .string(let text) = value else {
            throw GrammarError.malformed(place: place.description, reason: "needs a string, not \(value.summary)")
        }
        return text
    }

    static func flag(_ value: JSONValue, _ place: SchemaPlace) throws(GrammarError) -> Bool {
        guard case .bool(let flag) = value else {
            throw GrammarError.malformed(place: place.description, reason: "needs true or false, not \(value.summary)")
        }
        return flag
    }

    static func list(_ value: JSONValue, _ place: SchemaPlace) throws(GrammarError) -> [JSONValue] {
        guard case .array(let elements) = value else {
            throw GrammarError.malformed(place: place.description, reason: "needs a list, not \(value.summary)")
        }
        return elements
    }

    static func members(_ value: JSONValue, _ place: SchemaPlace) throws(GrammarError) -> [JSONValue.Member] {
        guard case .object(let members) = value else {
            throw GrammarError.malformed(place: place.description, reason: "needs an object, not \(value.summary)")
        }
        return members
    }

    /// The types that `type` lists.
    static func types(_ value: JSONValue, _ place: SchemaPlace) throws(GrammarError) -> JSONTypes {
        var names = [value]
        if case .array(let elements) = value { names = elements }
        var result: JSONTypes = []
        for name in names {
            guard case .string(let text) = name, let types = JSONTypes(name: text) else {
                throw GrammarError.malformed(
                    place: place.description,
                    reason: "\(name.summary) is not one of null, boolean, integer, number, string, array, object")
            }
            result.formUnion(types)
        }
        guard !result.isEmpty else { throw GrammarError.malformed(place: place.description, reason: "names no type") }
        return result
    }
}
