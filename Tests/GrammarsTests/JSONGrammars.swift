// Grammars of JSON by hand, as the tests and the benchmark need them.

import Grammars

enum JSONGrammars {
    static let digit = Expression.byte(ByteSet(0x30...0x39))
    static let space = Expression.repetition(.byte(ByteSet([0x20, 0x0A])), atLeast: 0, atMost: 8)
    static let character = Expression.choice([
        .scalar([" "..."!", "#"..."[", "]"..."\u{10FFFF}"]),
        .sequence([.text("\\"), .byte(ByteSet(Array("\"\\/bfnrt".utf8)))]),
        .sequence([
            .text("\\u"),
            .repetition(.byte(ByteSet(Array("0123456789abcdefABCDEF".utf8))), atLeast: 4, atMost: 4),
        ]),
    ])
    static let number = Expression.sequence([
        .optional(.text("-")),
        .choice([.text("0"), .sequence([.byte(ByteSet(0x31...0x39)), .repetition(digit, atLeast: 0, atMost: nil)])]),
        .optional(.sequence([.text("."), .repetition(digit, atLeast: 1, atMost: nil)])),
        .optional(
            .sequence([
                .byte(ByteSet(Array("eE".utf8))), .optional(.byte(ByteSet(Array("+-".utf8)))),
                .repetition(digit, atLeast: 1, atMost: nil),
            ])),
    ])

    static func string(_ least: Int, _ most: Int?) -> Expression {
        .sequence([.text("\""), .repetition(character, atLeast: least, atMost: most), .text("\"")])
    }

    static func list(_ item: Expression, _ open: String, _ close: String) -> Expression {
        let more = Expression.sequence([space, .text(","), space, item])
        return .sequence([
            .text(open), space, .optional(.sequence([item, .repetition(more, atLeast: 0, atMost: nil), space])),
            .text(close),
        ])
    }

    /// Any JSON value.
    static let any: Grammar = {
        func rule(_ index: Int) -> Expression { .rule(RuleID(index)) }
        let member = Expression.sequence([rule(1), space, .text(":"), space, rule(0)])
        let bodies: [(String, Expression)] = [
            ("value", .choice([rule(1), rule(2), rule(3), rule(4), .text("true"), .text("false"), .text("null")])),
            ("string", string(0, nil)), ("number", number), ("object", list(member, "{", "}")),
            ("array", list(rule(0), "[", "]")),
        ]
        return Grammar(rules: bodies.map { Grammar.Rule(name: $0.0, body: $0.1) }, start: RuleID(0))
    }()

    /// An object with bounded strings, numbers, an enumeration and a list, and any JSON in its last member.
    static let person: Grammar = {
        var grammar = any
        func member(_ name: String, _ value: Expression) -> Expression {
            .sequence([.text("\"\(name)\":"), space, value, .text(","), space])
        }
        let tags = list(string(1, 20), "[", "]")
        let colors = Expression.choice(["\"red\"", "\"green\"", "\"dark blue\""].map { .text($0) })
        let object = Expression.sequence([
            .text("{"), space, member("name", string(1, 100)), member("age", number), member("color", colors),
            member("tags", tags), member("about", string(0, 2_000)), .text("\"other\": "), .rule(grammar.start),
            space, .text("}"),
        ])
        grammar.rules.append(Grammar.Rule(name: "person", body: object))
        grammar.start = RuleID(grammar.rules.count - 1)
        return grammar
    }()

    static let personText = """
        {"name": "Ada Lovelace, Countess", "age": 36.5, "color": "dark blue", "tags": ["analyst", "poet's daughter"],
        "about": "She wrote the first \\"program\\" — notes on Babbage's engine; été 1843. She wrote: we may say most aptly \
        that the Analytical Engine weaves algebraical patterns just as the Jacquard loom weaves flowers and leaves.",
        "other": {"born": [1815, 12, 10], "places": [{"city": "London", "lat": 51.5074, "lon": -1.278e-1}, null, true],
        "deep": [[[[{"a": [[], {}, "x"]}]]]], "unicode": "\\u00e9\\n"} }
        """
}
