// The formats of strings. Each is a regular language that lies within what its standard permits: rare forms are left
// out, wrong ones never get in.

import JSON

enum SchemaFormat {
    /// How long the strings of a format are; nil where they have no end.
    static func lengths(of format: String) -> (least: Int, most: Int?) {
        switch format {
        case "date": (10, 10)
        case "time": (9, 24)
        case "date-time": (20, 35)
        case "duration": (3, 62)
        case "email", "idn-email": (6, 267)
        case "hostname", "idn-hostname": (1, 243)
        case "ipv4": (7, 15)
        case "ipv6": (2, 39)
        case "json-pointer": (0, nil)
        case "uri", "iri", "uri-reference", "iri-reference": (3, nil)
        default: (36, 36)
        }
    }

    /// A smaller automaton for strings of at most `limit` characters, where lengths are counted as well; nil for a
    /// format that needs none.
    static func counted(_ format: String) -> (content: Expression, limit: Int)? {
        switch format {
        // No part of a name of 63 characters can be too long.
        case "email", "idn-email": (shortEmail, 63)
        case "hostname", "idn-hostname": (shortHostname, 63)
        case "uri", "iri", "uri-reference", "iri-reference": (plainURI, 256)
        default: nil
        }
    }

    /// What stands between the quotes; nil for a format that says nothing about strings.
    static func content(of format: Placed<String>) throws(GrammarError) -> Expression? {
        switch format.value {
        case "date": return date
        case "time": return time
        case "date-time": return .sequence([date, .text("T"), time])
        case "duration": return duration
        case "email", "idn-email": return email
        case "hostname", "idn-hostname": return hostname
        case "ipv4": return ipv4
        case "ipv6": return ipv6
        case "uri", "iri", "uri-reference", "iri-reference": return uri
        case "uuid": return uuid(version: hexadecimal)
        case "uuid1", "uuid3", "uuid4", "uuid5", "uuid6", "uuid7", "uuid8":
            return uuid(version: .bytes([format.value.utf8.last ?? 0]))
        case "json-pointer": return jsonPointer
        // OpenAPI's formats of numbers; of a string they say nothing.
        case "int32", "int64", "float", "double", "password": return nil
        default:
            throw GrammarError.unsupported(
                place: format.place.description, what: "the format \(JSONValue.quoted(format.value))")
        }
    }

    // MARK: Pieces

    private static let digit = NumberText.digit

    private static func set(_ characters: String) -> Expression { .byte(ByteSet(characters.utf8)) }

    private static func times(_ expression: Expression, _ least: Int, _ most: Int?) -> Expression {
        .repetition(expression, atLeast: least, atMost: most)
    }

    private static func exactly(_ expression: Expression, _ count: Int) -> Expression {
        times(expression, count, count)
    }

    private static func pair(_ first: String, _ second: String) -> Expression { .sequence([set(first), set(second)]) }

    private static let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    private static let digits = "0123456789"
    private static let hexadecimal = set("0123456789abcdefABCDEF")

    // MARK: Days and times

    /// Days that exist, from 0001-01-01 to 9999-12-31.
    private static let date: Expression = {
        let year = Expression.choice([
            .sequence([set("123456789"), exactly(digit, 3)]),
            .sequence([.text("0"), set("123456789"), exactly(digit, 2)]),
            .sequence([.text("00"), set("123456789"), digit]),
            .sequence([.text("000"), set("123456789")]),
        ])
        let multipleOfFour = Expression.choice([
            .sequence([.text("0"), set("48")]), pair("2468", "048"), pair("13579", "26"),
        ])
        let leapYear = Expression.choice([
            .sequence([exactly(digit, 2), multipleOfFour]), .sequence([multipleOfFour, .text("00")]),
        ])
        let to28 = Expression.choice([
            .sequence([.text("0"), set("123456789")]), .sequence([.text("1"), digit]), pair("2", "012345678"),
        ])
        let to30 = Expression.choice([to28, .text("29"), .text("30")])
        let thirty = Expression.choice([.text("04"), .text("06"), .text("09"), .text("11")])
        let thirtyOne = Expression.choice([
            .text("01"), .text("03"), .text("05"), .text("07"), .text("08"), .text("10"), .text("12"),
        ])
        let day = Expression.choice([
            .sequence([.text("02-"), to28]), .sequence([thirty, .text("-"), to30]),
            .sequence([thirtyOne, .text("-"), .choice([to30, .text("31")])]),
        ])
        return .choice([.sequence([year, .text("-"), day]), .sequence([leapYear, .text("-02-29")])])
    }()

    private static let hour = Expression.choice([pair("01", digits), pair("2", "0123")])
    private static let minute = pair("012345", digits)

    /// With an offset, as RFC 3339 demands; no leap seconds.
    private static let time = Expression.sequence([
        hour, .text(":"), minute, .text(":"), minute,
        .optional(.sequence([.text("."), times(digit, 1, 9)])),
        .choice([.text("Z"), .sequence([set("+-"), hour, .text(":"), minute])]),
    ])

    /// ISO 8601 as in the appendix of RFC 3339.
    private static let duration: Expression = {
        func part(_ unit: String, _ next: Expression? = nil) -> Expression {
            .sequence([times(digit, 1, 9), .text(unit), next.map { .optional($0) } ?? .empty])
        }
        let second = part("S")
        let clock = Expression.sequence([
            .text("T"), .choice([part("H", part("M", second)), part("M", second), second]),
        ])
        let day = part("D")
        let days = Expression.choice([part("Y", part("M", day)), part("M", day), day])
        return .sequence([
            .text("P"),
            .choice([.sequence([days, .optional(clock)]), clock, part("W")]),
        ])
    }()

