// Token ids to text. A token may end in the middle of a character, so a stream holds back the bytes that could still
// become one and emits everything before them; what never becomes a character is U+FFFD, as in Python's
// `bytes.decode("utf-8", errors="replace")`.

extension Tokenizer {
    /// The text of `tokens`; control tokens leave no trace where `skipSpecialTokens` is true.
    package func decode(
        _ tokens: some Sequence<Int32>, skipSpecialTokens: Bool = false
    ) throws(TokenizationError) -> String {
        var bytes: [UInt8] = []
        var beginning = leadingSpace
        for token in tokens {
            guard let piece = self.bytes(of: token) else {
                throw .tokenOutOfRange(id: token, vocabulary: vocabularyCount)
            }
            if skipSpecialTokens && isControl(token) { continue }
            if beginning == .kept {
                bytes.append(contentsOf: piece)
            } else {
                bytes.append(contentsOf: trimmed(piece, &beginning))
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A token's bytes as they are at this point of a text: `beginning` says what becomes of a space there, and is
    /// `.kept` from the first text on.
    fileprivate func trimmed(_ piece: ArraySlice<UInt8>, _ beginning: inout TokenizerPipeline.LeadingSpace) -> [UInt8] {
        defer { if !piece.isEmpty { beginning = .kept } }
        switch beginning {
        case .kept: return Array(piece)
        case .dropped: return Array(piece.first == 0x20 ? piece.dropFirst() : piece)
        case .droppedFromFirstToken: return piece.filter { $0 != 0x20 }
        }
    }
}

/// Turns one stream of tokens into text, a piece at a time.
///
/// The pieces joined are exactly what `decode` makes of all the tokens at once.
package struct StreamingDetokenizer: Sendable {
    private let tokenizer: Tokenizer
    private let skipsSpecialTokens: Bool
    /// The beginning of a character whose rest has not come: at most three bytes between calls.
    private var pending: [UInt8] = []
    /// What becomes of a space before the first text.
    private var beginning: TokenizerPipeline.LeadingSpace
    private let continues: Bool

    /// A stream of text.
    /// - Parameter continues: whether it goes on where other text ended, so that a space it begins with is one.
    package init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool = false, continues: Bool = false) {
        self.tokenizer = tokenizer
        self.continues = continues
        skipsSpecialTokens = skipSpecialTokens
        beginning = continues ? .kept : tokenizer.leadingSpace
    }

    /// The text that `token` completes; empty while a character is incomplete.
    ///
    /// A model's table may have more rows than its tokenizer has tokens, to be of a round size, and any row may be
    /// sampled: an id without a token is no text.
    package mutating func append(_ token: Int32) -> String {
        guard let piece = tokenizer.bytes(of: token) else { return "" }
        if skipsSpecialTokens && tokenizer.isControl(token) { return "" }
        if beginning == .kept {
            pending.append(contentsOf: piece)
        } else {
            pending.append(contentsOf: tokenizer.trimmed(piece, &beginning))
        }
        let heldBack = Self.incompleteTailCount(of: pending)
        let text = String(decoding: pending.dropLast(heldBack), as: UTF8.self)
        pending.removeFirst(pending.count - heldBack)
        return text
    }

    /// The end of the text: U+FFFD if the tokens end within a character, otherwise empty. The stream then begins anew.
    package mutating func finish() -> String {
        let text = String(decoding: pending, as: UTF8.self)
        pending.removeAll()
        beginning = continues ? .kept : tokenizer.leadingSpace
        return text
    }

    /// How many bytes at the end are a proper prefix of some character's UTF-8.
    static func incompleteTailCount(of bytes: [UInt8]) -> Int {
        for length in 1...3 where length <= bytes.count {
            let lead = bytes[bytes.count - length]
            if lead & 0xC0 == 0x80 { continue }
            let needed = lead >= 0xF5 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1
            guard length < needed else { return 0 }
            // The second byte decides whether the character exists: no overlong forms, surrogates or beyond U+10FFFF.
            if length > 1 {
                let allowed: ClosedRange<UInt8>
                switch lead {
                case 0xE0: allowed = 0xA0...0xBF
                case 0xED: allowed = 0x80...0x9F
                case 0xF0: allowed = 0x90...0xBF
                case 0xF4: allowed = 0x80...0x8F
                default: allowed = 0x80...0xBF
                }
                guard allowed.contains(bytes[bytes.count - length + 1]) else { return 0 }
            }
            return length
        }
        return 0
    }
}
