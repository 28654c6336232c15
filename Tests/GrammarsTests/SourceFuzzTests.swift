// Random sources made of the pieces that mean something: whatever they say, the answer is a grammar or a typed error
// within the budget, and a grammar that compiles can be followed to an end.

import Foundation
import Grammars
import Testing

@Suite struct SourceFuzzTests {
    static let executions = Int(ProcessInfo.processInfo.environment["APUS_FUZZ_EXECUTIONS"] ?? "") ?? 4_000

    static let expressionPieces = [
        "a", "b", "é", "(", ")", "(?:", "(?P<n>", "(?=", "[", "]", "[^", "-", "|", "*", "+", "?", "{2}", "{1,3}",
        "{,2}",
        "{9", "}", "^", "$", ".", "\\", "\\d", "\\W", "\\b", "\\x41", "\\u00e9", "\\u{1F600}", "\\p{L}", "\\1", "\\",
        "\0", "☃",
    ]
    static let gbnfPieces = [
        "root", "a", "b", " ", "\n", " ::= ", "\nroot ::= ", "\na ::= ", "\nb ::= ", "\"", "\"x\"", "[", "]", "[^", "-",
        "a-z",
        "(", ")", "|", "*", "+", "?", "{2}", "{1,", "}", "#", "\\", "\\n", "\\x4", ".", "\0", "é",
    ]
    static let larkPieces = [
        "start", "a", "B", " ", "\n", ": ", "\nstart: ", "\na: ", "\nB: ", "?", "!", "%ignore", "\"", "\"x\"", "\"x\"i",
        "/", "/y+/",
        "/\\", "..", "\"a\"..\"c\"", "(", ")", "[", "]", "|", "*", "+", "~2", "~1..", "~", "->", "//", "\\", ".1", "{",
        "\0",
    ]

    func source(_ pieces: [String], _ start: String, _ random: inout TestRandom) -> String {
        let count = Int.random(in: 0..<24, using: &random)
        return start + (0..<count).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
    }

    /// Compiles what `make` gives and follows it; a typed error is as good.
    func check(_ random: inout TestRandom, _ make: () throws(GrammarError) -> Grammar) -> Bool {
        var limits = GrammarLimits()
        limits.work = 1 << 17
        do throws(GrammarError) {
            let grammar = try CompiledGrammar(try make(), limits: limits)
            var matcher = GrammarMatcher(grammar)
            for _ in 0..<8 {
                let next = (UInt8.min...UInt8.max).filter { byte in
                    var copy = matcher
                    return copy.advance(byte)
                }
                guard let byte = next.randomElement(using: &random) else {
                    #expect(matcher.canEnd)
                    break
                }
                _ = matcher.advance(byte)
            }
            return true
        } catch {
            #expect(!error.description.isEmpty)
            return false
        }
    }

    @Test func `any source is a grammar or an error`() {
        var random = TestRandom(state: 17)
        var accepted = [0, 0, 0]
        for _ in 0..<Self.executions {
            let expression = source(Self.expressionPieces, "", &random)
            let gbnf = source(Self.gbnfPieces, "root ::= ", &random)
            let lark = source(Self.larkPieces, "start: ", &random)
            let extent: RegularExpression.Extent = random.chance(50) ? .whole : .anywhere
            if check(
                &random,
                { () throws(GrammarError) in
                    Grammar(try RegularExpression.expression(expression, extent: extent))
                })
            {
                accepted[0] += 1
            }
            if check(&random, { () throws(GrammarError) in try GrammarText.grammar(gbnf) }) { accepted[1] += 1 }
            if check(&random, { () throws(GrammarError) in try GrammarText.grammar(lark) }) { accepted[2] += 1 }
        }
        for count in accepted { #expect(count > Self.executions / 100, "\(accepted)") }
    }

    @Test(arguments: [
        "start: /a\\", "start: \"\\", "root ::= [\\", "root ::= \"\\", "start: a.", "%", "?", "start: /", "root",
    ])
    func `a source that stops in the middle is an error`(source: String) {
        #expect(throws: GrammarError.self) { try GrammarText.grammar(source) }
    }
}
