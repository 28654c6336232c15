// A JSON text as a tree: what the strict parser makes of bytes, and what requests and schemas are read from.

/// One JSON value.
package enum JSONValue: Sendable, Hashable {
    case null
    case bool(Bool)
    /// A number without fraction or exponent that fits.
    case integer(Int)
    /// Any other finite number.
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([Member])

    /// One member of an object, in the order of the text. Names are unique within an object.
    package struct Member: Sendable, Hashable {
        package let name: String
        package let value: JSONValue

        package init(name: String, value: JSONValue) {
            self.name = name
            self.value = value
        }
    }

    /// The type's name as error messages use it.
    package var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .integer: "an integer"
        case .number: "a number"
        case .string: "a string"
        case .array: "a list"
        case .object: "an object"
        }
    }

    /// The value for an error message: short values as they are, long ones by their type and size.
    package var summary: String {
        switch self {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        case .string(let value): Self.quoted(value)
        case .array(let elements): "a list of \(elements.count)"
        case .object(let members): "an object of \(members.count)"
        }
    }

    /// `text` in quotes, cut after 64 characters and with control characters escaped, so that it is safe in a message.
    package static func quoted(_ text: String) -> String {
        var result = "\""
        var count = 0
        for scalar in text.unicodeScalars {
            if count == 64 {
                result += "…"
                break
            }
            count += 1
            let isPrintable = scalar.value >= 0x20 && !(0x7F...0x9F).contains(scalar.value)
            if isPrintable {
                result.unicodeScalars.append(scalar)
            } else {
                result += scalar.escaped(asASCII: true)
            }
        }
        return result + "\""
    }
}

extension JSONValue {
    /// The integer this is, if it is one exactly. 3.0 is one too: some clients have no other numbers.
    package var exactInteger: Int? {
        switch self {
        case .integer(let value): value
        // Beyond 2⁵³ a float stands for integers nobody wrote.
        case .number(let value): value.magnitude <= 0x1p53 ? Int(exactly: value) : nil
        default: nil
        }
    }
}
