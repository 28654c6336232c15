// The strict reader and the writer.

import JSON
import NIOCore
import Serving
import Testing

@Suite struct JSONTests {
    private func parse(_ text: String) throws(JSONError) -> JSONValue { try JSONParser.parse(Array(text.utf8)) }

    @Test func `values of every kind are read`() throws {
        let value = try parse(#" {"a":[1,-2.5,1e3,true,false,null],"b":"x\n\"\u00e9\ud83d\ude00\/","c":{}} "#)
        #expect(
            value
                == .object([
                    .init(
                        name: "a",
                        value: .array([.integer(1), .number(-2.5), .number(1000), .bool(true), .bool(false), .null])),
                    .init(name: "b", value: .string("x\n\"é😀/")),
                    .init(name: "c", value: .object([])),
                ]))
    }

    @Test(arguments: [
        "", " ", "{", "[1,", "[1 2]", "{\"a\"}", "{\"a\":}", "{a:1}", "[1,]", "{\"a\":1,}", "01", "[01]", "[00,1]",
        "[1.,2]", "-", "1.", ".5", "1e",
        "+1", "NaN", "Infinity", "nul", "truex", "\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"",
        "\"\\udc00\"", "\"a\nb\"", "1e999", "1 2", "'a'", "// c\n1", "{\"a\":1,\"a\":2}", "\u{FEFF}1",
    ])
    func `what is not JSON is refused`(text: String) {
        #expect(throws: JSONError.self) { try parse(text) }
    }

    @Test func `invalid UTF-8 is refused`() {
        #expect(throws: JSONError(offset: 3, reason: "a string is not valid UTF-8")) {
            try JSONParser.parse([0x22, 0xC3, 0x28, 0x22])
        }
    }

    @Test func `limits hold at the limit and not beyond it`() throws {
        var limits = JSONLimits()
        (limits.depth, limits.membersPerObject, limits.stringBytes) = (3, 2, 4)
        func accepts(_ text: String) -> Bool { (try? JSONParser.parse(Array(text.utf8), limits: limits)) != nil }
        #expect(accepts("[[[]]]"))
        #expect(!accepts("[[[[]]]]"))
        #expect(accepts(#"{"a":1,"b":2}"#))
        #expect(!accepts(#"{"a":1,"b":2,"c":3}"#))
        #expect(accepts(#""abcd""#))
        #expect(!accepts(#""abcde""#))
        #expect(!accepts(String(repeating: "[", count: 1_000_000)))
    }

    @Test func `lists of integers are read exactly`() throws {
        #expect(
            try parse("[0,10,9999999999,12345678901, 7 ,-3,1.5]")
                == .array([
                    .integer(0), .integer(10), .integer(9_999_999_999), .integer(12_345_678_901), .integer(7),
                    .integer(-3), .number(1.5),
                ]))
    }

    @Test func `integers at the edge stay exact and beyond it become numbers`() throws {
        #expect(try parse("9223372036854775807") == .integer(.max))
        #expect(try parse("-9223372036854775808") == .integer(.min))
        #expect(try parse("9223372036854775808") == .number(0x1p63))
    }

    @Test func `strings are written with everything escaped that breaks JSON or line splitters`() {
        var buffer = ByteBuffer()
        buffer.writeJSON("a\"\\\n\r\t\u{8}\u{C}\u{1}\u{1F}\u{7F}\u{85}\u{2028}\u{2029}é\u{A0}\u{2027}€😀/")
        #expect(
            String(buffer: buffer)
                == "\"a\\\"\\\\\\n\\r\\t\\b\\f\\u0001\\u001f\u{7F}\\u0085\\u2028\\u2029é\u{A0}\u{2027}€😀/\"")
    }

    @Test func `what is written is read back`() throws {
        for scalar in (0...0x2100).compactMap(Unicode.Scalar.init) {
            var buffer = ByteBuffer()
            buffer.writeJSON("x\(scalar)y")
            #expect(try JSONParser.parse(Array(buffer.readableBytesView)) == .string("x\(scalar)y"))
        }
    }

    @Test func `log-probabilities have no infinity`() {
        var buffer = ByteBuffer()
        buffer.writeJSON(logprob: -.infinity)
        buffer.writeString(" ")
        buffer.writeJSON(logprob: -0.125)
        #expect(String(buffer: buffer) == "-9999.0 -0.125")
    }
}
