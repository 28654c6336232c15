// The members of one object, read by name and type. Every refusal names the field by its dotted path, the value that
// was sent and what would have been accepted; null and absence mean the default.

/// Typed access to an object's members.
struct JSONFields {
    /// Dotted path of this object with a final dot; empty for the body itself.
    let path: String
    /// The members, in the order of the text.
    let members: [JSONValue.Member]

    init(path: String = "", members: [JSONValue.Member]) {
        self.path = path
        self.members = members
    }

    /// The value of a member; nil when it is absent or null.
    subscript(name: String) -> JSONValue? {
        guard let member = members.first(where: { $0.name == name }), member.value != .null else { return nil }
        return member.value
    }

    /// The refusal of a value of the wrong type.
    func mismatch(_ name: String, _ value: JSONValue, _ expected: String) -> ServingError {
        .invalidType(field: path + name, value: value.summary, requirement: expected)
    }

    /// The refusal of a value outside its range.
    func invalid(_ name: String, _ value: JSONValue, _ requirement: String) -> ServingError {
        .invalidValue(field: path + name, value: value.summary, requirement: requirement)
    }

    func string(_ name: String) throws(ServingError) -> String? {
        guard let value = self[name] else { return nil }
        guard case .string(let text) = value else { throw mismatch(name, value, "a string") }
        return text
    }

    func bool(_ name: String) throws(ServingError) -> Bool? {
        guard let value = self[name] else { return nil }
        guard case .bool(let flag) = value else { throw mismatch(name, value, "a boolean") }
        return flag
    }

    func array(_ name: String, orElse expected: String = "a list") throws(ServingError) -> [JSONValue]? {
        guard let value = self[name] else { return nil }
        guard case .array(let elements) = value else { throw mismatch(name, value, expected) }
        return elements
    }

    func object(_ name: String) throws(ServingError) -> JSONFields? {
        guard let value = self[name] else { return nil }
        guard case .object(let members) = value else { throw mismatch(name, value, "an object") }
        return JSONFields(path: path + name + ".", members: members)
    }

    /// An integer in `range`. A number such as 3.0 is an integer too: some clients have no other numbers.
    func integer(_ name: String, in range: ClosedRange<Int>) throws(ServingError) -> Int? {
        guard let value = self[name] else { return nil }
        guard let integer = value.exactInteger else {
            if case .number(let number) = value, number.rounded() == number {
                throw invalid(name, value, Self.requirement(range))
            }
            throw mismatch(name, value, Self.requirement(range))
        }
        guard range.contains(integer) else { throw invalid(name, value, Self.requirement(range)) }
        return integer
    }

    /// A number in `range`, or above its lower bound where `excludingLower` is true.
    func number(
        _ name: String, in range: ClosedRange<Double>, excludingLower: Bool = false
    ) throws(ServingError) -> Double? {
        guard let value = self[name] else { return nil }
        let bounds = "from \(range.lowerBound.shortDescription) to \(range.upperBound.shortDescription)"
        let requirement =
            "a number \(bounds)" + (excludingLower ? ", \(range.lowerBound.shortDescription) excluded" : "")
        let number: Double
        switch value {
        case .integer(let integer): number = Double(integer)
        case .number(let double): number = double
        default: throw mismatch(name, value, requirement)
        }
        guard range.contains(number), !(excludingLower && number == range.lowerBound) else {
            throw invalid(name, value, requirement)
        }
        return number
    }

    private static func requirement(_ range: ClosedRange<Int>) -> String {
        switch (range.lowerBound, range.upperBound) {
        case (.min, .max): "an integer of 64 bits"
        case (let lower, .max): "an integer of at least \(lower)"
        case (let lower, let upper): "an integer from \(lower) to \(upper)"
        }
    }
}

extension JSONValue {
    /// The integer this is, if it is one exactly.
    var exactInteger: Int? {
        switch self {
        case .integer(let value): value
        // Beyond 2⁵³ a float stands for integers nobody wrote.
        case .number(let value): value.magnitude <= 0x1p53 ? Int(exactly: value) : nil
        default: nil
        }
    }
}

extension Double {
    /// Without ".0" where there is no fraction.
    fileprivate var shortDescription: String { Int(exactly: self).map(String.init) ?? description }
}
