// Values as text: Python's `str` and `repr`, and `json.dumps`. Only strings keep their provenance; what is spelled out
// of anything else is untrusted.

extension Jinja {
    /// Builds the text of values in Python's or JSON's notation, up to a limit.
    struct Printer {
        private(set) var bytes: [UInt8] = []
        let limit: Int
        /// Whether the text would have been longer than the limit.
        private(set) var isFull = false

        init(limit: Int) { self.limit = limit }

        mutating func write(_ string: String) {
            guard !isFull else { return }
            bytes.append(contentsOf: string.utf8)
            isFull = bytes.count > limit
        }
    }
}

// MARK: - Python

extension Jinja.Interpreter {
    /// Python's `str(value)`.
    mutating func text(of value: Jinja.Value) throws(TemplateError) -> Jinja.Text {
        switch value {
        case .string(let text): return text
        case .undefined: return .empty
        default: return try representation(of: value)
        }
    }

    /// Python's `repr(value)`.
    mutating func representation(of value: Jinja.Value) throws(TemplateError) -> Jinja.Text {
        try spend(value.weight)
        var printer = Jinja.Printer(limit: limits.textBytes)
        printer.writePython(value)
        guard !printer.isFull else { throw exceeded(.output) }
        return Jinja.Text(bytes: printer.bytes, trusted: false)
    }
}

extension Jinja.Printer {
    mutating func writePython(_ value: Jinja.Value) {
        guard !isFull else { return }
        switch value {
        case .undefined: write("Undefined")
        case .none: write("None")
        case .bool(let value): write(value ? "True" : "False")
        case .int(let value): write(String(value))
        case .float(let value): write(Self.python(value))
        case .string(let text): writePython(text)
        case .sequence(let sequence): writePython(sequence)
        case .mapping(let mapping):
            write("{")
            for index in mapping.keys.indices {
                if index > 0 { write(", ") }
                writePython(mapping.keys[index])
                write(": ")
                writePython(mapping.values[index])
            }
            write("}")
        case .range(let range):
            let end = range.start &+ range.count &* range.step
            write("range(\(range.start), \(end)\(range.step == 1 ? "" : ", \(range.step)"))")
        case .namespace, .loop, .macro, .function, .method: write("<\(value.typeName)>")
        }
    }

    private mutating func writePython(_ sequence: Jinja.Sequence) {
        let (open, close) =
            switch sequence.kind {
            case .list: ("[", "]")
            case .tuple, .group: ("(", sequence.elements.count == 1 ? ",)" : ")")
            case .view(let name): (name + "([", "])")
            case .generator: ("<generator object>", "")
            }
        write(open)
        if case .generator = sequence.kind { return }
        for (index, element) in sequence.elements.enumerated() {
            if index > 0 { write(", ") }
            writePython(element)
        }
        write(close)
    }

    private mutating func writePython(_ text: Jinja.Text) {
        let quote: UInt8 =
            text.bytes.contains(UInt8(ascii: "'")) && !text.bytes.contains(UInt8(ascii: "\""))
            ? UInt8(ascii: "\"") : UInt8(ascii: "'")
        let mark = String(Character(Unicode.Scalar(quote)))
        write(mark)
        for scalar in text.string.unicodeScalars {
            guard !isFull else { return }
            switch scalar {
            case "\n": write("\\n")
            case "\r": write("\\r")
            case "\t": write("\\t")
            case "\\": write("\\\\")
            case Unicode.Scalar(quote): write("\\" + mark)
            case _ where Jinja.Text.isPrintable(scalar): write(String(Character(scalar)))
            case _ where scalar.value < 0x100: write("\\x" + Self.hexadecimal(scalar.value, width: 2))
            case _ where scalar.value < 0x10000: write("\\u" + Self.hexadecimal(scalar.value, width: 4))
            default: write("\\U" + Self.hexadecimal(scalar.value, width: 8))
            }
        }
        write(mark)
    }

    static func hexadecimal(_ value: UInt32, width: Int) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }

    /// A float as Python's `repr` writes it: the shortest digits that read back, in scientific notation from 1e16 on.
    static func python(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
        // Around 2^53 and 1e16 Swift and Python choose different notations for the same digits.
        guard value.magnitude >= 0x1p53, value.magnitude < 1e17 else { return value.description }
        let parts = value.magnitude.description.split(separator: "e", maxSplits: 1)
        var digits = parts[0].filter { $0 != "." }
        if parts.count == 1 { digits.removeLast() }
        while digits.count > 1, digits.last == "0" { digits.removeLast() }
        let sign = value < 0 ? "-" : ""
        guard value.magnitude >= 1e16 else {
            return sign + digits + String(repeating: "0", count: max(0, 16 - digits.count)) + ".0"
        }
        return sign + digits.prefix(1) + (digits.count > 1 ? "." : "") + digits.dropFirst() + "e+16"
    }
}

// MARK: - JSON

extension Jinja {
    /// The options of the `tojson` filter, as Python's `json.dumps` has them.
    struct JSONStyle {
        var indent: String?
        var itemSeparator = ", "
        var keySeparator = ": "
        var isASCII = false
        var sortsKeys = false
    }
}

