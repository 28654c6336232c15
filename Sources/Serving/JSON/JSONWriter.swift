// Writes JSON straight into the buffer that goes to the socket: no tree, no intermediate strings. A streamed token
// costs one pass over its text.

import NIOCore

extension ByteBuffer {
    /// Writes `text` in quotes.
    ///
    /// Besides what JSON demands, U+0085, U+2028 and U+2029 are escaped: naive line splitters in clients break an event
    /// stream at them.
    package mutating func writeJSON(_ text: String) {
        writeInteger(UInt8(ascii: "\""))
        writeEscaped(text)
        writeInteger(UInt8(ascii: "\""))
    }

    /// Writes `text` as it stands between quotes.
    mutating func writeEscaped(_ text: String) {
        let bytes = text.utf8
        guard bytes.contains(where: Self.mayNeedEscape) else {
            writeString(text)
            return
        }
        var start = bytes.startIndex
        var index = start
        while index != bytes.endIndex {
            let byte = bytes[index]
            let following = bytes.index(after: index)
            if Self.mayNeedEscape(byte), let (escape, length) = Self.escape(of: byte, at: index, in: bytes) {
                writeSubstring(text[start..<index])
                writeString(escape)
                index = bytes.index(index, offsetBy: length)
                start = index
            } else {
                index = following
            }
        }
        writeSubstring(text[start...])
    }

    /// Whether a character that begins with `byte` may have to be escaped.
    private static func mayNeedEscape(_ byte: UInt8) -> Bool {
        byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte == 0xC2 || byte == 0xE2
    }

    /// The escape for the character that begins with `byte`, and how many bytes it replaces; nil if it needs none.
    private static func escape(
        of byte: UInt8, at index: String.Index, in bytes: String.UTF8View
    ) -> (String, Int)? {
        switch byte {
        case UInt8(ascii: "\""): return ("\\\"", 1)
        case UInt8(ascii: "\\"): return ("\\\\", 1)
        case 0x0A: return ("\\n", 1)
        case 0x0D: return ("\\r", 1)
        case 0x09: return ("\\t", 1)
        case 0x08: return ("\\b", 1)
        case 0x0C: return ("\\f", 1)
        case 0..<0x20: return ("\\u00" + (byte < 0x10 ? "0" : "") + String(byte, radix: 16), 1)
        case 0xC2 where bytes[bytes.index(after: index)] == 0x85: return ("\\u0085", 2)
        case 0xE2:
            let rest = bytes[index...].dropFirst().prefix(2)
            if rest.elementsEqual([0x80, 0xA8]) { return ("\\u2028", 3) }
            if rest.elementsEqual([0x80, 0xA9]) { return ("\\u2029", 3) }
            return nil
        default: return nil
        }
    }

    /// Writes an integer.
    mutating func writeJSON(_ value: Int) { writeString(String(value)) }

    /// Writes a boolean.
    mutating func writeJSON(_ value: Bool) { writeStaticString(value ? "true" : "false") }

    /// Writes a string, or null.
    mutating func writeJSON(_ text: String?) {
        if let text { writeJSON(text) } else { writeStaticString("null") }
    }

    /// Writes a log-probability. JSON has no infinity, so minus infinity is -9999.0, as clients of this API expect.
    package mutating func writeJSON(logprob: Float) {
        if logprob.isFinite { writeString(logprob.description) } else { writeStaticString("-9999.0") }
    }

    /// Writes `elements` with commas between them.
    mutating func writeList<Element>(_ elements: some Sequence<Element>, _ write: (inout ByteBuffer, Element) -> Void) {
        var isFirst = true
        for element in elements {
            if !isFirst { writeInteger(UInt8(ascii: ",")) }
            isFirst = false
            write(&self, element)
        }
    }
}
