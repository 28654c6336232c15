// What a definition may not say: each defect is refused by its own error, whose text is part of the interface.

import Testing
import Tokenization

struct TokenizerDefinitionTests {
    struct Defect: CustomTestStringConvertible, Sendable {
        let error: TokenizationError
        let text: String
        let change: @Sendable (inout TokenizerDefinition) -> Void
        var testDescription: String { text }
    }

    static let defects = [
        Defect(
            error: .unsupportedModel("bert"),
            text: """
                The tokenizer model "bert" is not supported. Use a checkpoint whose tokenizer model is "gpt2" or "llama".
                """
        ) { $0.model = "bert" },
        Defect(
            error: .scoreCount(scores: 0, pieces: 271),
            text: "The tokenizer has 0 scores for 271 pieces; there must be one for each."
        ) { ($0.model, $0.merges) = ("llama", PackedStrings()) },
        Defect(
            error: .unsupportedPreTokenizer("viking"),
            text: """
                The pre-tokenizer "viking" is not supported. Use a checkpoint with one of: default, gpt-2, phi-2, smollm, \
                llama-bpe, llama3, llama-v3, falcon3, smaug-bpe, dbrx, qwen2, deepseek-r1-qwen, gpt-4o, llama4, tekken.
                """
        ) { $0.preTokenizer = "viking" },
        Defect(
            error: .vocabularySize(count: 0, limit: 1_048_576),
            text: "The tokenizer has 0 pieces; it must have between 1 and 1048576."
        ) { ($0.pieces, $0.types) = (PackedStrings(), []) },
        Defect(
            error: .typeCount(types: 270, pieces: 271),
            text: "The tokenizer has 270 token types for 271 pieces; there must be one for each."
        ) { $0.types.removeLast() },
        Defect(
            error: .unknownTokenType(token: 7, type: 9),
            text: "Token 7 has type 9; token types are 1 to 6."
        ) { $0.types[7] = 9 },
        Defect(
            error: .duplicatePiece(piece: "aaaa", first: 262, second: 271),
            text: "Tokens 262 and 271 are both \"aaaa\"; each piece must have one id."
        ) {
            $0.pieces.append("aaaa".utf8)
            $0.types.append(1)
        },
        Defect(
            error: .pieceTooLong(token: 271, bytes: 4_097, limit: 4_096),
            text: "The piece of token 271 has 4097 bytes; at most 4096 are accepted."
        ) {
            $0.pieces.append(repeatElement(UInt8(ascii: "z"), count: 4_097))
            $0.types.append(1)
        },
        Defect(
            error: .pieceTooLong(token: 271, bytes: 257, limit: 256),
            text: "The piece of token 271 has 257 bytes; at most 256 are accepted."
        ) {
            $0.pieces.append(repeatElement(UInt8(ascii: "z"), count: 257))
            $0.types.append(3)
        },
        Defect(
            error: .controlPiecesTooLong(bytes: 4_194_327, limit: 4_194_304),
            text: "The control and user-defined pieces have 4194327 bytes together; at most 4194304 are accepted."
        ) { definition in
            let filling = "#" + String(repeating: "z", count: 256)
            for index in 0..<16_384 {
                definition.pieces.append((String(index) + filling).utf8.prefix(256))
                definition.types.append(4)
            }
        },
        Defect(
            error: .malformedMerge(merge: 10, text: "abc"),
            text: "Merge 10 is \"abc\"; it must be two pieces with a space between them."
        ) { $0.merges.append("abc".utf8) },
        Defect(
            error: .malformedMerge(merge: 10, text: "abc "),
            text: "Merge 10 is \"abc \"; it must be two pieces with a space between them."
        ) { $0.merges.append("abc ".utf8) },
        Defect(
            error: .malformedMerge(merge: 10, text: ""),
            text: "Merge 10 is \"\"; it must be two pieces with a space between them."
        ) { $0.merges.append("".utf8) },
        Defect(
            error: .mergeOfUnknownPiece(merge: 10, piece: "xy"),
            text: "Merge 10 needs the piece \"xy\", which is not in the vocabulary."
        ) { $0.merges.append("xy a".utf8) },
        Defect(
            error: .mergeOfUnknownPiece(merge: 10, piece: "b  c"),
            text: "Merge 10 needs the piece \"b  c\", which is not in the vocabulary."
        ) { $0.merges.append("a b  c".utf8) },
        Defect(
            error: .mergeOfUnknownPiece(merge: 10, piece: "az"),
            text: "Merge 10 needs the piece \"az\", which is not in the vocabulary."
        ) { $0.merges.append("a z".utf8) },
        Defect(
            error: .mergeOfControlToken(merge: 10, piece: "<s>"),
            text: "Merge 10 involves the control token \"<s>\", so ordinary text could become it."
        ) {
            $0.pieces.append("<s".utf8)
            $0.types.append(1)
            $0.merges.append("<s >".utf8)
        },
        Defect(
            error: .specialTokenOutOfRange(name: "end-of-text", id: 271, vocabulary: 271),
            text: "The end-of-text token has id 271; the vocabulary ends at 270."
        ) { $0.eos = 271 },
        Defect(
            error: .specialTokenOutOfRange(name: "padding", id: -1, vocabulary: 271),
            text: "The padding token has id -1; the vocabulary ends at 270."
        ) { $0.pad = -1 },
        Defect(
            error: .beginningTokenMissing,
            text: "The tokenizer is to add a beginning-of-text token, but names none."
        ) { ($0.bos, $0.addsBOS) = (nil, true) },
    ]

