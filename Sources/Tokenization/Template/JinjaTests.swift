// The language's tests: what may follow `is`, and what `select` and its kin take by name.

extension Jinja {
    /// A test by its name in the language.
    enum Test: String, Sendable {
        case odd, even, divisibleby, defined, undefined, none, boolean, integer, float, lower, upper, string, mapping
        case number, sequence, iterable, callable, sameas, filter, test
        case isFalse = "false"
        case isTrue = "true"
        case isIn = "in"
        case eq, equalto, ne, gt, greaterthan, ge, lt, lessthan, le
        case equalSign = "=="
        case notEqualSign = "!="
        case greaterSign = ">"
        case greaterEqualSign = ">="
        case lessSign = "<"
        case lessEqualSign = "<="

        /// The comparison it is another name of.
        var comparison: Comparison? {
            switch self {
            case .eq, .equalto, .equalSign: .equal
            case .ne, .notEqualSign: .notEqual
            case .gt, .greaterthan, .greaterSign: .greater
            case .ge, .greaterEqualSign: .greaterOrEqual
            case .lt, .lessthan, .lessSign: .less
            case .le, .lessEqualSign: .lessOrEqual
            case .isIn: .isIn
            default: nil
            }
        }

        var parameterCount: Int {
            switch self {
            case .divisibleby, .sameas: 1
            default: comparison == nil ? 0 : 1
            }
        }
    }
}

extension Jinja.Interpreter {
    @inline(never)
    mutating func evaluate(
        _ test: Jinja.Test, on value: Jinja.Value, _ arguments: [Jinja.Value]
    ) throws(TemplateError) -> Bool {
        guard arguments.count == test.parameterCount else {
            throw invalid("the test '\(test.rawValue)' takes \(test.parameterCount) arguments, not \(arguments.count)")
        }
        if let comparison = test.comparison { return try compare(value, comparison, arguments[0]) }
        switch test {
        case .odd: return try remainder(value, .int(2)) == .int(1)
        case .even: return try remainder(value, .int(2)) == .int(0)
        case .divisibleby: return try remainder(value, arguments[0]) == .int(0)
        case .sameas: return isSame(value, arguments[0])
        case .lower, .upper:
            let text = try text(of: value)
            try spend(characters: text)
            return test == .lower ? text.isLowercase : text.isUppercase
        case .filter: return try Jinja.Filter(rawValue: text(of: value).string) != nil
        case .test: return try Jinja.Test(rawValue: text(of: value).string) != nil
        default: return isOfKind(value, test)
        }
    }

    private func isOfKind(_ value: Jinja.Value, _ test: Jinja.Test) -> Bool {
        switch (test, value) {
        case (.defined, _): return !value.isUndefined
        case (.undefined, _): return value.isUndefined
        case (.none, .none), (.boolean, .bool), (.integer, .int), (.float, .float), (.string, .string): return true
        case (.isTrue, .bool(let value)): return value
        case (.isFalse, .bool(let value)): return !value
        case (.number, _): return value.number != nil
        case (.mapping, .mapping): return true
        case (.sequence, .sequence(let sequence)): return sequence.isIndexed
        case (.sequence, .string), (.sequence, .mapping), (.sequence, .range), (.sequence, .undefined): return true
        case (.iterable, .sequence), (.iterable, .string), (.iterable, .mapping), (.iterable, .range),
            (.iterable, .undefined), (.iterable, .loop):
            return true
        case (.callable, .macro), (.callable, .function), (.callable, .method), (.callable, .loop),
            (.callable, .undefined):
            return true
        default: return false
        }
    }

    private mutating func remainder(_ value: Jinja.Value, _ divisor: Jinja.Value) throws(TemplateError) -> Jinja.Number?
    {
        guard value.number != nil, divisor.number != nil else { throw mismatch("%", value, divisor) }
        return try calculate(value, .modulo, divisor).number
    }

    /// Python's `is`, which tells numbers and strings apart by type but not by place in memory.
    private func isSame(_ value: Jinja.Value, _ other: Jinja.Value) -> Bool {
        switch (value, other) {
        case (.none, .none): true
        case (.bool(let left), .bool(let right)): left == right
        case (.int(let left), .int(let right)): left == right
        case (.float(let left), .float(let right)): left == right
        case (.string(let left), .string(let right)): left == right
        case (.sequence(let left), .sequence(let right)): left === right
        case (.mapping(let left), .mapping(let right)): left === right
        case (.namespace(let left), .namespace(let right)): left == right
        default: false
        }
    }
}
