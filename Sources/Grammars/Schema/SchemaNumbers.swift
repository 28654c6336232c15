// Numbers as digits. Bounds are exact in decimal, and the number of digits is such that a reader who rounds to binary
// floating point finds every generated number on the same side of its bounds.

import JSON

/// What decides which numbers are generated. Equal ones share a rule.
struct NumberForm: Hashable {
    let minimum: DecimalNumber?
    let maximum: DecimalNumber?
    let isExclusive: [Bool]
    let multiples: [DecimalNumber]
    let types: JSONTypes

    init(_ constraints: SchemaConstraints) {
        minimum = constraints.minimum?.value
        maximum = constraints.maximum?.value
        isExclusive = [constraints.minimum?.isExclusive ?? false, constraints.maximum?.isExclusive ?? false]
        multiples = constraints.multiples.map(\.value)
        types = constraints.types.intersection(.number)
    }
}

extension SchemaTranslation {
    mutating func numberExpression(_ constraints: SchemaConstraints) throws(GrammarError) -> Expression {
        let form = NumberForm(constraints)
        if let known = numberRules[form] { return .rule(known) }
        let rule = try addRule("\(constraints.place)", try newNumberExpression(constraints))
        numberRules[form] = rule
        return .rule(rule)
    }

    private mutating func newNumberExpression(_ constraints: SchemaConstraints) throws(GrammarError) -> Expression {
        let minimum = constraints.minimum
        let maximum = constraints.maximum
        let step = try NumberStep(constraints.multiples)
        if minimum == nil, maximum == nil, step == nil {
            return try shared(constraints.types.contains(.fraction) ? .number : .integer)
        }
        if let minimum, let maximum {
            let isEmpty =
                minimum.value == maximum.value
                ? minimum.isExclusive || maximum.isExclusive : minimum.value > maximum.value
            if isEmpty { return try nothing(maximum.place, "no number is within both bounds") }
        }
        let text: Expression?
        if constraints.types.contains(.fraction), step.map({ $0.scale > 0 }) ?? true {
            if let step {
                text = try NumberText.multiples(of: step, minimum, maximum)
            } else {
                text = NumberText.decimals(minimum, maximum)
            }
        } else {
            text = try NumberText.integers(minimum, maximum, step)
        }
        if let text { return text }
        for bound in [minimum, maximum] {
            if let bound, bound.value.exponent > NumberText.wholeDigits {
                throw GrammarError.unsupported(
                    place: bound.place.description, what: "a number of more than \(NumberText.wholeDigits) digits")
            }
        }
        let place = step?.place ?? maximum?.place ?? minimum?.place ?? constraints.place
        return try nothing(place, "no number satisfies this together with its bounds")
    }
}

/// The spelling of numbers.
enum NumberText {
    /// Digits before the point. Every such integer is exact in binary floating point.
    static let wholeDigits = 15
    /// Digits of an integer where no fraction may follow.
    static let integerDigits = 18
    static let digit = Expression.byte(ByteSet("0123456789".utf8))
    private static let leadingDigit = Expression.byte(ByteSet("123456789".utf8))

    static let anyInteger = Expression.sequence([.optional(.text("-")), whole(integerDigits)])

    static let anyNumber = Expression.sequence([
        .optional(.text("-")), whole(wholeDigits), anyFraction(wholeDigits),
        .optional(
            .sequence([
                .byte(ByteSet("eE".utf8)), .optional(.byte(ByteSet("+-".utf8))),
                .repetition(digit, atLeast: 1, atMost: 2),
            ])),
    ])

    private static func whole(_ count: Int) -> Expression {
        .choice([.text("0"), .sequence([leadingDigit, digits(0, count - 1)])])
    }

    static func digits(_ least: Int, _ most: Int) -> Expression { .repetition(digit, atLeast: least, atMost: most) }

    /// A point and up to `count` digits, or nothing.
    static func anyFraction(_ count: Int) -> Expression {
        count > 0 ? .optional(.sequence([.text("."), digits(1, count)])) : .empty
    }

    static func digit(_ least: UInt8, _ most: UInt8) -> Expression {
        least > most ? .nothing : .byte(ByteSet((least...most).map { $0 + UInt8(ascii: "0") }))
    }

