// A vocabulary as trees of bytes, flat and in pre-order: a walk goes through one from left to right and skips a subtree
// by jumping to its end. The few long tokens have a tree of their own, so that what the many short ones may do depends
// on no more than sixteen bytes ahead.

/// The texts of all tokens. Made once for each model.
package final class TokenTrie: Sendable {
    /// Bytes of the longest token in `short`.
    static let shortBytes = 16

    /// Tokens, control tokens included.
    package let tokenCount: Int
    /// The tokens that end a text; allowed where a text can end.
    package let endTokens: [Int]
    /// Bytes of the longest token.
    package let maxTokenBytes: Int

    let short: TrieNodes
    let long: TrieNodes
    /// The tokens in `long`.
    let longTokens: [Int32]
    private let text: [UInt8]
    private let textStarts: [Int32]

    /// Bytes that no token spells alone. Where only these may follow, perhaps no token can: compile grammars without.
    package let missingBytes: [UInt8]

    /// `tokens` are the bytes of each token; nil for control tokens, which are never allowed, as are empty ones. Tokens
    /// in `endTokens` spell nothing, whatever their bytes. At most 2^30 bytes in all, each token shorter than 2^16.
    package init(tokens source: [[UInt8]?], endTokens: [Int]) {
        let ending = Set(endTokens)
        let texts = source.indices.map { index in
            let text = ending.contains(index) ? [] : source[index] ?? []
            return text.count <= Int(UInt16.max) ? text : []
        }
        let order = texts.indices.filter { !texts[$0].isEmpty }
            .sorted { texts[$0].lexicographicallyPrecedes(texts[$1]) }
        var short = TrieNodes()
        var long = TrieNodes()
        var longTokens: [Int32] = []
        for token in order {
            if texts[token].count <= Self.shortBytes {
                short.append(texts[token], token: Int32(token))
            } else {
                long.append(texts[token], token: Int32(token))
                longTokens.append(Int32(token))
            }
        }
        short.close(to: 0)
        long.close(to: 0)
        let alone = Set(texts.filter { $0.count == 1 }.map { $0[0] })
        missingBytes = (UInt8.min...UInt8.max).filter { !alone.contains($0) }
        tokenCount = source.count
        self.endTokens = ending.sorted().filter { source.indices.contains($0) }
        self.short = short
        self.long = long
        self.longTokens = longTokens
        maxTokenBytes = texts.map(\.count).max() ?? 0
        text = Array(texts.joined())
        var starts: [Int32] = [0]
        for text in texts { starts.append((starts.last ?? 0) + Int32(text.count)) }
        textStarts = starts
    }

    /// What a token spells; empty for control tokens and ends.
    package func bytes(of token: Int) -> ArraySlice<UInt8> {
        guard (0..<tokenCount).contains(token) else { return [] }
        return text[Int(textStarts[token])..<Int(textStarts[token + 1])]
    }
}

/// A trie that grows by texts in ascending order.
struct TrieNodes: Sendable {
    /// The last byte of each node. Node 0 is the root and has none.
    private(set) var bytes: [UInt8] = [0]
    private(set) var depths: [UInt16] = [0]
    /// The node after each node's subtree.
    private(set) var ends: [Int32] = [0]
    /// The token that ends at each node; -1 is none, and -2 - i is the list i of `equals`.
    private(set) var tokens: [Int32] = [-1]
    /// Tokens with equal bytes.
    private(set) var equals: [[Int32]] = []
    /// The nodes from the root to the one added last.
    private var path: [Int] = [0]

    mutating func append(_ text: [UInt8], token: Int32) {
        var shared = 0
        while shared < text.count, shared + 1 < path.count, bytes[path[shared + 1]] == text[shared] { shared += 1 }
        close(to: shared + 1)
        for byte in text[shared...] {
            path.append(bytes.count)
            bytes.append(byte)
            depths.append(UInt16(path.count - 1))
            ends.append(0)
            tokens.append(-1)
        }
        let node = path[path.count - 1]
        switch tokens[node] {
        case -1: tokens[node] = token
        case 0...:
            equals.append([tokens[node], token])
            tokens[node] = -1 - Int32(equals.count)
        default: equals[Int(-2 - tokens[node])].append(token)
        }
    }

    /// Ends all subtrees but the first `count` of the path.
    mutating func close(to count: Int) {
        while path.count > count { ends[path.removeLast()] = Int32(bytes.count) }
    }
}
