// The language's filters: their names, and those that compute with text and numbers.
// Filters over collections are in `JinjaFilters+Collections.swift`.

extension Jinja {
    /// A filter by its name in the language.
    enum Filter: String, Sendable {
        case abs, attr, batch, capitalize, center, count, d, `default`, dictsort, e, escape, first, float, forceescape
        case format, groupby, indent, int, items, join, last, length, list, lower, map, max, min, reject, rejectattr
        case replace, reverse, round, safe, select, selectattr, sort, string, sum, title, tojson, trim, unique, upper
        case wordcount
    }
}

extension Jinja.Interpreter {
    @inline(never)
    mutating func apply(
        _ filter: Jinja.Filter, to value: Jinja.Value, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        switch filter {
        case .trim, .lower, .upper, .title, .capitalize, .replace, .string, .indent, .e, .escape, .forceescape, .safe,
            .wordcount, .format, .center:
            try applyText(filter, to: value, arguments)
        case .int, .float, .abs, .round:
            try applyNumber(filter, to: value, arguments)
        case .d, .default:
            try applyDefault(to: value, arguments)
        case .tojson:
            try applyJSON(to: value, arguments)
        case .map, .select, .selectattr, .reject, .rejectattr:
            try applyEach(filter, to: value, arguments)
        case .sort, .unique, .dictsort, .groupby, .min, .max:
            try applyOrder(filter, to: value, arguments)
        case .attr, .batch, .count, .first, .items, .join, .last, .length, .list, .reverse, .sum:
            try applyCollection(filter, to: value, arguments)
        }
    }

    @inline(never)
    private mutating func applyDefault(
        to value: Jinja.Value, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        let bound = try bind(arguments, ["default_value", "boolean"])
        guard value.isUndefined || (bound[1]?.isTrue == true && !value.isTrue) else { return value }
        return bound[0] ?? .string(.empty)
    }

    @inline(never)
    private mutating func applyJSON(
        to value: Jinja.Value, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        let bound = try bind(arguments, ["ensure_ascii", "indent", "separators", "sort_keys"])
        var style = Jinja.JSONStyle()
        style.isASCII = bound[0]?.isTrue ?? false
        style.sortsKeys = bound[3]?.isTrue ?? false
        switch bound[1] {
        case nil, Jinja.Value.none?: break
        case .string(let text)?: style.indent = text.string
        case let indent?:
            guard let width = indent.integer else { throw mismatch("the indent of tojson", indent) }
            try checkRoom(for: max(width, 0))
            style.indent = String(repeating: " ", count: max(width, 0))
        }
        if style.indent != nil { style.itemSeparator = "," }
        if case .sequence(let separators)? = bound[2] {
            guard separators.elements.count == 2, case .string(let item) = separators.elements[0],
                case .string(let key) = separators.elements[1]
            else { throw invalid("the separators of tojson are two strings") }
            style.itemSeparator = item.string
            style.keySeparator = key.string
        }
        return .string(try json(value, style))
    }
}

// MARK: - Text

extension Jinja.Interpreter {
    @inline(never)
    private mutating func applyText(
        _ filter: Jinja.Filter, to value: Jinja.Value, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        let text = try self.text(of: value)
        try spend(bytes: text.count)
        switch filter {
        case .trim: return try call(.strip, on: text, try bind(arguments, ["chars"]))
        case .replace:
            let bound = try bind(arguments, ["old", "new", "count"], required: 2)
            return .string(
                try replace(
                    in: text, self.text(of: bound[0] ?? .none), with: self.text(of: bound[1] ?? .none),
                    limit: count(bound[2])))
        case .indent:
            // Alone among its kin it does not make a string of its operand.
            guard case .string = value else { throw mismatch("indent", value) }
            return .string(try indented(text, try bind(arguments, ["width", "first", "blank"])))
        case .center:
            let bound = try bind(arguments, ["width"])
            return try call(.center, on: text, [bound[0] ?? .int(80)])
        case .format:
            guard arguments.named.isEmpty else { throw invalid("format by name is not supported") }
            return try formatted(text, arguments.positional)
        default: break
        }
        _ = try bind(arguments, [])
        if filter != .safe, filter != .string, !text.isASCII || (filter != .lower && filter != .upper) {
            try spend(characters: text)
        }
        switch filter {
        case .lower: return .string(try checked(text.lowercased))
        case .upper: return .string(try checked(text.uppercased))
        case .capitalize: return .string(try checked(text.capitalized))
        case .title: return .string(try checked(text.wordTitled))
        case .e, .escape, .forceescape: return .string(try checked(text.escaped))
        case .wordcount: return .int(text.wordCount)
        case .safe: return .string(text)
        default: return .string(text)
        }
    }

    /// The text, if it keeps to the limit: changing case can make it longer.
    func checked(_ text: Jinja.Text) throws(TemplateError) -> Jinja.Text {
        try checkRoom(for: text.count)
        return text
    }