    static func text(_ digits: some Sequence<UInt8>) -> Expression { .bytes(digits.map { $0 + UInt8(ascii: "0") }) }

    private static func digits(of value: Int) -> [UInt8] { "\(value)".utf8.map { $0 - UInt8(ascii: "0") } }

    // MARK: Integers

    /// Integers within bounds that are multiples of `step`; nil if there are none.
    static func integers(
        _ minimum: NumberBound?, _ maximum: NumberBound?, _ step: NumberStep?
    ) throws(GrammarError) -> Expression? {
        let limit = 999_999_999_999_999_999
        guard let least = minimum.map({ ceiling($0, limit) }) ?? -limit,
            let most = maximum.map({ floor($0, limit) }) ?? limit, least <= most
        else { return nil }
        guard let step else { return between(least, most) }
        let size = step.integerNumerator
        let first = least >= 0 ? (least + size - 1) / size * size : -(-least / size * size)
        guard first <= most else { return nil }
        let count = (most - first) / size
        if count < 1000 { return .choice((0...count).map { .text("\(first + $0 * size)") }) }
        let residues = try step.digits()
        guard minimum != nil || maximum != nil else { return .sequence([.optional(.text("-")), residues]) }
        return .intersection(.sequence([.optional(.text("-")), residues]), between(least, most))
    }

    /// The smallest integer that the bound permits; nil if it has more digits than are generated.
    private static func ceiling(_ bound: NumberBound, _ limit: Int) -> Int? {
        guard let whole = bound.value.wholePart, whole < limit else { return bound.value.isNegative ? -limit : nil }
        if bound.value.isInteger {
            return (bound.value.isNegative ? -whole : whole) + (bound.isExclusive ? 1 : 0)
        }
        return bound.value.isNegative ? -whole : whole + 1
    }

    private static func floor(_ bound: NumberBound, _ limit: Int) -> Int? {
        let mirrored = NumberBound(value: bound.value.negated, isExclusive: bound.isExclusive, place: bound.place)
        return ceiling(mirrored, limit).map { -$0 }
    }

    /// All integers from `least` to `most`, with a sign where they need one.
    static func between(_ least: Int, _ most: Int) -> Expression {
        var choices: [Expression] = []
        if least < 0 { choices.append(.sequence([.text("-"), magnitudes(max(1, -most), -least)])) }
        if most >= 0 { choices.append(magnitudes(max(0, least), most)) }
        return choices.count == 1 ? choices[0] : .choice(choices)
    }

    /// The integers from `least` to `most`, neither of them negative.
    static func magnitudes(_ least: Int, _ most: Int) -> Expression {
        guard least <= most else { return .nothing }
        let low = digits(of: least)
        let high = digits(of: most)
        if low.count == high.count { return sameLength(low[...], high[...]) }
        var choices = [sameLength(low[...], nil, isFirst: true), sameLength(nil, high[...], isFirst: true)]
        if high.count - low.count > 1 {
            choices.append(.sequence([leadingDigit, digits(low.count, high.count - 2)]))
        }
        return .choice(choices)
    }

    /// Digits of one length from `low` to `high`; nil bounds nothing.
    private static func sameLength(
        _ low: ArraySlice<UInt8>?, _ high: ArraySlice<UInt8>?, isFirst: Bool = false
    ) -> Expression {
        guard let count = low?.count ?? high?.count, count > 0 else { return .empty }
        let least = Int(low?.first ?? (isFirst ? 1 : 0))
        let most = Int(high?.first ?? 9)
        if let low, let high, least == most {
            return .sequence([text([UInt8(least)]), sameLength(low.dropFirst(), high.dropFirst())])
        }
        var choices: [Expression] = []
        if let low { choices.append(.sequence([text([UInt8(least)]), sameLength(low.dropFirst(), nil)])) }
        let inner = (low == nil ? least : least + 1, high == nil ? most : most - 1)
        if inner.0 <= inner.1 {
            choices.append(.sequence([digit(UInt8(inner.0), UInt8(inner.1)), digits(count - 1, count - 1)]))
        }
        if let high { choices.append(.sequence([text([UInt8(most)]), sameLength(nil, high.dropFirst())])) }
        return .choice(choices)
    }
}
