// Expressions: evaluation, attribute and element access, slices, iteration. Every case that needs room of its own
// is a function of its own, so that the frame of `evaluate`, which recursion repeats, stays small.

extension Jinja.Interpreter {
    mutating func evaluate(_ expression: Jinja.Expression) throws(TemplateError) -> Jinja.Value {
        try enter()
        defer { leave() }
        switch expression {
        case .constant(let value): return value
        case .name(let symbol, _): return value(of: symbol)
        case .list(let elements): return try evaluate(elements, as: .list)
        case .tuple(let elements): return try evaluate(elements, as: .tuple)
        case .mapping(let members, let place): return try evaluate(members, place)
        case .arithmetic(let first, let operands): return try calculate(first, operands)
        case .concatenate(let operands, let place): return try concatenate(operands, place)
        case .compare(let first, let operands): return try compare(first, operands)
        case .all(let operands): return try firstDeciding(operands, truth: false)
        case .any(let operands): return try firstDeciding(operands, truth: true)
        case .not(let operand): return .bool(!(try evaluate(operand).isTrue))
        case .negate(let operand, let place): return try negate(operand, place)
        case .plus(let operand, let place): return try plus(operand, place)
        case .conditional(let value, let condition, let otherwise):
            if try evaluate(condition).isTrue { return try evaluate(value) }
            guard let otherwise else { return .undefined(.missingBranch) }
            return try evaluate(otherwise)
        case .postfix(let operand, let postfixes): return try evaluate(operand, postfixes)
        }
    }

    @inline(never)
    private mutating func evaluate(
        _ elements: [Jinja.Expression], as kind: Jinja.Sequence.Kind
    ) throws(TemplateError) -> Jinja.Value {
        var values: [Jinja.Value] = []
        values.reserveCapacity(elements.count)
        for element in elements { values.append(try evaluate(element)) }
        return try sequence(kind, values)
    }

    @inline(never)
    private mutating func evaluate(
        _ members: [(key: Jinja.Expression, value: Jinja.Expression)], _ place: TemplateLocation
    ) throws(TemplateError) -> Jinja.Value {
        var values: [(key: Jinja.Value, value: Jinja.Value)] = []
        values.reserveCapacity(members.count)
        for member in members { values.append((try evaluate(member.key), try evaluate(member.value))) }
        location = place
        return try mapping(values)
    }

    @inline(never)
    private mutating func concatenate(
        _ operands: [Jinja.Expression], _ place: TemplateLocation
    ) throws(TemplateError) -> Jinja.Value {
        var result = Jinja.Text.empty
        for operand in operands {
            let value = try evaluate(operand)
            location = place
            try append(try text(of: value), to: &result)
        }
        return .string(result)
    }

    /// Appends within the limit on a string's length.
    mutating func append(_ text: Jinja.Text, to result: inout Jinja.Text) throws(TemplateError) {
        try checkRoom(for: text.count, after: result.count)
        try spend(bytes: text.count)
        result.append(text)
    }

    /// `and` and `or`: the first operand that decides, or the last one.
    @inline(never)
    private mutating func firstDeciding(
        _ operands: [Jinja.Expression], truth: Bool
    ) throws(TemplateError) -> Jinja.Value {
        var value = Jinja.Value.none
        for operand in operands {
            value = try evaluate(operand)
            if value.isTrue == truth { break }
        }
        return value
    }

    @inline(never)
    private mutating func compare(
        _ first: Jinja.Expression, _ operands: [Jinja.Operand<Jinja.Comparison>]
    ) throws(TemplateError) -> Jinja.Value {
        var left = try evaluate(first)
        for operand in operands {
            let right = try evaluate(operand.value)
            location = operand.location
            guard try compare(left, operand.symbol, right) else { return .bool(false) }
            left = right
        }
        return .bool(true)
    }

    @inline(never)
    private mutating func calculate(
        _ first: Jinja.Expression, _ operands: [Jinja.Operand<Jinja.Arithmetic>]
    ) throws(TemplateError) -> Jinja.Value {
        var left = try evaluate(first)
        for operand in operands {
            let right = try evaluate(operand.value)
            location = operand.location
            left = try calculate(left, operand.symbol, right)
        }
        return left
    }

    @inline(never)
    private mutating func negate(
        _ operand: Jinja.Expression, _ place: TemplateLocation
    ) throws(TemplateError) -> Jinja.Value {
        let value = try evaluate(operand)
        location = place
        if case .float(let number) = value { return .float(-number) }
        return try calculate(.int(0), .subtract, value)
    }

    @inline(never)
    private mutating func plus(
        _ operand: Jinja.Expression, _ place: TemplateLocation
    ) throws(TemplateError) -> Jinja.Value {
        let value = try evaluate(operand)
        location = place
        switch value.number {
        case .int(let number): return .int(number)
        case .float(let number): return .float(number)
        case nil: throw mismatch("unary +", value)
        }
    }

    @inline(never)
    private mutating func evaluate(
        _ operand: Jinja.Expression, _ postfixes: [Jinja.Postfix]
    ) throws(TemplateError) -> Jinja.Value {
        var value = try evaluate(operand)
        for postfix in postfixes {
            try spend()
            value = try apply(postfix, to: value)
        }
        return value
    }

