// Cuts text into the pieces within which merging happens. Each pattern is a published regular expression, written here
// as a scanner that looks at most one run ahead: no expression from a file is ever executed, and no text can make one
// backtrack. A pattern is a case of `Pattern` and an arm of `end(ofPieceAt:)`; files name it, or spell it out exactly.

/// Finds where each piece of a text ends.
package struct PreTokenizer: Sendable {
    /// The ways of cutting that are known.
    private enum Pattern {
        /// GPT-2's `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
        case gpt2
        /// Every digit alone first, then GPT-2's pattern on what lies between.
        case smollm
        /// GPT-4's pattern and what others made of it.
        case words(WordPattern)
    }

    /// The names accepted, as GGUF checkpoints spell them.
    package static let names = [
        "default", "gpt-2", "phi-2", "smollm", "llama-bpe", "llama3", "llama-v3", "falcon3", "smaug-bpe", "dbrx",
        "qwen2",
        "deepseek-r1-qwen", "gpt-4o", "llama4", "tekken",
    ]

    private let pattern: Pattern
    private let classes = CharacterClasses.shared
    /// Whether vocabularies cut this way have tokens that their merges do not make.
    let takesWholePieces: Bool
    /// Whether their text is composed first.
    let composes: Bool

    /// The pre-tokenizer that a checkpoint calls `name`.
    package init(named name: String) throws(TokenizationError) {
        takesWholePieces = ["llama-bpe", "llama3", "llama-v3", "falcon3", "tekken"].contains(name)
        composes = ["qwen2", "deepseek-r1-qwen"].contains(name)
        switch name {
        case "default", "gpt-2", "phi-2": pattern = .gpt2
        case "smollm": pattern = .smollm
        case "llama-bpe", "llama3", "llama-v3", "falcon3", "smaug-bpe", "dbrx": pattern = .words(.gpt4)
        case "qwen2", "deepseek-r1-qwen": pattern = .words(.qwen2)
        case "gpt-4o", "llama4": pattern = .words(.gpt4o)
        case "tekken": pattern = .words(.tekken)
        default: throw .unsupportedPreTokenizer(name)
        }
    }

    /// The pre-tokenizer that cuts as the regular expression `source` says, if it is one of those known.
    package init?(expression source: String) {
        (takesWholePieces, composes) = (false, false)
        if Self.gpt2Expressions.contains(source) {
            pattern = .gpt2
        } else if let known = WordPattern(expression: source) {
            pattern = .words(known)
        } else {
            return nil
        }
    }

    private static let gpt2Expressions = [
        #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#,
        #"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#,
    ]

    /// GPT-2's own.
    static let gpt2 = PreTokenizer(.gpt2)
    /// Digits alone, then GPT-2's.
    static let smollm = PreTokenizer(.smollm)

    private init(_ pattern: Pattern) {
        self.pattern = pattern
        (takesWholePieces, composes) = (false, false)
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
        case .words(let words): return words.end(ofPieceAt: start, in: bytes, limit: limit, classes)
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

    /// The class of the character at `position`, and where the next one begins.
    @inline(__always)
    private func character(at position: Int, in bytes: Span<UInt8>, limit: Int) -> (kind: CharacterClass, next: Int) {
        let (scalar, end) = Characters.next(bytes, position, limit)
        return (classes[scalar], end)
    }
}
