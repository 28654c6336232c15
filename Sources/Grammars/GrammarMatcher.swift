// Follows a text through a grammar, byte by byte. A matcher is a value: a copy is a number and two references, so
// trying a text and going back costs nothing.

import Synchronization

/// A place in a grammar. All calls are thread-safe; matchers of one grammar share their memory of visited states.
package struct GrammarMatcher: Sendable {
    /// What is matched.
    package let grammar: CompiledGrammar
    private(set) var pool: StatePool
    private(set) var node: Int32

    /// Before the first byte.
    package init(_ grammar: CompiledGrammar) {
        self.grammar = grammar
        pool = grammar.pool()
        node = pool.storage.withLock { storage in
            let start = grammar.tables.procedureStarts[0]
            let leadsOn = grammar.tables.kinds[Int(start)] != 0
            return storage.intern(
                leadsOn ? [PoolStorage.Entry(state: start, stack: PoolStorage.complete)] : [],
                hasEmpty: grammar.matchesEmpty)
        }
    }

    /// Reads `bytes`, or returns false and stays where it is when they cannot follow.
    package mutating func advance(_ bytes: some Sequence<UInt8>) -> Bool {
        refresh()
        let next = pool.storage.withLock { storage in
            storage.beginOperation()
            var cursor = storage.cursor(node, grammar)
            for byte in bytes {
                cursor = storage.step(cursor, byte, grammar)
                if cursor.isDead || storage.isExhausted { return PoolStorage.nothing }
            }
            return storage.node(of: cursor)
        }
        guard next != PoolStorage.nothing else { return false }
        node = next
        return true
    }

    /// Reads one byte, or returns false and stays where it is when it cannot follow.
    package mutating func advance(_ byte: UInt8) -> Bool { advance(CollectionOfOne(byte)) }

    /// The text may end here.
    package var canEnd: Bool { pool.storage.withLock { $0.hasEmpty[Int(node)] } }

    /// The text must end here: nothing can follow.
    package var mustEnd: Bool { node == PoolStorage.complete }

    /// The bytes that must follow: as long as the text cannot end and only one byte can come next, at most `limit`.
    package func forcedBytes(limit: Int = 1 << 10) -> [UInt8] {
        pool.storage.withLock { storage in
            storage.beginOperation()
            var node = node
            var forced: [UInt8] = []
            while forced.count < limit, !storage.hasEmpty[Int(node)], !storage.isExhausted,
                let byte = storage.onlyByte(at: node, grammar)
            {
                let next = storage.node(of: storage.step(storage.cursor(node, grammar), byte, grammar))
                guard next != PoolStorage.nothing else { break }
                node = next
                forced.append(byte)
            }
            return forced
        }
    }

    /// What may follow is the same wherever two matchers of one grammar have equal states. Unequal states may become
    /// equal after more text.
    package var state: GrammarState { GrammarState(generation: pool.generation, node: node) }

    /// Moves to the grammar's present memory of states when the one in use is full.
    mutating func refresh() {
        let current = grammar.pool()
        guard current !== pool else { return }
        let old = pool.storage.withLock { $0 }
        node = current.storage.withLock { $0.adopt(node, from: old) }
        pool = current
    }
}

/// Identifies a place in a grammar, as a key for caches.
package struct GrammarState: Hashable, Sendable {
    let generation: Int
    let node: Int32
}
