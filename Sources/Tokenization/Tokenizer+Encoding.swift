// Encoding: which parts of the text are tokens spelled out is settled first, control tokens only inside runs that may
// spell them; then the text between those tokens is normalized, cut and encoded as if it had come in one run.

extension Tokenizer {
    /// The tokens of `text`.
    ///
    /// - Parameters:
    ///   - allowsControlTokens: whether "<|im_end|>" in the text is that token, or the characters it is written with.
    ///   - addSpecialTokens: whether the beginning-of-text token comes first, where the checkpoint asks for that.
    ///   - maxTokens: the most tokens that the caller has a use for; encoding stops when there are more.
    ///   - maxBytes: the longest text that the caller accepts.
    /// - Throws: `textTooLong`, `tooManyTokens`.
    /// - Complexity: n log n in the length of the longest word, linear in the number of words.
    package func encode(
        _ text: String, allowsControlTokens: Bool = false, addSpecialTokens: Bool = true,
        maxTokens: Int = .max, maxBytes: Int = .max
    ) throws(TokenizationError) -> [Int32] {
        let run = TextRun(text: text, allowsControlTokens: allowsControlTokens)
        return try encode([run], addSpecialTokens: addSpecialTokens, maxTokens: maxTokens, maxBytes: maxBytes)
    }

    /// The tokens of the text that `runs` spell together.
    ///
    /// A control token is recognised only wholly inside one run that allows it. Ordinary text merges across the
    /// borders between runs, so how it was divided into them never shows.
    package func encode(
        _ runs: [TextRun], addSpecialTokens: Bool, maxTokens: Int = .max, maxBytes: Int = .max
    ) throws(TokenizationError) -> [Int32] {
        let limit = min(maxBytes, Self.maxTextBytes)
        var byteCount = 0
        for run in runs {
            byteCount += run.text.utf8.count
            guard byteCount <= limit else { throw .textTooLong(bytes: byteCount, limit: limit) }
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        var trusted: [Range<Int>] = []
        for run in runs {
            let start = bytes.count
            bytes.append(contentsOf: run.text.utf8)
            if run.allowsControlTokens { trusted.append(start..<bytes.count) }
        }
        let matches = matches(of: controlTokens, in: bytes.span, trusted)
        var segments = Segments(bytes: bytes, matches)
        if !normalizer.isIdentity { segments = try normalized(segments, trusted) }
        if !opener.isIdentity {
            segments = try segments.map { (text, isFirst) throws(TokenizationError) in
                try opener.normalize(text, isFirst: isFirst, limit: Self.maxTextBytes)
            }
        }

        var encoder = TextEncoder(self, byteCount: segments.bytes.count, maxTokens: maxTokens)
        if addSpecialTokens { for token in prefix { try encoder.append(token) } }
        for (index, text) in segments.texts.enumerated() {
            try encoder.append(text, of: segments.bytes.span)
            if index < segments.tokens.count { try encoder.append(segments.tokens[index]) }
        }
        if addSpecialTokens { for token in suffix { try encoder.append(token) } }
        return encoder.tokens
    }

    // MARK: Tokens spelled out

    /// The tokens of `trie` that `bytes` spell out, from left to right; those of the template only inside `trusted`.
    private func matches(
        of trie: ControlTokenTrie, in bytes: Span<UInt8>, _ trusted: [Range<Int>]
    ) -> [ControlTokenTrie.Match] {
        guard !trie.isEmpty, !(trusted.isEmpty && plainTokens.isEmpty) else { return [] }
        var matches: [ControlTokenTrie.Match] = []
        var end = 0
        var run = 0
        var start = 0
        // Where no token is everyone's, the runs that may spell tokens are all that need be looked at.
        let ranges = plainTokens.isEmpty ? trusted : [0..<bytes.count]
        for range in ranges {
            start = range.lowerBound
            while let match = trie.firstMatch(
                in: start..<range.upperBound, of: bytes,
                isAllowed: { match in
                    if plainTokens.contains(match.token) { return true }
                    while run < trusted.count, trusted[run].upperBound <= match.range.lowerBound { run += 1 }
                    return run < trusted.count && trusted[run].lowerBound <= match.range.lowerBound
                        && match.range.upperBound <= trusted[run].upperBound
                })
            {
                start = match.range.upperBound
                guard let widened = widened(match, from: end, in: bytes) else { continue }
                matches.append(widened)
                end = widened.range.upperBound
                start = max(start, end)
            }
        }
        return matches
    }

    /// The match with the white space that its token takes along, after the end of the one before; nil where its token
    /// must be a whole word and is not.
    private func widened(
        _ match: ControlTokenTrie.Match, from end: Int, in bytes: Span<UInt8>
    ) -> ControlTokenTrie.Match? {
        guard let rule = addedTokenRules[match.token] else { return match }
        var (lower, upper) = (match.range.lowerBound, match.range.upperBound)
        if rule.isWholeWord {
            if lower > 0, isWordCharacter(at: Characters.start(ofLast: bytes, 0, lower), bytes) { return nil }
            if upper < bytes.count, isWordCharacter(at: upper, bytes) { return nil }
        }
        if rule.stripsLeft { lower = TextNormalizer.startOfSpace(bytes, from: end, to: lower) }
        if rule.stripsRight { upper = TextNormalizer.endOfSpace(bytes, from: upper, to: bytes.count) }
        return ControlTokenTrie.Match(range: lower..<upper, token: match.token)
    }

    private func isWordCharacter(at position: Int, _ bytes: Span<UInt8>) -> Bool {
        CharacterClasses.shared.traits(of: Characters.next(bytes, position, bytes.count).scalar).contains(.word)
    }

    // MARK: Normalization

    /// The segments normalized, and cut once more by the tokens that normalized text spells out. A text of which only a
    /// part may spell them is normalized in its parts, so that each keeps its authority.
    private func normalized(
        _ segments: Segments, _ trusted: [Range<Int>]
    ) throws(TokenizationError) -> Segments {
        guard !normalizedTokens.isEmpty else {
            return try segments.map { (text, isFirst) throws(TokenizationError) in
                try normalizer.normalize(text, isFirst: isFirst, limit: Self.maxTextBytes)
            }
        }
        var result = Segments()
        for (index, text) in segments.texts.enumerated() {
            let start = result.bytes.count
            var within: [Range<Int>] = []
            for (part, isTrusted) in Self.parts(of: text, trusted) {
                let bytes = try normalizer.normalize(
                    Array(segments.bytes[part]), isFirst: part.lowerBound == 0, limit: Self.maxTextBytes)
                let from = result.bytes.count - start
                result.bytes.append(contentsOf: bytes)
                if isTrusted { within.append(from..<(result.bytes.count - start)) }
            }
            let whole = result.bytes[start...]
            let matches = matches(of: normalizedTokens, in: Array(whole).span, within)
            result.append(start..<result.bytes.count, matches, start, isFirst: segments.isFirst[index])
            if index < segments.tokens.count { result.tokens.append(segments.tokens[index]) }
            guard result.bytes.count <= Self.maxTextBytes else {
                throw .textTooLong(bytes: result.bytes.count, limit: Self.maxTextBytes)
            }
        }
        return result
    }

    /// `text` in one part where all of it may spell tokens or none of it, otherwise cut where that changes.
    private static func parts(of text: Range<Int>, _ trusted: [Range<Int>]) -> [(Range<Int>, Bool)] {
        var parts: [(Range<Int>, Bool)] = []
        var position = text.lowerBound
        for run in trusted where run.overlaps(text) {
            let run = run.clamped(to: text)
            if position < run.lowerBound { parts.append((position..<run.lowerBound, false)) }
            parts.append((run, true))
            position = run.upperBound
        }
        if position < text.upperBound || parts.isEmpty { parts.append((position..<text.upperBound, false)) }
        return parts
    }
}

/// A text cut at the tokens that it spells out.
private struct Segments {
    var bytes: [UInt8] = []
    /// [tokens + 1] the text before each token and after the last.
    var texts: [Range<Int>] = []
    /// [tokens + 1] whether the whole text begins with the segment.
    var isFirst: [Bool] = []
    var tokens: [Int32] = []

