// How many tokens a model may think. The one who samples asks after each token whether the closing marker must come
// now, and makes it come; the count goes on only while the reasoning does.

/// Counts the tokens of the reasoning against a limit.
package struct ThinkingBudget: Sendable {
    /// Tokens of reasoning after which it must close; nil is without limit.
    package let limit: Int?
    /// Tokens counted so far.
    package private(set) var used = 0

    package init(limit: Int?) { self.limit = limit }

    /// Counts one token.
    /// - Parameter isReasoning: whether the text is in its reasoning with it (`ReasoningParser.isReasoning`).
    package mutating func count(isReasoning: Bool) {
        if isReasoning { used += 1 }
    }

    /// Whether the closing marker must come next, if the reasoning is not closed.
    package var isExhausted: Bool { limit.map { used >= $0 } ?? false }
}
