// `multipleOf`: the multiples of a few kinds of numbers are regular in their decimal digits, and a few numbers can be
// listed. Fractions must be exact in binary, for most readers divide floating point numbers.

import JSON

/// The least common multiple of all that `multipleOf` asks for: `numerator` · 10^−`scale`.
struct NumberStep {
    let numerator: Int
    let scale: Int
    let place: SchemaPlace

    /// Nil if nothing is asked for.
    init?(_ multiples: [Placed<DecimalNumber>]) throws(GrammarError) {
        guard let first = multiples.first else { return nil }
        place = first.place
        var scale = 0
        for multiple in multiples { scale = max(scale, multiple.value.fractionDigits.count) }
        var result = 1
        for multiple in multiples {
            guard scale <= 3, let value = multiple.value.scaled(by: scale).integerValue, value <= 1_000_000_000_000
            else { throw Self.refusal(multiple.place) }
            var (left, right) = (result, value)
            while right != 0 { (left, right) = (right, left % right) }
            guard value / left <= 1_000_000_000_000 / result else { throw Self.refusal(multiple.place) }
            result = result / left * value
        }
        // a / 10^p is exact in binary if a is a multiple of 5^p.
        var fives = 1
        for _ in 0..<scale { fives *= 5 }
        for multiple in multiples {
            guard let value = multiple.value.scaled(by: scale).integerValue, value % fives == 0 else {
                throw Self.refusal(multiple.place)
            }
        }
        numerator = result
        self.scale = scale
    }

    static func refusal(_ place: SchemaPlace) -> GrammarError {
        .unsupported(place: place.description, what: "multipleOf with this number")
    }

    func divides(_ number: DecimalNumber) -> Bool {
        guard let value = number.scaled(by: scale).integerValue else { return false }
        return value % numerator == 0
    }

    /// The smallest integer of which all multiples are multiples of this and no other integer is.
    var integerNumerator: Int {
        var unit = 1
        for _ in 0..<scale { unit *= 10 }
        var (left, right) = (numerator, unit)
        while right != 0 { (left, right) = (right, left % right) }
        return numerator / left
    }

    /// The decimal digits, without sign, of all multiples of an integer 2ᵃ·5ᵇ·3ᶜ with c of 0 or 1.
    func digits() throws(GrammarError) -> Expression {
        var rest = integerNumerator
        var counts = [2: 0, 5: 0]
        for prime in [2, 5] {
            while rest % prime == 0 {
                rest /= prime
                counts[prime, default: 0] += 1
            }
        }
        let places = max(counts[2, default: 0], counts[5, default: 0])
        guard places <= 4 || (places <= 12 && counts[2] == counts[5]), rest == 1 || rest == 3 else {
            throw Self.refusal(place)
        }
        var unit = 1
        for _ in 0..<places { unit *= 10 }
        let ending = integerNumerator / rest
        // Numbers of few digits are listed; longer ones end as a listed one does, with zeros before it.
        let short = stride(from: 0, to: unit, by: ending).map { Expression.text("\($0)") }
        let endings = stride(from: 0, to: unit, by: ending).map {
            Expression.text("\(unit + $0)".dropFirst().description)
        }
        let leading = Expression.byte(ByteSet("123456789".utf8))
        let head = Expression.sequence([leading, NumberText.digits(0, NumberText.integerDigits - places - 1)])
        let ended =
            places == 0
            ? Expression.choice([.text("0"), head]) : .choice(short + [.sequence([head, .choice(endings)])])
        return rest == 3 ? .intersection(ended, Self.multiplesOfThree) : ended
    }

    /// Digits whose sum is a multiple of three.
    private static let multiplesOfThree: Expression = {
        let zero = Expression.byte(ByteSet("0369".utf8))
        let one = Expression.byte(ByteSet("147".utf8))
        let two = Expression.byte(ByteSet("258".utf8))
        func any(_ expression: Expression) -> Expression { .repetition(expression, atLeast: 0, atMost: nil) }
        // Between remainders 1 and 2 without passing 0.
        let stayOne = any(.choice([zero, .sequence([one, any(zero), two])]))
        let fromOne = Expression.sequence([stayOne, .choice([two, .sequence([one, any(zero), one])])])
        let stayTwo = any(.choice([zero, .sequence([two, any(zero), one])]))
        let fromTwo = Expression.sequence([stayTwo, .choice([one, .sequence([two, any(zero), two])])])
        return any(.choice([zero, .sequence([one, fromOne]), .sequence([two, fromTwo])]))
    }()
}

extension NumberText {
    /// Multiples of 0.5, 0.25 or 0.125 within bounds; nil if there are none.
    static func multiples(
        of step: NumberStep, _ minimum: NumberBound?, _ maximum: NumberBound?
    ) throws(GrammarError) -> Expression? {
        var unit = 1
        for _ in 0..<step.scale { unit *= 10 }
        if unit % step.numerator == 0 {
            var fractions: [Expression] = [.text(".0")]
            for value in stride(from: step.numerator, to: unit, by: step.numerator) {
                var digits = Array("\(unit + value)".utf8.dropFirst())
                while digits.last == UInt8(ascii: "0") { digits.removeLast() }
                fractions.append(.bytes([UInt8(ascii: ".")] + digits))
            }
            let ending = Expression.choice([.empty] + fractions)
            guard minimum != nil || maximum != nil else {
                return .sequence([.optional(.text("-")), magnitudes(0, 999_999_999_999), ending])
            }
            let all = Expression.sequence([.optional(.text("-")), magnitudes(0, 999_999_999_999), ending])
            return decimals(minimum, maximum).map { .intersection(all, $0) }
        }
        throw NumberStep.refusal(step.place)
    }
}
