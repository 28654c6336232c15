// Which tokens may come next, one bit for each.

/// A set of tokens: token t is bit t % 32 of word t / 32.
package struct TokenMask: Sendable, Equatable {
    package internal(set) var words: [UInt32]

    /// No token of a vocabulary of `tokenCount`.
    init(tokenCount: Int) { words = [UInt32](repeating: 0, count: (tokenCount + 31) / 32) }

    init(words: [UInt32]) { self.words = words }

    /// Whether `token` is in the set.
    package func contains(_ token: Int) -> Bool {
        guard token >= 0, token / 32 < words.count else { return false }
        return words[token / 32] >> UInt32(token % 32) & 1 != 0
    }

    /// Tokens in the set.
    package var count: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

    /// No token may come: only after `GrammarMatcher` has given up on a grammar that is too ambiguous.
    package var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

    @inline(__always) mutating func insert(_ token: Int32) {
        words[Int(token) >> 5] |= 1 << (UInt32(bitPattern: token) & 31)
    }

    mutating func remove(_ token: Int32) { words[Int(token) >> 5] &= ~(1 << (UInt32(bitPattern: token) & 31)) }

    mutating func formUnion(_ other: [UInt32]) {
        for index in words.indices { words[index] |= other[index] }
    }
}
