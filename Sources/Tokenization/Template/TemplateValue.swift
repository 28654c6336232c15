// The data a caller hands to a template: a tree of JSON's shape whose objects keep their order.
// Every string in it is untrusted: what the template derives from it never becomes a control token.

/// A value given to a template by its caller.
package enum TemplateValue: Sendable, Equatable {
    /// A member of an object. Of members with the same name the last one counts.
    package struct Member: Sendable, Equatable {
        /// The member's name.
        package var name: String
        /// The member's value.
        package var value: TemplateValue

        package init(_ name: String, _ value: TemplateValue) {
            self.name = name
            self.value = value
        }
    }

    case null
    case bool(Bool)
    case int(Int)
    case float(Double)
    case string(String)
    case array([TemplateValue])
    case object([Member])
}

extension TemplateValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByNilLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int) { self = .int(value) }
    package init(floatLiteral value: Double) { self = .float(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(nilLiteral: ()) { self = .null }
    package init(arrayLiteral elements: TemplateValue...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, TemplateValue)...) {
        self = .object(elements.map { Member($0.0, $0.1) })
    }
}
