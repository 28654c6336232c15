// Methods of strings, lists, tuples and mappings. Those that would change their receiver exist only to be refused, as
// in Python's immutable sandbox.

extension Jinja {
    /// A method by its name in the language.
    enum Method: String, Sendable {
        // Strings
        case strip, lstrip, rstrip, split, rsplit, splitlines, startswith, endswith, replace, upper, lower, title
        case capitalize, swapcase, casefold, join, find, rfind, rindex, removeprefix, removesuffix, partition
        case rpartition, center, ljust, rjust, zfill, isalpha, isdigit, isalnum, isspace, isupper, islower, isdecimal
        case isnumeric
        // Strings and sequences
        case count, index
        // Mappings
        case get, items, keys, values, copy
        // What changes its receiver
        case append, extend, insert, remove, sort, reverse, clear, pop, popitem, setdefault, update
        // Loops
        case cycle, changed

        var isMutating: Bool {
            switch self {
            case .append, .extend, .insert, .remove, .sort, .reverse, .clear, .pop, .popitem, .setdefault, .update: true
            default: false
            }
        }

        func exists(on value: Value) -> Bool {
            switch value {
            case .string:
                switch self {
                case .get, .items, .keys, .values, .copy, .cycle, .changed: false
                default: !isMutating
                }
            case .mapping:
                switch self {
                case .get, .items, .keys, .values, .copy, .clear, .pop, .popitem, .setdefault, .update: true
                default: false
                }
            case .sequence(let sequence):
                switch (sequence.kind, self) {
                case (.list, .count), (.list, .index), (.list, .copy), (.tuple, .count), (.tuple, .index),
                    (.group, .count), (.group, .index):
                    true
                case (.list, .append), (.list, .extend), (.list, .insert), (.list, .remove), (.list, .sort),
                    (.list, .reverse), (.list, .clear), (.list, .pop):
                    true
                default: false
                }
            default: false
            }
        }
    }
}

extension Jinja.Interpreter {
    @inline(never)
    mutating func call(
        _ method: Jinja.Method, on receiver: Jinja.Value, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        switch receiver {
        case .string(let text):
            try spend(bytes: text.count)
            return try call(method, on: text, try bind(arguments, Self.parameters(of: method)))
        case .mapping(let mapping): return try call(method, on: mapping, arguments)
        default: return try call(method, on: try iterate(receiver), arguments)
        }
    }

    private static func parameters(of method: Jinja.Method) -> [String] {
        switch method {
        case .split, .rsplit: ["sep", "maxsplit"]
        case .splitlines: ["keepends"]
        case .replace: ["old", "new", "count"]
        case .strip, .lstrip, .rstrip: ["chars"]
        case .find, .rfind, .index, .rindex, .count, .startswith, .endswith: ["text", "start", "end"]
        case .join, .removeprefix, .removesuffix, .partition, .rpartition: ["text"]
        case .center, .ljust, .rjust: ["width", "fill"]
        case .zfill: ["width"]
        default: []
        }
    }

    private mutating func call(
        _ method: Jinja.Method, on mapping: Jinja.Mapping, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        if method == .get {
            let bound = try bind(arguments, ["key", "default"], required: 1)
            let key = bound[0] ?? .none
            try checkKey(key)
            return mapping[key] ?? bound[1] ?? .none
        }
        _ = try bind(arguments, [])
        switch method {
        case .keys: return try sequence(.view("dict_keys"), mapping.keys)
        case .values: return try sequence(.view("dict_values"), mapping.values)
        case .items:
            return try sequence(.view("dict_items"), zip(mapping.keys, mapping.values).map { .tuple([$0, $1]) })
        default: return .mapping(mapping)
        }
    }

    private mutating func call(
        _ method: Jinja.Method, on elements: [Jinja.Value], _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        if method == .copy { return try sequence(.list, elements) }
        let bound = try bind(arguments, ["value"], required: 1)
        var count = 0
        for (index, element) in elements.enumerated() {
            try spend()
            guard try equal(element, bound[0] ?? .none) else { continue }
            if method == .index { return .int(index) }
            count += 1
        }
        guard method == .count else { throw invalid("the value is not in the sequence") }
        return .int(count)
    }
}

// MARK: - Strings

