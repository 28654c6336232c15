// The members of an object of tokenizer.json, read by name: a wrong one is refused with the file and the field.

import JSON

/// One object and where it stands.
struct TokenizerFields {
    let members: [JSONValue.Member]
    let file: String
    /// The object's own place, "pre_tokenizer.pretokenizers[1]".
    let field: String

    /// What is no object has no members.
    init(_ value: JSONValue, file: String, field: String) {
        if case .object(let members) = value { self.members = members } else { members = [] }
        self.file = file
        self.field = field
    }

    subscript(name: String) -> JSONValue { members.first { $0.name == name }?.value ?? .null }

    func malformed(_ name: String?, _ reason: String) -> TokenizationError {
        .malformedFile(file: file, field: name.map { field.isEmpty ? $0 : "\(field).\($0)" } ?? field, reason: reason)
    }

    func string(_ name: String) throws(TokenizationError) -> String {
        guard case .string(let text) = self[name] else { throw malformed(name, "is not a string.") }
        return text
    }

    func bytes(_ name: String) throws(TokenizationError) -> [UInt8] { Array(try string(name).utf8) }

    /// A flag, false where it is missing.
    func flag(_ name: String, default missing: Bool = false) throws(TokenizationError) -> Bool {
        switch self[name] {
        case .null: return missing
        case .bool(let value): return value
        default: throw malformed(name, "is neither true nor false.")
        }
    }

    func integer(_ name: String, in range: ClosedRange<Int>) throws(TokenizationError) -> Int {
        guard let value = self[name].exactInteger, range.contains(value) else {
            throw malformed(
                name, "is \(self[name].summary), not a whole number from \(range.lowerBound) to \(range.upperBound).")
        }
        return value
    }

    /// The objects of a list.
    func objects(_ name: String) throws(TokenizationError) -> [TokenizerFields] {
        guard case .array(let elements) = self[name], elements.count <= 64 else {
            throw malformed(name, "is not a list of at most 64 objects.")
        }
        return elements.enumerated().map { index, element in
            TokenizerFields(element, file: file, field: "\(field).\(name)[\(index)]")
        }
    }
}
