// A Python literal as JSON: numbers, strings, True, False, None, lists, tuples and dictionaries with string keys.

/// Converts one literal.
struct PythonLiteral {
    private let bytes: [UInt8]
    private let depthLimit: Int
    private var position = 0
    private var depth = 0
    private var output: [UInt8] = []

    /// The JSON text of the literal that all of `bytes` spell; nil when they spell none.
    static func json(_ bytes: [UInt8], depthLimit: Int) -> [UInt8]? {
        var literal = PythonLiteral(bytes: bytes, depthLimit: depthLimit)
        guard literal.value() else { return nil }
        literal.skipSpace()
        return literal.position == bytes.count ? literal.output : nil
    }

    private init(bytes: [UInt8], depthLimit: Int) {
        self.bytes = bytes
        self.depthLimit = depthLimit
    }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = next, isSpace(byte) { position += 1 }
    }

    private mutating func skip(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        position += 1
        return true
    }

    /// Reads a value and writes it; false when there is none.
    private mutating func value() -> Bool {
        skipSpace()
        switch next {
        case UInt8(ascii: "["): return elements(UInt8(ascii: "]"), isTuple: false)
        case UInt8(ascii: "("): return elements(UInt8(ascii: ")"), isTuple: true)
        case UInt8(ascii: "{"): return members()
        case UInt8(ascii: "\""), UInt8(ascii: "'"): return string() != nil
        case let byte? where byte == UInt8(ascii: "_") || isLetter(byte): return word()
        default: return number()
        }
    }

    private func isLetter(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) }

    private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    private mutating func word() -> Bool {
        let start = position
        while let byte = next, PythonReader.isName(byte) { position += 1 }
        switch String(decoding: bytes[start..<position], as: UTF8.self) {
        case "True", "true": output += "true".utf8
        case "False", "false": output += "false".utf8
        case "None", "null": output += "null".utf8
        default: return false
        }
        return true
    }

    // MARK: Containers

    private mutating func elements(_ close: UInt8, isTuple: Bool) -> Bool {
        guard depth < depthLimit else { return false }
        depth += 1
        defer { depth -= 1 }
        position += 1
        let start = output.count
        var count = 0
        var endsWithComma = false
        output.append(UInt8(ascii: "["))
        while true {
            skipSpace()
            if skip(close) { break }
            guard count == 0 || endsWithComma else { return false }
            if count > 0 { output += ", ".utf8 }
            guard value() else { return false }
            count += 1
            skipSpace()
            endsWithComma = skip(UInt8(ascii: ","))
        }
        // Brackets around one value are only that.
        if isTuple, count == 1, !endsWithComma {
            output.remove(at: start)
        } else {
            output.append(UInt8(ascii: "]"))
        }
        return true
    }

    private mutating func members() -> Bool {
        guard depth < depthLimit else { return false }
        depth += 1
        defer { depth -= 1 }
        position += 1
        var keys: Set<[UInt8]> = []
        var endsWithComma = true
        output.append(UInt8(ascii: "{"))
        while true {
            skipSpace()
            if skip(UInt8(ascii: "}")) { break }
            guard endsWithComma, next == UInt8(ascii: "\"") || next == UInt8(ascii: "'") else { return false }
            if !keys.isEmpty { output += ", ".utf8 }
            guard let key = string(), keys.insert(key).inserted else { return false }
            skipSpace()
            guard skip(UInt8(ascii: ":")) else { return false }
            output += ": ".utf8
            guard value() else { return false }
            skipSpace()
            endsWithComma = skip(UInt8(ascii: ","))
        }
        output.append(UInt8(ascii: "}"))
        return true
    }

    // MARK: Numbers

    private mutating func number() -> Bool {
        if skip(UInt8(ascii: "-")) { output.append(UInt8(ascii: "-")) } else { _ = skip(UInt8(ascii: "+")) }
        let whole = digits()
        var fraction: ArraySlice<UInt8>?
        if skip(UInt8(ascii: ".")) { fraction = digits() }
        guard !whole.isEmpty || fraction?.isEmpty == false, whole.count < 2 || whole.first != UInt8(ascii: "0")
        else { return false }
        output += whole.isEmpty ? [UInt8(ascii: "0")] : Array(whole)
        if let fraction {
            output.append(UInt8(ascii: "."))
            output += fraction.isEmpty ? [UInt8(ascii: "0")] : Array(fraction)
        }
        guard skip(UInt8(ascii: "e")) || skip(UInt8(ascii: "E")) else { return true }
        output.append(UInt8(ascii: "e"))
        if skip(UInt8(ascii: "-")) { output.append(UInt8(ascii: "-")) } else { _ = skip(UInt8(ascii: "+")) }
        let exponent = digits()
        output += exponent
        return !exponent.isEmpty
    }

    private mutating func digits() -> ArraySlice<UInt8> {
        let start = position
        while let byte = next, isDigit(byte) { position += 1 }
        return bytes[start..<position]
    }

    // MARK: Strings

    /// Reads one string, or several that stand side by side and are one, and writes it; the text that was written.
    private mutating func string() -> [UInt8]? {
        var content: [UInt8] = []
        while let quote = next, quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'") {
            position += 1
            while true {
                guard let byte = next else { return nil }
                position += 1
                if byte == quote { break }
                if byte == UInt8(ascii: "\\") {
                    guard escape(into: &content) else { return nil }
                } else {
                    append(byte, to: &content)
                }
            }
            skipSpace()
        }
        let text = [UInt8(ascii: "\"")] + content + [UInt8(ascii: "\"")]
        output += text
        return text
    }

    /// Appends a byte of text as JSON writes it.
    private func append(_ byte: UInt8, to content: inout [UInt8]) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): content += [UInt8(ascii: "\\"), byte]
        case 0x0A: content += "\\n".utf8
        case 0x0D: content += "\\r".utf8
        case 0x09: content += "\\t".utf8
        case 0..<0x20:
            let digits = Array("0123456789abcdef".utf8)
            content += "\\u00".utf8
            content += [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        default: content.append(byte)
        }
    }

    private mutating func escape(into content: inout [UInt8]) -> Bool {
        guard let byte = next else { return false }
        position += 1
        switch byte {
        case UInt8(ascii: "n"): append(0x0A, to: &content)
        case UInt8(ascii: "t"): append(0x09, to: &content)
        case UInt8(ascii: "r"): append(0x0D, to: &content)
        case UInt8(ascii: "b"): append(0x08, to: &content)
        case UInt8(ascii: "f"): append(0x0C, to: &content)
        case UInt8(ascii: "v"): append(0x0B, to: &content)
        case UInt8(ascii: "a"): append(0x07, to: &content)
        case UInt8(ascii: "\\"), UInt8(ascii: "\""), UInt8(ascii: "'"): append(byte, to: &content)
        case 0x0A: break
        case UInt8(ascii: "x"): return scalar(digitCount: 2, into: &content)
        case UInt8(ascii: "u"): return scalar(digitCount: 4, into: &content)
        case UInt8(ascii: "U"): return scalar(digitCount: 8, into: &content)
        case UInt8(ascii: "0")...UInt8(ascii: "7"): return octal(byte, into: &content)
        default:
            // Python keeps the backslash of an escape that it does not know.
            append(UInt8(ascii: "\\"), to: &content)
            append(byte, to: &content)
        }
        return true
    }

    private mutating func octal(_ first: UInt8, into content: inout [UInt8]) -> Bool {
        var code = UInt32(first - UInt8(ascii: "0"))
        for _ in 0..<2 {
            guard let digit = next, (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(digit) else { break }
            code = code * 8 + UInt32(digit - UInt8(ascii: "0"))
            position += 1
        }
        return append(scalar: code, to: &content)
    }

    private mutating func scalar(digitCount: Int, into content: inout [UInt8]) -> Bool {
        guard let code = hexadecimal(digitCount) else { return false }
        guard digitCount == 4, (0xD800..<0xDC00).contains(code) else { return append(scalar: code, to: &content) }
        // Two halves of a character, as JSON writes it.
        guard skip(UInt8(ascii: "\\")), skip(UInt8(ascii: "u")), let low = hexadecimal(4),
            (0xDC00..<0xE000).contains(low)
        else { return false }
        return append(scalar: 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00), to: &content)
    }

    private mutating func hexadecimal(_ count: Int) -> UInt32? {
        var code: UInt32 = 0
        for _ in 0..<count {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue, code < 1 << 28
            else { return nil }
            code = code << 4 | UInt32(digit)
            position += 1
        }
        return code
    }

    private func append(scalar code: UInt32, to content: inout [UInt8]) -> Bool {
        guard let scalar = Unicode.Scalar(code) else { return false }
        for byte in String(Character(scalar)).utf8 { append(byte, to: &content) }
        return true
    }
}
