// The small values that a schema is read into: which kinds of JSON value it permits, and its numbers exactly.

import JSON

/// Kinds of JSON value. A number is an integer or has a fraction; `number` permits both.
struct JSONTypes: OptionSet, Hashable {
    let rawValue: UInt8

    static let null = JSONTypes(rawValue: 1)
    static let boolean = JSONTypes(rawValue: 2)
    static let integer = JSONTypes(rawValue: 4)
    static let fraction = JSONTypes(rawValue: 8)
    static let string = JSONTypes(rawValue: 16)
    static let array = JSONTypes(rawValue: 32)
    static let object = JSONTypes(rawValue: 64)
    static let number: JSONTypes = [.integer, .fraction]
    static let all = JSONTypes(rawValue: 127)

    /// The types of the keyword `type`.
    init?(name: String) {
        switch name {
        case "null": self = .null
        case "boolean": self = .boolean
        case "integer": self = .integer
        case "number": self = .number
        case "string": self = .string
        case "array": self = .array
        case "object": self = .object
        default: return nil
        }
    }

    init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The kind of `value`; 1.0 is an integer.
    init(of value: JSONValue) {
        switch value {
        case .null: self = .null
        case .bool: self = .boolean
        case .integer: self = .integer
        // From 2⁵³ on every float is an integer.
        case .number(let number): self = number.rounded() == number ? .integer : .fraction
        case .string: self = .string
        case .array: self = .array
        case .object: self = .object
        }
    }
}

/// A number as its decimal digits: 0.d₁d₂… × 10^exponent. Zero has no digits.
struct DecimalNumber: Comparable, Hashable {
    private(set) var isNegative = false
    /// Without leading and trailing zeros.
    private(set) var digits: [UInt8] = []
    private(set) var exponent = 0

    init(_ value: Int) { self.init(text: "\(value)") }

    /// The shortest digits that stand for `value`, which are the ones that people write.
    init(_ value: Double) { self.init(text: "\(value)") }

    /// The number that a schema holds; nil if `value` is no number.
    init?(_ value: JSONValue) {
        switch value {
        case .integer(let integer): self.init(integer)
        case .number(let number): self.init(number)
        default: return nil
        }
    }

    /// `text` as Swift describes numbers: sign, digits, point, exponent.
    private init(text: String) {
        var pointPassed = false
        var written: [UInt8] = []
        var wholeDigits = 0
        var exponentText = ""
        var inExponent = false
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "e"): inExponent = true
            case _ where inExponent: exponentText.unicodeScalars.append(Unicode.Scalar(byte))
            case UInt8(ascii: "-"): isNegative = true
            case UInt8(ascii: "."): pointPassed = true
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                written.append(byte - UInt8(ascii: "0"))
                if !pointPassed { wholeDigits += 1 }
            default: break
            }
        }
        let leading = written.prefix { $0 == 0 }.count
        digits = Array(written[leading...])
        while digits.last == 0 { digits.removeLast() }
        exponent = digits.isEmpty ? 0 : wholeDigits - leading + (Int(exponentText) ?? 0)
        if digits.isEmpty { isNegative = false }
    }

    var isZero: Bool { digits.isEmpty }

    var isInteger: Bool { exponent >= digits.count }

    var magnitude: DecimalNumber {
        var result = self
        result.isNegative = false
        return result
    }

    var negated: DecimalNumber {
        var result = self
        result.isNegative = !isNegative && !isZero
        return result
    }

    /// The digits before the point as a number, without sign; nil from 10¹⁸ on.
    var wholePart: Int? {
        guard exponent <= 18 else { return nil }
        var result = 0
        for index in 0..<max(0, exponent) { result = result * 10 + (index < digits.count ? Int(digits[index]) : 0) }
        return result
    }

    /// The digits behind the point.
    var fractionDigits: [UInt8] {
        if exponent >= digits.count { return [] }
        if exponent >= 0 { return Array(digits[exponent...]) }
        // A float has no more than 324 zeros behind its point.
        return Array(repeating: 0, count: -exponent) + digits
    }

    /// The integer that this is, if it is one below 10¹⁸.
    var integerValue: Int? {
        guard isInteger, let whole = wholePart else { return nil }
        return isNegative ? -whole : whole
    }

    /// This times 10^places.
    func scaled(by places: Int) -> DecimalNumber {
        var result = self
        if !isZero { result.exponent += places }
        return result
    }

    static func < (left: DecimalNumber, right: DecimalNumber) -> Bool {
        if left.isNegative != right.isNegative { return left.isNegative }
        return left.isNegative ? isSmaller(right, left) : isSmaller(left, right)
    }

    /// Whether the magnitude of `left` is smaller.
    private static func isSmaller(_ left: DecimalNumber, _ right: DecimalNumber) -> Bool {
        if left.isZero || right.isZero { return left.isZero && !right.isZero }
        if left.exponent != right.exponent { return left.exponent < right.exponent }
        return left.digits.lexicographicallyPrecedes(right.digits)
    }
}

extension JSONValue {
    /// Equality as JSON Schema has it: 1 and 1.0 are the same number and members have no order.
    func isSame(as other: JSONValue) -> Bool {
        switch (self, other) {
        case (.null, .null): return true
        case (.bool(let left), .bool(let right)): return left == right
        case (.string(let left), .string(let right)): return left.hasBytes(of: right)
        case (.integer, .integer), (.integer, .number), (.number, .integer), (.number, .number):
            return DecimalNumber(self) == DecimalNumber(other)
        case (.array(let left), .array(let right)):
            return left.count == right.count && zip(left, right).allSatisfy { $0.isSame(as: $1) }
        case (.object(let left), .object(let right)):
            return left.count == right.count
                && left.allSatisfy { member in
                    right.contains { $0.name.hasBytes(of: member.name) && $0.value.isSame(as: member.value) }
                }
        default: return false
        }
    }

    /// The member of this object with that name.
    subscript(member name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name.hasBytes(of: name) }?.value
    }
}

extension String {
    /// Equality of code points; `==` would also take a composed and a decomposed letter for the same.
    func hasBytes(of other: String) -> Bool { utf8.elementsEqual(other.utf8) }
}

/// The name of a member, equal to another only if all code points are.
struct MemberName: Hashable {
    let text: String

    init(_ text: String) { self.text = text }

    static func == (left: MemberName, right: MemberName) -> Bool { left.text.hasBytes(of: right.text) }

    func hash(into hasher: inout Hasher) {
        for byte in text.utf8 { hasher.combine(byte) }
    }
}
