// The one form that every constraint is translated to: a JSON Schema, a regular expression, a list of choices and a
// written grammar all become named rules over bytes. What the rules match is decided elsewhere.

/// A rule's place in `Grammar.rules`.
package struct RuleID: Hashable, Sendable {
    package let index: Int

    package init(_ index: Int) { self.index = index }
}

/// What a piece of text must look like, byte by byte. Text is UTF-8.
package indirect enum Expression: Sendable, Equatable {
    /// The empty text.
    case empty
    /// No text at all.
    case nothing
    /// Exactly these bytes, in order.
    case bytes([UInt8])
    /// One byte of a set.
    case byte(ByteSet)
    /// One character of a set, in UTF-8. Ranges need not be sorted.
    case scalar([ClosedRange<Unicode.Scalar>])
    /// One after the other.
    case sequence([Expression])
    /// Any one of them.
    case choice([Expression])
    /// `atLeast` or more times, at most `atMost` times; nil is without bound.
    case repetition(Expression, atLeast: Int, atMost: Int?)
    /// At least one of the elements, in their order, those that are required all; the separator between neighbours.
    case listing([Element], separator: Expression)
    /// What the rule matches; rules may refer to themselves.
    case rule(RuleID)
    /// What both match. Neither may reach a rule that refers to itself: both must be regular.
    case intersection(Expression, Expression)
    /// What the first matches and the second does not. Both must be regular.
    case difference(Expression, Expression)

    /// One of a listing.
    package struct Element: Sendable, Equatable {
        package let expression: Expression
        package let isRequired: Bool

        package init(_ expression: Expression, isRequired: Bool) {
            self.expression = expression
            self.isRequired = isRequired
        }

        /// The same with another expression.
        package func map(_ transform: (Expression) -> Expression) -> Element {
            Element(transform(expression), isRequired: isRequired)
        }
    }

    /// Exactly `text`.
    package static func text(_ text: String) -> Expression { .bytes(Array(text.utf8)) }

    /// `expression` or nothing.
    package static func optional(_ expression: Expression) -> Expression {
        .repetition(expression, atLeast: 0, atMost: 1)
    }
}

/// Named rules; the text as a whole must match `start`.
package struct Grammar: Sendable, Equatable {
    /// One rule. The name serves messages and tests only.
    package struct Rule: Sendable, Equatable {
        package var name: String
        package var body: Expression

        package init(name: String, body: Expression) {
            self.name = name
            self.body = body
        }
    }

    package var rules: [Rule]
    package var start: RuleID

    package init(rules: [Rule], start: RuleID) {
        self.rules = rules
        self.start = start
    }

    /// A grammar of one rule that refers to none.
    package init(_ expression: Expression) {
        self.init(rules: [Rule(name: "root", body: expression)], start: RuleID(0))
    }
}
