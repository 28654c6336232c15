// Several grammars in one: their rules side by side, each reached by an expression.

import Grammars
import JSON

/// Gathers rules.
struct GrammarComposer {
    private var rules: [Grammar.Rule] = []

    /// Adds `grammar`; the expression stands for a text of it.
    mutating func add(_ grammar: Grammar) -> Expression {
        let offset = rules.count
        for rule in grammar.rules {
            rules.append(Grammar.Rule(name: rule.name, body: rule.body.shifted(by: offset)))
        }
        return .rule(RuleID(grammar.start.index + offset))
    }

    /// The grammar whose texts are those of `expression`.
    mutating func grammar(_ expression: Expression) -> Grammar {
        rules.append(Grammar.Rule(name: "root", body: expression))
        return Grammar(rules: rules, start: RuleID(rules.count - 1))
    }
}

extension Expression {
    /// The same expression where the rules begin at `offset`. As deep as the expression, which its maker bounds.
    fileprivate func shifted(by offset: Int) -> Expression {
        switch self {
        case .empty, .nothing, .bytes, .byte, .scalar: self
        case .sequence(let parts): .sequence(parts.map { $0.shifted(by: offset) })
        case .choice(let parts): .choice(parts.map { $0.shifted(by: offset) })
        case .listing(let elements, let separator):
            .listing(elements.map { $0.map { $0.shifted(by: offset) } }, separator: separator.shifted(by: offset))
        case .repetition(let part, let least, let most):
            .repetition(part.shifted(by: offset), atLeast: least, atMost: most)
        case .rule(let id): .rule(RuleID(id.index + offset))
        case .intersection(let left, let right): .intersection(left.shifted(by: offset), right.shifted(by: offset))
        case .difference(let left, let right): .difference(left.shifted(by: offset), right.shifted(by: offset))
        }
    }
}

extension ConstraintSource {
    /// Spaces and line feeds between reasoning and the text.
    private static let gap = Expression.repetition(.byte(ByteSet(" \n\r\t".utf8)), atLeast: 0, atMost: 4)

    /// The grammar of the whole text, reasoning included.
    func grammar() throws(GrammarError) -> Grammar {
        var composer = GrammarComposer()
        let text = try expression(&composer)
        let end = Expression.text(ServedModel.reasoningEnd)
        let anything = Expression.repetition(.scalar(Expression.anyScalar), atLeast: 0, atMost: nil)
        let thought = Expression.sequence([.difference(anything, .sequence([anything, end, anything])), end, Self.gap])
        switch reasoning {
        case .none: return composer.grammar(text)
        case .begun: return composer.grammar(.sequence([thought, text]))
        case .possible:
            let whole = Expression.sequence([Self.gap, .text(ServedModel.reasoningStart), thought])
            return composer.grammar(.sequence([.optional(whole), text]))
        }
    }

    private func expression(_ composer: inout GrammarComposer) throws(GrammarError) -> Expression {
        var forms: [Expression] = []
        if let shape { forms.append(try expression(shape, &composer)) }
        if let calls { forms.append(try calls.expression(&composer)) }
        return forms.count == 1 ? forms[0] : .choice(forms)
    }

    private func expression(
        _ shape: OutputShape, _ composer: inout GrammarComposer
    ) throws(GrammarError) -> Expression {
        var options = JSONSchema.Options()
        if isCompact { options.whitespace = .compact }
        switch shape {
        case .anyObject: return composer.add(try JSONSchema.anyObject(options: options))
        case .schema(let schema): return composer.add(try JSONSchema.grammar(for: schema, options: options))
        case .regex(let source): return try RegularExpression.expression(source, extent: .whole)
        case .choice(let texts): return try ChoiceList.expression(texts)
        case .grammar(let source): return composer.add(try GrammarText.grammar(source))
        }
    }
}
