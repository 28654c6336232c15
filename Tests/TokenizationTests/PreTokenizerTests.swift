// Where text is cut, pattern by pattern. What every Unicode scalar counts as is settled by the reference fixture and
// the generated table; these are the rules.

import Testing
import Tokenization

struct PreTokenizerTests {
    private func pieces(of text: String, _ name: String) throws -> [String] {
        let preTokenizer = try PreTokenizer(named: name)
        let bytes = Array(text.utf8)
        var pieces: [String] = []
        var start = 0
        while start < bytes.count {
            let end = preTokenizer.end(ofPieceAt: start, in: bytes.span, limit: bytes.count)
            try #require(end > start && end <= bytes.count)
            pieces.append(String(decoding: bytes[start..<end], as: UTF8.self))
            start = end
        }
        return pieces
    }

    static let cuts: [(text: String, gpt2: [String], smollm: [String])] = [
        ("Hello world", ["Hello", " world"], ["Hello", " world"]),
        ("  a", [" ", " a"], [" ", " a"]),
        ("\n\na", ["\n", "\n", "a"], ["\n", "\n", "a"]),
        ("\n a \t\n", ["\n", " a", " \t\n"], ["\n", " a", " \t\n"]),
        ("a   ", ["a", "   "], ["a", "   "]),
        ("a 12 b", ["a", " 12", " b"], ["a", " ", "1", "2", " b"]),
        ("   12", ["  ", " 12"], ["   ", "1", "2"]),
        ("\t7", ["\t", "7"], ["\t", "7"]),
        ("x2y", ["x", "2", "y"], ["x", "2", "y"]),
        ("don't we'll", ["don", "'t", " we", "'ll"], ["don", "'t", " we", "'ll"]),
        ("I'VE", ["I", "'", "VE"], ["I", "'", "VE"]),
        ("''s 's 're'l", ["''", "s", " '", "s", " '", "re", "'", "l"], ["''", "s", " '", "s", " '", "re", "'", "l"]),
        ("a!?…b", ["a", "!?…", "b"], ["a", "!?…", "b"]),
        (" !b", [" !", "b"], [" !", "b"]),
        ("e\u{301}x", ["e", "\u{301}", "x"], ["e", "\u{301}", "x"]),
        ("天空 中", ["天空", " 中"], ["天空", " 中"]),
        ("a\u{a0}b", ["a", "\u{a0}", "b"], ["a", "\u{a0}", "b"]),
        ("½①x", ["½①", "x"], ["½", "①", "x"]),
        ("\u{11DE3}!", ["\u{11DE3}!"], ["\u{11DE3}", "!"]),
        ("👩‍👧", ["👩‍👧"], ["👩‍👧"]),
    ]

    @Test(arguments: cuts)
    func `text is cut as the pattern says`(cut: (text: String, gpt2: [String], smollm: [String])) throws {
        #expect(try pieces(of: cut.text, "gpt-2") == cut.gpt2)
        #expect(try pieces(of: cut.text, "default") == cut.gpt2)
        #expect(try pieces(of: cut.text, "smollm") == cut.smollm)
    }

    @Test(arguments: PreTokenizer.names)
    func `bytes that are not UTF-8 are still cut into pieces that cover them`(name: String) throws {
        let preTokenizer = try PreTokenizer(named: name)
        var generator = SeededGenerator(state: 7)
        for _ in 0..<500 {
            let bytes = (0..<Int.random(in: 1...40, using: &generator)).map { _ in
                UInt8.random(in: .min ... .max, using: &generator)
            }
            var start = 0
            while start < bytes.count {
                let end = preTokenizer.end(ofPieceAt: start, in: bytes.span, limit: bytes.count)
                try #require(end > start && end <= bytes.count)
                start = end
            }
        }
    }

    @Test func `an unknown name is refused`() {
        #expect(throws: TokenizationError.unsupportedPreTokenizer("")) { try PreTokenizer(named: "") }
        #expect(throws: TokenizationError.unsupportedPreTokenizer("GPT-2")) { try PreTokenizer(named: "GPT-2") }
    }
}
