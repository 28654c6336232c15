// What matchers of one grammar share: memory that fills up and is replaced, budgets of masks, many threads, and the
// limit of the stack.

import Grammars
import Testing

@Suite struct SharedMemoryTests {
    static let brackets = Grammar(
        rules: [
            Grammar.Rule(
                name: "value",
                body: .choice([
                    .repetition(.byte(ByteSet(0x61...0x63)), atLeast: 1, atMost: 4),
                    .sequence([.text("["), .repetition(.rule(RuleID(0)), atLeast: 0, atMost: nil), .text("]")]),
                    .sequence([.text("("), .repetition(.rule(RuleID(0)), atLeast: 1, atMost: 3), .text(")")]),
                ]))
        ], start: RuleID(0))

    static let trie = TokenTrie(
        tokens: ["a", "b", "ab", "[", "[[", "]", "]]", "](", "(", ")", ")]", "[]", "(a)", "[a", "c]", "((((", "))))"]
            .map { Array($0.utf8) }, endTokens: [])

    /// A random text by tokens, with what trying each token says about the masks on the way.
    static func walk(_ constraint: TokenGrammar, seed: UInt64, steps: Int) -> Int {
        var random = TestRandom(state: seed)
        var matcher = GrammarMatcher(constraint.grammar)
        var wrong = 0
        for _ in 0..<steps {
            let mask = constraint.mask(at: matcher)
            let allowed = (0..<trie.tokenCount).filter { constraint.isAllowed($0, at: matcher) }
            if allowed != (0..<trie.tokenCount).filter({ mask.contains($0) }) { wrong += 1 }
            guard let token = allowed.randomElement(using: &random) else {
                if !matcher.mustEnd { wrong += 1 }
                matcher = GrammarMatcher(constraint.grammar)
                continue
            }
            if !constraint.accept(token, &matcher) { wrong += 1 }
        }
        return wrong
    }

    @Test(arguments: [(40, 1 << 20, 512), (4_000, 300, 512), (1 << 18, 1 << 20, 24), (200, 2_000, 16)])
    func `masks stay right when memory is replaced and the stack is near its limit`(
        poolEntries: Int, maskBytes: Int, stackDepth: Int
    ) throws {
        var limits = GrammarLimits()
        limits.poolEntries = poolEntries
        limits.maskBytes = maskBytes
        limits.stackDepth = stackDepth
        let constraint = TokenGrammar(try CompiledGrammar(Self.brackets, limits: limits), trie: Self.trie)
        for seed in 0..<6 { #expect(Self.walk(constraint, seed: UInt64(seed), steps: 400) == 0) }
    }

    @Test func `a place is the same text in a new memory`() throws {
        var limits = GrammarLimits()
        limits.poolEntries = 30
        let grammar = try CompiledGrammar(Self.brackets, limits: limits)
        var kept = GrammarMatcher(grammar)
        let opens = kept.advance("[(a[b(".utf8)
        for seed in 0..<20 {
            var other = GrammarMatcher(grammar)
            _ = other.advance(String(repeating: "[(", count: seed).utf8)
        }
        var copy = kept
        let closes = copy.advance("c)])]".utf8)
        let tooMany = kept.advance("c)])]]".utf8)
        #expect(opens && closes && copy.mustEnd && !tooMany)
    }

    @Test func `many threads share one constraint`() async throws {
        var limits = GrammarLimits()
        limits.poolEntries = 500
        limits.maskBytes = 4_000
        let constraint = TokenGrammar(try CompiledGrammar(Self.brackets, limits: limits), trie: Self.trie)
        let wrong = await withTaskGroup(of: Int.self) { group in
            for seed in 0..<8 { group.addTask { Self.walk(constraint, seed: UInt64(seed), steps: 300) } }
            return await group.reduce(0, +)
        }
        #expect(wrong == 0)
    }

    @Test func `a grammar as ambiguous as can be costs bounded time`() throws {
        // S → S S | S S S | a, and sums of sums: the number of readings of n letters is exponential.
        let start = Expression.rule(RuleID(0))
        let grammar = try CompiledGrammar(
            Grammar(.choice([.sequence([start, start]), .sequence([start, start, start]), .text("a")])))
        var matcher = GrammarMatcher(grammar)
        let begin = try ProcessorTime.now()
        for _ in 0..<300 {
            let reads = matcher.advance(0x61)
            try #require(reads)
        }
        #expect(matcher.canEnd)
        #expect(try ProcessorTime.now() - begin < .seconds(3))
    }

    @Test func `which bytes no token spells is known`() {
        let trie = TokenTrie(tokens: (UInt8.min...UInt8.max).map { [$0] } + [[0x61, 0x62], nil], endTokens: [257])
        #expect(trie.missingBytes.isEmpty)
        #expect(Self.trie.missingBytes.count == 256 - 6)
    }

    @Test func `texts that the vocabulary cannot spell are left out`() throws {
        let words = Expression.choice([.text("ab"), .text("ax"), .text("(b")])
        let grammar = try CompiledGrammar(Grammar(words), unwritable: Self.trie.missingBytes)
        #expect(matches(grammar, "ab") && matches(grammar, "(b") && !matches(grammar, "ax"))
        #expect(throws: GrammarError.self) {
            try CompiledGrammar(Grammar(.text("x")), unwritable: Self.trie.missingBytes)
        }
    }
}