    @inline(never)
    private mutating func apply(_ postfix: Jinja.Postfix, to value: Jinja.Value) throws(TemplateError) -> Jinja.Value {
        switch postfix {
        case .attribute(let name, let method, let place):
            location = place
            return try attribute(name, method, of: value)
        case .element(let key, let place):
            let key = try evaluate(key)
            location = place
            return try element(key, of: value)
        case .slice(let lower, let upper, let stride, let place):
            return try slice(value, lower, upper, stride, place)
        case .call(let arguments, let place):
            let arguments = try evaluate(arguments)
            location = place
            return try call(value, arguments)
        case .filter(let filter):
            return try apply(filter, to: value)
        case .test(let test, let arguments, let isNegated, let place):
            let arguments = try evaluate(arguments)
            location = place
            return .bool(try evaluate(test, on: value, arguments.positional) != isNegated)
        }
    }

    mutating func apply(_ call: Jinja.FilterCall, to value: Jinja.Value) throws(TemplateError) -> Jinja.Value {
        let arguments = try evaluate(call.arguments)
        location = call.location
        return try apply(call.filter, to: value, arguments)
    }
}

// MARK: - Access

extension Jinja.Interpreter {
    /// `value.name`: an attribute, or else an element.
    mutating func attribute(
        _ name: Jinja.Text, _ method: Jinja.Method?, of value: Jinja.Value
    ) throws(TemplateError) -> Jinja.Value {
        switch value {
        case .undefined(let absence):
            throw invalid(absence.reason)
        case .mapping(let mapping):
            if let method, let found = bound(method, of: value) { return found }
            try spend(bytes: name.count)
            if let found = mapping[name] { return found }
        case .namespace(let index):
            if let found = namespaces[index][name] { return found }
        case .loop(let index):
            if let found = try loopAttribute(name.string, index) { return found }
        case .macro(let index) where name.bytes == Array("name".utf8):
            return .text(macro(index).macro.name, trusted: true)
        default:
            if let method, let found = bound(method, of: value) { return found }
            if case .sequence(let sequence) = value, case .group = sequence.kind {
                if name.bytes == Array("grouper".utf8) { return sequence.elements[0] }
                if name.bytes == Array("list".utf8) { return sequence.elements[1] }
            }
        }
        return .undefined(.attribute(name.count > 64 ? name[0..<0].string : name.string))
    }

    /// A method of `value`, an undefined value where the sandbox forbids it, or nil where its type has none.
    private func bound(_ method: Jinja.Method, of value: Jinja.Value) -> Jinja.Value? {
        guard method.exists(on: value) else { return nil }
        if method.isMutating { return .undefined(.unsafe(method.rawValue)) }
        return .method(Jinja.BoundMethod(method, of: value))
    }

    /// `value[key]`: an element, or else an attribute.
    mutating func element(_ key: Jinja.Value, of value: Jinja.Value) throws(TemplateError) -> Jinja.Value {
        switch value {
        case .undefined(let absence):
            throw invalid(absence.reason)
        case .mapping(let mapping):
            if key.isHashable {
                try spend(walking: key)
                if let found = mapping[key] { return found }
            }
        case .sequence(let sequence) where sequence.isIndexed:
            if let index = key.integer, let position = Self.position(index, count: sequence.elements.count) {
                return sequence.elements[position]
            }
        case .range(let range):
            if let index = key.integer, let position = Self.position(index, count: range.count) {
                return .int(range[position])
            }
        case .string(let text):
            if let index = key.integer { return try character(index, of: text) }
        default:
            break
        }
        if case .string(let name) = key {
            return try attribute(name, Jinja.Method(rawValue: name.string), of: value)
        }
        return .undefined(.element(of: value.typeName))
    }

    private mutating func character(_ index: Int, of text: Jinja.Text) throws(TemplateError) -> Jinja.Value {
        try spend(bytes: text.count)
        let boundaries = text.boundaries
        guard let position = Self.position(index, count: boundaries.count - 1) else {
            return .undefined(.element(of: "str"))
        }
        return .string(text[boundaries[position]..<boundaries[position + 1]])
    }

    /// Python's index, which counts from the end when negative.
    static func position(_ index: Int, count: Int) -> Int? {
        if index >= 0 { return index < count ? index : nil }
        return index >= -count ? index + count : nil
    }

