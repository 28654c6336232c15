// The committed fixture: thousands of texts and what the reference made of them. See Fixtures/tokenization.

import Foundation
import Testing
import Tokenization

struct ReferenceTests {
    struct Row {
        let line: Int
        let kind: Substring
        let ids: [Int32]
        let text: String
    }

    static func rows() throws -> [Row] {
        let fixture = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../Fixtures/tokenization/smollm2.tsv")
        let lines = try Data(contentsOf: fixture).split(separator: UInt8(ascii: "\n"))
        return try lines.enumerated().map { index, line in
            let fields = line.split(separator: UInt8(ascii: "\t"), maxSplits: 2, omittingEmptySubsequences: false)
            let ids = String(decoding: fields[1], as: UTF8.self).split(separator: " ").compactMap { Int32($0) }
            let text = try JSONDecoder().decode(String.self, from: fields[2])
            return Row(line: index + 1, kind: String(decoding: fields[0], as: UTF8.self)[...], ids: ids, text: text)
        }
    }

    @Test func `the fixture has at least 2000 texts`() throws {
        #expect(try Self.rows().filter { $0.kind == "plain" }.count >= 2_000)
    }

    @Test func `texts encode to the reference's ids`() throws {
        let tokenizer = try RealVocabulary.tokenizer()
        for row in try Self.rows() where row.kind == "plain" || row.kind == "control" {
            let ids = try tokenizer.encode(row.text, allowsControlTokens: row.kind == "control")
            #expect(ids == row.ids, "line \(row.line): \(row.text.debugDescription)")
        }
    }

    @Test func `texts encode to the reference's ids with GPT-2's pre-tokenizer`() throws {
        var definition = try RealVocabulary.definition()
        definition.preTokenizer = "gpt-2"
        let tokenizer = try Tokenizer(definition)
        for row in try Self.rows() where row.kind == "gpt-2" {
            #expect(try tokenizer.encode(row.text) == row.ids, "line \(row.line): \(row.text.debugDescription)")
        }
    }

    @Test func `ids decode to the reference's text, at once and streamed`() throws {
        let tokenizer = try RealVocabulary.tokenizer()
        for row in try Self.rows() where row.kind == "decode" || row.kind == "skip" {
            let skips = row.kind == "skip"
            let text = try tokenizer.decode(row.ids, skipSpecialTokens: skips)
            #expect(Array(text.utf8) == Array(row.text.utf8), "line \(row.line)")
            var stream = StreamingDetokenizer(tokenizer, skipSpecialTokens: skips)
            var streamed = ""
            for id in row.ids { streamed += stream.append(id) }
            streamed += stream.finish()
            #expect(Array(streamed.utf8) == Array(row.text.utf8), "line \(row.line)")
        }
    }

    @Test func `the real vocabulary's named tokens are found`() throws {
        let tokenizer = try RealVocabulary.tokenizer()
        #expect(tokenizer.vocabularyCount == 49_152)
        #expect(tokenizer.controlToken(spelled: "<|im_end|>") == tokenizer.eos)
        #expect(tokenizer.controlToken(spelled: "<|im_end") == nil)
        #expect(tokenizer.controlToken(spelled: " the") == nil)
        #expect(tokenizer.isControl(2) && !tokenizer.isControl(1195))
        #expect(tokenizer.text(of: 1195) == "the")
    }

    @Test func `the real vocabulary loads in well under a second`() throws {
        let definition = try RealVocabulary.definition()
        let time = try ProcessorTime.least(of: 5) { _ = try Tokenizer(definition) }
        #if DEBUG
            let limit = Duration.seconds(10)
        #else
            let limit = Duration.milliseconds(150)
        #endif
        #expect(time < limit)
    }
}
