// The functions that a conversation offers to the model, and whether it must call one.

import JSON
import Tokenization

/// One function that the model may call.
struct Tool: Sendable {
    let name: String
    /// JSON Schema of the arguments; an object without members takes none.
    let parameters: JSONValue
    /// Whether the arguments are held to the schema even where the model is free to call.
    let isStrict: Bool
    /// The element of `tools` as it was sent, for the template.
    let source: JSONValue
    /// Path of the parameters, for messages.
    let field: String
}

/// Whether the model calls functions.
enum ToolChoice: Sendable, Equatable {
    case none
    case auto
    case required
    /// This one, once.
    case function(String)
}

/// What a request says about functions.
struct ToolFields: Sendable {
    var tools: [Tool] = []
    var choice = ToolChoice.none
    /// Whether one answer may hold several calls.
    var isParallel = true

    static let maxTools = 128
    static let maxNameBytes = 64
    private static let choices = "none, auto, required or an object that names a function"

    init() {}

    init(_ fields: JSONFields) throws(ServingError) {
        isParallel = try fields.bool(.parallelToolCalls) ?? true
        guard let elements = try fields.array("tools", orElse: "a list of functions") else {
            guard let value = fields["tool_choice"], value != .string("none") else { return }
            throw fields.invalid("tool_choice", value, "absent where there are no tools")
        }
        guard (1...Self.maxTools).contains(elements.count) else {
            throw fields.invalid("tools", .array(elements), "a list of 1 to \(Self.maxTools) functions")
        }
        for (index, element) in elements.enumerated() {
            let path = "tools.\(index)"
            guard case .object(let members) = element else { throw fields.mismatch(path, element, "an object") }
            let tool = try Self.tool(JSONFields(path: path + ".", members: members), element)
            guard !tools.contains(where: { $0.name == tool.name }) else {
                throw fields.invalid(path + ".function.name", .string(tool.name), "used once")
            }
            tools.append(tool)
        }
        choice = try Self.choice(fields, tools: tools)
    }

    private static func tool(_ fields: JSONFields, _ source: JSONValue) throws(ServingError) -> Tool {
        let type = try fields.string("type")
        guard type == nil || type == "function" else {
            throw .unsupportedField(
                field: fields.path + "type", value: JSONValue.quoted(type ?? ""), advice: "Only functions are accepted."
            )
        }
        guard let function = try fields.object("function") else {
            throw .missingField(field: fields.path + "function", requirement: "an object with name and parameters")
        }
        guard let name = try function.string("name") else {
            throw .missingField(field: function.path + "name", requirement: "a string")
        }
        let isName = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."):
                true
            default: false
            }
        }
        guard isName, (1...maxNameBytes).contains(name.utf8.count) else {
            throw function.invalid(
                "name", .string(name), "1 to \(maxNameBytes) letters, digits, dots, hyphens and underscores")
        }
        _ = try function.string("description")
        return Tool(
            name: name,
            parameters: try function.object("parameters").map { .object($0.members) } ?? noParameters,
            isStrict: try function.bool("strict") ?? false, source: source,
            field: function.path + "parameters")
    }

    /// The schema of a function that takes nothing.
    private static let noParameters = JSONValue.object([
        .init(name: "type", value: .string("object")), .init(name: "properties", value: .object([])),
        .init(name: "additionalProperties", value: .bool(false)),
    ])

    private static func choice(_ fields: JSONFields, tools: [Tool]) throws(ServingError) -> ToolChoice {
        switch fields["tool_choice"] {
        case nil, .string("auto"): return .auto
        case .string("none"): return .none
        case .string("required"): return .required
        case .object(let members):
            let object = JSONFields(path: fields.path + "tool_choice.", members: members)
            let type = try object.string("type")
            guard type == nil || type == "function", let function = try object.object("function"),
                let name = try function.string("name")
            else { throw fields.invalid("tool_choice", .object(members), choices) }
            guard tools.contains(where: { $0.name == name }) else {
                throw function.invalid("name", .string(name), "the name of one of the tools")
            }
            return .function(name)
        case .some(let value):
            if case .string = value { throw fields.invalid("tool_choice", value, choices) }
            throw fields.mismatch("tool_choice", value, choices)
        }
    }
}
