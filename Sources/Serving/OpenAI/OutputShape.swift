// What the text of an answer must look like, as response_format and structured_outputs say it. The shape is made into a
// grammar before the request is admitted, so what cannot be guaranteed is refused here or there and never ignored.

import JSON

/// A form that the whole text of an answer follows.
enum OutputShape: Sendable, Hashable {
    /// Any JSON object.
    case anyObject
    /// A JSON text that a JSON Schema accepts.
    case schema(JSONValue)
    /// A regular expression that matches the whole text.
    case regex(String)
    /// One of these texts.
    case choice([String])
    /// A grammar in GBNF or Lark.
    case grammar(String)
}

/// The shape that a request asks for, and where it says so.
struct ShapeFields: Sendable {
    var shape: OutputShape?
    /// Whether JSON has no spaces but those inside strings.
    var isCompact = false
    /// The field that a refusal of the shape names.
    var field = "response_format"

    static let maxChoices = 1024
    static let maxChoiceBytes = 16 << 10
    /// Bytes of a regular expression or a grammar.
    static let maxSourceBytes = 128 << 10
    private static let kinds = ["json", "regex", "choice", "grammar", "json_object"]
    /// What the members of structured_outputs began with when they were fields of their own.
    private static let olderPrefix = "guided_"

    init() {}

    init(_ fields: JSONFields) throws(ServingError) {
        if let format = try fields.object("response_format") { try read(format) }
        guard let options = try Self.options(fields) else { return }
        let name = options.path == Self.olderPrefix ? options.path + options.members[0].name : "structured_outputs"
        let chosen = Self.kinds.filter { options[$0] != nil && options[$0] != .bool(false) }
        guard let kind = chosen.first, chosen.count == 1 else {
            throw fields.invalid(
                name, .object(options.members), "an object with exactly one of \(Self.kinds.joined(separator: ", "))")
        }
        guard shape == nil else {
            throw fields.invalid(name, .object(options.members), "absent where response_format asks for JSON")
        }
        field = options.path + kind
        isCompact = try options.bool("disable_any_whitespace") ?? false
        for name in ["whitespace_pattern", "structural_tag"] where options[name] != nil {
            throw .unsupportedField(
                field: options.path + name, value: options[name]?.summary ?? "", advice: "Leave it out.")
        }
        shape = try Self.shape(kind, options)
    }

    /// `structured_outputs`, or the older fields guided_json, guided_regex and so on, each of which was a member of it.
    private static func options(_ fields: JSONFields) throws(ServingError) -> JSONFields? {
        let options = try fields.object("structured_outputs")
        let older = kinds.compactMap { kind in
            fields[olderPrefix + kind].map { JSONValue.Member(name: kind, value: $0) }
        }.filter { $0.value != .bool(false) }
        guard let first = older.first else { return options }
        guard options == nil, older.count == 1 else {
            let other = options == nil ? olderPrefix + older[1].name : "structured_outputs"
            throw fields.invalid(olderPrefix + first.name, first.value, "absent where there is \(other)")
        }
        return JSONFields(path: olderPrefix, members: older)
    }

    /// `response_format`.
    private mutating func read(_ format: JSONFields) throws(ServingError) {
        let types = "\"text\", \"json_object\" or \"json_schema\""
        guard let type = try format.string("type") else {
            throw .missingField(field: "response_format.type", requirement: types)
        }
        switch type {
        case "text": return
        case "json_object": shape = .anyObject
        case "json_schema":
            guard let schema = try format.object("json_schema") else {
                throw .missingField(
                    field: "response_format.json_schema", requirement: "an object with name and schema")
            }
            _ = try schema.string("name")
            _ = try schema.bool("strict")
            guard let value = schema["schema"] else {
                throw .missingField(field: "response_format.json_schema.schema", requirement: "a JSON Schema")
            }
            field = "response_format.json_schema.schema"
            shape = .schema(value)
        default:
            throw .unsupportedField(
                field: "response_format.type", value: JSONValue.quoted(type), advice: "Send \(types).")
        }
    }

    private static func shape(_ kind: String, _ options: JSONFields) throws(ServingError) -> OutputShape {
        switch kind {
        case "json":
            switch options["json"] {
            case .string(let text):
                do {
                    return .schema(try JSONParser.parse(Array(text.utf8)))
                } catch {
                    throw options.invalid("json", .string(text), "a JSON Schema: \(error.reason)")
                }
            case .some(let value): return .schema(value)
            case nil: return .anyObject
            }
        case "regex": return .regex(try source("regex", options))
        case "grammar": return .grammar(try source("grammar", options))
        case "choice":
            let requirement = "a list of 1 to \(maxChoices) strings of \(maxChoiceBytes) bytes at most"
            guard let elements = try options.array("choice", orElse: requirement),
                (1...maxChoices).contains(elements.count)
            else { throw options.invalid("choice", options["choice"] ?? .null, requirement) }
            var texts: [String] = []
            for element in elements {
                guard case .string(let text) = element else { throw options.mismatch("choice", element, requirement) }
                guard (1...maxChoiceBytes).contains(text.utf8.count) else {
                    throw options.invalid("choice", element, requirement)
                }
                texts.append(text)
            }
            return .choice(texts)
        default:
            _ = try options.bool("json_object")
            return .anyObject
        }
    }

    private static func source(_ name: String, _ options: JSONFields) throws(ServingError) -> String {
        let text = try options.string(name) ?? ""
        guard (1...maxSourceBytes).contains(text.utf8.count) else {
            throw options.invalid(name, .string(text), "a string of 1 to \(maxSourceBytes) bytes")
        }
        return text
    }
}
