// Texts against grammars whose languages are known by heart, and grammars that must be refused.

import Grammars
import Testing

/// Whether the whole of `text` matches.
func matches(_ grammar: CompiledGrammar, _ text: some Sequence<UInt8>) -> Bool {
    var matcher = GrammarMatcher(grammar)
    return matcher.advance(text) && matcher.canEnd
}

func matches(_ grammar: CompiledGrammar, _ text: String) -> Bool { matches(grammar, text.utf8) }

func rules(_ bodies: [Expression]) -> Grammar {
    Grammar(
        rules: bodies.enumerated().map { Grammar.Rule(name: "rule\($0.offset)", body: $0.element) }, start: RuleID(0))
}

func rule(_ index: Int) -> Expression { .rule(RuleID(index)) }

@Suite struct MatcherTests {
    @Test func `a text is accepted byte by byte and refused where it leaves the grammar`() throws {
        let grammar = try CompiledGrammar(
            Grammar(.sequence([.text("ab"), .repetition(.text("c"), atLeast: 1, atMost: 3)])))
        for (text, expected) in [("abc", true), ("abccc", true), ("ab", false), ("abcccc", false), ("", false)] {
            #expect(matches(grammar, text) == expected, "\(text)")
        }
        var matcher = GrammarMatcher(grammar)
        #expect(matcher.forcedBytes() == Array("abc".utf8))
        let saved = matcher
        let reads = matcher.advance("abccc".utf8)
        let readsMore = matcher.advance(0x63)
        #expect(reads && !readsMore && matcher.mustEnd)
        matcher = saved
        #expect(!matcher.canEnd && matcher.state == saved.state)
    }

    @Test func `brackets nest as deep as the limit of the stack and never further`() throws {
        var limits = GrammarLimits()
        limits.stackDepth = 40
        let grammar = try CompiledGrammar(
            rules([.choice([.empty, .sequence([.text("["), rule(0), .text("]")])])]), limits: limits)
        #expect(matches(grammar, "") && matches(grammar, "[[]]") && !matches(grammar, "[[]"))
        var matcher = GrammarMatcher(grammar)
        var depth = 0
        while matcher.advance(UInt8(ascii: "[")) { depth += 1 }
        #expect((38...41).contains(depth))
        let closes = matcher.advance(repeatElement(UInt8(ascii: "]"), count: depth))
        #expect(closes && matcher.mustEnd)
    }

    @Test(arguments: [
        // E → E + n | n
        rules([.choice([.sequence([rule(0), .text("+"), .text("n")]), .text("n")])]),
        // The same through another rule, with an empty beginning.
        rules([rule(1), .choice([.sequence([rule(2), rule(0), .text("+"), .text("n")]), .text("n")]), .empty]),
        // E → E + E | n, as ambiguous as can be.
        rules([.choice([.sequence([rule(0), .text("+"), rule(0)]), .text("n"), rule(0)])]),
        // (n +)* n with a repetition of what may be empty.
        rules([
            .sequence([
                .repetition(.repetition(.text("n+"), atLeast: 0, atMost: 2), atLeast: 0, atMost: nil), .text("n"),
            ])
        ]),
    ])
    func `rules that begin with themselves match what they say`(grammar: Grammar) throws {
        let compiled = try CompiledGrammar(grammar)
        for (text, expected) in [
            ("n", true), ("n+n", true), ("n+n+n+n+n+n", true), ("n+", false), ("+n", false), ("nn", false), ("", false),
        ] { #expect(matches(compiled, text) == expected, "\(text)") }
        #expect(matches(compiled, String(repeating: "n+", count: 300) + "n"))
    }

    @Test func `characters are matched in UTF-8 and nothing else is`() throws {
        let ranges: [ClosedRange<Unicode.Scalar>] = ["b"..."y", "\u{80}"..."\u{D7FF}", "\u{1F600}"..."\u{1F64F}"]
        let grammar = try CompiledGrammar(Grammar(.scalar(ranges)))
        for value in UInt32(0)...0x10FFFF {
            guard
                value < 0x400 || value % 61 == 0 || (0x1F5F0...0x1F660).contains(value)
                    || value > 0xFFF0 && value < 0x10010,
                let scalar = Unicode.Scalar(value)
            else { continue }
            #expect(matches(grammar, String(scalar)) == ranges.contains { $0.contains(scalar) })
        }
        #expect(!matches(grammar, [0xC0, 0x80]) && !matches(grammar, [0xED, 0xA0, 0x80]) && !matches(grammar, [0x80]))
    }

    @Test func `a bound of a million costs few states and is exact`() throws {
        for (least, most) in [(0, 1_000), (700, 5_000), (3, 1_000_000), (1_500, nil)] as [(Int, Int?)] {
            let character = Expression.scalar(["a"..."z", "\u{E0}"..."\u{1FF}"])
            let grammar = try CompiledGrammar(
                Grammar(.sequence([.text("\""), .repetition(character, atLeast: least, atMost: most), .text("\"")])))
            #expect(grammar.stateCount < 6_000)
            var counts = [0, 1, least - 1, least, least + 1, 255, 256, 257, 511, 512, 513, 1_024, 4_999]
            if let most, most < 10_000 { counts += [most - 1, most, most + 1] }
            for count in counts where count >= 0 {
                let text = "\"" + String(repeating: "é", count: count) + "\""
                #expect(matches(grammar, text) == (count >= least && count <= most ?? .max), "\(least) \(count)")
            }
        }
    }

    @Test func `a list of a thousand long items calls them`() throws {
        let item = Expression.text("a long item that is repeated; ")
        let grammar = try CompiledGrammar(Grammar(.repetition(item, atLeast: 2, atMost: 1_000)))
        for count in [1, 2, 999, 1_000, 1_001] {
            let text = String(repeating: "a long item that is repeated; ", count: count)
            #expect(matches(grammar, text) == (2...1_000).contains(count), "\(count)")
        }
    }

    @Test func `both and one without the other are exact on regular parts`() throws {
        let letters = Expression.repetition(.byte(ByteSet(0x61...0x7A)), atLeast: 0, atMost: nil)
        let short = Expression.repetition(.scalar(["\0"..."\u{10FFFF}"]), atLeast: 1, atMost: 3)
        let both = try CompiledGrammar(Grammar(.intersection(letters, short)))
        let without = try CompiledGrammar(Grammar(.difference(letters, .choice([.text("if"), .text("for")]))))
        #expect(matches(both, "abc") && !matches(both, "abcd") && !matches(both, "") && !matches(both, "é"))
        #expect(matches(without, "i") && matches(without, "iff") && !matches(without, "if") && !matches(without, "for"))
    }

    @Test func `what nothing matches is refused`() throws {
        for body in [
            Expression.nothing, .sequence([.text("a"), rule(0)]), .intersection(.text("a"), .text("b")),
            .sequence([.text("a"), .byte(ByteSet())]),
        ] {
            #expect(
                throws: GrammarError.unsatisfiable(
                    place: "the rule 'rule0'", reason: "no text of any length matches it")
            ) {
                try CompiledGrammar(rules([body]))
            }
        }
        // A branch that cannot end is not entered.
        let grammar = try CompiledGrammar(
            rules([.choice([.text("ok"), rule(1)]), .sequence([.text("x"), rule(1)])]))
        var matcher = GrammarMatcher(grammar)
        let entersDeadEnd = matcher.advance("x".utf8)
        #expect(!entersDeadEnd && matcher.forcedBytes() == Array("ok".utf8))
        #expect(matches(try CompiledGrammar(Grammar(.empty)), ""))
    }
}
