// A tokenizer small enough to read: one token for each byte, a few longer ones that end inside characters, and the
// control tokens of ChatML. No merges, so a text is its bytes.

import Scheduling
import Serving
import Tokenization

enum Vocabulary {
    static let endOfText: TokenID = 256
    static let beginTurn: TokenID = 257
    static let endTurn: TokenID = 258

    /// Tokens of several bytes, from id 259 on; some hold parts of characters.
    static let longer: [[UInt8]] = [
        Array("hello".utf8), Array(" world".utf8), Array("日本".utf8), [0xE6, 0x97], [0xA5, 0x20], [0xF0, 0x9F],
        [0x91, 0x8B], [0xFF, 0xFE], Array("ab".utf8), Array("aab".utf8), Array("\n\n".utf8), Array("é".utf8),
    ]

    static let tokenizer: Tokenizer = {
        let control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        let pieces = (0..<256).map { spelling([UInt8($0)]) } + control + longer.map(spelling)
        let types = pieces.indices.map { Int32((256...258).contains($0) ? 3 : 1) }
        do {
            return try Tokenizer(
                TokenizerDefinition(
                    model: "gpt2", preTokenizer: "default", pieces: PackedStrings(pieces), merges: PackedStrings(),
                    types: types, bos: endOfText, eos: endTurn))
        } catch {
            preconditionFailure("the fixture is a valid tokenizer: \(error)")
        }
    }()

    /// One token for each byte of `text`.
    static func bytes(_ text: String) -> [TokenID] { text.utf8.map(TokenID.init) }

    /// The token of a longer piece.
    static func token(_ piece: [UInt8]) -> TokenID {
        guard let index = longer.firstIndex(of: piece) else { preconditionFailure("no such piece") }
        return TokenID(259 + index)
    }

    /// Bytes in the byte-level spelling of GPT-2: visible Latin-1 as it is, the rest from U+0100 on.
    private static func spelling(_ bytes: [UInt8]) -> String {
        var result = String.UnicodeScalarView()
        for byte in bytes {
            if isPlain(byte) {
                result.append(Unicode.Scalar(byte))
            } else {
                let rank = (0..<byte).count { !isPlain($0) }
                result.append(Unicode.Scalar(UInt32(256 + rank)) ?? "?")
            }
        }
        return String(result)
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE
    }

    /// A model around the tokenizer.
    static func model(
        maxModelLength: Int = 256, queue: Int = 64, chatTemplate: ChatTemplate? = Vocabulary.chatTemplate,
        usesPriorities: Bool = false
    ) -> ServedModel {
        ServedModel(
            tokenizer: tokenizer, chatTemplate: chatTemplate, stopTokens: [endTurn, endOfText],
            maxModelLength: maxModelLength, vocabularyCount: tokenizer.vocabularyCount, maxQueuedRequests: queue,
            blockSize: 16, blockCount: 64, enablePrefixCaching: true, usesPriorities: usesPriorities,
            hiddenSize: 8)
    }
}
