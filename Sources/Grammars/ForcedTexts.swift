// Texts that a grammar forces, as tokens. The bytes are certain; how the model divides them into tokens is its choice.
// A model that expects the text divides it as its tokenizer does. One that does not is led there by the mask, token by
// token, in its own way, and mostly takes the same way again: so what it chose at a place is guessed there next time.
//
// A guess costs a row of a step, and saves a step when it and all before it are right: how often they were is counted,
// and no more of them are offered than are likely to be.

import Synchronization

/// How a model divides texts into tokens; one for all grammars of a model. Thread-safe.
package final class TextDivision: Sendable {
    private struct Rates: Sendable {
        /// Of the tokenizer's divisions, where nobody has been before.
        var first = GuessRate()
        /// Of what was chosen at a place the last time.
        var later = GuessRate()
    }

    let encode: @Sendable (String) -> [Int32]
    private let kinds = Mutex(Rates())

    /// `encode` divides a text as the model's tokenizer does; by default nobody knows how.
    package init(encode: @escaping @Sendable (String) -> [Int32] = { _ in [] }) { self.encode = encode }

    /// How often guesses of either kind are right.
    var rates: (first: Double, later: Double) { kinds.withLock { ($0.first.value, $0.later.value) } }

    func record(isRight: Bool, isFirst: Bool) {
        kinds.withLock { rates in
            if isFirst { rates.first.record(isRight) } else { rates.later.record(isRight) }
        }
    }
}

/// How often guesses of one kind are right, lately.
private struct GuessRate: Sendable {
    /// Begins as if four guesses had been right nearly always: one is soon tried and found out.
    private var right = 3.8
    private var total = 4.0

    var value: Double { right / total }

    mutating func record(_ isRight: Bool) {
        if isRight { right += 1 }
        total += 1
        if total > 64 {
            right /= 2
            total /= 2
        }
    }
}

/// The guesses at the places of one grammar.
struct ForcedTexts: Sendable {
    struct Guess: Sendable {
        var token: Int32
        /// The place that it leads to.
        var next: GrammarMatcher
        /// Times that it was right, and that another was wrong here.
        var right = 0.0
        var wrong = 0.0
        /// Nobody has been here yet: it is the tokenizer's.
        var isNew = true

        /// How likely it is, given how often guesses are right elsewhere.
        func chance(_ rates: (first: Double, later: Double)) -> Double {
            isNew ? rates.first : (right + 2 * rates.later) / (right + wrong + 2)
        }
    }

    /// Bytes of forced text that are looked at; keys and phrases are shorter.
    private static let maxBytes = 512
    /// How likely a guess and all before it must be. Among eight streams a row costs six tenths of what it may save.
    private static let leastChance = 0.6
    /// Places remembered at most.
    private static let capacity = 1 << 13

    /// The generation of nodes that `guesses` speak of.
    private var generation = -1
    /// By node; nil where nothing is forced.
    private var guesses: [Int32: Guess?] = [:]

    /// The tokens that are likely to follow where `start` is, at most `limit`.
    mutating func tokens(
        at start: GrammarMatcher, _ trie: TokenTrie, _ division: TextDivision, limit: Int
    ) -> [Int32] {
        if generation != start.pool.generation || guesses.count >= Self.capacity {
            guesses = [:]
            generation = start.pool.generation
        }
        let rates = division.rates
        var chance = 1.0
        var tokens: [Int32] = []
        var matcher = start
        while tokens.count < limit, matcher.pool.generation == generation {
            if guesses[matcher.node] == nil { look(at: matcher, trie, division) }
            guard let guess = guesses[matcher.node] ?? nil else { break }
            chance *= guess.chance(rates)
            guard chance >= Self.leastChance else { break }
            tokens.append(guess.token)
            matcher = guess.next
        }
        return tokens
    }

    /// Learns from the token that the model chose.
    mutating func observe(_ token: Int32, from: GrammarMatcher, to: GrammarMatcher, _ division: TextDivision) {
        guard from.pool.generation == generation, var guess = guesses[from.node] ?? nil else { return }
        let isRight = guess.token == token
        division.record(isRight: isRight, isFirst: guess.isNew)
        if isRight {
            guess.right += 1
            if guess.right > 16 { guess.wrong /= 2 }
        } else {
            guess.token = token
            guess.next = to
            guess.right = 0
            if !guess.isNew { guess.wrong += 1 }
        }
        guess.isNew = false
        guesses[from.node] = guess
    }

    /// Guesses what the tokenizer would make of what is forced here, for this place and those on the way.
    private mutating func look(at start: GrammarMatcher, _ trie: TokenTrie, _ division: TextDivision) {
        guesses[start.node] = .some(nil)
        var matcher = start
        for token in Self.divide(matcher.forcedBytes(limit: Self.maxBytes), trie, division) {
            var next = matcher
            guard next.advance(trie.bytes(of: Int(token))), next.pool.generation == generation else { return }
            if (guesses[matcher.node] ?? nil) == nil { guesses[matcher.node] = Guess(token: token, next: next) }
            matcher = next
        }
    }

    /// The tokens of `bytes`, less what is not a whole character at the end.
    private static func divide(_ bytes: [UInt8], _ trie: TokenTrie, _ division: TextDivision) -> [Int32] {
        guard let text = text(bytes[...]) else { return [] }
        var rest = Array(text.utf8)[...]
        var tokens: [Int32] = []
        for token in division.encode(text) {
            // A tokenizer that puts a space before a text does not spell what is forced; then the longest tokens do.
            let spelled = trie.bytes(of: Int(token))
            guard !spelled.isEmpty, rest.starts(with: spelled) else { break }
            tokens.append(token)
            rest = rest.dropFirst(spelled.count)
        }
        while let token = trie.short.longest(prefixOf: rest) {
            tokens.append(token)
            rest = rest.dropFirst(trie.bytes(of: Int(token)).count)
        }
        return tokens
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> String? {
        for dropped in 0..<4 where dropped < bytes.count {
            if let text = String(validating: bytes.dropLast(dropped), as: UTF8.self) { return text }
        }
        return nil
    }
}

extension TokenGrammar {
    /// Tokens that spell what must follow where `matcher` is, at most `limit`: each is likely to be what the model
    /// chooses, and none is certain to be.
    package func forcedTokens(at matcher: GrammarMatcher, limit: Int) -> [Int32] {
        forcedTexts.withLock { $0.tokens(at: matcher, trie, division, limit: limit) }
    }

    /// Learns from a token that a model chose.
    package func observe(_ token: Int32, from: GrammarMatcher, to: GrammarMatcher) {
        forcedTexts.withLock { $0.observe(token, from: from, to: to, division) }
    }
}

extension TrieNodes {
    /// The token that is the longest beginning of `text`.
    func longest(prefixOf text: ArraySlice<UInt8>) -> Int32? {
        var found: Int32?
        var node = 0
        for byte in text {
            var child = node + 1
            while child < Int(ends[node]), bytes[child] != byte { child = Int(ends[child]) }
            guard child < Int(ends[node]) else { break }
            node = child
            let token = tokens[node]
            if token != -1 { found = token >= 0 ? token : equals[Int(-2 - token)].first }
        }
        return found
    }
}
