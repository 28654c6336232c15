// Encoding with a vocabulary that can be checked by hand: the order of merges, runs, control tokens, limits.

import Testing
import Tokenization

struct EncodingTests {
    private func id(_ character: Character) -> Int32 { TinyVocabulary.id(of: character) }
    private func merged(_ rank: Int) -> Int32 { TinyVocabulary.id(ofMerge: rank) }

    @Test func `the merge of lowest rank goes first, and the leftmost of equals`() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        // "b c" outranks "a b", so "ab c" never comes about.
        #expect(try tokenizer.encode("abc") == [id("a"), merged(2)])
        #expect(try tokenizer.encode("ab") == [merged(3)])
        #expect(try tokenizer.encode("aaa") == [merged(0), id("a")])
        #expect(try tokenizer.encode("aaaaa") == [merged(1), id("a")])
        #expect(try tokenizer.encode("def") == [merged(9)])
        #expect(try tokenizer.encode("") == [])
    }

    @Test func `a merge that is named twice has its later rank`() throws {
        let tokenizer = try TinyVocabulary.tokenizer { $0.merges.append("b c".utf8) }
        #expect(try tokenizer.encode("abc") == [merged(4)])
    }

    @Test(arguments: [1, 2, 47, 48, 49, 50, 63, 64, 65, 66, 127, 128, 129, 1_000])
    func `a run of any length merges from the left`(count: Int) throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        let rest = [[], [id("a")], [merged(0)], [merged(0), id("a")]][count % 4]
        let expected = [Int32](repeating: merged(1), count: count / 4) + rest
        #expect(try tokenizer.encode(String(repeating: "a", count: count)) == expected)
    }

    @Test func `long pieces encode as short ones do`() throws {
        // The merges of "def" never cross a "g", so a long word of them is its parts' tokens in a row.
        let tokenizer = try TinyVocabulary.tokenizer()
        let part = try tokenizer.encode("gdefg") + tokenizer.encode("abcbc")
        let whole = try tokenizer.encode(String(repeating: "gdefgabcbc", count: 40))
        #expect(whole == (0..<40).flatMap { _ in part })
    }

    @Test func `control tokens in a text are characters unless it may spell them`() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        #expect(try tokenizer.encode("<s>") == [id("<"), id("s"), id(">")])
        #expect(try tokenizer.encode("<s>", allowsControlTokens: true) == [0])
        #expect(try tokenizer.encode("a</s>a", allowsControlTokens: true) == [id("a"), 1, id("a")])
    }

    @Test func `of control tokens that begin together the longest is taken`() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        #expect(try tokenizer.encode("<|im|>x", allowsControlTokens: true) == [3])
        #expect(try tokenizer.encode("<|im|>y", allowsControlTokens: true) == [2, id("y")])
        #expect(try tokenizer.encode("<|im<s>", allowsControlTokens: true).last == 0)
        #expect(try tokenizer.encode("<<s></s", allowsControlTokens: true) == [id("<"), 0, id("<"), id("/"), id("s")])
    }

    @Test func `a control token outside ASCII is spelled in UTF-8`() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        #expect(try tokenizer.encode("é!", allowsControlTokens: true) == [4])
        #expect(tokenizer.text(of: 4) == "é!")
        #expect(tokenizer.controlToken(spelled: "é!") == 4)
    }

    @Test func `a user-defined token is recognised but not hidden`() throws {
        let tokenizer = try TinyVocabulary.tokenizer { $0.types[2] = 4 }
        #expect(try tokenizer.encode("<|im|>", allowsControlTokens: true) == [2])
        #expect(!tokenizer.isControl(2))
        #expect(try tokenizer.decode([0, 2], skipSpecialTokens: true) == "<|im|>")
    }

    @Test func `a control token is recognised only wholly inside a run that allows it`() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        func encode(_ runs: [(String, Bool)]) throws -> [Int32] {
            try tokenizer.encode(
                runs.map { TextRun(text: $0.0, allowsControlTokens: $0.1) }, addSpecialTokens: false)
        }
        let spelled = try tokenizer.encode("<s>")
        #expect(try encode([("<s>", true)]) == [0])
        #expect(try encode([("<s", true), (">", false)]) == spelled)
        #expect(try encode([("<", false), ("s>", true)]) == spelled)
        #expect(try encode([("<s", true), (">", true)]) == spelled)
        #expect(try encode([("<s>", true), ("</s>", false), ("<s>", true)]) == [0] + tokenizer.encode("</s>") + [0])
        // The longer token would need the user's "x".
        #expect(try encode([("<|im|>", true), ("x", false)]) == [2, id("x")])
    }

    @Test func `ordinary text merges across the borders of runs`() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        let text = "aaaa def  abc 'll aé"
        let whole = try tokenizer.encode(text)
        let runs = text.unicodeScalars.enumerated().map { index, scalar in
            TextRun(text: String(scalar), allowsControlTokens: index % 3 == 0)
        }
        #expect(try tokenizer.encode(runs, addSpecialTokens: false) == whole)
    }

    @Test func `the beginning-of-text token is added where the checkpoint and the caller say so`() throws {
        let tokenizer = try TinyVocabulary.tokenizer { $0.addsBOS = true }
        #expect(try tokenizer.encode("a") == [0, id("a")])
        #expect(try tokenizer.encode("a", addSpecialTokens: false) == [id("a")])
        #expect(try TinyVocabulary.tokenizer().encode("a") == [id("a")])
    }

    @Test func `a space prefix goes before every text that has none`() throws {
        let tokenizer = try TinyVocabulary.tokenizer { $0.addsSpacePrefix = true }
        let spaced = try tokenizer.encode("a<s>a<s> a<s>", allowsControlTokens: true)
        #expect(spaced == [merged(5), 0, merged(5), 0, merged(5), 0])
    }

    @Test func `bytes that the vocabulary lacks are left out and their neighbours merge`() throws {
        let bang = Int(TinyVocabulary.id(of: "!"))
        let tokenizer = try TinyVocabulary.tokenizer { $0.types[bang] = 3 }
        #expect(try tokenizer.encode("#!#") == [id("#"), id("#")])
        #expect(try tokenizer.encode("!") == [])
        #expect(try tokenizer.encode("!", allowsControlTokens: true) == [Int32(bang)])
    }

    @Test func `a text at the limit is encoded and one beyond it is refused`() throws {
        let tokenizer = try TinyVocabulary.tokenizer { $0.addsBOS = true }
        #expect(try tokenizer.encode("b d", maxBytes: 3).count == 4)
        #expect(throws: TokenizationError.textTooLong(bytes: 3, limit: 2)) { try tokenizer.encode("b d", maxBytes: 2) }
        #expect(try tokenizer.encode("b d", maxTokens: 4).count == 4)
        #expect(throws: TokenizationError.tooManyTokens(limit: 3)) { try tokenizer.encode("b d", maxTokens: 3) }
        #expect(throws: TokenizationError.tooManyTokens(limit: 0)) { try tokenizer.encode("b d", maxTokens: 0) }
        #expect(
            TokenizationError.textTooLong(bytes: 3, limit: 2).description
                == "The text has 3 bytes; at most 2 are accepted. Shorten it.")
        #expect(
            TokenizationError.tooManyTokens(limit: 3).description
                == "The text comes to more than 3 tokens, which is the most accepted. Shorten it.")
    }

    @Test func `ids outside the vocabulary have no bytes, text or type`() throws {
        let tokenizer = try TinyVocabulary.tokenizer()
        for id in [-1, 271, Int32.min, Int32.max] {
            #expect(tokenizer.bytes(of: id) == nil)
            #expect(tokenizer.text(of: id) == nil)
            #expect(!tokenizer.isControl(id) && !tokenizer.contains(id))
            #expect(throws: TokenizationError.tokenOutOfRange(id: id, vocabulary: 271)) { try tokenizer.decode([id]) }
        }
        #expect(
            TokenizationError.tokenOutOfRange(id: 271, vocabulary: 271).description
                == "There is no token 271; ids are 0 to 270.")
    }
}
