// JSON for reports and log lines: members keep the order they were given in, and a value is one line.

/// A JSON value to be written.
package indirect enum JSONText: Sendable {
    case null
    case boolean(Bool)
    case integer(Int)
    /// Written with at most `places` decimals.
    case decimal(Double, places: Int)
    case string(String)
    case array([JSONText])
    case object([(String, JSONText)])

    /// The value on one line.
    package var line: String {
        switch self {
        case .null: "null"
        case .boolean(let value): String(value)
        case .integer(let value): String(value)
        case .decimal(let value, let places): value.isFinite ? Decimals.format(value, places: places) : "null"
        case .string(let value): Self.quote(value)
        case .array(let elements): "[" + elements.map(\.line).joined(separator: ",") + "]"
        case .object(let members):
            "{" + members.map { "\(Self.quote($0)):\($1.line)" }.joined(separator: ",") + "}"
        }
    }

    /// An array with one element per line; anything else on one line.
    package var lines: String {
        guard case .array(let elements) = self, !elements.isEmpty else { return line }
        return "[\n" + elements.map { "  \($0.line)" }.joined(separator: ",\n") + "\n]"
    }

    private static func quote(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\r": quoted += "\\r"
            case "\t": quoted += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                let hex = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
