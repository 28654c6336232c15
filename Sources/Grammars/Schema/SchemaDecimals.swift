// Decimal numbers between bounds, digit by digit: a whole part between the bounds' whole parts has any fraction, one
// that is equal to a bound's has a fraction on the right side of the bound's.

import JSON

extension NumberText {
    /// A magnitude as whole part and fraction without trailing zeros.
    private struct Edge {
        let whole: Int
        let fraction: [UInt8]
        let isIncluded: Bool

        static func zero(isIncluded: Bool) -> Edge { Edge(whole: 0, fraction: [], isIncluded: isIncluded) }
    }

    /// Numbers between bounds, without exponent; nil if there are none of so few digits.
    static func decimals(_ minimum: NumberBound?, _ maximum: NumberBound?) -> Expression? {
        // Up to 15 digits in all, no two numbers become the same in binary floating point.
        let bounds = [minimum, maximum].compactMap { $0 }.filter { $0.value.exponent <= wholeDigits }
        let longest = bounds.map { max(1, $0.value.exponent) }.max() ?? 1
        let places = wholeDigits - longest
        var choices: [Expression] = []
        let mirroredMinimum = maximum.map {
            NumberBound(value: $0.value.negated, isExclusive: $0.isExclusive, place: $0.place)
        }
        let mirroredMaximum = minimum.map {
            NumberBound(value: $0.value.negated, isExclusive: $0.isExclusive, place: $0.place)
        }
        if let negative = magnitudes(mirroredMinimum, mirroredMaximum, places, includesZero: false) {
            choices.append(.sequence([.text("-"), negative]))
        }
        if let positive = magnitudes(minimum, maximum, places, includesZero: true) { choices.append(positive) }
        return choices.isEmpty ? nil : .choice(choices)
    }

    /// The numbers within bounds that are not negative.
    private static func magnitudes(
        _ minimum: NumberBound?, _ maximum: NumberBound?, _ places: Int, includesZero: Bool
    ) -> Expression? {
        var low = Edge.zero(isIncluded: includesZero)
        if let minimum, minimum.value >= DecimalNumber(0) {
            guard minimum.value.exponent <= wholeDigits, let whole = minimum.value.wholePart else { return nil }
            let fraction = minimum.value.fractionDigits
            // Of so many places, what is not below a longer bound is above its first digits.
            low = Edge(
                whole: whole, fraction: trimmed(fraction.prefix(places)),
                isIncluded: !minimum.isExclusive && fraction.count <= places && (includesZero || !minimum.value.isZero))
        }
        var high: Edge?
        if let maximum {
            guard maximum.value >= DecimalNumber(0) else { return nil }
            if maximum.value.exponent <= wholeDigits, let whole = maximum.value.wholePart {
                let fraction = maximum.value.fractionDigits
                high = Edge(
                    whole: whole, fraction: trimmed(fraction.prefix(places)),
                    isIncluded: !maximum.isExclusive || fraction.count > places)
            }
        }
        return between(low, high, places)
    }

    private static func trimmed(_ digits: ArraySlice<UInt8>) -> [UInt8] {
        var digits = Array(digits)
        while digits.last == 0 { digits.removeLast() }
        return digits
    }

    private static func between(_ low: Edge, _ high: Edge?, _ places: Int) -> Expression? {
        let largest = 999_999_999_999_999
        let lowWhole = text("\(low.whole)".utf8.map { $0 - UInt8(ascii: "0") })
        let above = fractionAbove(low, places)
        guard let high else {
            return .choice([
                .sequence([lowWhole, above]),
                .sequence([magnitudes(low.whole + 1, largest), anyFraction(places)]),
            ])
        }
        let below = fractionBelow(high, places)
        if low.whole > high.whole { return nil }
        if low.whole == high.whole { return .sequence([lowWhole, .intersection(above, below)]) }
        return .choice([
            .sequence([lowWhole, above]),
            .sequence([magnitudes(low.whole + 1, high.whole - 1), anyFraction(places)]),
            .sequence([text("\(high.whole)".utf8.map { $0 - UInt8(ascii: "0") }), below]),
        ])
    }

    /// Fractions of at most `places` digits above that of `edge`, or equal to it where it is included.
    private static func fractionAbove(_ edge: Edge, _ places: Int) -> Expression {
        let fraction = edge.fraction
        var choices: [Expression] = []
        for (index, value) in fraction.enumerated() where value < 9 {
            choices.append(
                .sequence([
                    .text("."), text(fraction[..<index]), digit(value + 1, 9), digits(0, places - index - 1),
                ]))
        }
        if edge.isIncluded {
            choices.append(
                fraction.isEmpty
                    ? anyFraction(places)
                    : .sequence([.text("."), text(fraction), digits(0, places - fraction.count)]))
        } else {
            for index in fraction.count..<max(fraction.count, places) {
                let zeros = [UInt8](repeating: 0, count: index - fraction.count)
                choices.append(
                    .sequence([
                        .text("."), text(fraction + zeros), digit(1, 9), digits(0, places - index - 1),
                    ]))
            }
        }
        return .choice(choices)
    }

    /// Fractions of at most `places` digits below that of `edge`, or equal to it where it is included.
    private static func fractionBelow(_ edge: Edge, _ places: Int) -> Expression {
        let fraction = edge.fraction
        var choices: [Expression] = []
        if fraction.isEmpty {
            guard edge.isIncluded else { return .nothing }
            let zeros = Expression.sequence([.text("."), .repetition(.text("0"), atLeast: 1, atMost: places)])
            return places > 0 ? .optional(zeros) : .empty
        }
        choices.append(.empty)
        for (index, value) in fraction.enumerated() {
            if index > 0 { choices.append(.sequence([.text("."), text(fraction[..<index])])) }
            guard value > 0 else { continue }
            choices.append(
                .sequence([
                    .text("."), text(fraction[..<index]), digit(0, value - 1), digits(0, places - index - 1),
                ]))
        }
        if edge.isIncluded {
            let zeros = Expression.repetition(.text("0"), atLeast: 0, atMost: places - fraction.count)
            choices.append(.sequence([.text("."), text(fraction), zeros]))
        }
        return .choice(choices)
    }
}
