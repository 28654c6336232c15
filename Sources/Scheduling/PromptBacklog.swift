// Prompt tokens that are still to be computed, by the size of the prompts they belong to.
//
// A short prompt overtakes long ones (Scheduler+Prompts), so how long it waits depends on who else is short. Sizes are
// told apart by powers of two, which makes adding and removing one operation each.

/// Prompts to be computed.
package struct PromptBacklog: Sendable, Equatable {
    /// [bit width of a prompt's tokens] All tokens of such prompts.
    private var tokensBySize = SIMD32<Int>()
    /// All tokens.
    package private(set) var tokens = 0

    package init() {}

    /// Counts `count` prompts of together `tokens` tokens in, or with `sign` −1 out, as prompts of their mean size.
    package mutating func add(tokens: Int, prompts count: Int = 1, sign: Int = 1) {
        self.tokens += sign * tokens
        tokensBySize[Self.size(tokens / max(1, count))] += sign * tokens
    }

    package static func += (left: inout PromptBacklog, right: PromptBacklog) {
        left.tokensBySize &+= right.tokensBySize
        left.tokens += right.tokens
    }

    /// The tokens that are computed before the last ones of a prompt of `tokens`, which comes now: those of prompts
    /// that it does not overtake, and half of each step for the first of the others.
    package func tokens(before tokens: Int) -> Int {
        // It overtakes what is at least twice as long: surely all that is two widths above.
        var others = 0
        for size in 0..<min(32, Self.size(tokens) + 2) { others += tokensBySize[size] }
        return others + min(self.tokens - others, others + tokens)
    }

    private static func size(_ tokens: Int) -> Int { min(31, Int.bitWidth - max(0, tokens).leadingZeroBitCount) }
}

extension Scheduler {
    /// The prompts that were begun and are not computed yet.
    package var promptBacklog: PromptBacklog {
        var backlog = PromptBacklog()
        for sequence in running where sequence.stage == .running && sequence.remainingTokenCount > 1 {
            backlog.add(tokens: sequence.remainingTokenCount)
        }
        return backlog
    }
}