    /// A count that is optional in Python: nil, `none` and negative numbers mean all.
    func count(_ value: Jinja.Value?) throws(TemplateError) -> Int {
        guard let value else { return .max }
        if case .none = value { return .max }
        guard let count = value.integer else { throw mismatch("a count", value) }
        return count < 0 ? .max : count
    }

    /// Python's `str.replace`. What replaces untrusted text is untrusted: the caller chose how often it appears.
    mutating func replace(
        in text: Jinja.Text, _ old: Jinja.Text, with new: Jinja.Text, limit: Int
    ) throws(TemplateError) -> Jinja.Text {
        let ranges: [Range<Int>]
        if old.isEmpty {
            ranges = text.boundaries.prefix(limit).map { $0..<$0 }
        } else {
            try spend(bytes: old.count)
            ranges = text.ranges(of: old.bytes, limit: limit)
        }
        guard !ranges.isEmpty else { return text }
        try spend(elements: ranges.count)
        let (added, overflow) = ranges.count.multipliedReportingOverflow(by: new.count)
        guard !overflow, added <= limits.textBytes else { throw exceeded(.output) }
        try spend(bytes: added)
        var result = Jinja.Text.empty
        var end = 0
        for range in ranges {
            try append(text[end..<range.lowerBound], to: &result)
            let isTrusted = old.isEmpty ? text.isTrusted : text.isTrusted(in: range)
            try append(isTrusted ? new : new.untrusted, to: &result)
            end = range.upperBound
        }
        try append(text[end..<text.count], to: &result)
        return result
    }

    private mutating func indented(
        _ text: Jinja.Text, _ bound: [Jinja.Value?]
    ) throws(TemplateError) -> Jinja.Text {
        let indent: Jinja.Text
        switch bound[0] {
        case .string(let given)?: indent = given
        case let given:
            guard let width = (given ?? .int(4)).integer else { throw mismatch("the width of indent", given ?? .none) }
            try checkRoom(for: max(width, 0))
            indent = Jinja.Text(bytes: [UInt8](repeating: UInt8(ascii: " "), count: max(width, 0)), trusted: false)
        }
        let indentsFirst = bound[1]?.isTrue ?? false
        let indentsBlank = bound[2]?.isTrue ?? false
        var lines = text.lines
        // A text that ends in a line break has an empty last line here.
        if lines.last.map({ $0.content.upperBound < text.count }) ?? true { lines.append((text.count..<text.count, 0)) }
        try spend(elements: lines.count)
        var result = Jinja.Text.empty
        for (index, line) in lines.enumerated() {
            if index > 0 { result.append(CollectionOfOne(UInt8(ascii: "\n")), trusted: false) }
            if index == 0 ? indentsFirst : indentsBlank || !line.content.isEmpty { try append(indent, to: &result) }
            try append(text[line.content], to: &result)
        }
        return result
    }
}

extension Jinja.Text {
    fileprivate var escaped: Jinja.Text {
        mapScalars { scalar in
            switch scalar {
            case "&": "&amp;"
            case "<": "&lt;"
            case ">": "&gt;"
            case "'": "&#39;"
            case "\"": "&#34;"
            default: String(Character(scalar))
            }
        }
    }

    /// The `title` filter, whose words begin after space, hyphen or an opening bracket.
    fileprivate var wordTitled: Jinja.Text {
        var beginsWord = true
        return mapScalars { scalar in
            let isBorder = Self.isSpace(scalar) || "-({[<".unicodeScalars.contains(scalar)
            defer { beginsWord = isBorder }
            return beginsWord ? scalar.properties.uppercaseMapping : scalar.properties.lowercaseMapping
        }
    }

    fileprivate var wordCount: Int {
        var count = 0
        var isInside = false
        for scalar in string.unicodeScalars {
            let belongs = scalar == "_" || Self.isLetter(scalar) || Self.isNumeric(scalar)
            if belongs && !isInside { count += 1 }
            isInside = belongs
        }
        return count
    }
}

// MARK: - Numbers

extension Jinja.Interpreter {
    @inline(never)
    private mutating func applyNumber(
        _ filter: Jinja.Filter, to value: Jinja.Value, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        switch filter {
        case .int:
            let bound = try bind(arguments, ["default", "base"])
            return try integer(value, fallback: bound[0] ?? .int(0), base: bound[1] ?? .int(10))
        case .float:
            let bound = try bind(arguments, ["default"])
            if let number = try number(value) { return .float(number) }
            return bound[0] ?? .float(0)
        case .abs:
            _ = try bind(arguments, [])
            switch value.number {
            case .float(let number): return .float(number.magnitude)
            case .int(let number): return number < 0 ? try calculate(.int(0), .subtract, value) : .int(number)
            case nil: throw mismatch("abs", value)
            }
        default:
            let bound = try bind(arguments, ["precision", "method"])
            return try round(value, precision: bound[0] ?? .int(0), method: bound[1] ?? .text("common"))
        }
    }

