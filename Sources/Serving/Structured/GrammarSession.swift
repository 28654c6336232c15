// The grammar of an answer as the engine asks for it, token by token, and the end of reasoning that goes on too long.

import Grammars
import Scheduling

/// What all choices of one request share.
struct GrammarConstraint: TokenConstraint {
    /// nil allows all text.
    var grammar: TokenGrammar?
    /// nil lets the model think as long as it wants.
    var budget: ReasoningBudget?

    func makeSession() -> any TokenConstraintSession { GrammarSession(self) }
}

/// When reasoning is ended, and how.
struct ReasoningBudget: Sendable {
    let limit: Int
    /// Whether the prompt has begun the reasoning.
    let isOpen: Bool
    /// The tokens that end it.
    let closing: [TokenID]
    /// The vocabulary's texts.
    let bytes: @Sendable (TokenID) -> [UInt8]
}

/// One choice's place in its grammar.
final class GrammarSession: TokenConstraintSession {
    private let grammar: TokenGrammar?
    private var matcher: GrammarMatcher?
    private let budget: ReasoningBudget?
    private var thinking: ThinkingBudget
    private var reasoning: ReasoningParser
    /// Tokens that must come, in order.
    private var forced: ArraySlice<TokenID> = []
    /// What it accepts is only guessed.
    private var isAhead = false

    init(_ constraint: GrammarConstraint) {
        grammar = constraint.grammar
        matcher = constraint.grammar.map { GrammarMatcher($0.grammar) }
        budget = constraint.budget
        thinking = ThinkingBudget(limit: constraint.budget?.limit)
        reasoning = ReasoningParser(isOpen: constraint.budget?.isOpen ?? false)
        if let budget, budget.isOpen, thinking.isExhausted { forced = budget.closing[...] }
    }

    private init(at other: GrammarSession) {
        grammar = other.grammar
        matcher = other.matcher
        budget = other.budget
        thinking = other.thinking
        reasoning = other.reasoning
        forced = other.forced
        isAhead = true
    }

    func copy() -> any TokenConstraintSession { GrammarSession(at: self) }

    func forcedTokens(limit: Int) -> [TokenID] {
        if !forced.isEmpty { return Array(forced.prefix(limit)) }
        guard let grammar, let matcher else { return [] }
        return grammar.forcedTokens(at: matcher, limit: limit)
    }

    func accept(_ token: TokenID) -> Bool {
        if let first = forced.first, first != token { return false }
        if let grammar, var next = matcher {
            guard grammar.accept(Int(token), &next) else { return false }
            if !isAhead { grammar.observe(token, from: matcher ?? next, to: next) }
            matcher = next
        }
        forced = forced.dropFirst()
        count(token)
        return true
    }

    private func count(_ token: TokenID) {
        guard let budget, reasoning.isReasoning else { return }
        // Until it is begun the text may still be an answer without reasoning.
        thinking.count(isReasoning: reasoning.hasBegun)
        _ = reasoning.append(String(decoding: budget.bytes(token), as: UTF8.self))
        if thinking.isExhausted, reasoning.hasBegun, forced.isEmpty { forced = budget.closing[...] }
    }

    func fillMask(_ words: inout [UInt32]) {
        if let token = forced.first {
            for index in words.indices { words[index] = 0 }
            if token >= 0, Int(token) / 32 < words.count { words[Int(token) / 32] |= 1 << UInt32(token % 32) }
        } else if let grammar, let matcher {
            let mask = grammar.mask(at: matcher)
            for index in words.indices { words[index] = index < mask.words.count ? mask.words[index] : 0 }
        } else {
            for index in words.indices { words[index] = .max }
        }
    }

    var isComplete: Bool { forced.isEmpty && matcher?.canEnd ?? true }
}
