// Filters over collections: picking, mapping, selecting, ordering, joining.

extension Jinja.Interpreter {
    @inline(never)
    mutating func applyCollection(
        _ filter: Jinja.Filter, to value: Jinja.Value, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        switch filter {
        case .join:
            let bound = try bind(arguments, ["d", "attribute"])
            let separator = try text(of: bound[0] ?? .string(.empty))
            return .string(try join(try attributes(bound[1], of: value), separator))
        case .sum:
            let bound = try bind(arguments, ["attribute", "start"])
            var sum = bound[1] ?? .int(0)
            for element in try attributes(bound[0], of: value) {
                try spend()
                sum = try calculate(sum, .add, element)
            }
            return sum
        case .attr:
            let bound = try bind(arguments, ["name"], required: 1)
            let name = try text(of: bound[0] ?? .none)
            if case .mapping = value {
                guard let method = Jinja.Method(rawValue: name.string), method.exists(on: value) else {
                    return .undefined(.attribute(name.string))
                }
            }
            return try attribute(name, Jinja.Method(rawValue: name.string), of: value)
        case .batch:
            return try batch(value, try bind(arguments, ["linecount", "fill_with"], required: 1))
        default:
            break
        }
        _ = try bind(arguments, [])
        switch filter {
        case .count, .length: return .int(try length(of: value))
        case .first: return try iterate(value).first ?? .undefined(.emptySequence)
        case .last:
            if case .sequence(let sequence) = value, case .generator = sequence.kind { throw mismatch("last", value) }
            return try iterate(value).last ?? .undefined(.emptySequence)
        case .list: return try sequence(.list, try iterate(value))
        case .items:
            if value.isUndefined { return .generator([]) }
            guard case .mapping(let mapping) = value else { throw mismatch("items", value) }
            return try sequence(.generator, zip(mapping.keys, mapping.values).map { .tuple([$0, $1]) })
        default: return try reversed(value)
        }
    }

    private mutating func length(of value: Jinja.Value) throws(TemplateError) -> Int {
        switch value {
        case .undefined: return 0
        case .string(let text):
            try spend(bytes: text.count)
            return text.length
        case .mapping(let mapping): return mapping.keys.count
        case .range(let range): return range.count
        case .loop(let id): return loops[id].items.count
        case .sequence(let sequence):
            if case .generator = sequence.kind { throw mismatch("length", value) }
            return sequence.elements.count
        case .none, .bool, .int, .float, .namespace, .macro, .function, .method: throw mismatch("length", value)
        }
    }

    private mutating func reversed(_ value: Jinja.Value) throws(TemplateError) -> Jinja.Value {
        guard case .string(let text) = value else { return try sequence(.generator, try iterate(value).reversed()) }
        let boundaries = text.boundaries
        try spend(elements: boundaries.count)
        var result = Jinja.Text.empty
        for index in stride(from: boundaries.count - 2, through: 0, by: -1) {
            result.append(text[boundaries[index]..<boundaries[index + 1]])
        }
        return .string(result)
    }

    /// Joins the texts of values.
    mutating func join(_ values: [Jinja.Value], _ separator: Jinja.Text) throws(TemplateError) -> Jinja.Text {
        var result = Jinja.Text.empty
        for (index, value) in values.enumerated() {
            try spend()
            if index > 0 { try append(separator, to: &result) }
            try append(try text(of: value), to: &result)
        }
        return result
    }

    private mutating func batch(_ value: Jinja.Value, _ bound: [Jinja.Value?]) throws(TemplateError) -> Jinja.Value {
        guard let size = bound[0]?.integer, size > 0, size <= limits.elements else {
            throw invalid("the size of a batch is a positive integer")
        }
        let elements = try iterate(value)
        var batches: [Jinja.Value] = []
        for start in stride(from: 0, to: elements.count, by: size) {
            var batch = Array(elements[start..<min(start + size, elements.count)])
            if let fill = bound[1], !fill.isNone {
                while batch.count < size { batch.append(fill) }
            }
            batches.append(try sequence(.list, batch))
        }
        return try sequence(.generator, batches)
    }
}

// MARK: - Attributes of elements

extension Jinja.Interpreter {
    /// The elements of `value`, or of each the attribute that `path` names.
    private mutating func attributes(
        _ path: Jinja.Value?, of value: Jinja.Value
    ) throws(TemplateError) -> [Jinja.Value] {
        let elements = try iterate(value)
        guard let path, !path.isNone else { return elements }
        let parts = try self.parts(of: path)
        var found: [Jinja.Value] = []
        for element in elements { found.append(try follow(parts, from: element, fallback: nil)) }
        return found
    }

    /// `a.b.0` as the keys to look up one after the other.
    private mutating func parts(of path: Jinja.Value) throws(TemplateError) -> [Jinja.Value] {
        guard case .string(let text) = path else { return [path] }
        try spend(bytes: text.count)
        var parts: [Jinja.Value] = []
        var start = 0
        for end in text.ranges(of: [UInt8(ascii: ".")]).map(\.lowerBound) + [text.count] {
            let part = text[start..<end]
            start = end + 1
            let isNumber = part.isAll { ("0"..."9").contains($0) }
            parts.append(isNumber ? Int(part.string).map { .int($0) } ?? .string(part) : .string(part))
        }
        return parts
    }

