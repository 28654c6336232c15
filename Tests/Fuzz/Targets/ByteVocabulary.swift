// A vocabulary that can say every text: the 256 bytes, the control tokens of ChatML, and a few merges.

import Tokenization

enum ByteVocabulary {
    static let endOfText: Int32 = 256
    static let endTurn: Int32 = 258
    /// "left right" in rank order, in byte-level spelling: Ġ is a space.
    static let merges = ["a a", "aa aa", "b c", "a b", "ab c", "Ġ a", "Ġ Ġ", "Ã ©"]

    /// The bytes in order, then the control tokens, then what the merges make.
    static let pieces =
        (0..<256).map { spelling(UInt8($0)) } + ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        + merges.map { $0.filter { $0 != " " } }

    static let definition = TokenizerDefinition(
        model: "gpt2", preTokenizer: "default", pieces: PackedStrings(pieces), merges: PackedStrings(merges),
        types: pieces.indices.map { (256...258).contains($0) ? 3 : 1 }, bos: endOfText, eos: endTurn)

    static let tokenizer: Tokenizer = {
        do {
            return try Tokenizer(definition)
        } catch {
            preconditionFailure("the vocabulary is valid: \(error)")
        }
    }()

    /// GPT-2's character for a byte: visible Latin-1 as it is, the rest from U+0100 on.
    private static func spelling(_ byte: UInt8) -> String {
        func isPlain(_ byte: UInt8) -> Bool {
            (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE
        }
        let value = isPlain(byte) ? UInt32(byte) : UInt32(256 + (0..<byte).count { !isPlain($0) })
        return Unicode.Scalar(value).map { String($0) } ?? ""
    }
}
