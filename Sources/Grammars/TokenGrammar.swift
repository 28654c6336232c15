// Which tokens of a vocabulary may follow at a place in a grammar. The whole mask of a place is remembered; so is, for
// each state of the automaton, which tokens stay within its procedure and which subtrees of the trie leave it. Only the
// latter depend on what lies below on the stack, and they are few: most masks are a copy and a short walk.

import Synchronization

/// A grammar over a vocabulary. Thread-safe; one for all requests with the same constraint.
package final class TokenGrammar: Sendable {
    /// What texts are allowed.
    package let grammar: CompiledGrammar
    /// The tokens that spell them.
    package let trie: TokenTrie
    private let masks: Mutex<MaskCache>
    let forcedTexts: Mutex<ForcedTexts>
    let division: TextDivision

    /// Nothing is computed before the first mask. `division` is for texts that are forced.
    package init(_ grammar: CompiledGrammar, trie: TokenTrie, division: TextDivision = TextDivision()) {
        self.grammar = grammar
        self.trie = trie
        self.division = division
        forcedTexts = Mutex(ForcedTexts())
        masks = Mutex(MaskCache(limit: grammar.limits.maskBytes))
    }

    /// The tokens that may follow where `matcher` is: those with which the text so far is still the beginning of a text
    /// of the grammar, and the ends of text where it is a whole one.
    package func mask(at matcher: GrammarMatcher) -> TokenMask {
        masks.withLock { cache in
            if let known = cache.mask(of: matcher) { return known }
            let mask = matcher.pool.storage.withLock { storage in
                storage.beginOperation()
                let mask = computed(at: matcher.node, &storage, &cache)
                return storage.isExhausted ? TokenMask(tokenCount: trie.tokenCount) : mask
            }
            cache.insert(mask, for: matcher)
            return mask
        }
    }

    /// Whether `token` may follow where `matcher` is.
    package func isAllowed(_ token: Int, at matcher: GrammarMatcher) -> Bool {
        var copy = matcher
        return accept(token, &copy)
    }

    /// Reads `token`, or returns false and leaves `matcher` where it is when it may not follow. An end of text is
    /// accepted where the text can end, and moves nothing.
    package func accept(_ token: Int, _ matcher: inout GrammarMatcher) -> Bool {
        if trie.endTokens.contains(token) { return matcher.canEnd }
        let bytes = trie.bytes(of: token)
        return !bytes.isEmpty && matcher.advance(bytes)
    }

    private func computed(at node: Int32, _ storage: inout PoolStorage, _ cache: inout MaskCache) -> TokenMask {
        var parts: [(mask: StateMask, stack: Int32)] = []
        let room = Int32(grammar.limits.stackDepth) - grammar.tables.maxHeight - grammar.tables.maxLeftCalls
        for index in storage.range(of: node) {
            let entry = storage.entries[index]
            let part = stateMask(entry.state, &storage, &cache)
            // So high a stack that the limit may cut off what is allowed elsewhere.
            if storage.depths[Int(entry.stack)] + part.deepest > room { return walked(from: node, &storage) }
            parts.append((part, entry.stack))
        }
        let canEnd = storage.hasEmpty[Int(node)]
        if parts.count == 1, parts[0].mask.leavesNothing, !canEnd { return parts[0].mask.mask }
        var walk = PoolStorage.Walk(trie)
        for (part, stack) in parts {
            walk.mask.formUnion(part.mask.words)
            guard !part.leavesNothing else { continue }
            let below = storage.returned(to: stack, grammar)
            guard below != PoolStorage.complete, below != PoolStorage.nothing else { continue }
            let cursor = storage.cursor(below, grammar)
            for exit in part.exits { storage.walk(trie.short, below: Int(exit), from: cursor, grammar, &walk) }
            for exit in part.longExits { storage.walk(trie.long, below: Int(exit), from: cursor, grammar, &walk) }
        }
        return ended(walk.mask, canEnd)
    }

    /// The mask by a walk from the place itself.
    private func walked(from node: Int32, _ storage: inout PoolStorage) -> TokenMask {
        var walk = PoolStorage.Walk(trie)
        let cursor = storage.cursor(node, grammar)
        storage.walk(trie.short, below: 0, from: cursor, grammar, &walk)
        storage.walk(trie.long, below: 0, from: cursor, grammar, &walk)
        return ended(walk.mask, storage.hasEmpty[Int(node)])
    }

    private func ended(_ mask: TokenMask, _ canEnd: Bool) -> TokenMask {
        guard canEnd else { return mask }
        var mask = mask
        for token in trie.endTokens { mask.insert(Int32(token)) }
        return mask
    }

    private func stateMask(_ state: Int32, _ storage: inout PoolStorage, _ cache: inout MaskCache) -> StateMask {
        if let known = cache.stateMask(state) { return known }
        let node = storage.node(state, on: PoolStorage.complete)
        let cursor = storage.cursor(node, grammar)
        let outline = grammar.tables.outline(of: state)
        let alike = cache.candidates(outline).first { candidate in
            grammar.tables.areAlike(state, candidate.state, length: TokenTrie.shortBytes)
        }
        var result: StateMask
        if let alike {
            result = alike.mask
        } else {
            var walk = PoolStorage.Walk(trie)
            storage.walk(trie.short, below: 0, from: cursor, grammar, &walk)
            result = StateMask(mask: walk.mask, exits: walk.exits, deepest: max(walk.deepest, 1))
        }
        var long = PoolStorage.Walk(trie)
        storage.walk(trie.long, below: 0, from: cursor, grammar, &long)
        let tokens = trie.longTokens.filter { long.mask.contains(Int($0)) }
        result.deepest = max(result.deepest, long.deepest)
        let isShared = alike != nil && result.longTokens == tokens && result.longExits == long.exits
        if !isShared {
            for token in result.longTokens { result.mask.remove(token) }
            for token in tokens { result.mask.insert(token) }
            result.longTokens = tokens
            result.longExits = long.exits
        }
        cache.insert(result, for: state, outline, isShared: isShared)
        return result
    }
}

