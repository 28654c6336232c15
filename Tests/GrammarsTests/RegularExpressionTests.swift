// Regular expressions against what Python's `re` says, and against what cannot be guaranteed.

import Foundation
import Grammars
import JSON
import Testing

@Suite struct RegularExpressionTests {
    /// The fixture is not what its script writes.
    struct AnotherForm: Error {}

    static func compiled(
        _ pattern: String, _ extent: RegularExpression.Extent = .whole
    ) throws -> CompiledGrammar {
        try CompiledGrammar(Grammar(try RegularExpression.expression(pattern, extent: extent)))
    }

    /// As in the fixture; a pattern that nothing matches has no grammar.
    static func results(_ pattern: String, _ extent: RegularExpression.Extent, _ texts: [String]) throws -> [Bool] {
        do {
            let grammar = try compiled(pattern, extent)
            return texts.map { matches(grammar, $0) }
        } catch GrammarError.unsatisfiable {
            return texts.map { _ in false }
        }
    }

    @Test func `what is matched is what Python's re matches`() throws {
        let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Fixtures/regex/python-re.json")
        let fixture = try JSONParser.parse([UInt8](Data(contentsOf: path)))
        guard case .object(let members) = fixture, case .array(let values) = members[0].value,
            case .array(let rows) = members[1].value
        else { throw AnotherForm() }
        let allTexts = values.map { value in
            if case .string(let text) = value { text } else { "" }
        }
        var refused: [String] = []
        for row in rows {
            guard case .array(let pair) = row, case .string(let pattern) = pair[0], case .string(let text) = pair[1]
            else { throw AnotherForm() }
            let digits = text.map { $0.wholeNumberValue ?? 0 }
            do {
                let whole = try Self.results(pattern, .whole, allTexts)
                let anywhere = try Self.results(pattern, .anywhere, allTexts)
                for (index, digit) in digits.enumerated() {
                    #expect(whole[index] == (digit & 1 != 0), "\(pattern) on all of '\(allTexts[index])'")
                    #expect(anywhere[index] == (digit & 2 != 0), "\(pattern) on a part of '\(allTexts[index])'")
                }
            } catch GrammarError.unsupported {
                refused.append(pattern)
            }
        }
        #expect(rows.count > 250)
        #expect(refused.filter { !$0.contains("^") && !$0.contains("$") } == [])
        #expect(refused.count < 40, "\(refused)")
    }

    @Test(arguments: [
        ("a(b", GrammarError.malformed(place: "character 2", reason: "this '(' has no ')'")),
        ("ab)", .malformed(place: "character 3", reason: "')' has no '('")),
        ("[ab", .malformed(place: "character 1", reason: "this '[' has no ']'")),
        ("[b-a]", .malformed(place: "character 2", reason: "the ends of a range are reversed")),
        ("[\\d-a]", .malformed(place: "character 2", reason: "a range needs a character at both ends")),
        ("*a", .malformed(place: "character 1", reason: "there is nothing to repeat here")),
        ("a**", .malformed(place: "character 3", reason: "a quantifier follows a quantifier")),
        ("a{3,2}", .malformed(place: "character 2", reason: "the bounds of a quantifier are reversed")),
        ("a\\", .malformed(place: "character 2", reason: "a backslash at the end")),
        ("\\xg1", .malformed(place: "character 1", reason: "this escape needs 2 hexadecimal digits")),
        ("\\uD800", .malformed(place: "character 1", reason: "this escape is no character")),
        ("a\u{0}b", .malformed(place: "character 2", reason: "a NUL cannot be part of an expression")),
        ("(a)\\1", .unsupported(place: "character 4", what: "a back-reference")),
        ("a(?=b)", .unsupported(place: "character 2", what: "look-around")),
        ("(?<!b)a", .unsupported(place: "character 1", what: "look-around")),
        ("(?i)a", .unsupported(place: "character 1", what: "this kind of group")),
        ("\\bfoo", .unsupported(place: "character 1", what: "a word boundary")),
        ("a*+", .unsupported(place: "character 3", what: "a possessive quantifier")),
        (
            "a{,3}",
            .unsupported(place: "character 2", what: "'{,n}', which means different things to different engines")
        ),
        ("\\p{Greek}", .unsupported(place: "character 1", what: "the property 'Greek'")),
        ("(^a)+", .unsupported(place: "character 1", what: "an anchor that is repeated")),
    ])
    func `what cannot be read or guaranteed is refused with its place`(pattern: String, error: GrammarError) {
        #expect(throws: error) { try RegularExpression.expression(pattern, extent: .whole) }
    }

