// A vocabulary as a tree of bytes, flat and in pre-order: a walk goes through it from left to right and skips a subtree
// by jumping to its end.

/// The texts of all tokens. Made once for each model.
package final class TokenTrie: Sendable {
    /// Tokens, control tokens included.
    package let tokenCount: Int
    /// The tokens that end a text; allowed where a text can end.
    package let endTokens: [Int]
    /// Bytes of the longest token.
    package let maxTokenBytes: Int

    /// The last byte of each node. Node 0 is the root and has none.
    let bytes: [UInt8]
    let depths: [UInt16]
    /// The node after each node's subtree.
    let ends: [Int32]
    /// The token that ends at each node; -1 is none, and -2 - i is the list i of `equals`.
    let tokens: [Int32]
    /// Tokens with equal bytes.
    let equals: [[Int32]]
    private let text: [UInt8]
    private let textStarts: [Int32]

    package var nodeCount: Int { bytes.count }

    /// `tokens` are the bytes of each token; nil for control tokens, which are never allowed, as are empty ones. Tokens
    /// in `endTokens` spell nothing, whatever their bytes. At most 2^30 bytes in all, each token shorter than 2^16.
    package init(tokens source: [[UInt8]?], endTokens: [Int]) {
        let ending = Set(endTokens)
        let spelled = source.indices.filter { index in
            !ending.contains(index) && (1...Int(UInt16.max)).contains(source[index]?.count ?? 0)
        }
        let texts = source.indices.map { ending.contains($0) ? [] : source[$0] ?? [] }
        let order = spelled.sorted { texts[$0].lexicographicallyPrecedes(texts[$1]) }
        var nodes = TrieNodes()
        for token in order { nodes.append(texts[token], token: Int32(token)) }
        nodes.close(to: 0)
        tokenCount = source.count
        self.endTokens = ending.sorted().filter { source.indices.contains($0) }
        maxTokenBytes = spelled.map { texts[$0].count }.max() ?? 0
        bytes = nodes.bytes
        depths = nodes.depths
        ends = nodes.ends
        tokens = nodes.tokens
        equals = nodes.equals
        text = Array(spelled.map { texts[$0] }.joined())
        var starts: [Int32] = [0]
        let isSpelled = Set(spelled)
        for index in source.indices {
            starts.append((starts.last ?? 0) + Int32(isSpelled.contains(index) ? texts[index].count : 0))
        }
        textStarts = starts
    }

    /// What a token spells; empty for control tokens and ends.
    package func bytes(of token: Int) -> ArraySlice<UInt8> {
        guard (0..<tokenCount).contains(token) else { return [] }
        return text[Int(textStarts[token])..<Int(textStarts[token + 1])]
    }
}

/// A trie that grows by texts in ascending order.
private struct TrieNodes {
    var bytes: [UInt8] = [0]
    var depths: [UInt16] = [0]
    var ends: [Int32] = [0]
    var tokens: [Int32] = [-1]
    var equals: [[Int32]] = []
    /// The nodes from the root to the one added last.
    private var path: [Int] = [0]

    mutating func append(_ text: [UInt8], token: Int32) {
        var shared = 0
        while shared < text.count, shared + 1 < path.count, bytes[path[shared + 1]] == text[shared] { shared += 1 }
        if shared < text.count || path.count > text.count + 1 { close(to: shared + 1) }
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
        while path.count > count {
            ends[path.removeLast()] = Int32(bytes.count)
        }
    }
}
