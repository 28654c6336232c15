// Guesses that a sequence goes on as it did the last time its last few tokens stood in it ("prompt lookup").
//
// Every n-gram is indexed once, when the token after it is known, so a lookup costs a few probes however long the
// sequence is. Where the match runs into the end of the sequence the guess repeats itself, as LZ77 copies: a loop of
// three tokens is guessed as far as one asks.

/// The n-grams of one sequence.
package struct NGramProposer {
    /// Sizes of the n-grams, looked up from the largest to the smallest.
    private let sizes: ClosedRange<Int>
    /// The token after the latest occurrence of each n-gram, by its hash.
    private var continuations: [UInt64: Int32] = [:]
    /// Tokens whose preceding n-grams are indexed.
    private var indexedCount = 0

    /// An empty index.
    package init(sizes: ClosedRange<Int>) { self.sizes = sizes }

    /// Appends at most `count` guesses for what follows `tokens`, which are those of the call before and some more.
    package mutating func propose(_ count: Int, after tokens: [TokenID], into drafts: inout [TokenID]) {
        index(tokens)
        guard let start = continuation(of: tokens) else { return }
        let first = drafts.count
        for offset in 0..<count {
            let position = start + offset
            drafts.append(position < tokens.count ? tokens[position] : drafts[first + position - tokens.count])
        }
    }

    /// Position after the latest earlier occurrence of the longest known end of `tokens`.
    private func continuation(of tokens: [TokenID]) -> Int? {
        for size in sizes.reversed() where size < tokens.count {
            guard let found = continuations[Self.hash(tokens, endingAt: tokens.count, size: size)] else { continue }
            // Hashes may collide; a wrong guess would only cost time, but comparing costs less.
            let start = Int(found)
            if start >= size, tokens[(start - size)..<start].elementsEqual(tokens.suffix(size)) { return start }
        }
        return nil
    }

    private mutating func index(_ tokens: [TokenID]) {
        while indexedCount < tokens.count {
            for size in sizes where size <= indexedCount {
                continuations[Self.hash(tokens, endingAt: indexedCount, size: size)] = Int32(indexedCount)
            }
            indexedCount += 1
        }
    }

    private static func hash(_ tokens: [TokenID], endingAt end: Int, size: Int) -> UInt64 {
        var hash = UInt64(size)
        for position in (end - size)..<end {
            hash = (hash ^ UInt64(UInt32(bitPattern: tokens[position]))) &* 0x9e37_79b9_7f4a_7c15
            hash ^= hash >> 29
        }
        return hash
    }
}

/// One index per request, made when it first guesses.
package struct NGramDrafts: DraftProposer {
    private let sizes: ClosedRange<Int>
    private var proposers: [RequestID: NGramProposer] = [:]

    /// - Parameter sizes: of the n-grams.
    package init(sizes: ClosedRange<Int>) { self.sizes = sizes }

    package mutating func propose(
        _ count: Int, after tokens: [TokenID], for id: RequestID, into drafts: inout [TokenID]
    ) {
        proposers[id, default: NGramProposer(sizes: sizes)].propose(count, after: tokens, into: &drafts)
    }

    package mutating func forget(_ id: RequestID) { proposers[id] = nil }
}