    private mutating func follow(
        _ parts: [Jinja.Value], from value: Jinja.Value, fallback: Jinja.Value?
    ) throws(TemplateError) -> Jinja.Value {
        var value = value
        for part in parts {
            try spend()
            value = try element(part, of: value)
            if let fallback, !fallback.isNone, value.isUndefined { value = fallback }
        }
        return value
    }

    /// `map`, `select`, `reject`, `selectattr`, `rejectattr`.
    @inline(never)
    mutating func applyEach(
        _ filter: Jinja.Filter, to value: Jinja.Value, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        guard value.isTrue else { return .generator([]) }
        let elements = try iterate(value)
        if filter == .map { return try map(elements, arguments) }
        var rest = arguments.positional[...]
        var path: [Jinja.Value]?
        if filter == .selectattr || filter == .rejectattr {
            guard let name = rest.popFirst() else { throw invalid("\(filter.rawValue) needs the name of an attribute") }
            path = try parts(of: name)
        }
        var test: Jinja.Test?
        if let name = rest.popFirst() {
            let name = try text(of: name).string
            test = Jinja.Test(rawValue: name)
            guard test != nil else { throw .unknown(.test, name: String(name.prefix(64)), location) }
        }
        guard arguments.named.isEmpty else { throw invalid("\(filter.rawValue) takes no named arguments") }
        let keeps = filter == .select || filter == .selectattr
        var selected: [Jinja.Value] = []
        for element in elements {
            try spend()
            let subject =
                try path.map { path throws(TemplateError) in
                    try follow(path, from: element, fallback: nil)
                } ?? element
            let holds: Bool
            if let test { holds = try evaluate(test, on: subject, Array(rest)) } else { holds = subject.isTrue }
            if holds == keeps { selected.append(element) }
        }
        return try sequence(.generator, selected)
    }

    private mutating func map(
        _ elements: [Jinja.Value], _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        var mapped: [Jinja.Value] = []
        if arguments.positional.isEmpty {
            let bound = try bind(arguments, ["attribute", "default"], required: 1)
            let path = try parts(of: bound[0] ?? .none)
            for element in elements { mapped.append(try follow(path, from: element, fallback: bound[1])) }
            return try sequence(.generator, mapped)
        }
        var inner = arguments
        let name = try text(of: inner.positional.removeFirst()).string
        guard let filter = Jinja.Filter(rawValue: name) else {
            throw .unknown(.filter, name: String(name.prefix(64)), location)
        }
        for element in elements {
            // A filter can apply `map` in turn, so this is a level of recursion.
            try enter()
            mapped.append(try apply(filter, to: element, inner))
            leave()
        }
        return try sequence(.generator, mapped)
    }
}

// MARK: - Order

extension Jinja.Interpreter {
    /// What a value is ordered by: strings ignore case unless told otherwise.
    private mutating func key(_ value: Jinja.Value, isCaseSensitive: Bool) throws(TemplateError) -> Jinja.Value {
        guard !isCaseSensitive, case .string(let text) = value else { return value }
        if text.isASCII { try spend(bytes: text.count) } else { try spend(characters: text) }
        return .string(text.lowercased)
    }

    @inline(never)
    mutating func applyOrder(
        _ filter: Jinja.Filter, to value: Jinja.Value, _ arguments: Jinja.CallArguments
    ) throws(TemplateError) -> Jinja.Value {
        switch filter {
        case .sort:
            let bound = try bind(arguments, ["reverse", "case_sensitive", "attribute"])
            let keyed = try keyed(value, path: bound[2], isCaseSensitive: bound[1]?.isTrue ?? false, isMultiple: true)
            return try sequence(.list, try sorted(keyed, isReversed: bound[0]?.isTrue ?? false).map(\.value))
        case .unique:
            let bound = try bind(arguments, ["case_sensitive", "attribute"])
            return try unique(try keyed(value, path: bound[1], isCaseSensitive: bound[0]?.isTrue ?? false))
        case .dictsort:
            return try dictsort(value, try bind(arguments, ["case_sensitive", "by", "reverse"]))
        case .groupby:
            return try groupby(value, try bind(arguments, ["attribute", "default", "case_sensitive"], required: 1))
        default:
            let bound = try bind(arguments, ["case_sensitive", "attribute"])
            let keyed = try keyed(value, path: bound[1], isCaseSensitive: bound[0]?.isTrue ?? false)
            guard var best = keyed.first else { return .undefined(.emptySequence) }
            for candidate in keyed.dropFirst() {
                try spend()
                let isBetter =
                    try filter == .min
                    ? precedes(candidate.key, best.key, "<") : precedes(best.key, candidate.key, ">")
                if isBetter { best = candidate }
            }
            return best.value
        }
    }

