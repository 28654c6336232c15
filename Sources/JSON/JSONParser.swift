// A strict JSON reader: RFC 8259 and nothing more, with a limit on everything that a body could
// make large. Recursion is bounded by the nesting limit, so a hostile body costs a 400 and not the stack.

/// Limits on what a body may hold.
package struct JSONLimits: Sendable {
    /// Lists and objects inside one another.
    package var depth = 64
    /// Members of one object.
    package var membersPerObject = 1024
    /// Bytes of one string.
    package var stringBytes = 1 << 20

    package init() {}
}

/// Why a text is not acceptable JSON, and at which byte.
package struct JSONError: Error, Equatable {
    package let offset: Int
    package let reason: String

    package init(offset: Int, reason: String) {
        self.offset = offset
        self.reason = reason
    }
}

/// Reads one value from bytes.
package struct JSONParser {
    private let bytes: [UInt8]
    private let limits: JSONLimits
    private var position = 0
    private var depth = 0

    /// The value that all of `bytes` spell.
    package static func parse(
        _ bytes: [UInt8], limits: JSONLimits = JSONLimits()
    ) throws(JSONError) -> JSONValue {
        var parser = JSONParser(bytes: bytes, limits: limits)
        parser.skipWhitespace()
        let value = try parser.value()
        parser.skipWhitespace()
        guard parser.position == bytes.count else { throw parser.error("there is text after the end of the value") }
        return value
    }

    private init(bytes: [UInt8], limits: JSONLimits) {
        self.bytes = bytes
        self.limits = limits
    }

    private func error(_ reason: String) -> JSONError { JSONError(offset: position, reason: reason) }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipWhitespace() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    private mutating func skip(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        position += 1
        return true
    }

    private mutating func value() throws(JSONError) -> JSONValue {
        switch next {
        case UInt8(ascii: "{"): return try nested { (parser) throws(JSONError) in try parser.object() }
        case UInt8(ascii: "["): return try nested { (parser) throws(JSONError) in try parser.array() }
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case .some(UInt8(ascii: "-")), .some(UInt8(ascii: "0")...UInt8(ascii: "9")): return try number()
        case nil: throw error("the text ends where a value should be")
        default: throw error("a value cannot begin with this character")
        }
    }

    private mutating func nested(
        _ body: (inout JSONParser) throws(JSONError) -> JSONValue
    ) throws(JSONError) -> JSONValue {
        guard depth < limits.depth else { throw error("lists and objects are nested more than \(limits.depth) deep") }
        depth += 1
        position += 1
        let result = try body(&self)
        depth -= 1
        return result
    }

    private mutating func word(_ spelling: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
        for byte in spelling.description.utf8 {
            guard skip(byte) else { throw error("a value cannot begin with this character") }
        }
        return value
    }

    private mutating func array() throws(JSONError) -> JSONValue {
        var elements: [JSONValue] = []
        skipWhitespace()
        if skip(UInt8(ascii: "]")) { return .array(elements) }
        while true {
            skipWhitespace()
            elements.append(try value())
            skipWhitespace()
            if skip(UInt8(ascii: "]")) { return .array(elements) }
            guard skip(UInt8(ascii: ",")) else { throw error("a list needs ',' or ']' here") }
        }
    }

    private mutating func object() throws(JSONError) -> JSONValue {
        var members: [JSONValue.Member] = []
        var names: Set<String> = []
        skipWhitespace()
        if skip(UInt8(ascii: "}")) { return .object(members) }
        while true {
            skipWhitespace()
            guard next == UInt8(ascii: "\"") else { throw error("an object needs a name in quotes here") }
            let name = try string()
            guard names.insert(name).inserted else {
                throw error("the name \(JSONValue.quoted(name)) occurs twice in one object")
            }
            guard members.count < limits.membersPerObject else {
                throw error("an object has more than \(limits.membersPerObject) members")
            }
            skipWhitespace()
            guard skip(UInt8(ascii: ":")) else { throw error("an object needs ':' after a name") }
            skipWhitespace()
            members.append(JSONValue.Member(name: name, value: try value()))
            skipWhitespace()
            if skip(UInt8(ascii: "}")) { return .object(members) }
            guard skip(UInt8(ascii: ",")) else { throw error("an object needs ',' or '}' here") }
        }
    }

    // MARK: Strings

    private mutating func string() throws(JSONError) -> String {
        position += 1
        let start = position
        // Most strings have no escapes and are taken in one piece.
        while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { position += 1 }
        if next == UInt8(ascii: "\"") {
            let text = try validated(bytes[start..<position])
            position += 1
            return text
        }
        var content = Array(bytes[start..<position])
        while let byte = next {
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return try validated(content[...])
            case UInt8(ascii: "\\"): try appendEscape(to: &content)
            case 0..<0x20: throw error("a control character must be escaped in a string")
            default: content.append(byte)
            }
        }
        throw error("the text ends inside a string")
    }

    private func validated(_ content: ArraySlice<UInt8>) throws(JSONError) -> String {
        guard content.count <= limits.stringBytes else {
            throw error("a string has more than \(limits.stringBytes) bytes")
        }
        guard let text = String(validating: content, as: UTF8.self) else {
            throw error("a string is not valid UTF-8")
        }
        return text
    }

    private mutating func appendEscape(to content: inout [UInt8]) throws(JSONError) {
        guard let byte = next else { throw error("the text ends inside a string") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): content.append(byte)
        case UInt8(ascii: "b"): content.append(0x08)
        case UInt8(ascii: "f"): content.append(0x0C)
        case UInt8(ascii: "n"): content.append(0x0A)
        case UInt8(ascii: "r"): content.append(0x0D)
        case UInt8(ascii: "t"): content.append(0x09)
        case UInt8(ascii: "u"): content.append(contentsOf: String(Character(try escapedScalar())).utf8)
        default: throw error("there is no escape with this character")
        }
    }

    /// The character of `\u` and four digits, or of two such that are a surrogate pair. Alone, a surrogate is none.
    private mutating func escapedScalar() throws(JSONError) -> Unicode.Scalar {
        let first = try codeUnit()
        if let scalar = Unicode.Scalar(first) { return scalar }
        guard (0xD800..<0xDC00).contains(first), skip(UInt8(ascii: "\\")), skip(UInt8(ascii: "u")) else {
            throw error("a surrogate must be half of a pair")
        }
        let second = try codeUnit()
        guard (0xDC00..<0xE000).contains(second),
            let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
        else { throw error("a surrogate must be half of a pair") }
        return scalar
    }

    private mutating func codeUnit() throws(JSONError) -> UInt32 {
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw error("\\u needs four hexadecimal digits")
            }
            unit = unit << 4 | UInt32(digit)
            position += 1
        }
        return unit
    }

    // MARK: Numbers

    private mutating func number() throws(JSONError) -> JSONValue {
        let start = position
        if let small = smallInteger() { return .integer(small) }
        _ = skip(UInt8(ascii: "-"))
        let leadingZero = next == UInt8(ascii: "0")
        let digits = try skipDigits()
        guard !leadingZero || digits == 1 else { throw error("a number cannot begin with a zero and another digit") }
        var isInteger = true
        if skip(UInt8(ascii: ".")) {
            isInteger = false
            _ = try skipDigits()
        }
        if skip(UInt8(ascii: "e")) || skip(UInt8(ascii: "E")) {
            isInteger = false
            if !skip(UInt8(ascii: "+")) { _ = skip(UInt8(ascii: "-")) }
            _ = try skipDigits()
        }
        guard position - start <= 400 else { throw error("a number has more than 400 characters") }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isInteger, let value = Int(text) { return .integer(value) }
        guard let value = Double(text), value.isFinite else { throw error("the number is out of range") }
        return .number(value)
    }

    /// A non-negative integer of few digits, as token ids are; nil, with nothing taken, for any other number.
    private mutating func smallInteger() -> Int? {
        var end = position
        var value = 0
        while end < bytes.count, end - position < 10, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[end]) {
            value = value * 10 + Int(bytes[end] - UInt8(ascii: "0"))
            end += 1
        }
        guard end < bytes.count, bytes[end] == UInt8(ascii: ",") || bytes[end] == UInt8(ascii: "]"),
            end - position == 1 || (end > position && bytes[position] != UInt8(ascii: "0"))
        else { return nil }
        position = end
        return value
    }

    private mutating func skipDigits() throws(JSONError) -> Int {
        let start = position
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
        guard position > start else { throw error("a number needs a digit here") }
        return position - start
    }
}
