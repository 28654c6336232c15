// What holds for any text whatever, tried on random ones with the real vocabulary; and how the time grows.

import Testing
import Tokenization

struct EncodingPropertyTests {
    /// Bytes that this model's vocabulary has no token for; the reference leaves them out too.
    private func bytesWithoutToken(_ tokenizer: Tokenizer) -> Set<UInt8> {
        let single = (0..<Int32(tokenizer.vocabularyCount)).compactMap { id in
            tokenizer.bytes(of: id).flatMap { $0.count == 1 ? $0.first : nil }
        }
        return Set(UInt8.min...UInt8.max).subtracting(single)
    }

    private static let fragments = [
        "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|im_", "end|>", "<repo_name>", "the", " swift", "  ", "\n",
        "'ll", "1234", "天空", "e\u{301}", "👩‍👩‍👧‍👦", "\u{a0}", "ـ", "\0", "\u{7f}", "\u{10FFFF}", "\u{FFFD}",
    ]

    private func randomText(_ generator: inout SeededGenerator) -> String {
        var text = ""
        for _ in 0..<Int.random(in: 0...12, using: &generator) {
            switch Int.random(in: 0..<4, using: &generator) {
            case 0:
                let bytes = (0..<Int.random(in: 0...8, using: &generator)).map { _ in
                    UInt8.random(in: .min ... .max, using: &generator)
                }
                text += String(decoding: bytes, as: UTF8.self)
            case 1:
                if let scalar = Unicode.Scalar(UInt32.random(in: 0...0x10FFFF, using: &generator)) {
                    text.unicodeScalars.append(scalar)
                }
            case 2:
                let character = Character(Unicode.Scalar(UInt8.random(in: 0x20...0x7E, using: &generator)))
                text += String(repeating: character, count: .random(in: 1...120, using: &generator))
            default: text += Self.fragments.randomElement(using: &generator) ?? ""
            }
        }
        return text
    }

    @Test(arguments: 0..<UInt64(8))
    func `any text decodes to itself, and never encodes to a control token`(seed: UInt64) throws {
        let tokenizer = try RealVocabulary.tokenizer()
        let absent = bytesWithoutToken(tokenizer)
        var generator = SeededGenerator(state: seed)
        for _ in 0..<250 {
            let text = randomText(&generator)
            let ids = try tokenizer.encode(text)
            #expect(!ids.contains(where: tokenizer.isControl), "seed \(seed): \(text.debugDescription)")
            let bytes = ids.flatMap { tokenizer.bytes(of: $0) ?? [] }
            #expect(bytes == text.utf8.filter { !absent.contains($0) }, "seed \(seed): \(text.debugDescription)")
            var stream = StreamingDetokenizer(tokenizer)
            let streamed = ids.map { stream.append($0) }.joined() + stream.finish()
            #expect(Array(streamed.utf8) == Array(try tokenizer.decode(ids).utf8), "seed \(seed)")
        }
    }

    @Test(arguments: 0..<UInt64(4))
    func `how a text is divided into runs never shows`(seed: UInt64) throws {
        let tokenizer = try RealVocabulary.tokenizer()
        var generator = SeededGenerator(state: seed)
        for _ in 0..<100 {
            let text = randomText(&generator)
            var runs = [""]
            for scalar in text.unicodeScalars {
                if Int.random(in: 0..<4, using: &generator) == 0 { runs.append("") }
                runs[runs.count - 1].unicodeScalars.append(scalar)
            }
            let divided = try tokenizer.encode(
                runs.map { TextRun(text: $0, allowsControlTokens: false) }, addSpecialTokens: false)
            #expect(try divided == tokenizer.encode(text), "seed \(seed): \(text.debugDescription)")
        }
    }

    /// Texts that are one long word, or nothing but hard cases, repeated to a length.
    static let hardTexts: [(name: String, unit: String)] = [
        ("one letter", "a"), ("spaces", " "), ("newlines", "\n"), ("combining marks", "\u{301}"),
        ("digits", "0123456789"), ("joined emoji", "👩‍👩‍👧‍👦"), ("alternating scripts", "aя中ع"), ("punctuation", "!?.,"),
        ("a long word", "internationalizationantidisestablishmentarianism"), ("control tokens", "<|im_start|>"),
        ("almost control tokens", "<|im_start|<"),
    ]

    @Test(.serialized, arguments: hardTexts)
    func `time grows with the text, not with its square`(text: (name: String, unit: String)) throws {
        let tokenizer = try RealVocabulary.tokenizer()
        #if DEBUG
            let byteCount = 1 << 13
        #else
            let byteCount = 1 << 20
        #endif
        func time(_ byteCount: Int) throws -> Duration {
            let whole = String(repeating: text.unit, count: byteCount / text.unit.utf8.count)
            return try ProcessorTime.least(of: 3) { _ = try tokenizer.encode(whole, allowsControlTokens: true) }
        }
        // Quadratic growth would be a factor of 256 every time; a text that leaves the cache costs two or three times
        // more a byte, and a neighbour's noise is there once.
        var measured: [(sixteenth: Duration, full: Duration)] = []
        func isNearlyLinear(_ times: (sixteenth: Duration, full: Duration)) -> Bool {
            times.full < times.sixteenth * 64 + .milliseconds(10)
        }
        repeat {
            measured.append((try time(byteCount / 16), try time(byteCount)))
        } while measured.count < 4 && !measured.contains(where: isNearlyLinear)
        #expect(measured.contains(where: isNearlyLinear), "\(text.name): \(measured)")
        #expect(measured.allSatisfy { $0.full < .seconds(4) }, "\(text.name): \(measured)")
    }
}
