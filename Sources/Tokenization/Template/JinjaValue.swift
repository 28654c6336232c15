// The values a template computes with: Python's, without mutation. Collections know their depth, so no chain of
// values outgrows the stack; namespaces and loops are indices into tables of the interpreter, so none forms a cycle.

extension Jinja {
    /// A value of the language.
    enum Value: Sendable {
        case undefined(Absence)
        case none
        case bool(Bool)
        case int(Int)
        case float(Double)
        case string(Text)
        case sequence(Sequence)
        case range(Progression)
        case mapping(Mapping)
        case namespace(Int)
        case loop(Int)
        case macro(Int)
        case function(Function)
        case method(BoundMethod)
    }

    /// Why a value is undefined; told when a template uses it.
    enum Absence: Sendable {
        case name(String)
        case attribute(String)
        case element(of: String)
        case parameter(String)
        case emptySequence
        case missingBranch
        case unsafe(String)

        var reason: String {
            switch self {
            case .name(let name): "'\(name)' is undefined"
            case .attribute(let name): "there is no attribute '\(name)'"
            case .element(let type): "the \(type) has no such element"
            case .parameter(let name): "parameter '\(name)' was not provided"
            case .emptySequence: "the sequence is empty, so it has no such item"
            case .missingBranch: "the inline if-expression has no else and its condition is false"
            case .unsafe(let name): "access to attribute '\(name)' is not allowed"
            }
        }
    }

    /// The functions every template can call.
    enum Function: String, Sendable, CaseIterable {
        case range, dict, namespace
        case raiseException = "raise_exception"
        case strftimeNow = "strftime_now"
    }

    /// The arithmetic sequence that `range` makes.
    struct Progression: Sendable {
        var start: Int
        var step: Int
        var count: Int

        /// The element at `index`, which is below `count`: the constructor checked that it does not overflow.
        subscript(index: Int) -> Int { start &+ index &* step }
    }

    /// A list, tuple, or what a filter or method yields.
    final class Sequence: Sendable {
        enum Kind: Sendable {
            case list, tuple
            /// What `groupby` yields: a tuple with names for its two elements.
            case group
            /// What the methods `items`, `keys` and `values` yield: sized, not indexed.
            case view(String)
            /// What filters such as `map` and `select` yield: neither sized nor indexed.
            case generator
        }

        let kind: Kind
        let elements: [Value]
        let depth: Int
        let weight: Int
        let isHashable: Bool

        init(_ kind: Kind, _ elements: [Value]) {
            self.kind = kind
            self.elements = elements
            var depth = 0
            var weight = 1
            var isHashable =
                switch kind {
                case .tuple, .group: true
                case .list, .view, .generator: false
                }
            for element in elements {
                depth = max(depth, element.depth)
                weight = weight.addingSaturated(element.weight)
                if isHashable { isHashable = element.isHashable }
            }
            self.depth = depth + 1
            self.weight = weight
            self.isHashable = isHashable
        }

        var isIndexed: Bool {
            switch kind {
            case .list, .tuple, .group: true
            case .view, .generator: false
            }
        }
    }

    /// A dictionary that keeps the order of insertion.
    final class Mapping: Sendable {
        let keys: [Value]
        let values: [Value]
        let depth: Int
        let weight: Int
        /// Positions by key, built only when there are enough of them to pay for it.
        private let positions: [HashedKey: Int]

        /// Of equal keys the first gives the place and the last the value, as in Python. All are hashable.
        init(_ members: [(key: Value, value: Value)]) {
            var keys: [Value] = []
            var values: [Value] = []
            var positions: [HashedKey: Int] = [:]
            var depth = 0
            var weight = 1
            for (key, value) in members {
                depth = max(depth, key.depth, value.depth)
                weight = weight.addingSaturated(key.weight).addingSaturated(value.weight)
                let known =
                    members.count > Self.scanned
                    ? positions[HashedKey(key)] : keys.firstIndex { HashedKey($0) == HashedKey(key) }
                if let known {
                    values[known] = value
                    continue
                }
                if members.count > Self.scanned { positions[HashedKey(key)] = keys.count }
                keys.append(key)
                values.append(value)
            }
            self.keys = keys
            self.values = values
            self.positions = positions
            self.depth = depth + 1
            self.weight = weight
        }

        private static let scanned = 8

        subscript(key: Value) -> Value? {
            let wanted = HashedKey(key)
            if !positions.isEmpty { return positions[wanted].map { values[$0] } }
            for index in keys.indices where HashedKey(keys[index]) == wanted { return values[index] }
            return nil
        }

        subscript(name: Text) -> Value? { self[.string(name)] }
    }

    /// A method together with the value it was taken from.
    final class BoundMethod: Sendable {
        let receiver: Value
        let method: Method

        init(_ method: Method, of receiver: Value) {
            self.method = method
            self.receiver = receiver
        }
    }

    /// A hashable value as a key: `1`, `1.0` and `true` are one key, as in Python.
    struct HashedKey: Hashable {
        let value: Value

        init(_ value: Value) { self.value = value }