extension Jinja.Interpreter {
    /// A method of strings, with its arguments in the order of its parameters.
    @inline(never)
    mutating func call(
        _ method: Jinja.Method, on text: Jinja.Text, _ arguments: [Jinja.Value?]
    ) throws(TemplateError) -> Jinja.Value {
        switch method {
        case .strip, .lstrip, .rstrip:
            let leading = method != .rstrip
            let trailing = method != .lstrip
            guard let given = arguments[0], !given.isNone else {
                return .string(text[text.trimmedRange(leading: leading, trailing: trailing)])
            }
            let set = try string(given)
            return .string(text[text.trimmedRange(of: set, leading: leading, trailing: trailing)])
        case .split, .rsplit: return try split(text, arguments, fromEnd: method == .rsplit)
        case .splitlines:
            let keepsEnds = arguments[0]?.isTrue ?? false
            return try sequence(
                .list,
                text.lines.map { .string(text[$0.content.lowerBound..<(keepsEnds ? $0.end : $0.content.upperBound)]) })
        case .replace:
            return .string(
                try replace(in: text, string(arguments[0]), with: string(arguments[1]), limit: count(arguments[2])))
        case .join:
            guard let values = arguments[0] else { throw invalid("join needs a sequence") }
            let elements = try iterate(values)
            for element in elements { _ = try string(element) }
            return .string(try join(elements, text))
        case .startswith, .endswith, .find, .rfind, .index, .rindex, .count: return try search(text, method, arguments)
        case .removeprefix, .removesuffix, .partition, .rpartition:
            return try cut(text, method, try string(arguments[0]))
        case .center, .ljust, .rjust, .zfill: return .string(try pad(text, method, arguments))
        case .upper, .lower, .casefold, .title, .capitalize, .swapcase: return .string(try recased(text, method))
        default: return .bool(try hasProperty(text, method))
        }
    }

    private mutating func recased(_ text: Jinja.Text, _ method: Jinja.Method) throws(TemplateError) -> Jinja.Text {
        if !text.isASCII || (method != .upper && method != .lower) { try spend(characters: text) }
        let result =
            switch method {
            case .upper: text.uppercased
            case .title: text.titled
            case .capitalize: text.capitalized
            case .swapcase: text.caseSwapped
            default: text.lowercased
            }
        return try checked(result)
    }

    private mutating func hasProperty(_ text: Jinja.Text, _ method: Jinja.Method) throws(TemplateError) -> Bool {
        try spend(characters: text)
        switch method {
        case .isalpha: return text.isAll(Jinja.Text.isLetter)
        case .isdigit: return text.isAll(Jinja.Text.isDigit)
        case .isdecimal: return text.isAll(Jinja.Text.isDecimal)
        case .isnumeric: return text.isAll(Jinja.Text.isNumeric)
        case .isalnum: return text.isAll { Jinja.Text.isLetter($0) || Jinja.Text.isNumeric($0) }
        case .isspace: return text.isAll(Jinja.Text.isSpace)
        case .isupper: return text.isUppercase
        case .islower: return text.isLowercase
        default: throw invalid("'str' object has no method '\(method.rawValue)'")
        }
    }

    private func string(_ value: Jinja.Value?) throws(TemplateError) -> Jinja.Text {
        guard let value else { throw invalid("an argument is missing") }
        guard case .string(let text) = value else { throw mismatch("a method of strings", value) }
        return text
    }

    private mutating func split(
        _ text: Jinja.Text, _ arguments: [Jinja.Value?], fromEnd: Bool
    ) throws(TemplateError) -> Jinja.Value {
        let limit = try count(arguments[1])
        guard let given = arguments[0], !given.isNone else { return try splitWords(text, limit, fromEnd: fromEnd) }
        let separator = try string(given)
        guard !separator.isEmpty else { throw invalid("the separator is empty") }
        try spend(bytes: separator.count)
        var borders: [Range<Int>] = []
        if fromEnd {
            // From the end, `aaa` holds its last two letters first.
            let mirrored = Jinja.Text(bytes: text.bytes.reversed(), trusted: false)
            borders = mirrored.ranges(of: separator.bytes.reversed(), limit: limit).reversed().map {
                text.count - $0.upperBound..<text.count - $0.lowerBound
            }
        } else {
            borders = text.ranges(of: separator.bytes, limit: limit)
        }
        guard borders.count < limits.elements else { throw exceeded(.elements) }
        var parts: [Jinja.Value] = []
        var start = 0
        for border in borders {
            parts.append(.string(text[start..<border.lowerBound]))
            start = border.upperBound
        }
        parts.append(.string(text[start..<text.count]))
        return try sequence(.list, parts)
    }

    private mutating func splitWords(
        _ text: Jinja.Text, _ limit: Int, fromEnd: Bool
    ) throws(TemplateError) -> Jinja.Value {
        var words = text.words
        guard words.count <= limits.elements else { throw exceeded(.elements) }
        if words.count > limit {
            // What is left over stays in one piece, without the white space at its outer end.
            if fromEnd {
                let last = words[words.count - limit - 1]
                words = [0..<last.upperBound] + words.suffix(limit)
                let rest = text[words[0]]
                words[0] = rest.trimmedRange(leading: false)
            } else {
                let first = words[limit]
                words = Array(words.prefix(limit)) + [first.lowerBound..<text.count]
            }
        }
        return try sequence(.list, words.map { .string(text[$0]) })
    }

