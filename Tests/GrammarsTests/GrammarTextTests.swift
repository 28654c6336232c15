// Written grammars in both languages: what they match, and where an error is.

import Grammars
import Testing

@Suite struct GrammarTextTests {
    static let arithmetic = """
        # sums and products, left recursive
        root ::= sum "\\n"?
        sum  ::= sum [-+] product
               | product
        product ::= product ("*" | "/") value | value
        value ::= number | "(" sum ")"   # groups
        number ::= [0-9]{1,3} ("." [0-9]+)?
        """

    static let lark = """
        // the same in Lark
        start: sum "\\n"?
        ?sum: sum ("+" | "-") product -> add
            | product
        product: product /[*\\/]/ value | value
        value.2: NUMBER | "(" sum ")"
        DIGIT: "0".."9"
        NUMBER: DIGIT~1..3 ["." DIGIT+]
        """

    @Test(arguments: [arithmetic, lark])
    func `sums are matched in either language`(source: String) throws {
        let grammar = try CompiledGrammar(try GrammarText.grammar(source))
        for (text, expected) in [
            ("1", true), ("1+2*3", true), ("(1.5-2)*(((3)))\n", true), ("999/1", true), ("1000", false), ("1+", false),
            ("(1", false), ("1.", false), ("", false), ("1--2", false),
        ] { #expect(matches(grammar, text) == expected, "\(text)") }
    }

    @Test func `each construct of GBNF means what it says`() throws {
        for (body, yes, no) in [
            (#""a\n\"\\\x41\u00e9\U0001F600""#, ["a\n\"\\Aé😀"], ["a"]),
            ("[^a-c\\]\\n]", ["d", "é", "]x".prefix(0) + "^"], ["a", "]", "\n", ""]),
            ("[a\\-c]+", ["a-c"], ["b"]), ("[a-]+", ["a-"], ["b"]), (". .", ["aé", "\n\n"], ["a"]),
            ("\"a\"{2} \"b\"{1,} \"c\"{,2}", ["aab", "aabbcc"], ["abc", "aabccc"]),
            ("(\"a\" |) \"b\"", ["ab", "b"], ["a"]), ("\"\"", [""], ["a"]), ("x-y\nx-y ::= \"z\"*", ["", "zz"], ["x"]),
            ("\"a\"  # comment \"b\"\n  \"c\"\n\n", ["ac"], ["a"]), ("(\"a\"+)*?", ["", "aa"], ["b"]),
        ] as [(String, [String], [String])] {
            let grammar = try CompiledGrammar(try GrammarText.grammar("root ::= " + body))
            for text in yes { #expect(matches(grammar, text), "\(body): \(text)") }
            for text in no { #expect(!matches(grammar, text), "\(body): \(text)") }
        }
    }

    @Test func `each construct of Lark means what it says`() throws {
        for (body, yes, no) in [
            ("\"SeLect\"i \" *\"", ["select *", "SELECT *"], ["selec *"]), ("/a|b+/ \"c\"", ["ac", "bbc"], ["abc"]),
            ("[\"a\"] \"b\"~2", ["abb", "bb"], ["ab"]), ("x~2..3\nx: \"a\" | \"b\"", ["ab", "bab"], ["a", "abab"]),
            ("A B\nA: /[0-9]/\nB.1: A+", ["123"], ["1"]), ("(\"a\" \"b\")+ -> pairs", ["abab"], ["aba"]),
            ("\"a\" // comment\n | \"b\" # another", ["a", "b"], ["ab"]),
            ("_x*\n!_x: \"\\\\\" \"\\n\"", ["\\\n"], ["\\"]),
        ] as [(String, [String], [String])] {
            let grammar = try CompiledGrammar(try GrammarText.grammar("start: " + body))
            for text in yes { #expect(matches(grammar, text), "\(body): \(text)") }
            for text in no { #expect(!matches(grammar, text), "\(body): \(text)") }
        }
    }

    @Test(arguments: [
        ("root ::= \"a", GrammarError.malformed(place: "line 1, column 10", reason: "this text has no closing quote")),
        ("root ::= a\n\nb ::= \"c\"", .malformed(place: "line 1, column 10", reason: "there is no rule 'a'")),
        (
            "root ::= \"a\"\nroot ::= \"b\"",
            .malformed(place: "line 2, column 1", reason: "the rule 'root' is defined twice")
        ),
        ("main ::= \"a\"", .malformed(place: "the grammar", reason: "it has no rule 'root'")),
        ("root ::= (\"a\"\nb ::= \"c\"", .malformed(place: "line 1, column 10", reason: "this '(' has no ')'")),
        ("root ::= \"a\")", .malformed(place: "line 1, column 13", reason: "')' has no '('")),
        ("root ::= [a\n", .malformed(place: "line 1, column 10", reason: "this '[' has no ']'")),
        ("root ::= [b-a]", .malformed(place: "line 1, column 11", reason: "the ends of a range are reversed")),
        ("root ::= \"a\"{3,2}", .malformed(place: "line 1, column 13", reason: "the bounds are reversed")),
        ("root ::= \"\\q\"", .malformed(place: "line 1, column 11", reason: "'\\q' is no escape")),
        ("root ::=\n  *", .malformed(place: "line 2, column 3", reason: "a text, a class, a name or '(' must be here")),
        ("root = \"a\"", .malformed(place: "line 1, column 6", reason: "'::=' must follow the name 'root'")),
        ("root ::= \"a\u{0}\"", .malformed(place: "line 1, column 12", reason: "a NUL cannot be part of a grammar")),
        ("", .malformed(place: "the grammar", reason: "it has no rule 'root'")),
        ("root ::= (=\"a\") \"a\"", .unsupported(place: "line 1, column 10", what: "look-ahead")),
        ("start: a\n%ignore \" \"\na: \"b\"", .unsupported(place: "line 2, column 1", what: "'%ignore'")),
        ("start: a{\"x\"}", .unsupported(place: "line 1, column 8", what: "a template")),
        ("start: /a/i", .unsupported(place: "line 1, column 11", what: "the flag 'i' of a regular expression")),
        ("start: \"x\" /a(?=b)/", .unsupported(place: "line 1, column 12, character 2", what: "look-around")),
        ("start: \"a\" ~ x", .malformed(place: "line 1, column 11", reason: "'~' needs a number")),
        (
            "start: \"b\"..\"a\"",
            .malformed(
                place: "line 1, column 8", reason: "a range needs a character at both ends, the lower first")
        ),
        ("root ::= \"a\"{1001}", .overBudget(what: "repetitions at line 1, column 14", value: 1_001, limit: 1_000)),
    ])
    func `an error names its line and column`(source: String, error: GrammarError) {
        #expect(throws: error) { try GrammarText.grammar(source) }
    }

    @Test func `bombs are refused or harmless`() throws {
        let deep = "root ::= " + String(repeating: "(", count: 5_000) + "\"a\"" + String(repeating: ")", count: 5_000)
        let long = "root ::= r0\n" + (0..<2_500).map { "r\($0) ::= r\($0 + 1) \"a\"?\n" }.joined() + "r2500 ::= \"b\"\n"
        let loop = "root ::= root | a | b\na ::= b?\nb ::= a* root*\n"
        let doubling =
            "root ::= r0\n" + (0..<40).map { "r\($0) ::= r\($0 + 1) r\($0 + 1)\n" }.joined() + "r40 ::= \"b\"\n"
        let left = "root ::= root \"a\" | b\nb ::= root \"b\" | c\nc ::= b \"c\" | \"d\"\n"
        let wide = "root ::= " + (0..<6_000).map { "\"w\($0)\"" }.joined(separator: "|")
        let blow = "root ::= [ab]* \"a\" " + String(repeating: "[ab] ", count: 40)
        let clock = ContinuousClock()
        for (index, source) in [deep, long, loop, doubling, left, wide, blow].enumerated() {
            let start = clock.now
            var refusal: GrammarError?
            do throws(GrammarError) {
                let grammar = try CompiledGrammar(try GrammarText.grammar(source))
                var matcher = GrammarMatcher(grammar)
                _ = matcher.forcedBytes()
                _ = matcher.advance(repeatElement(0x61, count: 2_000))
            } catch {
                refusal = error
            }
            #expect(clock.now - start < .seconds(2), "\(index)")
            if let refusal, case .malformed = refusal { Issue.record("\(index): \(refusal)") }
            #expect((refusal != nil) == [0, 1, 6].contains(index), "\(index): \(String(describing: refusal))")
        }
        #expect(throws: GrammarError.overBudget(what: "bytes of the grammar", value: 65_537, limit: 65_536)) {
            try GrammarText.grammar(String(repeating: " ", count: 65_537))
        }
    }
}