extension Jinja.Interpreter {
    /// `json.dumps(value)`; untrusted, whatever it holds.
    mutating func json(_ value: Jinja.Value, _ style: Jinja.JSONStyle) throws(TemplateError) -> Jinja.Text {
        try spend(value.weight)
        var printer = Jinja.Printer(limit: limits.textBytes)
        try writeJSON(value, style, level: 0, to: &printer)
        guard !printer.isFull else { throw exceeded(.output) }
        return Jinja.Text(bytes: printer.bytes, trusted: false)
    }

    private mutating func writeJSON(
        _ value: Jinja.Value, _ style: Jinja.JSONStyle, level: Int, to printer: inout Jinja.Printer
    ) throws(TemplateError) {
        guard !printer.isFull else { throw exceeded(.output) }
        switch value {
        case .none, .bool, .int, .float:
            printer.write(Self.jsonScalar(value) ?? "null")
        case .string(let text):
            printer.writeJSON(text, isASCII: style.isASCII)
        case .sequence(let sequence) where sequence.isIndexed:
            guard !sequence.elements.isEmpty else { return printer.write("[]") }
            printer.write("[")
            for (index, element) in sequence.elements.enumerated() {
                Self.separate(index, style, level: level + 1, in: &printer)
                try writeJSON(element, style, level: level + 1, to: &printer)
            }
            Self.close("]", style, level: level, in: &printer)
        case .mapping(let mapping):
            try writeJSON(mapping, style, level: level, to: &printer)
        default:
            throw mismatch("tojson", value)
        }
    }

    private mutating func writeJSON(
        _ mapping: Jinja.Mapping, _ style: Jinja.JSONStyle, level: Int, to printer: inout Jinja.Printer
    ) throws(TemplateError) {
        guard !mapping.keys.isEmpty else { return printer.write("{}") }
        var order = Array(mapping.keys.indices)
        if style.sortsKeys {
            order = try sorted(order) { interpreter, left, right throws(TemplateError) in
                try interpreter.precedes(mapping.keys[left], mapping.keys[right], "<")
            }
        }
        printer.write("{")
        for (position, index) in order.enumerated() {
            Self.separate(position, style, level: level + 1, in: &printer)
            let key = mapping.keys[index]
            if case .string(let text) = key {
                printer.writeJSON(text, isASCII: style.isASCII)
            } else if let text = Self.jsonScalar(key) {
                printer.write("\"\(text)\"")
            } else {
                throw invalid("a \(key.typeName) cannot be the key of a JSON object")
            }
            printer.write(style.keySeparator)
            try writeJSON(mapping.values[index], style, level: level + 1, to: &printer)
        }
        Self.close("}", style, level: level, in: &printer)
    }

    private static func jsonScalar(_ value: Jinja.Value) -> String? {
        switch value {
        case .none: return "null"
        case .bool(let value): return value ? "true" : "false"
        case .int(let value): return String(value)
        case .float(let value):
            guard value.isFinite else { return value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity" }
            return Jinja.Printer.python(value)
        default: return nil
        }
    }

    private static func separate(
        _ index: Int, _ style: Jinja.JSONStyle, level: Int, in printer: inout Jinja.Printer
    ) {
        if index > 0 { printer.write(style.itemSeparator) }
        newLine(style, level: level, in: &printer)
    }

    private static func close(_ bracket: String, _ style: Jinja.JSONStyle, level: Int, in printer: inout Jinja.Printer)
    {
        newLine(style, level: level, in: &printer)
        printer.write(bracket)
    }

    private static func newLine(_ style: Jinja.JSONStyle, level: Int, in printer: inout Jinja.Printer) {
        guard let indent = style.indent else { return }
        printer.write("\n")
        for _ in 0..<level { printer.write(indent) }
    }
}

extension Jinja.Printer {
    mutating func writeJSON(_ text: Jinja.Text, isASCII: Bool) {
        write("\"")
        if isASCII {
            for scalar in text.string.unicodeScalars {
                guard !isFull else { return }
                if scalar.isASCII {
                    writeJSON(UInt8(truncatingIfNeeded: scalar.value))
                } else {
                    for unit in String(Character(scalar)).utf16 {
                        write("\\u" + Self.hexadecimal(UInt32(unit), width: 4))
                    }
                }
            }
        } else {
            for byte in text.bytes { writeJSON(byte) }
        }
        write("\"")
    }

    private mutating func writeJSON(_ byte: UInt8) {
        switch byte {
        case 0x22: write("\\\"")
        case 0x5C: write("\\\\")
        case 0x0A: write("\\n")
        case 0x0D: write("\\r")
        case 0x09: write("\\t")
        case 0x08: write("\\b")
        case 0x0C: write("\\f")
        case 0..<0x20: write("\\u" + Self.hexadecimal(UInt32(byte), width: 4))
        default:
            guard bytes.count <= limit else { return isFull = true }
            bytes.append(byte)
        }
    }
}