    private typealias Keyed = (key: Jinja.Value, value: Jinja.Value)

    private mutating func keyed(
        _ value: Jinja.Value, path: Jinja.Value?, isCaseSensitive: Bool, isMultiple: Bool = false,
        fallback: Jinja.Value? = nil
    ) throws(TemplateError) -> [Keyed] {
        var paths: [[Jinja.Value]] = []
        if isMultiple, case .string(let text)? = path {
            var start = 0
            for end in text.ranges(of: [UInt8(ascii: ",")]).map(\.lowerBound) + [text.count] {
                paths.append(try parts(of: .string(text[start..<end])))
                start = end + 1
            }
        } else if let path, !path.isNone {
            paths = [try parts(of: path)]
        }
        var keyed: [Keyed] = []
        for element in try iterate(value) {
            try spend()
            var keys: [Jinja.Value] = []
            for path in paths {
                let found = try follow(path, from: element, fallback: fallback)
                keys.append(try key(found, isCaseSensitive: isCaseSensitive))
            }
            switch keys.count {
            case 0: keyed.append((try key(element, isCaseSensitive: isCaseSensitive), element))
            case 1: keyed.append((keys[0], element))
            default: keyed.append((try sequence(.list, keys), element))
            }
        }
        return keyed
    }

    private mutating func sorted(_ keyed: [Keyed], isReversed: Bool) throws(TemplateError) -> [Keyed] {
        try sorted(keyed) { interpreter, left, right throws(TemplateError) in
            try isReversed
                ? interpreter.precedes(right.key, left.key, "<") : interpreter.precedes(left.key, right.key, "<")
        }
    }

    /// A stable merge sort, whose comparison may fail and is paid for.
    mutating func sorted<Element>(
        _ elements: [Element], by precedes: (inout Self, Element, Element) throws(TemplateError) -> Bool
    ) throws(TemplateError) -> [Element] {
        var source = elements
        var width = 1
        while width < source.count {
            var merged: [Element] = []
            merged.reserveCapacity(source.count)
            for start in stride(from: 0, to: source.count, by: 2 * width) {
                var left = start
                let middle = min(start + width, source.count)
                var right = middle
                let end = min(start + 2 * width, source.count)
                while left < middle, right < end {
                    try spend()
                    if try precedes(&self, source[right], source[left]) {
                        merged.append(source[right])
                        right += 1
                    } else {
                        merged.append(source[left])
                        left += 1
                    }
                }
                merged += source[left..<middle]
                merged += source[right..<end]
            }
            source = merged
            width *= 2
        }
        return source
    }

    private mutating func unique(_ keyed: [Keyed]) throws(TemplateError) -> Jinja.Value {
        var seen: Set<Jinja.HashedKey> = []
        var kept: [Jinja.Value] = []
        for (key, value) in keyed {
            try checkKey(key)
            if seen.insert(Jinja.HashedKey(key)).inserted { kept.append(value) }
        }
        return try sequence(.generator, kept)
    }

    private mutating func dictsort(_ value: Jinja.Value, _ bound: [Jinja.Value?]) throws(TemplateError) -> Jinja.Value {
        guard case .mapping(let mapping) = value else { throw mismatch("dictsort", value) }
        let isCaseSensitive = bound[0]?.isTrue ?? false
        let order = try text(of: bound[1] ?? .text("key")).string
        guard order == "key" || order == "value" else { throw invalid("dictsort sorts by key or value") }
        var keyed: [Keyed] = []
        for (name, member) in zip(mapping.keys, mapping.values) {
            let key = try key(order == "key" ? name : member, isCaseSensitive: isCaseSensitive)
            keyed.append((key, try sequence(.tuple, [name, member])))
        }
        return try sequence(.list, try sorted(keyed, isReversed: bound[2]?.isTrue ?? false).map(\.value))
    }

    private mutating func groupby(_ value: Jinja.Value, _ bound: [Jinja.Value?]) throws(TemplateError) -> Jinja.Value {
        let isCaseSensitive = bound[2]?.isTrue ?? false
        let keyed = try sorted(
            try keyed(value, path: bound[0], isCaseSensitive: isCaseSensitive, fallback: bound[1]), isReversed: false)
        let path = try parts(of: bound[0] ?? .none)
        var groups: [(name: Jinja.Value, key: Jinja.Value, members: [Jinja.Value])] = []
        for (key, element) in keyed {
            if let last = groups.last, try equal(last.key, key) {
                groups[groups.count - 1].members.append(element)
            } else {
                groups.append((try follow(path, from: element, fallback: bound[1]), key, [element]))
            }
        }
        var tuples: [Jinja.Value] = []
        for group in groups { tuples.append(try sequence(.group, [group.name, try sequence(.list, group.members)])) }
        return try sequence(.list, tuples)
    }
}

extension Jinja.Value {
    var isNone: Bool { if case .none = self { true } else { false } }
}
