// Which rules match any text at all, and which one is to blame when the start rule does not.

/// Intersections and differences count as matching something: those that do not are found where they are made.
struct GrammarProductivity {
    private var isProductive: [Bool]

    init(_ rules: [Grammar.Rule]) {
        isProductive = rules.map { _ in false }
        var changed = true
        while changed {
            changed = false
            for index in rules.indices.reversed() where !isProductive[index] {
                guard matchesText(rules[index].body) else { continue }
                isProductive[index] = true
                changed = true
            }
        }
    }

    private func matchesText(_ expression: Expression) -> Bool {
        switch expression {
        case .nothing: false
        case .empty, .bytes, .byte, .scalar, .intersection, .difference: true
        case .sequence(let parts): parts.allSatisfy { matchesText($0) }
        case .choice(let parts): parts.contains { matchesText($0) }
        case .listing(let elements, _):
            elements.allSatisfy { !$0.isRequired || matchesText($0.expression) }
                && elements.contains { matchesText($0.expression) }
        case .repetition(let body, let least, _): least == 0 || matchesText(body)
        case .rule(let rule): isProductive[rule.index]
        }
    }

    /// The rule that leaves `start` without any text: the first, on the way from it, whose reason is known, or else
    /// the one where the way leads back. Nil if `start` matches something.
    func firstCause(
        from start: RuleID, in rules: [Grammar.Rule], isCause: (RuleID) -> Bool
    ) -> RuleID? {
        guard !isProductive[start.index] else { return nil }
        var rule = start
        var visited: Set<RuleID> = []
        while visited.insert(rule).inserted, !isCause(rule) {
            guard let next = barrenRule(in: rules[rule.index].body) else { return rule }
            rule = next
        }
        return rule
    }

    /// The first rule in `expression` that keeps it from matching.
    private func barrenRule(in expression: Expression) -> RuleID? {
        switch expression {
        case .rule(let rule): return isProductive[rule.index] ? nil : rule
        case .repetition(let body, let least, _): return least == 0 ? nil : barrenRule(in: body)
        case .listing(let elements, _):
            let required = elements.filter(\.isRequired)
            return barrenRule(in: .sequence((required.isEmpty ? elements : required).map(\.expression)))
        case .sequence(let parts), .choice(let parts):
            for part in parts where !matchesText(part) {
                if let rule = barrenRule(in: part) { return rule }
            }
            return nil
        default: return nil
        }
    }
}
