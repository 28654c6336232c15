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
        /// The row of each node's state on the path, while it is plain.
        fileprivate var rows: [Int32]

        init(_ trie: TokenTrie) {
            mask = TokenMask(tokenCount: trie.tokenCount)
            path = [PoolCursor](repeating: .dead, count: trie.maxTokenBytes + 2)
            rows = [Int32](repeating: 0, count: trie.maxTokenBytes + 2)
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
        var waiting = [Subtree(root: root, cursor: start, forks: 0)]
        while let subtree = waiting.popLast() {
            if subtree.cursor.state >= 0 {
                plainWalk(trie, subtree, grammar, &walk, &waiting)
            } else {
                mixedWalk(trie, subtree, grammar, &walk, &waiting)
            }
        }
    }

    /// A subtree of the trie that is still to be tried.
    private struct Subtree {
        let root: Int
        let cursor: PoolCursor
        let forks: Int
    }

    /// Walks while bytes move within one procedure: a look at a table for each node. What leaves it waits.
    private mutating func plainWalk(
        _ trie: TrieNodes, _ subtree: Subtree, _ grammar: CompiledGrammar, _ walk: inout Walk,
        _ waiting: inout [Subtree]
    ) {
        let tables = grammar.tables
        let classes = Int(tables.classStarts[Int(subtree.cursor.state)])
        var path = walk.rows
        walk.rows = []
        path[Int(trie.depths[subtree.root])] = tables.rowStarts[Int(subtree.cursor.state)]
        var index = subtree.root + 1
        let end = Int(trie.ends[subtree.root])
        while index < end {
            let depth = Int(trie.depths[index])
            let column = Int(tables.classes[classes + Int(trie.bytes[index])])
            let next = tables.rows[Int(path[depth - 1]) + column]
            if next >= 0 {
                if tables.isPlain(next) {
                    path[depth] = tables.rowStarts[Int(next)]
                    walk.insert(index, trie)
                    index += 1
                    continue
                }
                let cursor = enter(next, on: subtree.cursor.node, grammar)
                if !cursor.isDead { arrive(at: index, cursor, subtree.forks, trie, grammar, &walk, &waiting) }
            }
            index = Int(trie.ends[index])
        }
        walk.rows = path
    }

    /// Walks through places that are more than a state.
    private mutating func mixedWalk(
        _ trie: TrieNodes, _ subtree: Subtree, _ grammar: CompiledGrammar, _ walk: inout Walk,
        _ waiting: inout [Subtree]
    ) {
        walk.path[Int(trie.depths[subtree.root])] = subtree.cursor
        var index = subtree.root + 1
        let end = Int(trie.ends[subtree.root])
        while index < end {
            let depth = Int(trie.depths[index])
            let next = step(walk.path[depth - 1], trie.bytes[index], grammar)
            let nodeEnd = Int(trie.ends[index])
            if next.isDead {
                index = nodeEnd
            } else if next.state >= 0 || nodeEnd - index > 64 {
                arrive(at: index, next, subtree.forks, trie, grammar, &walk, &waiting)
                index = nodeEnd
            } else {
                walk.path[depth] = next
                note(index, next, trie, &walk)
                index += 1
            }
        }
    }

    /// Notes a node of the trie that is reached at `cursor`, and what it takes to go on below it.
    private mutating func arrive(
        at index: Int, _ cursor: PoolCursor, _ forks: Int, _ trie: TrieNodes, _ grammar: CompiledGrammar,
        _ walk: inout Walk, _ waiting: inout [Subtree]
    ) {
        note(index, cursor, trie, &walk)
        let size = Int(trie.ends[index]) - index
        guard size > 1 else { return }
        guard cursor.state < 0, size > 64, forks < 2, isForkable(cursor.node, grammar) else {
            waiting.append(Subtree(root: index, cursor: cursor, forks: forks))
            return
        }
        for entry in range(of: cursor.node) {
            let cursor = PoolCursor(state: entries[entry].state, node: entries[entry].stack)
            waiting.append(Subtree(root: index, cursor: cursor, forks: forks + 1))
        }
    }

    private func note(_ index: Int, _ cursor: PoolCursor, _ trie: TrieNodes, _ walk: inout Walk) {
        walk.insert(index, trie)
        guard cursor.state < 0 else { return }
        walk.deepest = max(walk.deepest, depths[Int(cursor.node)])
        if hasEmpty[Int(cursor.node)], Int(trie.ends[index]) > index + 1 { walk.exits.append(Int32(index)) }
    }

    /// Whether a place is two to four states, all of them plain.
    private func isForkable(_ node: Int32, _ grammar: CompiledGrammar) -> Bool {
        let range = range(of: node)
        return (2...4).contains(range.count) && entries[range].allSatisfy { isPlain($0, grammar) }
    }
}