    @Test(arguments: defects)
    func `a definition with a defect is refused by its name`(defect: Defect) {
        #expect(throws: defect.error) { try TinyVocabulary.tokenizer(defect.change) }
        #expect(defect.error.description == defect.text)
    }

    @Test func `a vocabulary of one more than the limit is refused, before anything is built`() {
        let count = Tokenizer.maxVocabulary + 1
        let error = TokenizationError.vocabularySize(count: count, limit: Tokenizer.maxVocabulary)
        #expect(throws: error) {
            try TinyVocabulary.tokenizer { definition in
                definition.pieces = PackedStrings()
                for _ in 0..<count { definition.pieces.append(EmptyCollection()) }
            }
        }
    }

    @Test func `more merges than the limit are refused`() {
        let count = Tokenizer.maxMerges + 1
        #expect(throws: TokenizationError.tooManyMerges(count: count, limit: Tokenizer.maxMerges)) {
            try TinyVocabulary.tokenizer { definition in
                for _ in definition.merges.count..<count { definition.merges.append(EmptyCollection()) }
            }
        }
    }

    @Test func `pieces that are not UTF-8 stand for themselves`() throws {
        let tokenizer = try TinyVocabulary.tokenizer { definition in
            for piece in [[0xC4], [0xFF, 0x41], [0xC4, 0xC4], [0xE2, 0x82]] as [[UInt8]] {
                definition.pieces.append(piece)
                definition.types.append(1)
            }
        }
        #expect(tokenizer.bytes(of: 271) == [0xC4])
        #expect(tokenizer.bytes(of: 272) == [0xFF, 0x41])
        #expect(tokenizer.bytes(of: 273) == [0xC4, 0xC4])
        #expect(tokenizer.bytes(of: 274) == [0xE2, 0x82])
    }

    @Test(arguments: 0..<UInt64(200))
    func `a definition with random defects is made or refused, never fatal`(seed: UInt64) {
        var generator = SeededGenerator(state: seed)
        let text = "aaab<s> \u{e9}! <|im|>x 'll 12"
        let definition = TinyVocabulary.definition { definition in
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let bytes = (0..<Int.random(in: 0...6, using: &generator)).map { _ in
                    UInt8.random(in: .min ... .max, using: &generator)
                }
                switch Int.random(in: 0..<6, using: &generator) {
                case 0: definition.merges.append(bytes)
                case 1: definition.merges.append("a a".utf8)
                case 2:
                    let token = Int.random(in: 0..<271, using: &generator)
                    definition.types[token] = .random(in: 0...7, using: &generator)
                case 3: definition.bos = .random(in: -2...280, using: &generator)
                case 4: definition.addsBOS.toggle()
                default:
                    definition.pieces.append(bytes)
                    definition.types.append(.random(in: 1...6, using: &generator))
                }
            }
        }
        do throws(TokenizationError) {
            let tokenizer = try Tokenizer(definition)
            let ids = try tokenizer.encode(text, allowsControlTokens: true)
            #expect(ids.allSatisfy(tokenizer.contains))
        } catch {
            #expect(!error.description.isEmpty)
        }
    }
}
