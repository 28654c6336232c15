// Python's operators on values: arithmetic that refuses to overflow, ordering, equality, membership.

extension Jinja.Interpreter {
    /// The error of an operator that is not defined for these values.
    @inline(never)
    func mismatch(_ what: String, _ values: Jinja.Value...) -> TemplateError {
        for case .undefined(let absence) in values { return invalid(absence.reason) }
        let types = values.map { "'\($0.typeName)'" }.joined(separator: " and ")
        return invalid("\(what) is not defined for \(types)")
    }

    private func overflow() -> TemplateError { invalid("the result does not fit in a 64-bit integer") }

    @inline(never)
    mutating func calculate(
        _ left: Jinja.Value, _ symbol: Jinja.Arithmetic, _ right: Jinja.Value
    ) throws(TemplateError) -> Jinja.Value {
        if symbol == .add, case .string(var text) = left, case .string(let other) = right {
            try append(other, to: &text)
            try spend(bytes: text.count)
            return .string(text)
        }
        if let left = left.number, let right = right.number {
            if case .int(let left) = left, case .int(let right) = right {
                return try calculate(left, symbol, right)
            }
            return try calculate(left.double, symbol, right.double)
        }
        switch (symbol, left, right) {
        case (.add, .sequence(let first), .sequence(let second)) where first.isIndexed && second.isIndexed:
            guard left.typeName == right.typeName else { throw mismatch("+", left, right) }
            guard first.elements.count <= limits.elements - second.elements.count else { throw exceeded(.elements) }
            let kind: Jinja.Sequence.Kind = left.typeName == "list" ? .list : .tuple
            return try sequence(kind, first.elements + second.elements)
        case (.multiply, _, _):
            if let count = right.integer { return try repeated(left, count) }
            if let count = left.integer { return try repeated(right, count) }
            throw mismatch("*", left, right)
        case (.modulo, .string(let format), _):
            var values = [right]
            if case .sequence(let sequence) = right, right.typeName == "tuple" { values = sequence.elements }
            return try formatted(format, values)
        default:
            throw mismatch(symbol.rawValue, left, right)
        }
    }

    private mutating func repeated(_ value: Jinja.Value, _ count: Int) throws(TemplateError) -> Jinja.Value {
        let count = max(count, 0)
        switch value {
        case .string(let text):
            let (total, overflow) = text.count.multipliedReportingOverflow(by: count)
            guard !overflow, total <= limits.textBytes else { throw exceeded(.output) }
            try spend(bytes: total)
            guard !text.isEmpty else { return value }
            return .string(text.repeated(count))
        case .sequence(let sequence) where sequence.isIndexed:
            let (total, overflow) = sequence.elements.count.multipliedReportingOverflow(by: count)
            guard !overflow, total <= limits.elements else { throw exceeded(.elements) }
            guard !sequence.elements.isEmpty else { return value }
            var elements: [Jinja.Value] = []
            for _ in 0..<count { elements += sequence.elements }
            return try self.sequence(value.typeName == "list" ? .list : .tuple, elements)
        default:
            throw mismatch("*", value, .int(count))
        }
    }

    private func calculate(_ left: Int, _ symbol: Jinja.Arithmetic, _ right: Int) throws(TemplateError) -> Jinja.Value {
        var result: (partialValue: Int, overflow: Bool)
        switch symbol {
        case .add: result = left.addingReportingOverflow(right)
        case .subtract: result = left.subtractingReportingOverflow(right)
        case .multiply: result = left.multipliedReportingOverflow(by: right)
        case .divide, .floorDivide, .modulo:
            guard right != 0 else { throw invalid("division by zero") }
            if symbol == .divide { return .float(Double(left) / Double(right)) }
            let quotient = left.dividedReportingOverflow(by: right)
            if quotient.overflow { result = symbol == .modulo ? (0, false) : quotient; break }
            // Python rounds down, Swift towards zero.
            let remainder = left - quotient.partialValue * right
            let rounds = remainder != 0 && (remainder < 0) != (right < 0)
            result =
                symbol == .modulo
                ? (rounds ? remainder + right : remainder, false)
                : (rounds ? quotient.partialValue - 1 : quotient.partialValue, false)
        case .power:
            guard right >= 0 else { return try calculate(Double(left), .power, Double(right)) }
            result = Self.power(left, right)
        }
        guard !result.overflow else { throw overflow() }
        return .int(result.partialValue)
    }

    private static func power(_ base: Int, _ exponent: Int) -> (partialValue: Int, overflow: Bool) {
        var result = 1
        var square = base
        var rest = exponent
        while rest > 0 {
            if rest & 1 == 1 {
                let product = result.multipliedReportingOverflow(by: square)
                if product.overflow { return product }
                result = product.partialValue
            }
            rest >>= 1
            guard rest > 0 else { break }
            let next = square.multipliedReportingOverflow(by: square)
            if next.overflow { return next }
            square = next.partialValue
        }
        return (result, false)
    }

