// Tries a vocabulary against a place in a grammar: one pass through the trie, with the places of the nodes above the
// present one at hand, and a jump over each subtree whose first byte cannot follow.

extension PoolStorage {
    /// What a walk finds.
    struct Walk {
        var mask: TokenMask
        /// The inner nodes of the trie after which the text could end.
        var exits: [Int32] = []
        /// The highest stack that was met.
        var deepest: Int32 = 0
        /// The place of each node on the path, by depth.
        fileprivate var path: [PoolCursor]

        init(_ trie: TokenTrie) {
            mask = TokenMask(tokenCount: trie.tokenCount)
            path = [PoolCursor](repeating: .dead, count: trie.maxTokenBytes + 2)
        }

        /// Adds the tokens that end at a node of the trie.
        fileprivate mutating func insert(_ index: Int, _ trie: TrieNodes) {
            let token = trie.tokens[index]
            if token >= 0 {
                mask.insert(token)
            } else if token < -1 {
                for token in trie.equals[Int(-2 - token)] { mask.insert(token) }
            }
        }
    }

    /// Adds to `walk` the tokens below the trie's node `root` whose further bytes can follow at `start`.
    ///
    /// Where a place is several states at once, each is followed by itself if many tokens remain: the tokens are
    /// those of any of them, and one state is a look at a table where several are a search.
    mutating func walk(
        _ trie: TrieNodes, below root: Int, from start: PoolCursor, _ grammar: CompiledGrammar, _ walk: inout Walk
    ) {
        var waiting = [(root: root, cursor: start, forks: 0)]
        while let (root, cursor, forks) = waiting.popLast() {
            walk.path[Int(trie.depths[root])] = cursor
            var index = root + 1
            let end = Int(trie.ends[root])
            while index < end {
                let depth = Int(trie.depths[index])
                let next = step(walk.path[depth - 1], trie.bytes[index], grammar)
                let nodeEnd = Int(trie.ends[index])
                if next.isDead {
                    index = nodeEnd
                    continue
                }
                walk.path[depth] = next
                walk.insert(index, trie)
                if next.state < 0 {
                    walk.deepest = max(walk.deepest, depths[Int(next.node)])
                    if hasEmpty[Int(next.node)], nodeEnd > index + 1 { walk.exits.append(Int32(index)) }
                    if nodeEnd - index > 64, forks < 2, forkable(next.node, grammar) {
                        for entry in range(of: next.node) {
                            let cursor = PoolCursor(state: entries[entry].state, node: entries[entry].stack)
                            waiting.append((index, cursor, forks + 1))
                        }
                        index = nodeEnd
                        continue
                    }
                }
                index += 1
            }
        }
    }

    /// Whether a place is two to four states, all of them plain.
    private func forkable(_ node: Int32, _ grammar: CompiledGrammar) -> Bool {
        let range = range(of: node)
        return (2...4).contains(range.count) && entries[range].allSatisfy { isPlain($0, grammar) }
    }
}
