// Cuts text into the pieces within which BPE merges. Each pattern is a published regular expression, written here as a
// scanner that looks at most one character past a run: no expression from a file is ever executed, and no text can
// make one backtrack. A pattern is a case of `Pattern` and an arm of `end(ofPieceAt:)`.

/// Finds where each piece of a text ends.
package struct PreTokenizer: Sendable {
    /// The ways of cutting that are known.
    private enum Pattern {
        /// GPT-2's `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
        case gpt2
        /// Every digit alone first, then GPT-2's pattern on what lies between.
        case smollm
    }

    /// The names accepted, as checkpoints spell them.
    package static let names = ["default", "gpt-2", "smollm"]

    private let pattern: Pattern
    private let classes = CharacterClasses.shared

    /// The pre-tokenizer that a checkpoint calls `name`.
    package init(named name: String) throws(TokenizationError) {
        switch name {
        case "default", "gpt-2": pattern = .gpt2
        case "smollm": pattern = .smollm
        default: throw .unsupportedPreTokenizer(name)
        }
    }

    /// Where the piece that begins at `start` ends, in text that ends at `limit`; `start` must be before `limit`.
    package func end(ofPieceAt start: Int, in bytes: Span<UInt8>, limit: Int) -> Int {
        switch pattern {
        case .gpt2:
            return endOfGPT2Piece(at: start, in: bytes, limit: limit) { kind in
                kind == .laterDigit ? .other : kind
            }
        case .smollm:
            // A digit is a piece, and for what precedes it the text ends there: `number` stops every other run.
            let (kind, next) = character(at: start, in: bytes, limit: limit)
            if kind == .number || kind == .laterDigit { return next }
            return endOfGPT2Piece(at: start, in: bytes, limit: limit) { kind in
                kind == .number || kind == .laterDigit ? nil : kind
            }
        }
    }

    /// GPT-2's pattern. `seen` maps a character's class to what the pattern sees: nil is the end of the text.
    @inline(__always)
    private func endOfGPT2Piece(
        at start: Int, in bytes: Span<UInt8>, limit: Int, seen: (CharacterClass) -> CharacterClass?
    ) -> Int {
        if bytes[start] == UInt8(ascii: "'"), let end = endOfContraction(at: start, in: bytes, limit: limit) {
            return end
        }
        var (first, position) = character(at: start, in: bytes, limit: limit)
        if bytes[start] == UInt8(ascii: " "), position < limit {
            // ` ?` takes a space into the run that follows it, whatever class that is of.
            let (second, next) = character(at: position, in: bytes, limit: limit)
            if let second = seen(second), second != .space { (first, position) = (second, next) }
        }
        let run = seen(first)
        var lastStart = start
        while position < limit {
            let (kind, next) = character(at: position, in: bytes, limit: limit)
            guard let kind = seen(kind) else { return position }
            if kind != run {
                // `\s+(?!\S)`: spaces before a word leave their last one to it, unless it is the only one.
                return run == .space && lastStart > start ? lastStart : position
            }
            (lastStart, position) = (position, next)
        }
        return position
    }

    /// The end of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d` at an apostrophe, if one is there.
    private func endOfContraction(at start: Int, in bytes: Span<UInt8>, limit: Int) -> Int? {
        guard start + 1 < limit else { return nil }
        let second: UInt8
        switch bytes[start + 1] {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return start + 2
        case UInt8(ascii: "r"), UInt8(ascii: "v"): second = UInt8(ascii: "e")
        case UInt8(ascii: "l"): second = UInt8(ascii: "l")
        default: return nil
        }
        return start + 2 < limit && bytes[start + 2] == second ? start + 3 : nil
    }

    /// The class of the character at `position`, and where the next one begins. The text is UTF-8; were it not, the
    /// answer would be meaningless but still make progress and stay within `limit`.
    @inline(__always)
    private func character(at position: Int, in bytes: Span<UInt8>, limit: Int) -> (kind: CharacterClass, next: Int) {
        let lead = UInt32(bytes[position])
        if lead < 0x80 { return (classes[lead], position + 1) }
        let length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2
        let end = min(position + length, limit)
        var scalar = lead & (0x7F >> UInt32(length))
        for index in (position + 1)..<end { scalar = scalar << 6 | UInt32(bytes[index] & 0x3F) }
        return (classes[min(scalar, 0x10FFFF)], end)
    }
}