    @Test func `classes of characters are ECMAScript's and Unicode's`() throws {
        for (pattern, yes, no) in [
            ("\\p{L}+", ["aÉß", "字"], ["1", "a b"]), ("\\P{Lu}", ["a", "1"], ["É"]),
            ("\\p{Nd}", ["٣", "7"], ["Ⅷ", "x"]),
            ("\\d", ["7"], ["٣"]), ("\\s", ["\u{A0}", "\u{2028}"], ["\u{200B}"]),
            (".", ["\u{85}"], ["\r", "\u{2028}"]),
            ("[\\u{1F600}-\\u{1F64F}]", ["😀"], ["a"]), ("\\uD83D\\uDE00", ["😀"], ["😁"]),
            ("[^\\u{D7FF}-\\u{E000}]", ["a", "\u{E001}"], ["\u{D7FF}", "\u{E000}"]),
        ] {
            let grammar = try Self.compiled(pattern)
            for text in yes { #expect(matches(grammar, text), "\(pattern) \(text)") }
            for text in no { #expect(!matches(grammar, text), "\(pattern) \(text)") }
        }
    }

    @Test(arguments: [
        "(((a{1000}){1000}){1000}){1000}", "(a*)*", "((a*)*)*b", "(a|a)*b", "(a|b|ab)*c", "(.*.*.*.*.*)*x", "(x+x+)+y",
        "(a?){100}a{100}", "[a-z]*[0-9]{1000}", "(\\w{1,500}\\.){1,500}",
    ])
    func `nested quantifiers cost little`(pattern: String) throws {
        let clock = ContinuousClock()
        let start = clock.now
        let grammar = try Self.compiled(pattern)
        let cost = clock.now - start
        #expect(cost < .seconds(2), "\(cost)")
        var matcher = GrammarMatcher(grammar)
        let read = clock.measure { _ = matcher.advance(repeatElement(0x61, count: 5_000)) }
        #expect(read < .seconds(2), "\(read)")
    }

    @Test func `what would cost too much is refused in time`() throws {
        let bombs = [
            ".*a.{20}b", "(a?){1000}a{1000}", "(a|b)*a(a|b){500}", String(repeating: "(", count: 5_000),
            String(repeating: "a{9}", count: 1_025),
            "a{1001}", "a{99999999999999999999}", String(repeating: "(", count: 65) + String(repeating: ")", count: 65),
        ]
        for bomb in bombs {
            let clock = ContinuousClock()
            let start = clock.now
            var isRefused = false
            do {
                _ = try Self.compiled(bomb)
            } catch GrammarError.overBudget {
                isRefused = true
            }
            let cost = clock.now - start
            #expect(isRefused, "\(bomb.prefix(40))")
            #expect(cost < .seconds(2), "\(bomb.prefix(40)): \(cost)")
        }
    }

    @Test func `a list of choices is its texts and nothing else`() throws {
        let grammar = try CompiledGrammar(Grammar(try ChoiceList.expression(["yes", "yes", "yes, but", "né"])))
        for (text, expected) in [("yes", true), ("yes, but", true), ("né", true), ("yes,", false), ("", false)] {
            #expect(matches(grammar, text) == expected)
        }
        let many = try ChoiceList.expression((0..<4_096).map { "choice \($0)" })
        #expect(matches(try CompiledGrammar(Grammar(many)), "choice 4095"))
        #expect(throws: GrammarError.malformed(place: "choice", reason: "it must have at least one text")) {
            try ChoiceList.expression([])
        }
        #expect(throws: GrammarError.malformed(place: "choice[1]", reason: "a text to choose cannot be empty")) {
            try ChoiceList.expression(["a", ""])
        }
        #expect(throws: GrammarError.overBudget(what: "texts in choice", value: 4_097, limit: 4_096)) {
            try ChoiceList.expression((0..<4_097).map { "\($0)" })
        }
    }
}