    private func calculate(
        _ left: Double, _ symbol: Jinja.Arithmetic, _ right: Double
    ) throws(TemplateError) -> Jinja.Value {
        switch symbol {
        case .add: return .float(left + right)
        case .subtract: return .float(left - right)
        case .multiply: return .float(left * right)
        case .divide, .floorDivide, .modulo:
            guard right != 0 else { throw invalid("division by zero") }
            if symbol == .divide { return .float(left / right) }
            var remainder = left.truncatingRemainder(dividingBy: right)
            let rounds = remainder != 0 && (remainder < 0) != (right < 0)
            if rounds { remainder += right }
            if symbol == .modulo { return .float(remainder == 0 ? Double(signOf: right, magnitudeOf: 0) : remainder) }
            return .float(((left - remainder) / right).rounded())
        case .power:
            if right == 0.5, left >= 0 { return .float(left.squareRoot()) }
            guard let exponent = Int(exactly: right), exponent.magnitude <= 1024 else {
                throw invalid("powers are defined for whole exponents up to 1024")
            }
            guard left != 0 || exponent >= 0 else { throw invalid("zero cannot be raised to a negative power") }
            var result = 1.0
            for _ in 0..<exponent.magnitude { result *= left }
            return .float(exponent < 0 ? 1 / result : result)
        }
    }
}

// MARK: - Comparison

extension Jinja.Interpreter {
    mutating func compare(
        _ left: Jinja.Value, _ symbol: Jinja.Comparison, _ right: Jinja.Value
    ) throws(TemplateError) -> Bool {
        switch symbol {
        case .equal: try equal(left, right)
        case .notEqual: try !equal(left, right)
        case .less: try precedes(left, right, "<")
        case .greater: try precedes(right, left, ">")
        case .lessOrEqual: try precedes(left, right, "<=", orEqual: true)
        case .greaterOrEqual: try precedes(right, left, ">=", orEqual: true)
        case .isIn: try contains(right, left)
        case .isNotIn: try !contains(right, left)
        }
    }

    mutating func equal(_ left: Jinja.Value, _ right: Jinja.Value) throws(TemplateError) -> Bool {
        if case .string(let left) = left, case .string(let right) = right {
            guard left.count == right.count else { return false }
            try spend(bytes: left.count)
            return left == right
        }
        try spend(min(left.weight, right.weight) / 8)
        return Self.isEqual(left, right)
    }

    private static func isEqual(_ left: Jinja.Value, _ right: Jinja.Value) -> Bool {
        switch (left, right) {
        case (.string(let left), .string(let right)): return left == right
        case (.none, .none), (.undefined, .undefined): return true
        case (.sequence(let first), .sequence(let second)):
            return left.typeName == right.typeName && first.elements.count == second.elements.count
                && zip(first.elements, second.elements).allSatisfy { isEqual($0, $1) }
        case (.mapping(let first), .mapping(let second)):
            guard first.keys.count == second.keys.count else { return false }
            return first.keys.indices.allSatisfy { index in
                second[first.keys[index]].map { isEqual(first.values[index], $0) } ?? false
            }
        case (.range(let left), .range(let right)):
            return left.count == right.count
                && (left.count == 0 || left.start == right.start && (left.count == 1 || left.step == right.step))
        case (.namespace(let left), .namespace(let right)), (.loop(let left), .loop(let right)),
            (.macro(let left), .macro(let right)):
            return left == right
        case (.function(let left), .function(let right)): return left == right
        default:
            guard let left = left.number, let right = right.number else { return false }
            return left == right
        }
    }

    /// `left < right`, or `left <= right`.
    mutating func precedes(
        _ left: Jinja.Value, _ right: Jinja.Value, _ symbol: String, orEqual: Bool = false
    ) throws(TemplateError) -> Bool {
        if let left = left.number, let right = right.number { return left < right || (orEqual && left == right) }
        switch (left, right) {
        case (.string(let left), .string(let right)):
            try spend(bytes: min(left.count, right.count))
            return left < right || (orEqual && left == right)
        case (.sequence(let first), .sequence(let second))
        where first.isIndexed && second.isIndexed && left.typeName == right.typeName:
            try enter()
            defer { leave() }
            for (left, right) in zip(first.elements, second.elements) {
                try spend()
                if try equal(left, right) { continue }
                return try precedes(left, right, symbol, orEqual: orEqual)
            }
            return first.elements.count < second.elements.count
                || (orEqual && first.elements.count == second.elements.count)
        default:
            throw mismatch(symbol, left, right)
        }
    }

    /// `value in container`
    mutating func contains(_ container: Jinja.Value, _ value: Jinja.Value) throws(TemplateError) -> Bool {
        switch container {
        case .string(let text):
            guard case .string(let part) = value else { throw mismatch("in", value, container) }
            try spend(bytes: text.count + part.count)
            return part.isEmpty || text.firstRange(of: part.bytes) != nil
        case .mapping(let mapping):
            try checkKey(value)
            return mapping[value] != nil
        case .range(let range):
            guard let number = value.integer else { return false }
            let (distance, overflow) = number.subtractingReportingOverflow(range.start)
            let (steps, isTooFar) = distance.dividedReportingOverflow(by: range.step)
            guard !overflow, !isTooFar, (0..<range.count).contains(steps) else { return false }
            return range[steps] == number
        default:
            for element in try iterate(container) {
                try spend()
                if try equal(element, value) { return true }
            }
            return false
        }
    }
}
