// A GGUF file's tokenizer as the tokenizer takes it. Checkpoints and Tokenization know nothing of each other; this is
// where they meet.

import Checkpoints
import Tokenization

extension TokenizerDefinition {
    /// The tokenizer that a checkpoint's metadata describes. Tokens without a stated kind are ordinary text.
    init(_ metadata: TokenizerMetadata) {
        let normal = TokenType.normal.rawValue
        self.init(
            model: metadata.model,
            preTokenizer: metadata.pre ?? "default",
            pieces: Tokenization.PackedStrings(metadata.tokens),
            merges: metadata.merges.map { Tokenization.PackedStrings($0) } ?? Tokenization.PackedStrings(),
            types: metadata.tokenTypes.map { $0.map { $0 == 0 ? normal : $0 } }
                ?? Array(repeating: normal, count: metadata.tokens.count),
            bos: metadata.bosID.map { Int32($0) },
            eos: metadata.eosID.map { Int32($0) },
            unk: metadata.unknownID.map { Int32($0) },
            pad: metadata.paddingID.map { Int32($0) },
            // SentencePiece begins every text with both unless the file says otherwise.
            addsBOS: metadata.addsBOS ?? (metadata.model == "llama" && metadata.bosID != nil),
            addsSpacePrefix: metadata.addsSpacePrefix ?? (metadata.model == "llama"))
        scores = metadata.scores ?? []
        addsEOS = metadata.addsEOS ?? false
        markup = metadata.chatTemplate ?? ""
    }
}

extension Tokenization.PackedStrings {
    /// The same strings.
    init(_ strings: Checkpoints.PackedStrings) {
        self.init()
        reserve(count: strings.count, byteCount: strings.bytes.count)
        for index in 0..<strings.count { append(strings[index].span) }
    }
}
