// Finds the tokens that text may spell out ("<|im_end|>"), leftmost first and the longest of those that begin there,
// as the reference does. A byte that begins no such token costs one array read.

/// The spelled-out tokens of a vocabulary, as a trie.
struct ControlTokenTrie: Sendable {
    /// A token spelled out in a text.
    struct Match: Equatable {
        /// Where its spelling lies.
        var range: Range<Int>
        /// Which token it is.
        var token: Int32
    }

    /// [256] whether some token begins with the byte.
    private var beginsToken = [Bool](repeating: false, count: 256)
    /// (node, byte) to the node below; node 0 is the root.
    private var edges = PairTable(capacity: 256)
    /// [nodes] the token that ends at each node, or -1.
    private var tokenOfNode: [Int32] = [-1]

    /// Whether there are no tokens.
    var isEmpty: Bool { tokenOfNode.count == 1 }

    /// Adds a token spelled `spelling`, which must not be empty.
    mutating func insert(_ spelling: ArraySlice<UInt8>, token: Int32) {
        guard let first = spelling.first else { return }
        beginsToken[Int(first)] = true
        var node: UInt32 = 0
        for byte in spelling {
            var below = edges[node, UInt32(byte)]
            if below == PairTable.absent {
                below = UInt32(tokenOfNode.count)
                tokenOfNode.append(-1)
                edges.set(node, UInt32(byte), to: below)
            }
            node = below
        }
        tokenOfNode[Int(node)] = token
    }

    /// The token spelled exactly `spelling`, if there is one.
    func token(spelled spelling: some Sequence<UInt8>) -> Int32? {
        var node: UInt32 = 0
        for byte in spelling {
            node = edges[node, UInt32(byte)]
            if node == PairTable.absent { return nil }
        }
        let token = tokenOfNode[Int(node)]
        return token < 0 ? nil : token
    }

    /// The first token from `range.lowerBound` on that is spelled out wholly inside `range` of `bytes` and that
    /// `isAllowed` there; of those that begin together the longest.
    func firstMatch(
        in range: Range<Int>, of bytes: Span<UInt8>, isAllowed: (Match) -> Bool = { _ in true }
    ) -> Match? {
        for start in range where beginsToken[Int(bytes[start])] {
            var node: UInt32 = 0
            var longest: Match?
            for position in start..<range.upperBound {
                node = edges[node, UInt32(bytes[position])]
                if node == PairTable.absent { break }
                let token = tokenOfNode[Int(node)]
                if token >= 0 {
                    let match = Match(range: start..<(position + 1), token: token)
                    if isAllowed(match) { longest = match }
                }
            }
            if let longest { return longest }
        }
        return nil
    }
}