/// What one state of the automaton allows, whatever lies below it.
struct StateMask: Sendable {
    /// The tokens that stay in its procedure or in what it calls, or end exactly with it.
    var mask: TokenMask
    /// The nodes of the trie of short tokens at which the procedure may end, with bytes of tokens left.
    let exits: [Int32]
    /// The same of the trie of long tokens.
    var longExits: [Int32] = []
    /// The long tokens in `mask`.
    var longTokens: [Int32] = []
    /// The highest stack on the way.
    var deepest: Int32

    /// No token leaves the procedure.
    var leavesNothing: Bool { exits.isEmpty && longExits.isEmpty }
}

/// Masks within a budget of bytes: what was not used since half of the budget was last filled is dropped.
struct MaskCache: Sendable {
    private struct Half: Sendable {
        var states: [Int32: StateMask] = [:]
        /// States whose masks are not shared, by their outlines; a few of each, the latest last.
        var models: [UInt64: [Int32]] = [:]
        var places: [Int32: TokenMask] = [:]
        var bytes = 0
    }

    private let limit: Int
    private var young = Half()
    private var old = Half()
    /// The generation of nodes that `places` speak of.
    private var generation = -1

    init(limit: Int) { self.limit = limit }

    mutating func mask(of matcher: GrammarMatcher) -> TokenMask? {
        guard matcher.pool.generation == generation else { return nil }
        if let known = young.places[matcher.node] { return known }
        guard let known = old.places[matcher.node] else { return nil }
        insert(known, for: matcher)
        return known
    }

    mutating func insert(_ mask: TokenMask, for matcher: GrammarMatcher) {
        if matcher.pool.generation != generation {
            // Only a generation that is newer takes over; a place of an old one is not worth keeping.
            guard matcher.pool.generation > generation else { return }
            generation = matcher.pool.generation
            young.places = [:]
            old.places = [:]
        }
        makeRoom(mask.words.count * 4 + 64)
        young.places[matcher.node] = mask
    }

    mutating func stateMask(_ state: Int32) -> StateMask? {
        if let known = young.states[state] { return known }
        guard let known = old.states[state] else { return nil }
        makeRoom(known.mask.words.count * 4 + (known.exits.count + known.longExits.count) * 4 + 256)
        young.states[state] = known
        return known
    }

    /// States with this outline whose masks are known, the latest first.
    func candidates(_ outline: UInt64) -> [(state: Int32, mask: StateMask)] {
        [young, old].flatMap { half in
            (half.models[outline] ?? []).reversed().compactMap { state in half.states[state].map { (state, $0) } }
        }
    }

    mutating func insert(_ mask: StateMask, for state: Int32, _ outline: UInt64, isShared: Bool) {
        if isShared {
            makeRoom(128)
        } else {
            makeRoom(mask.mask.words.count * 4 + (mask.exits.count + mask.longExits.count) * 4 + 256)
            var models = young.models[outline] ?? []
            if models.count == 4 { models.removeFirst() }
            young.models[outline] = models + [state]
        }
        young.states[state] = mask
    }

    private mutating func makeRoom(_ bytes: Int) {
        if young.bytes + bytes > limit / 2 {
            old = young
            young = Half()
        }
        young.bytes += bytes
    }
}