        static func == (left: HashedKey, right: HashedKey) -> Bool {
            switch (left.value, right.value) {
            case (.string(let left), .string(let right)): return left == right
            case (.none, .none), (.undefined, .undefined): return true
            case (.sequence(let left), .sequence(let right)):
                return left.elements.count == right.elements.count
                    && zip(left.elements, right.elements).allSatisfy { HashedKey($0) == HashedKey($1) }
            default:
                guard let left = left.value.number, let right = right.value.number else { return false }
                return left == right
            }
        }

        func hash(into hasher: inout Hasher) {
            switch value {
            case .string(let text): hasher.combine(text)
            case .sequence(let sequence): for element in sequence.elements { HashedKey(element).hash(into: &hasher) }
            default: if let number = value.number { hasher.combine(number.double) }
            }
        }
    }

    /// A number, compared across the two kinds without loss.
    enum Number: Equatable {
        case int(Int)
        case float(Double)

        var double: Double {
            switch self {
            case .int(let value): Double(value)
            case .float(let value): value
            }
        }

        static func == (left: Number, right: Number) -> Bool {
            switch (left, right) {
            case (.int(let left), .int(let right)): left == right
            case (.float(let left), .float(let right)): left == right
            case (.int(let int), .float(let float)), (.float(let float), .int(let int)):
                Int(exactly: float) == int
            }
        }

        static func < (left: Number, right: Number) -> Bool {
            switch (left, right) {
            case (.int(let left), .int(let right)): left < right
            case (.float(let left), .float(let right)): left < right
            case (.int(let int), .float(let float)):
                Int(exactly: float.rounded(.down)).map { int < $0 || (int == $0 && float > Double($0)) }
                    ?? (float > 0)
            case (.float(let float), .int(let int)):
                Int(exactly: float.rounded(.down)).map { $0 < int } ?? (float < 0)
            }
        }
    }
}

extension Jinja.Value {
    static func list(_ elements: [Jinja.Value]) -> Jinja.Value { .sequence(.init(.list, elements)) }
    static func tuple(_ elements: [Jinja.Value]) -> Jinja.Value { .sequence(.init(.tuple, elements)) }
    static func generator(_ elements: [Jinja.Value]) -> Jinja.Value { .sequence(.init(.generator, elements)) }
    static func text(_ string: String, trusted: Bool = false) -> Jinja.Value {
        .string(Jinja.Text(string, trusted: trusted))
    }

    /// How many levels of collections it holds.
    var depth: Int {
        switch self {
        case .sequence(let sequence): sequence.depth
        case .mapping(let mapping): mapping.depth
        case .method(let bound): bound.receiver.depth + 1
        default: 0
        }
    }

    /// The work of walking all of it, which is more than its memory when parts of it are shared.
    var weight: Int {
        switch self {
        case .sequence(let sequence): sequence.weight
        case .mapping(let mapping): mapping.weight
        case .string(let text): 1 + text.count / 32
        case .range(let range): 1 + range.count
        default: 1
        }
    }

    /// Python's name of its type.
    var typeName: String {
        switch self {
        case .undefined: return "Undefined"
        case .none: return "NoneType"
        case .bool: return "bool"
        case .int: return "int"
        case .float: return "float"
        case .string: return "str"
        case .range: return "range"
        case .mapping: return "dict"
        case .namespace: return "Namespace"
        case .loop: return "LoopContext"
        case .macro: return "Macro"
        case .function, .method: return "function"
        case .sequence(let sequence):
            switch sequence.kind {
            case .list: return "list"
            case .tuple, .group: return "tuple"
            case .view(let name): return name
            case .generator: return "generator"
            }
        }
    }

    /// Python's truth value.
    var isTrue: Bool {
        switch self {
        case .undefined, .none: return false
        case .bool(let value): return value
        case .int(let value): return value != 0
        case .float(let value): return value != 0
        case .string(let text): return !text.isEmpty
        case .range(let range): return range.count > 0
        case .mapping(let mapping): return !mapping.keys.isEmpty
        case .sequence(let sequence):
            if case .generator = sequence.kind { return true }
            return !sequence.elements.isEmpty
        case .namespace, .loop, .macro, .function, .method: return true
        }
    }

    var isUndefined: Bool { if case .undefined = self { true } else { false } }

    /// Its value as a number; `true` is 1, as in Python.
    var number: Jinja.Number? {
        switch self {
        case .bool(let value): .int(value ? 1 : 0)
        case .int(let value): .int(value)
        case .float(let value): .float(value)
        default: nil
        }
    }

    /// Its value as an integer, if it is one.
    var integer: Int? { if case .int(let value) = number { value } else { nil } }

    /// Whether it can be the key of a mapping.
    var isHashable: Bool {
        switch self {
        case .mapping, .namespace, .loop, .macro, .function, .method, .range: return false
        case .sequence(let sequence): return sequence.isHashable
        default: return true
        }
    }
}

extension Int {
    /// The sum, or the greatest integer when the sum is not one.
    func addingSaturated(_ other: Int) -> Int {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
