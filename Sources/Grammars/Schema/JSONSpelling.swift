// The one spelling of strings and names that a schema's grammar has, and the spelling of given values. One spelling
// for each string makes equality of strings equality of bytes.

import JSON

enum JSONSpelling {
    /// None, one space, or a line break and its indentation.
    static let space = Expression.optional(
        .choice([
            .text(" "),
            .sequence([.text("\n"), .repetition(.text(" "), atLeast: 0, atMost: 20)]),
        ]))

    /// Characters that stand for themselves in a string.
    private static let plain: [ClosedRange<Unicode.Scalar>] = [
        "\u{20}"..."\u{21}", "\u{23}"..."\u{5B}", "\u{5D}"..."\u{D7FF}", "\u{E000}"..."\u{10FFFF}",
    ]

    /// One character of a string: as itself where JSON permits that, else by the shortest escape.
    static let character = Expression.choice([
        .scalar(plain),
        .sequence([
            .text("\\"),
            .choice([
                .byte(ByteSet("\"\\nrtbf".utf8)),
                .sequence([
                    .text("u00"),
                    .choice([
                        .sequence([.text("0"), .byte(ByteSet("01234567be".utf8).union(ByteSet("f".utf8)))]),
                        .sequence([.text("1"), .byte(ByteSet("0123456789abcdef".utf8))]),
                    ]),
                ]),
            ]),
        ]),
    ])

    /// One character of a name that is made up: no control characters and no line ends.
    static let nameCharacter = Expression.choice([
        .scalar([
            "\u{20}"..."\u{21}", "\u{23}"..."\u{5B}", "\u{5D}"..."\u{7E}", "\u{A0}"..."\u{2027}",
            "\u{202A}"..."\u{D7FF}", "\u{E000}"..."\u{10FFFF}",
        ]), .sequence([.text("\\"), .byte(ByteSet("\"\\".utf8))]),
    ])

    /// One character of ASCII that is printed, or a line break or tab.
    static let commonCharacter = Expression.choice([
        .byte(ByteSet((0x20...0x7E).filter { $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") })),
        .sequence([.text("\\"), .byte(ByteSet("\"\\nrt".utf8))]),
    ])

    /// One character of a name where patterns decide which names are which.
    static let commonNameCharacter = Expression.choice([
        .byte(ByteSet((0x20...0x7E).filter { $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") })),
        .sequence([.text("\\"), .byte(ByteSet("\"\\".utf8))]),
    ])

    static func quoted(_ content: Expression) -> Expression { .sequence([.text("\""), content, .text("\"")]) }

    /// The bytes of `text` within quotes.
    static func content(_ text: String) -> [UInt8] { text.utf8.flatMap { escaped($0) } }

    /// How a byte of a string is spelled. Only ASCII is ever escaped.
    static func escaped(_ byte: UInt8) -> [UInt8] {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): return [UInt8(ascii: "\\"), byte]
        case 0x08: return Array("\\b".utf8)
        case 0x09: return Array("\\t".utf8)
        case 0x0A: return Array("\\n".utf8)
        case 0x0C: return Array("\\f".utf8)
        case 0x0D: return Array("\\r".utf8)
        case 0..<0x20:
            let digits = Array("0123456789abcdef".utf8)
            return Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        default: return [byte]
        }
    }

    private static let escapedBytes = (0..<0x20).map { UInt8($0) } + [UInt8(ascii: "\""), UInt8(ascii: "\\")]

    /// The spelling of the strings that `expression` matches. Spelling maps byte by byte and different bytes never
    /// begin alike, so that it can be done within intersections and differences. Depth is the expression's own.
    static func spelled(_ expression: Expression) -> Expression {
        switch expression {
        case .empty, .nothing, .rule: return expression
        case .bytes(let bytes): return .bytes(bytes.flatMap { escaped($0) })
        case .byte(let set):
            let escapes = ByteSet(escapedBytes)
            let own = set.intersection(escapes.inverted)
            let rest = escapedBytes.filter { set.contains($0) }
            return rest.isEmpty ? expression : .choice([.byte(own)] + rest.map { .bytes(escaped($0)) })
        case .scalar(let ranges):
            let rest = escapedBytes.filter { byte in ranges.contains { $0.contains(Unicode.Scalar(byte)) } }
            guard !rest.isEmpty else { return expression }
            return .choice([.scalar(plainPart(of: ranges))] + rest.map { .bytes(escaped($0)) })
        case .sequence(let parts): return .sequence(parts.map { spelled($0) })
        case .choice(let parts): return .choice(parts.map { spelled($0) })
        case .listing(let elements, let separator):
            return .listing(elements.map { $0.map(spelled) }, separator: spelled(separator))
        case .repetition(let body, let least, let most):
            return .repetition(spelled(body), atLeast: least, atMost: most)
        case .intersection(let first, let second): return .intersection(spelled(first), spelled(second))
        case .difference(let first, let second): return .difference(spelled(first), spelled(second))
        }
    }

    /// `ranges` without the characters that are escaped.
    private static func plainPart(of ranges: [ClosedRange<Unicode.Scalar>]) -> [ClosedRange<Unicode.Scalar>] {
        var result: [ClosedRange<Unicode.Scalar>] = []
        for range in ranges {
            for kept in plain where kept.overlaps(range) {
                result.append(max(kept.lowerBound, range.lowerBound)...min(kept.upperBound, range.upperBound))
            }
        }
        return result
    }
}

extension SchemaTranslation {
    /// Exactly `value`, with white space as elsewhere.
    mutating func literal(_ value: JSONValue) throws(GrammarError) -> Expression {
        try document.spend()
        switch value {
        case .null: return .text("null")
        case .bool(let flag): return .text(flag ? "true" : "false")
        case .integer(let integer): return .text("\(integer)")
        case .number(let number): return .text(value.exactInteger.map { "\($0)" } ?? "\(number)")
        case .string(let text): return JSONSpelling.quoted(.bytes(JSONSpelling.content(text)))
        case .array(let elements):
            var parts: [Expression] = []
            for element in elements {
                if !parts.isEmpty { parts.append(try comma()) }
                parts.append(try literal(element))
            }
            return parts.isEmpty
                ? .text("[]") : try enclosed("[", "]", SeparatedContent(filled: .sequence(parts), mayBeEmpty: false))
        case .object(let members):
            var parts: [Expression] = []
            for member in members {
                if !parts.isEmpty { parts.append(try comma()) }
                parts += [name(member.name), colon, try literal(member.value)]
            }
            return parts.isEmpty
                ? .text("{}") : try enclosed("{", "}", SeparatedContent(filled: .sequence(parts), mayBeEmpty: false))
        }
    }

    /// Exactly the name `text`, in quotes.
    func name(_ text: String) -> Expression { JSONSpelling.quoted(.bytes(JSONSpelling.content(text))) }
}