    private mutating func integer(
        _ value: Jinja.Value, fallback: Jinja.Value, base: Jinja.Value
    ) throws(TemplateError) -> Jinja.Value {
        if case .string(let text) = value {
            try spend(bytes: text.count)
            guard let base = base.integer, base == 0 || (2...36).contains(base) else { return fallback }
            if let number = Self.integer(text, base: base) { return .int(number) }
        } else if case .int(let number)? = value.number {
            return .int(number)
        }
        guard let number = try number(value) else { return fallback }
        if !number.isFinite { return fallback }
        guard let whole = Int(exactly: number.rounded(.towardZero)) else {
            throw invalid("the number does not fit in a 64-bit integer")
        }
        return .int(whole)
    }

    /// Python's `int(text, base)`.
    private static func integer(_ text: Jinja.Text, base: Int) -> Int? {
        var digits = text[text.trimmedRange()].string[...]
        var sign = ""
        if let first = digits.first, first == "+" || first == "-" {
            sign = String(first)
            digits = digits.dropFirst()
        }
        var base = base
        let prefixes = [(2, "0b"), (8, "0o"), (16, "0x")]
        for (radix, prefix) in prefixes where base == radix || base == 0 {
            if digits.lowercased().hasPrefix(prefix) {
                digits = digits.dropFirst(2)
                if digits.first == "_" { digits = digits.dropFirst() }
                base = radix
            }
        }
        guard let plain = withoutUnderscores(digits) else { return nil }
        return Int(sign + plain, radix: base == 0 ? 10 : base)
    }

    /// Digits without the single underscores that Python allows between them.
    private static func withoutUnderscores(_ digits: Substring) -> String? {
        guard digits.first != "_", digits.last != "_", digits.first != "+", digits.first != "-" else { return nil }
        var plain = ""
        var previous: Character?
        for character in digits {
            if character == "_" {
                guard previous != "_" else { return nil }
            } else {
                plain.append(character)
            }
            previous = character
        }
        return plain
    }

    /// Python's `float(value)`, or nil where that is an error of type or value.
    private mutating func number(_ value: Jinja.Value) throws(TemplateError) -> Double? {
        if let number = value.number { return number.double }
        if case .undefined(let absence) = value { throw invalid(absence.reason) }
        guard case .string(let text) = value else { return nil }
        try spend(bytes: text.count)
        let trimmed = text[text.trimmedRange()].string
        var digits = trimmed[...]
        var sign = ""
        if let first = digits.first, first == "+" || first == "-" {
            sign = String(first)
            digits = digits.dropFirst()
        }
        switch digits.lowercased() {
        case "inf", "infinity": return sign == "-" ? -.infinity : .infinity
        case "nan": return .nan
        default: break
        }
        guard let plain = Self.withoutUnderscores(digits),
            plain.utf8.allSatisfy({ byte in
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "+-.eE".utf8.contains(byte)
            })
        else { return nil }
        return Double(sign + plain)
    }

    private mutating func round(
        _ value: Jinja.Value, precision: Jinja.Value, method: Jinja.Value
    ) throws(TemplateError) -> Jinja.Value {
        guard let number = value.number else { throw mismatch("round", value) }
        guard let digits = precision.integer else { throw mismatch("the precision of round", precision) }
        switch try text(of: method).string {
        case "common":
            if case .int(let whole) = number {
                guard digits < 0 else { return .int(whole) }
                guard digits > -19 else { return .int(0) }
                guard case .int(let scale) = try calculate(.int(10), .power, .int(-digits)) else { return value }
                return try roundHalfToEven(whole, to: scale)
            }
            guard digits >= 0 else {
                guard digits > -300 else { return .float(0) }
                guard case .float(let scale) = try calculate(.float(10), .power, .int(-digits)) else { return value }
                return .float((number.double / scale).rounded(.toNearestOrEven) * scale)
            }
            guard let (scaled, scale) = Jinja.rounded(number.double, digits) else { return .float(number.double) }
            return .float(scaled / scale)
        case let name where name == "ceil" || name == "floor":
            let scale = try calculate(.int(10), .power, precision)
            guard let scale = scale.number?.double else { return value }
            let rounded = (number.double * scale).rounded(name == "ceil" ? .up : .down)
            guard rounded.isFinite else { throw invalid("the number cannot be rounded") }
            return .float(rounded / scale)
        default:
            throw invalid("the method of round is common, ceil or floor")
        }
    }

    private mutating func roundHalfToEven(_ value: Int, to scale: Int) throws(TemplateError) -> Jinja.Value {
        guard case .int(let quotient) = try calculate(.int(value), .floorDivide, .int(scale)),
            case .int(let rest) = try calculate(.int(value), .modulo, .int(scale))
        else { return .int(value) }
        let isUp = rest > scale - rest || (rest == scale - rest && quotient % 2 != 0)
        return try calculate(.int(isUp ? quotient + 1 : quotient), .multiply, .int(scale))
    }
}
