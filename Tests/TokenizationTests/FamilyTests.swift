// A small tokenizer.json of every family's shape, and what the `tokenizers` package made of thousands of texts with it.
// See Fixtures/tokenization/make_families.py.

import Foundation
import Testing
import Tokenization

struct FamilyTests {
    static let names = [
        "gpt2", "gpt2-spaced", "smollm2", "llama3", "qwen3", "phi4", "gpt-oss", "tekken", "llama2", "mistral", "phi3",
        "gemma", "unigram", "unigram-bytes", "words",
    ]

    struct Row: Sendable {
        let line: Int
        let allowsControlTokens: Bool
        let ids: [Int32]
        let text: String
        let decoded: String
        let decodedWithoutSpecial: String
    }

    static func fixture(_ name: String) throws -> Data {
        try Data(
            contentsOf: URL(filePath: #filePath).deletingLastPathComponent()
                .appending(path: "../Fixtures/tokenization/families/\(name)"))
    }

    static func tokenizer(_ name: String) throws -> Tokenizer {
        try Tokenizer(TokenizerFile.definition([UInt8](fixture(name + ".json"))))
    }

    static func rows(_ name: String) throws -> [Row] {
        let lines = try fixture(name + ".tsv").split(separator: UInt8(ascii: "\n"))
        return try lines.enumerated().map { index, line in
            let fields = line.split(separator: UInt8(ascii: "\t"), omittingEmptySubsequences: false)
            let texts = try fields[2...].map { try JSONDecoder().decode(String.self, from: $0) }
            return Row(
                line: index + 1, allowsControlTokens: fields[0].first == UInt8(ascii: "c"),
                ids: String(decoding: fields[1], as: UTF8.self).split(separator: " ").compactMap { Int32($0) },
                text: texts[0], decoded: texts[1], decodedWithoutSpecial: texts[2])
        }
    }

    @Test(arguments: names)
    func `hostile texts encode to the reference's ids`(name: String) throws {
        let tokenizer = try Self.tokenizer(name)
        let rows = try Self.rows(name)
        #expect(rows.count > 150)
        for row in rows {
            // The reference's unigram model takes "<s>" and "<0x41>" in a text for the tokens; here text becomes neither.
            if name.hasPrefix("unigram"), row.text.contains(/<0x|<unk>|<\/?s>/) { continue }
            let ids = try tokenizer.encode(row.text, allowsControlTokens: row.allowsControlTokens)
            #expect(ids == row.ids, "line \(row.line): \(row.text.debugDescription)")
        }
    }

    @Test(arguments: names)
    func `the lines of the real vocabulary's fixture encode to the reference's ids`(name: String) throws {
        let tokenizer = try Self.tokenizer(name)
        let texts = try ReferenceTests.rows().filter { $0.kind == "plain" }.map(\.text)
        let sums = String(decoding: try Self.fixture(name + ".sums"), as: UTF8.self).split(separator: "\n")
        try #require(texts.count == sums.count)
        for (text, sum) in zip(texts, sums) {
            let ids = try tokenizer.encode(text, allowsControlTokens: true)
            let own = ids.reduce(UInt32(0x811C_9DC5)) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
            #expect(own == UInt32(sum, radix: 16), "\(text.debugDescription)")
        }
    }

    @Test(arguments: names)
    func `ids decode to the reference's text, and streams to the same`(name: String) throws {
        let tokenizer = try Self.tokenizer(name)
        for row in try Self.rows(name) {
            // The reference decodes a token that normalized text spells to what it is normalized to.
            if name == "words", row.ids.contains(tokenizer.controlToken(spelled: "Café") ?? -1) { continue }
            for (skips, expected) in [(false, row.decoded), (true, row.decodedWithoutSpecial)] {
                let text = try tokenizer.decode(row.ids, skipSpecialTokens: skips)
                // The reference gives every byte of a bad run its own U+FFFD, and some of the good ones too.
                if !expected.contains("\u{FFFD}") {
                    #expect(Array(text.utf8) == Array(expected.utf8), "line \(row.line): \(row.text.debugDescription)")
                }
                var stream = StreamingDetokenizer(tokenizer, skipSpecialTokens: skips)
                let streamed = row.ids.map { stream.append($0) }.joined() + stream.finish()
                #expect(Array(streamed.utf8) == Array(text.utf8), "line \(row.line)")
            }
        }
    }

    @Test func `a stream that goes on where text ended keeps the space it begins with`() throws {
        let tokenizer = try Self.tokenizer("mistral")
        let ids = try tokenizer.encode("the cache", addSpecialTokens: false)
        for (continues, expected) in [(false, "the cache"), (true, " the cache")] {
            var stream = StreamingDetokenizer(tokenizer, continues: continues)
            #expect(ids.map { stream.append($0) }.joined() + stream.finish() == expected)
        }
    }
}
