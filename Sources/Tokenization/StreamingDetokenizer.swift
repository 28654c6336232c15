// Token ids to text. A token may end in the middle of a character, so a stream holds back the bytes that could still
// become one and emits everything before them; what never becomes a character is U+FFFD, as in Python's
// `bytes.decode("utf-8", errors="replace")`.

extension Tokenizer {
    /// The text of `tokens`; control tokens leave no trace where `skipSpecialTokens` is true.
    package func decode(
        _ tokens: some Sequence<Int32>, skipSpecialTokens: Bool = false
    ) throws(TokenizationError) -> String {
        var bytes: [UInt8] = []
        for token in tokens {
            guard let piece = self.bytes(of: token) else {
                throw .tokenOutOfRange(id: token, vocabulary: vocabularyCount)
            }
            if !(skipSpecialTokens && isControl(token)) { bytes.append(contentsOf: piece) }
        }
        return String(decoding: bytes, as: UTF8.self)
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

    /// A stream of text at its beginning.
    package init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool = false) {
        self.tokenizer = tokenizer
        skipsSpecialTokens = skipSpecialTokens
    }

    /// The text that `token` completes; empty while a character is incomplete.
    package mutating func append(_ token: Int32) throws(TokenizationError) -> String {
        guard let piece = tokenizer.bytes(of: token) else {
            throw .tokenOutOfRange(id: token, vocabulary: tokenizer.vocabularyCount)
        }
        if skipsSpecialTokens && tokenizer.isControl(token) { return "" }
        pending.append(contentsOf: piece)
        let heldBack = Self.incompleteTailCount(of: pending)
        let text = String(decoding: pending.dropLast(heldBack), as: UTF8.self)
        pending.removeFirst(pending.count - heldBack)
        return text
    }

    /// The end of the text: U+FFFD if the tokens end within a character, otherwise empty. The stream then begins anew.
    package mutating func finish() -> String {
        let text = String(decoding: pending, as: UTF8.self)
        pending.removeAll()
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
