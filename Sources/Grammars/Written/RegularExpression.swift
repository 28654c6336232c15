// Regular expressions as expressions: what is regular in ECMAScript's and Python's dialects. Where the two differ it is
// ECMAScript's reading (`\d`, `\w` are ASCII, `.` is no line end, `$` is the very end); what is not regular, or is read
// differently by different engines, is refused by name. Nothing is ever backtracked: this is only a translation.

/// Translates regular expressions.
package enum RegularExpression {
    /// How much of a text an expression must match.
    package enum Extent: Sendable {
        /// All of it.
        case whole
        /// Any part of it, as in JSON Schema's `pattern`: the rest is free unless `^` and `$` bind it.
        case anywhere
    }

    /// The texts that `pattern` matches. Places in errors are characters from 1, as "character 12".
    package static func expression(
        _ pattern: String, extent: Extent, limits: GrammarLimits = GrammarLimits()
    ) throws(GrammarError) -> Expression {
        guard pattern.utf8.count <= limits.regularExpressionBytes else {
            throw .overBudget(
                what: "bytes of the regular expression", value: pattern.utf8.count,
                limit: limits.regularExpressionBytes)
        }
        var parser = RegularExpressionParser(pattern, limits: limits)
        return try parser.parse().expression(extent)
    }
}

/// A part of a regular expression, apart by whether it must begin where the text begins and end where the text ends:
/// an anchor is then no assertion any more but a bit.
struct AnchoredExpression {
    /// By `begins | ends << 1`; nil matches nothing.
    private var variants: [Expression?]

    static let empty = AnchoredExpression(.empty)
    static let atBegin = AnchoredExpression(variants: [nil, .empty, nil, nil])
    static let atEnd = AnchoredExpression(variants: [nil, nil, .empty, nil])

    private init(variants: [Expression?]) { self.variants = variants }

    init(_ expression: Expression) { variants = [expression, nil, nil, nil] }

    /// The expression when there is no anchor in it.
    var free: Expression? { variants[1...].allSatisfy { $0 == nil } ? variants[0] : nil }

    func expression(_ extent: RegularExpression.Extent) -> Expression {
        let rest = Expression.repetition(.scalar(["\0"..."\u{10FFFF}"]), atLeast: 0, atMost: nil)
        var choices: [Expression] = []
        for (index, variant) in variants.enumerated() {
            guard let variant else { continue }
            var parts = [variant]
            if extent == .anywhere, index & 1 == 0 { parts.insert(rest, at: 0) }
            if extent == .anywhere, index & 2 == 0 { parts.append(rest) }
            choices.append(parts.count == 1 ? parts[0] : .sequence(parts))
        }
        return choices.count == 1 ? choices[0] : choices.isEmpty ? .nothing : .choice(choices)
    }

    static func choice(_ parts: [AnchoredExpression]) -> AnchoredExpression {
        if parts.count == 1 { return parts[0] }
        return AnchoredExpression(
            variants: (0..<4).map { index in
                let found = parts.compactMap { $0.variants[index] }
                return found.count <= 1 ? found.first : .choice(found)
            })
    }

    static func sequence(_ parts: [AnchoredExpression]) -> AnchoredExpression {
        let free = parts.compactMap(\.free)
        if free.count == parts.count { return AnchoredExpression(free.count == 1 ? free[0] : .sequence(free)) }
        var result = AnchoredExpression.empty
        for part in parts { result = joined(result, part) }
        return result
    }

    /// One after the other: what comes before the beginning of the text, or after its end, must be empty.
    private static func joined(_ first: AnchoredExpression, _ second: AnchoredExpression) -> AnchoredExpression {
        var found = [[Expression]](repeating: [], count: 4)
        for (i, left) in first.variants.enumerated() {
            for (j, right) in second.variants.enumerated() {
                guard let left, let right else { continue }
                switch (i & 2 != 0, j & 1 != 0) {
                case (false, false): found[i & 1 | j & 2].append(.sequence([left, right]))
                case (true, false): if matchesEmpty(right) { found[i & 1 | 2].append(left) }
                case (false, true): if matchesEmpty(left) { found[1 | j & 2].append(right) }
                case (true, true): if matchesEmpty(left), matchesEmpty(right) { found[3].append(.empty) }
                }
            }
        }
        return AnchoredExpression(
            variants: found.map { $0.count <= 1 ? $0.first : .choice($0) })
    }

    /// Recursion is bounded by the depth of groups.
    private static func matchesEmpty(_ expression: Expression) -> Bool {
        switch expression {
        case .empty: true
        case .bytes(let bytes): bytes.isEmpty
        case .sequence(let parts): parts.allSatisfy { matchesEmpty($0) }
        case .choice(let parts): parts.contains { matchesEmpty($0) }
        case .repetition(let body, let least, _): least == 0 || matchesEmpty(body)
        case .nothing, .byte, .scalar, .rule, .listing, .intersection, .difference: false
        }
    }
}
