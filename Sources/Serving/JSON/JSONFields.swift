// The members of one object, read by name and type. Every refusal names the field by its dotted path, the value that
// was sent and what would have been accepted; null and absence mean the default.

import JSON

/// Typed access to an object's members.
struct JSONFields {
    /// Dotted path of this object with a final dot; empty for the body itself.
    let path: String
    /// The members, in the order of the text.
    let members: [JSONValue.Member]

    init(path: String = "", members: [JSONValue.Member]) {
        self.path = path
        self.members = members
    }

    /// The members of the object that is a request's body.
    init(body: [UInt8]) throws(ServingError) {
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONParser.parse(body)
        } catch {
            throw .malformedJSON(reason: error.reason, offset: error.offset)
        }
        guard case .object(let members) = value else { throw .notAnObject(kind: value.kind) }
        self.init(members: members)
    }

    /// The value of a member; nil when it is absent or null.
    subscript(name: String) -> JSONValue? {
        guard let member = members.first(where: { $0.name == name }), member.value != .null else { return nil }
        return member.value
    }

    /// The refusal of a value of the wrong type.
    func mismatch(_ name: String, _ value: JSONValue, _ expected: String) -> ServingError {
        .invalidType(field: path + name, value: value.summary, requirement: expected)
    }

    /// The refusal of a value outside its range.
    func invalid(_ name: String, _ value: JSONValue, _ requirement: String) -> ServingError {
        .invalidValue(field: path + name, value: value.summary, requirement: requirement)
    }

    func string(_ name: String) throws(ServingError) -> String? {
        guard let value = self[name] else { return nil }
        guard case .string(let text) = value else { throw mismatch(name, value, "a string") }
        return text
    }

    func bool(_ name: String) throws(ServingError) -> Bool? {
        guard let value = self[name] else { return nil }
        guard case .bool(let flag) = value else { throw mismatch(name, value, "a boolean") }
        return flag
    }

    func array(_ name: String, orElse expected: String = "a list") throws(ServingError) -> [JSONValue]? {
        guard let value = self[name] else { return nil }
        guard case .array(let elements) = value else { throw mismatch(name, value, expected) }
        return elements
    }

    func object(_ name: String) throws(ServingError) -> JSONFields? {
        guard let value = self[name] else { return nil }
        guard case .object(let members) = value else { throw mismatch(name, value, "an object") }
        return JSONFields(path: path + name + ".", members: members)
    }
}
