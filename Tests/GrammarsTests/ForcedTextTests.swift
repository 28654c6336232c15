// Texts that a grammar forces, as guesses of tokens: whatever is guessed, the masks allow it, and it spells what must
// come; and it is what the model chose the last time.

import Grammars
import Testing

@Suite struct ForcedTextTests {
    private static let pieces = [
        "a", "b", "c", "d", "e", "ab", "cd", "abc", "\"", "\":", ":", "é", "\u{C3}", "x", " ", " a", "de",
    ]
    /// Single bytes of é come last.
    private static let trie = TokenTrie(
        tokens: pieces.map { Array($0.utf8) } + [[0xC3], [0xA9], [0xA8]], endTokens: [])

    private static func token(_ text: String) throws -> Int32 {
        Int32(try #require(pieces.firstIndex(of: text)))
    }

    /// Divides a text into the shortest tokens, as nobody would.
    private static func shortest() -> TextDivision {
        TextDivision { text in
            text.unicodeScalars.compactMap { scalar in pieces.firstIndex(of: String(scalar)).map { Int32($0) } }
        }
    }

    private static func grammar(_ expression: Expression, _ division: TextDivision) throws -> TokenGrammar {
        TokenGrammar(try CompiledGrammar(Grammar(expression)), trie: trie, division: division)
    }

    private func forced(_ grammar: TokenGrammar, after text: String = "", limit: Int = 16) throws -> [Int32] {
        var matcher = GrammarMatcher(grammar.grammar)
        let isRead = matcher.advance(text.utf8)
        #expect(isRead)
        let tokens = grammar.forcedTokens(at: matcher, limit: limit)
        var copy = matcher
        for token in tokens {
            let isAllowed = grammar.mask(at: copy).contains(Int(token))
            let isAccepted = grammar.accept(Int(token), &copy)
            #expect(isAllowed && isAccepted)
        }
        return tokens
    }

    @Test func `what is forced is divided as the tokenizer does, up to a limit and to the first choice`() throws {
        let grammar = try Self.grammar(
            .sequence([.text("abcde"), .choice([.text("x"), .text("\"")])]), Self.shortest())
        #expect(try forced(grammar) == ["a", "b", "c", "d", "e"].map(Self.token))
        #expect(try forced(grammar, limit: 2) == ["a", "b"].map(Self.token))
        #expect(try forced(grammar, after: "abc") == ["d", "e"].map(Self.token))
        #expect(try forced(grammar, after: "abcde").isEmpty)
        #expect(try forced(grammar, after: "abcdex").isEmpty)
    }

    @Test func `where the tokenizer spells something else, the longest tokens do`() throws {
        let spaced = TextDivision { text in text.hasPrefix("a") ? [15, 1, 2] : [] }
        #expect(try forced(Self.grammar(.text("abcd"), spaced)) == ["abc", "d"].map(Self.token))
        #expect(try forced(Self.grammar(.text("cde"), spaced)) == ["cd", "e"].map(Self.token))
    }

    @Test func `half a character at the end of what is forced is left for later`() throws {
        let grammar = try Self.grammar(
            .sequence([.text("ab"), .byte(ByteSet([0xC3])), .byte(ByteSet([0xA8, 0xA9]))]), TextDivision())
        #expect(try forced(grammar) == [Self.token("ab")])
    }

    @Test func `the model's own way is guessed where it went it before`() throws {
        let grammar = try Self.grammar(.sequence([.text("abcde"), .optional(.text("x"))]), Self.shortest())
        let own = try ["ab", "cd", "e"].map(Self.token)
        for visit in 0..<4 {
            var matcher = GrammarMatcher(grammar.grammar)
            let guessed = grammar.forcedTokens(at: matcher, limit: 16)
            #expect(visit > 0 ? guessed == own : guessed.count == 5)
            for token in own {
                let place = matcher
                let isAccepted = grammar.accept(Int(token), &matcher)
                #expect(isAccepted)
                grammar.observe(token, from: place, to: matcher)
                _ = grammar.forcedTokens(at: matcher, limit: 16)
            }
        }
    }

    @Test func `a tokenizer whose division is not the model's is not asked any more, until it is`() throws {
        let division = Self.shortest()
        func visit(_ tokens: [String]) throws -> [Int32] {
            let grammar = try Self.grammar(.text("abcde"), division)
            var matcher = GrammarMatcher(grammar.grammar)
            let guessed = grammar.forcedTokens(at: matcher, limit: 16)
            for token in try tokens.map(Self.token) {
                let place = matcher
                let isAccepted = grammar.accept(Int(token), &matcher)
                #expect(isAccepted)
                grammar.observe(token, from: place, to: matcher)
                _ = grammar.forcedTokens(at: matcher, limit: 16)
            }
            return guessed
        }
        #expect(try visit(["abc", "de"]).count == 5)
        // What is less sure is guessed less far.
        #expect(try visit(["abc", "de"]).count == 1)
        #expect(try visit(["abc", "de"]).isEmpty)
        var counts: [Int] = []
        for _ in 0..<40 { counts.append(try visit(["a", "b", "c", "d", "e"]).count) }
        #expect(counts.first == 0 && counts.last == 5 && counts == counts.sorted())
    }

    @Test func `guesses survive the memory of states being replaced`() throws {
        var limits = GrammarLimits()
        limits.poolEntries = 64
        let body = Expression.sequence([.text("abc"), .repetition(.byte(ByteSet("de".utf8)), atLeast: 2, atMost: 40)])
        let grammar = TokenGrammar(
            try CompiledGrammar(
                Grammar(.repetition(.sequence([body, .text("x")]), atLeast: 1, atMost: nil)), limits: limits),
            trie: Self.trie, division: Self.shortest())
        var matcher = GrammarMatcher(grammar.grammar)
        for round in 0..<40 {
            let tail = (0..<round % 30 + 2).map { $0 % 3 == 0 ? "d" : "e" }.joined()
            let isRead = matcher.advance(("abc" + tail + "x").utf8)
            #expect(isRead)
            let guessed = grammar.forcedTokens(at: matcher, limit: 16)
            #expect(try guessed.isEmpty || guessed == ["a", "b", "c"].map(Self.token))
        }
    }
}