    private mutating func search(
        _ text: Jinja.Text, _ method: Jinja.Method, _ arguments: [Jinja.Value?]
    ) throws(TemplateError) -> Jinja.Value {
        let boundaries = text.boundaries
        let length = boundaries.count - 1
        let lower = try position(arguments[1], length) ?? 0
        let upper = min(try position(arguments[2], length) ?? length, length)
        if method == .startswith || method == .endswith {
            var parts = [arguments[0] ?? .none]
            if case .sequence(let sequence)? = arguments[0], arguments[0]?.typeName == "tuple" {
                parts = sequence.elements
            }
            for part in parts {
                let part = try string(part)
                try spend(bytes: part.count)
                guard lower <= upper else { continue }
                let window = text[boundaries[lower]..<boundaries[upper]]
                if method == .startswith ? window.hasPrefix(part.bytes) : window.hasSuffix(part.bytes) {
                    return .bool(true)
                }
            }
            return .bool(false)
        }
        let part = try string(arguments[0])
        try spend(bytes: part.count)
        guard lower <= upper else { return try notFound(method) }
        let window = text[boundaries[lower]..<boundaries[upper]]
        if method == .count {
            return .int(part.isEmpty ? upper - lower + 1 : window.ranges(of: part.bytes).count)
        }
        let isLast = method == .rfind || method == .rindex
        if part.isEmpty { return .int(isLast ? upper : lower) }
        guard
            let range = isLast
                ? window.lastRange(of: part.bytes, before: window.count) : window.firstRange(of: part.bytes)
        else { return try notFound(method) }
        return .int(lower + window[0..<range.lowerBound].length)
    }

    private func notFound(_ method: Jinja.Method) throws(TemplateError) -> Jinja.Value {
        switch method {
        case .count: return .int(0)
        case .find, .rfind: return .int(-1)
        default: throw invalid("the substring was not found")
        }
    }

    /// An optional index into `length` characters, counted from the end if negative.
    private func position(_ value: Jinja.Value?, _ length: Int) throws(TemplateError) -> Int? {
        guard let value, !value.isNone else { return nil }
        guard let index = value.integer else { throw mismatch("an index", value) }
        return index < 0 ? max(0, index + length) : index
    }

    private mutating func cut(
        _ text: Jinja.Text, _ method: Jinja.Method, _ part: Jinja.Text
    ) throws(TemplateError) -> Jinja.Value {
        try spend(bytes: part.count)
        switch method {
        case .removeprefix:
            return .string(text.hasPrefix(part.bytes) ? text[part.count..<text.count] : text)
        case .removesuffix:
            return .string(text.hasSuffix(part.bytes) ? text[0..<text.count - part.count] : text)
        default:
            guard !part.isEmpty else { throw invalid("the separator is empty") }
            let isLast = method == .rpartition
            let range = isLast ? text.lastRange(of: part.bytes, before: text.count) : text.firstRange(of: part.bytes)
            let empty = Jinja.Value.string(.empty)
            guard let range else {
                return try sequence(.tuple, isLast ? [empty, empty, .string(text)] : [.string(text), empty, empty])
            }
            return try sequence(
                .tuple,
                [
                    .string(text[0..<range.lowerBound]), .string(text[range]),
                    .string(text[range.upperBound..<text.count]),
                ])
        }
    }

    private mutating func pad(
        _ text: Jinja.Text, _ method: Jinja.Method, _ arguments: [Jinja.Value?]
    ) throws(TemplateError) -> Jinja.Text {
        guard let width = arguments[0]?.integer else { throw invalid("the width is an integer") }
        var fill = Jinja.Text(method == .zfill ? "0" : " ")
        if arguments.count > 1, let given = arguments[1] { fill = try string(given) }
        guard fill.length == 1 else { throw invalid("the fill is one character") }
        guard width > 0 else { return text }
        let missing = width - text.length
        guard missing > 0 else { return text }
        guard missing <= limits.textBytes / 4 else { throw exceeded(.output) }
        try spend(bytes: missing * 4)
        var before = 0
        switch method {
        case .center: before = missing / 2 + (missing & width & 1)
        case .rjust, .zfill: before = missing
        default: break
        }
        let isSigned =
            method == .zfill && (text.bytes.first == UInt8(ascii: "-") || text.bytes.first == UInt8(ascii: "+"))
        let sign = isSigned ? 1 : 0
        var result = text[0..<sign]
        for _ in 0..<before { result.append(fill) }
        result.append(text[sign..<text.count])
        for _ in before..<missing { result.append(fill) }
        return try checked(result)
    }
}
