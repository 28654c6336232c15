// What a grammar looks like before anything is built: how large and how deep its expressions are, which rules refer
// to themselves, and which are small enough to be written in place of a reference.

struct GrammarShape {
    /// Rules that lead back to themselves.
    private(set) var isRecursive: [Bool]
    /// About how many states each rule takes with the rules it refers to; saturates.
    private(set) var weights: [Int]

    static let weightLimit = 1 << 20

    init(_ grammar: Grammar, limits: GrammarLimits, meter: inout WorkMeter) throws(GrammarError) {
        guard grammar.rules.indices.contains(grammar.start.index) else {
            throw .malformed(place: "the grammar", reason: "its start rule does not exist")
        }
        var references: [[Int32]] = []
        var nodes = 0
        for rule in grammar.rules {
            references.append(try Self.references(in: rule, of: grammar, limits: limits, nodes: &nodes))
        }
        try meter.spend(nodes * 4)
        let parts = stronglyConnectedParts(references)
        var sizes = [Int](repeating: 0, count: grammar.rules.count)
        for part in parts { sizes[Int(part)] += 1 }
        isRecursive = parts.indices.map { sizes[Int(parts[$0])] > 1 || references[$0].contains(Int32($0)) }
        weights = [Int](repeating: 1, count: grammar.rules.count)
        // What a rule refers to is in a part with a smaller number, or recursive.
        for index in parts.indices.sorted(by: { parts[$0] < parts[$1] }) {
            weights[index] = weight(of: grammar.rules[index].body)
        }
    }

    /// The rules that a rule mentions. Walks without recursion, so that it may meet any depth.
    private static func references(
        in rule: Grammar.Rule, of grammar: Grammar, limits: GrammarLimits, nodes: inout Int
    ) throws(GrammarError) -> [Int32] {
        var found: [Int32] = []
        var waiting: [(expression: Expression, depth: Int)] = [(rule.body, 1)]
        while let (expression, depth) = waiting.popLast() {
            nodes += 1
            guard nodes <= limits.expressionNodes else {
                throw .overBudget(what: "expressions of the constraint", value: nodes, limit: limits.expressionNodes)
            }
            guard depth <= limits.expressionDepth else {
                throw .overBudget(
                    what: "expressions inside one another in '\(rule.name)'", value: depth,
                    limit: limits.expressionDepth)
            }
            switch expression {
            case .empty, .nothing, .byte: break
            case .bytes(let bytes): nodes += bytes.count / 8
            case .scalar(let ranges): nodes += ranges.count
            case .sequence(let parts), .choice(let parts): waiting += parts.map { ($0, depth + 1) }
            case .listing(let elements, let separator):
                waiting += elements.map { ($0.expression, depth + 1) }
                waiting.append((separator, depth + 1))
            case .repetition(let body, let least, let most):
                guard least >= 0, most.map({ $0 >= least }) ?? true else {
                    throw .malformed(place: "the rule '\(rule.name)'", reason: "a repetition's bounds are reversed")
                }
                waiting.append((body, depth + 1))
            case .rule(let target):
                guard grammar.rules.indices.contains(target.index) else {
                    throw .malformed(
                        place: "the rule '\(rule.name)'", reason: "it refers to a rule that does not exist")
                }
                found.append(Int32(target.index))
            case .intersection(let first, let second), .difference(let first, let second):
                waiting += [(first, depth + 1), (second, depth + 1)]
            }
        }
        return found
    }

    /// About how many states `expression` takes. Its depth has been checked.
    func weight(of expression: Expression) -> Int {
        let weight: Int
        switch expression {
        case .empty, .nothing: weight = 0
        case .bytes(let bytes): weight = bytes.count
        case .byte: weight = 1
        case .scalar(let ranges): weight = ranges.allSatisfy { $0.upperBound.isASCII } ? 1 : 8
        case .sequence(let parts), .choice(let parts):
            weight = parts.reduce(0) { min($0 + self.weight(of: $1), Self.weightLimit) }
        case .listing(let elements, let separator):
            let inner = self.weight(of: separator) + 2
            weight = elements.reduce(0) { min($0 + self.weight(of: $1.expression) + inner, Self.weightLimit) }
        case .repetition(let body, let least, let most):
            let times = min(max(least, most ?? 1, 1), Self.weightLimit)
            weight = max(1, self.weight(of: body)) * times
        case .rule(let target): weight = isRecursive[target.index] ? 1 : weights[target.index]
        case .intersection(let first, let second), .difference(let first, let second):
            weight = self.weight(of: first) + self.weight(of: second)
        }
        return min(weight, Self.weightLimit)
    }

    /// Whether `expression` leads to a rule that refers to itself. Its depth has been checked; a rule's own body is
    /// not entered, so a rule counts when it is recursive itself.
    func mentionsRule(_ expression: Expression) -> Bool {
        switch expression {
        case .empty, .nothing, .bytes, .byte, .scalar, .intersection, .difference: false
        case .sequence(let parts), .choice(let parts): parts.contains { mentionsRule($0) }
        case .listing(let elements, let separator):
            mentionsRule(separator) || elements.contains { mentionsRule($0.expression) }
        case .repetition(let body, _, _): mentionsRule(body)
        case .rule: true
        }
    }
}
