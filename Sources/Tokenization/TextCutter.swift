// Cuts a text by several steps, each of which cuts what the one before left. The steps of a tokenizer are few and
// known when it is made, so the recursion is as deep as they are many.

/// Cuts text by a list of steps.
struct TextCutter: Sendable {
    private let steps: [CuttingStep]
    private let classes = CharacterClasses.shared

    init(_ steps: [CuttingStep]) { self.steps = steps }

    /// Gives the pieces of `range` to `body`, from left to right; what a step removes is left out.
    func forEachPiece(
        of range: Range<Int>, in bytes: Span<UInt8>, _ body: (Range<Int>) throws(TokenizationError) -> Void
    ) throws(TokenizationError) {
        try cut(range, in: bytes, from: 0, body)
    }

    private func cut(
        _ range: Range<Int>, in bytes: Span<UInt8>, from step: Int,
        _ body: (Range<Int>) throws(TokenizationError) -> Void
    ) throws(TokenizationError) {
        guard step < steps.count else { return try body(range) }
        var start = range.lowerBound
        while start < range.upperBound {
            let (end, isKept) = piece(from: start, to: range.upperBound, in: bytes, steps[step])
            if isKept { try cut(start..<end, in: bytes, from: step + 1, body) }
            start = end
        }
    }

    private func piece(
        from start: Int, to limit: Int, in bytes: Span<UInt8>, _ step: CuttingStep
    ) -> (end: Int, isKept: Bool) {
        switch step {
        case .pattern(let pattern): return (pattern.end(ofPieceAt: start, in: bytes, limit: limit), true)
        case .characters(let set, let delimiter):
            return piece(from: start, to: limit, delimiter) { position in
                let (scalar, end) = Characters.next(bytes, position, limit)
                return isMember(scalar, of: set) ? (end, true) : (end, false)
            }
        case .string(let string, let delimiter):
            return piece(from: start, to: limit, delimiter) { position in
                var length = 0
                while length < string.count, position + length < limit, bytes[position + length] == string[length] {
                    length += 1
                }
                if length == string.count { return (position + length, true) }
                return (Characters.next(bytes, position, limit).end, false)
            }
        case .words: return word(from: start, to: limit, in: bytes)
        }
    }

    /// `next` says where the delimiter or the other character at a position ends, and which it is.
    private func piece(
        from start: Int, to limit: Int, _ delimiter: CuttingStep.Delimiter,
        next: (Int) -> (end: Int, isDelimiter: Bool)
    ) -> (end: Int, isKept: Bool) {
        var (position, isDelimiter) = next(start)
        switch delimiter {
        case .isolated where isDelimiter: return (position, true)
        case .removed where isDelimiter: return (position, false)
        case .joinsPrevious where isDelimiter: return (position, true)
        default: break
        }
        while position < limit {
            let (end, endsPiece) = next(position)
            switch delimiter {
            case .contiguous: if endsPiece != isDelimiter { return (position, true) }
            case .joinsPrevious: if endsPiece { return (end, true) }
            default: if endsPiece { return (position, true) }
            }
            position = end
        }
        return (position, true)
    }

    private func isMember(_ scalar: UInt32, of set: CuttingStep.Characters) -> Bool {
        switch set {
        case .digits: classes[scalar] == .number || classes[scalar] == .laterDigit
        case .punctuation: classes.traits(of: scalar).contains(.punctuation)
        case .whitespace: classes[scalar] == .space
        }
    }

    /// A run of word characters, of white space, which is removed, or of others.
    private func word(from start: Int, to limit: Int, in bytes: Span<UInt8>) -> (end: Int, isKept: Bool) {
        func kind(_ scalar: UInt32) -> Int {
            if classes.traits(of: scalar).contains(.word) { return 1 }
            return classes[scalar] == .space ? 2 : 0
        }
        var (scalar, position) = Characters.next(bytes, start, limit)
        let first = kind(scalar)
        while position < limit {
            let end: Int
            (scalar, end) = Characters.next(bytes, position, limit)
            guard kind(scalar) == first else { break }
            position = end
        }
        return (position, first != 2)
    }
}
