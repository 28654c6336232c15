// Walks a JSON text without making a tree of it: a vocabulary of a quarter of a million members goes straight into
// packed strings, and what nobody asked for is skipped. Small parts are handed to the strict parser.

import JSON

/// A position in a JSON text.
struct JSONScanner {
    /// Lists and objects inside one another.
    private static let maxDepth = 64

    let bytes: [UInt8]
    private(set) var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private func error(_ reason: String) -> JSONError { JSONError(offset: position, reason: reason) }

    /// The next byte that is no white space, not taken.
    mutating func peek() -> UInt8? {
        while position < bytes.count, bytes[position] <= 0x20 { position += 1 }
        return position < bytes.count ? bytes[position] : nil
    }

    mutating func take(_ byte: UInt8) -> Bool {
        guard peek() == byte else { return false }
        position += 1
        return true
    }

    mutating func expect(_ byte: UInt8, _ what: String) throws(JSONError) {
        guard take(byte) else { throw error("\(what) is expected here") }
    }

    /// Whether another element follows in a list or an object that ends with `end`; `isFirst` before any was taken.
    mutating func hasElement(before end: UInt8, isFirst: inout Bool) throws(JSONError) -> Bool {
        defer { isFirst = false }
        if take(end) { return false }
        if !isFirst { try expect(UInt8(ascii: ","), "a comma") }
        return true
    }

    /// Appends the text of a string.
    mutating func string(into text: inout [UInt8]) throws(JSONError) {
        try expect(UInt8(ascii: "\""), "a string")
        while position < bytes.count {
            let byte = bytes[position]
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return
            case UInt8(ascii: "\\"): try escape(into: &text)
            case 0..<0x20: throw error("a control character must be escaped in a string")
            default: text.append(byte)
            }
        }
        throw error("the text ends inside a string")
    }

    /// The text of a string, for names.
    mutating func string() throws(JSONError) -> String {
        var text: [UInt8] = []
        try string(into: &text)
        return String(decoding: text, as: UTF8.self)
    }

    private mutating func escape(into text: inout [UInt8]) throws(JSONError) {
        guard position < bytes.count else { throw error("the text ends inside a string") }
        let byte = bytes[position]
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var scalar = try codeUnit()
            if scalar >> 10 == 0x36, position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
                bytes[position + 1] == UInt8(ascii: "u")
            {
                position += 2
                let low = try codeUnit()
                guard low >> 10 == 0x37 else { throw error("a surrogate must be half of a pair") }
                scalar = 0x10000 + (scalar & 0x3FF) << 10 + (low & 0x3FF)
            }
            guard Unicode.Scalar(scalar) != nil else { throw error("a surrogate must be half of a pair") }
            Characters.append(scalar, to: &text)
        default: throw error("there is no escape with this character")
        }
    }

    private mutating func codeUnit() throws(JSONError) -> UInt32 {
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard position < bytes.count, let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue else {
                throw error("\\u needs four hexadecimal digits")
            }
            unit = unit << 4 | UInt32(digit)
            position += 1
        }
        return unit
    }

    /// A whole number of at most nine digits.
    mutating func integer() throws(JSONError) -> Int {
        _ = peek()
        let start = position
        var value = 0
        while position < bytes.count, (0x30...0x39).contains(bytes[position]), position - start < 10 {
            value = value * 10 + Int(bytes[position] - 0x30)
            position += 1
        }
        guard (1...9).contains(position - start), position == bytes.count || !isNumber(bytes[position]) else {
            throw error("a whole number of at most nine digits is expected here")
        }
        return value
    }

    /// Any number.
    mutating func number() throws(JSONError) -> Double {
        _ = peek()
        let start = position
        while position < bytes.count, position - start < 64, isNumber(bytes[position]) { position += 1 }
        guard let value = Double(String(decoding: bytes[start..<position], as: UTF8.self)), value.isFinite else {
            throw error("a number is expected here")
        }
        return value
    }

    private func isNumber(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || [0x2B, 0x2D, 0x2E, 0x45, 0x65].contains(byte)
    }

    /// Passes over one value and says where it lies.
    mutating func skip() throws(JSONError) -> Range<Int> {
        guard let first = peek() else { throw error("the text ends where a value should be") }
        let start = position
        var closers: [UInt8] = []
        var next = first
        repeat {
            switch next {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                guard closers.count < Self.maxDepth else { throw error("values are nested too deep") }
                closers.append(next + 2)
                position += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                guard closers.popLast() == next else { throw error("a list or object ends as the other") }
                position += 1
            case UInt8(ascii: "\""): try skipString()
            case UInt8(ascii: ","), UInt8(ascii: ":"):
                guard !closers.isEmpty else { throw error("a value is expected here") }
                position += 1
            default:
                let word = position
                while position < bytes.count, isNumber(bytes[position]) || (0x61...0x7A).contains(bytes[position]) {
                    position += 1
                }
                guard position > word else { throw error("a value cannot begin with this character") }
            }
            if closers.isEmpty { return start..<position }
            guard let byte = peek() else { throw error("the text ends inside a list or object") }
            next = byte
        } while true
    }

    private mutating func skipString() throws(JSONError) {
        position += 1
        while position < bytes.count {
            let byte = bytes[position]
            position += byte == UInt8(ascii: "\\") ? 2 : 1
            if byte == UInt8(ascii: "\"") { return }
        }
        throw error("the text ends inside a string")
    }

    /// Goes to another place of the text.
    mutating func go(to position: Int) { self.position = position }
}