    init() {}

    init(bytes: [UInt8], _ matches: [ControlTokenTrie.Match]) {
        self.bytes = bytes
        append(0..<bytes.count, matches, 0, isFirst: true)
    }

    /// Adds `range` of `bytes` cut at `matches`, whose positions count from `offset`.
    mutating func append(
        _ range: Range<Int>, _ matches: [ControlTokenTrie.Match], _ offset: Int, isFirst: Bool
    ) {
        var position = range.lowerBound
        for match in matches {
            texts.append(position..<(match.range.lowerBound + offset))
            self.isFirst.append(isFirst && position == range.lowerBound)
            tokens.append(match.token)
            position = match.range.upperBound + offset
        }
        texts.append(position..<range.upperBound)
        self.isFirst.append(isFirst && position == range.lowerBound)
    }

    /// The same tokens, with every text changed.
    func map(
        _ change: (_ text: [UInt8], _ isFirst: Bool) throws(TokenizationError) -> [UInt8]
    ) throws(TokenizationError) -> Segments {
        var result = Segments()
        result.bytes.reserveCapacity(bytes.count)
        result.tokens = tokens
        for (text, isFirst) in zip(texts, isFirst) {
            let start = result.bytes.count
            result.bytes.append(contentsOf: try change(Array(bytes[text]), isFirst))
            guard result.bytes.count <= Tokenizer.maxTextBytes else {
                throw .textTooLong(bytes: result.bytes.count, limit: Tokenizer.maxTextBytes)
            }
            result.texts.append(start..<result.bytes.count)
            result.isFirst.append(isFirst)
        }
        return result
    }
}