    // MARK: Names and addresses

    private static let alphanumeric = set(letters + digits)
    /// Up to 60 letters and digits with single hyphens between them.
    private static let label = Expression.sequence([
        times(alphanumeric, 1, 15), times(.sequence([.text("-"), times(alphanumeric, 1, 14)]), 0, 3),
    ])
    private static let lastLabel = Expression.sequence([
        set(letters), times(alphanumeric, 0, 14), times(.sequence([.text("-"), times(alphanumeric, 1, 14)]), 0, 3),
    ])
    /// At most 4 labels, 244 characters; the standard's limit is 253.
    private static let hostname = Expression.sequence([times(.sequence([label, .text(".")]), 0, 3), lastLabel])

    /// At most 64 characters before the sign, and a host of two labels or more behind it.
    private static let email: Expression = {
        let atom = times(set(letters + digits + "_+-"), 1, 15)
        return .sequence([
            atom, times(.sequence([.text("."), atom]), 0, 3), .text("@"),
            times(.sequence([label, .text(".")]), 1, 3), times(set(letters), 2, 20),
        ])
    }()

    private static let shortLabel = Expression.sequence([
        times(alphanumeric, 1, nil), times(.sequence([.text("-"), times(alphanumeric, 1, nil)]), 0, nil),
    ])
    private static let shortHostname = Expression.sequence([
        times(.sequence([shortLabel, .text(".")]), 0, nil), set(letters), times(alphanumeric, 0, nil),
        times(.sequence([.text("-"), times(alphanumeric, 1, nil)]), 0, nil),
    ])
    private static let shortEmail: Expression = {
        let atom = times(set(letters + digits + "_+-"), 1, nil)
        return .sequence([
            atom, times(.sequence([.text("."), atom]), 0, nil), .text("@"),
            times(.sequence([shortLabel, .text(".")]), 1, nil), times(set(letters), 2, nil),
        ])
    }()

    private static func uuid(version: Expression) -> Expression {
        .sequence([
            exactly(hexadecimal, 8), .text("-"), exactly(hexadecimal, 4), .text("-"), version,
            exactly(hexadecimal, 3), .text("-"), exactly(hexadecimal, 4), .text("-"), exactly(hexadecimal, 12),
        ])
    }

    private static let ipv4: Expression = {
        let number = Expression.choice([
            digit, .sequence([set("123456789"), digit]), .sequence([.text("1"), digit, digit]),
            .sequence([.text("2"), set("01234"), digit]), .sequence([.text("25"), set("012345")]),
        ])
        return .sequence([number, exactly(.sequence([.text("."), number]), 3)])
    }()

    /// Eight groups, or fewer with one "::" for at least one that is zero.
    private static let ipv6: Expression = {
        let group = times(hexadecimal, 1, 4)
        let next = Expression.sequence([.text(":"), group])
        let full = Expression.sequence([group, exactly(next, 7)])
        var choices = [full]
        for before in 0...7 {
            let head = before == 0 ? Expression.empty : .sequence([group, exactly(next, before - 1)])
            let room = 7 - before
            let tail = room == 0 ? Expression.empty : .optional(.sequence([group, times(next, 0, room - 1)]))
            choices.append(.sequence([head, .text("::"), tail]))
        }
        return .choice(choices)
    }()

    /// A scheme with a host, or a scheme with a path as in `urn:` and `mailto:`.
    private static let uri = uri(
        host: .choice([hostname, ipv4, .sequence([.text("["), ipv6, .text("]")])]),
        port: .sequence([.text(":"), NumberText.magnitudes(0, 65535)]),
        scheme: .sequence([set(letters), times(set(letters + digits + "+-."), 0, 15)]))

    /// The same with few states: names of hosts of any length, no ports.
    private static let plainURI = uri(
        host: .sequence([times(.sequence([shortLabel, .text(".")]), 0, nil), shortLabel]), port: .nothing,
        scheme: .sequence([set(letters), times(set(letters + digits + "+-."), 0, nil)]))

    private static func uri(host: Expression, port: Expression, scheme: Expression) -> Expression {
        let escaped = Expression.sequence([.text("%"), hexadecimal, hexadecimal])
        let plain = letters + digits + "-._~!$&'()*+,;=:@"
        let character = Expression.choice([set(plain), escaped])
        let segments = times(.sequence([.text("/"), times(character, 0, nil)]), 0, nil)
        let rest = times(.choice([set(plain + "/?"), escaped]), 0, nil)
        let authority = Expression.sequence([.text("//"), host, .optional(port), segments])
        let path = Expression.sequence([times(character, 1, nil), segments])
        return .sequence([
            scheme, .text(":"), .choice([authority, path]), .optional(.sequence([.text("?"), rest])),
            .optional(.sequence([.text("#"), rest])),
        ])
    }

    private static let jsonPointer: Expression = {
        let character = Expression.choice([
            .byte(ByteSet((0x20...0x7D).filter { !"\"\\/~".utf8.contains($0) })), .text("~0"), .text("~1"),
        ])
        return times(.sequence([.text("/"), times(character, 0, nil)]), 0, nil)
    }()
}