    @inline(never)
    private mutating func slice(
        _ value: Jinja.Value, _ lower: Jinja.Expression?, _ upper: Jinja.Expression?, _ stride: Jinja.Expression?,
        _ place: TemplateLocation
    ) throws(TemplateError) -> Jinja.Value {
        let lower = try bound(lower)
        let upper = try bound(upper)
        let step = try bound(stride) ?? 1
        location = place
        guard step != 0 else { throw invalid("the step of a slice cannot be zero") }
        switch value {
        case .string(let text):
            try spend(bytes: text.count)
            let boundaries = text.boundaries
            let positions = Self.positions(lower, upper, step, count: boundaries.count - 1)
            if step == 1 {
                return .string(text[boundaries[positions.start]..<boundaries[positions.start + positions.count]])
            }
            var result = Jinja.Text.empty
            try spend(elements: positions.count)
            for index in 0..<positions.count {
                let position = positions[index]
                result.append(text[boundaries[position]..<boundaries[position + 1]])
            }
            return .string(result)
        case .sequence(let sequence) where sequence.isIndexed:
            let positions = Self.positions(lower, upper, step, count: sequence.elements.count)
            let kind: Jinja.Sequence.Kind = if case .list = sequence.kind { .list } else { .tuple }
            return try self.sequence(kind, (0..<positions.count).map { sequence.elements[positions[$0]] })
        case .range(let range):
            let positions = Self.positions(lower, upper, step, count: range.count)
            return try sequence(.list, (0..<positions.count).map { .int(range[positions[$0]]) })
        case .undefined(let absence):
            throw invalid(absence.reason)
        default:
            throw invalid("a \(value.typeName) cannot be sliced")
        }
    }

    private mutating func bound(_ expression: Jinja.Expression?) throws(TemplateError) -> Int? {
        guard let expression else { return nil }
        let value = try evaluate(expression)
        if case .none = value { return nil }
        guard let bound = value.integer else { throw mismatch("slice", value) }
        return bound
    }

    /// The indices that a slice selects, all of them below `count`.
    static func positions(_ lower: Int?, _ upper: Int?, _ step: Int, count: Int) -> Jinja.Progression {
        let floor = step > 0 ? 0 : -1
        let ceiling = step > 0 ? count : count - 1
        func clamped(_ bound: Int) -> Int {
            min(max(bound < 0 ? bound &+ count : bound, floor), ceiling)
        }
        let start = lower.map(clamped) ?? (step > 0 ? floor : ceiling)
        let end = upper.map(clamped) ?? (step > 0 ? ceiling : floor)
        let distance = step > 0 ? end - start : start - end
        guard distance > 0 else { return Jinja.Progression(start: max(start, 0), step: 1, count: 0) }
        let magnitude = step.magnitude > UInt(Int.max) ? Int.max : Int(step.magnitude)
        return Jinja.Progression(start: start, step: step, count: (distance - 1) / magnitude + 1)
    }

    /// The elements that a loop over `value` visits.
    mutating func iterate(_ value: Jinja.Value) throws(TemplateError) -> [Jinja.Value] {
        switch value {
        case .undefined:
            return []
        case .sequence(let sequence):
            return sequence.elements
        case .mapping(let mapping):
            return mapping.keys
        case .range(let range):
            try spend(elements: range.count)
            return (0..<range.count).map { .int(range[$0]) }
        case .string(let text):
            guard text.count / 4 <= limits.elements else { throw exceeded(.elements) }
            try spend(elements: text.count)
            let boundaries = text.boundaries
            guard boundaries.count <= limits.elements else { throw exceeded(.elements) }
            return (0..<boundaries.count - 1).map { .string(text[boundaries[$0]..<boundaries[$0 + 1]]) }
        case .none, .bool, .int, .float, .namespace, .loop, .macro, .function, .method:
            throw invalid("'\(value.typeName)' object is not iterable")
        }
    }
}

// MARK: - The loop variable

extension Jinja.Interpreter {
    private mutating func loopAttribute(_ name: String, _ id: Int) throws(TemplateError) -> Jinja.Value? {
        let loop = loops[id]
        let index = loop.index
        let count = loop.items.count
        switch name {
        case "index": return .int(index + 1)
        case "index0": return .int(index)
        case "revindex": return .int(count - index)
        case "revindex0": return .int(count - index - 1)
        case "first": return .bool(index == 0)
        case "last": return .bool(index == count - 1)
        case "length": return .int(count)
        case "depth": return .int(loop.depth)
        case "depth0": return .int(loop.depth - 1)
        case "previtem": return index > 0 && index <= count ? loop.items[index - 1] : .undefined(.emptySequence)
        case "nextitem": return index + 1 < count ? loop.items[index + 1] : .undefined(.emptySequence)
        case "cycle": return .method(Jinja.BoundMethod(.cycle, of: .loop(id)))
        case "changed": return .method(Jinja.BoundMethod(.changed, of: .loop(id)))
        default: return nil
        }
    }

    /// `loop.cycle(...)` and `loop.changed(...)`.
    mutating func callLoop(
        _ id: Int, _ method: Jinja.Method, _ arguments: [Jinja.Value]
    ) throws(TemplateError) -> Jinja.Value {
        if method == .cycle {
            guard !arguments.isEmpty else { throw invalid("loop.cycle needs something to cycle through") }
            return arguments[loops[id].index % arguments.count]
        }
        if let last = loops[id].lastChanged, last.count == arguments.count {
            var isSame = true
            for (left, right) in zip(last, arguments) where isSame { isSame = try equal(left, right) }
            if isSame { return .bool(false) }
        }
        loops[id].lastChanged = arguments
        return .bool(true)
    }
}
