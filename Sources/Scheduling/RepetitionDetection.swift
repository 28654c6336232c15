// Ends a sequence that repeats itself: its last tokens are one pattern, several times in a row.

/// When a sequence counts as repeating itself.
package struct RepetitionDetection: Sendable, Equatable {
    /// Sizes of patterns that are looked for, in tokens.
    package let patternSizes: ClosedRange<Int>
    /// Times the pattern must stand in a row.
    package let minCount: Int

    package init(patternSizes: ClosedRange<Int>, minCount: Int) {
        self.patternSizes = patternSizes
        self.minCount = minCount
    }

    /// Whether `tokens` end in a repeated pattern.
    func finds(in tokens: ArraySlice<TokenID>) -> Bool {
        for size in patternSizes {
            let span = size * minCount
            if span > tokens.count { return false }
            let last = tokens.suffix(span)
            // A run with period `size`: each token is the one `size` before it.
            if zip(last, last.dropFirst(size)).allSatisfy({ $0 == $1 }) { return true }
        }
        return false
    }
}
