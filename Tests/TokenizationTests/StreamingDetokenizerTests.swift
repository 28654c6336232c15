// The stream against the whole: whatever the tokens, the pieces joined are what all of them decode to at once.

import Testing
import Tokenization

struct StreamingDetokenizerTests {
    /// The token of a byte in the tiny vocabulary.
    private func token(_ byte: UInt8) -> Int32 { Int32(TinyVocabulary.control.count) + Int32(byte) }

    private func pieces(_ bytes: [UInt8]) throws -> [String] {
        var stream = StreamingDetokenizer(try TinyVocabulary.tokenizer())
        var pieces = bytes.map { stream.append(token($0)) }
        pieces.append(stream.finish())
        return pieces
    }

    @Test func `a character is emitted with its last byte`() throws {
        #expect(try pieces([0x61]) == ["a", ""])
        #expect(try pieces([0xC3, 0xA9]) == ["", "é", ""])
        #expect(try pieces([0xE2, 0x82, 0xAC]) == ["", "", "€", ""])
        #expect(try pieces([0xF0, 0x9F, 0x98, 0x80, 0x61]) == ["", "", "", "😀", "a", ""])
    }

    @Test func `a byte that cannot go on is replaced as soon as that is known`() throws {
        let bad = "\u{FFFD}"
        #expect(try pieces([0xFF, 0x61]) == [bad, "a", ""])
        #expect(try pieces([0x80]) == [bad, ""])
        #expect(try pieces([0xC0, 0xAF]) == [bad, bad, ""])
        #expect(try pieces([0xE2, 0x82, 0x61]) == ["", "", bad + "a", ""])
        #expect(try pieces([0xE2, 0xE2, 0x82, 0xAC]) == ["", bad, "", "€", ""])
        #expect(try pieces([0xE0, 0x80, 0x80]) == ["", bad + bad, bad, ""])
        #expect(try pieces([0xED, 0xA0, 0x80]) == ["", bad + bad, bad, ""])
        #expect(try pieces([0xF4, 0x90, 0x80, 0x80]) == ["", bad + bad, bad, bad, ""])
        #expect(try pieces([0xF0, 0x80]) == ["", bad + bad, ""])
    }

    @Test func `an end within a character is one replacement`() throws {
        #expect(try pieces([0xF0]) == ["", "\u{FFFD}"])
        #expect(try pieces([0xF0, 0x9F]) == ["", "", "\u{FFFD}"])
        #expect(try pieces([0xF0, 0x9F, 0x98]) == ["", "", "", "\u{FFFD}"])
        #expect(try pieces([]) == [""])
    }

    @Test func `a stream begins anew after its end`() throws {
        var stream = StreamingDetokenizer(try TinyVocabulary.tokenizer())
        #expect(stream.append(token(0xC3)) == "")
        #expect(stream.finish() == "\u{FFFD}")
        #expect(stream.finish() == "")
        #expect(stream.append(token(0x61)) == "a")
    }

    @Test func `skipped control tokens leave no trace, even within a character`() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        let ids: [Int32] = [0, token(0xC3), 1, token(0xA9), 1]
        var stream = StreamingDetokenizer(tokenizer, skipSpecialTokens: true)
        #expect(ids.map { stream.append($0) } == ["", "", "", "é", ""])
        #expect(try tokenizer.decode(ids, skipSpecialTokens: true) == "é")
        #expect(try tokenizer.decode(ids) == "<s>\u{FFFD}</s>\u{FFFD}</s>")
    }

    @Test func `an id without a token, as a padded table has, is no text and the stream goes on`() throws {
        var stream = StreamingDetokenizer(try TinyVocabulary.tokenizer())
        #expect(stream.append(token(0xC3)) == "")
        #expect(stream.append(999) == "")
        #expect(stream.append(token(0xA9)) == "é")
    }

    @Test func `every sequence of up to three awkward bytes streams as it decodes`() throws {
        let awkward: [UInt8] = [
            0x00, 0x61, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF1,
            0xF4, 0xF5, 0xFF,
        ]
        let tokenizer = try TinyVocabulary.tokenizer()
        for first in awkward {
            for second in awkward {
                for third in awkward {
                    let ids = [first, second, third].map(token)
                    var stream = StreamingDetokenizer(tokenizer)
                    let streamed = ids.map { stream.append($0) }.joined() + stream.finish()
                    let whole = try tokenizer.decode(ids)
                    #expect(Array(streamed.utf8) == Array(whole.utf8), "\([first, second, third])")
                }
            }
        }
    }
}
