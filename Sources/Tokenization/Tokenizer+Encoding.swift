// Encoding: which parts of the text are control tokens is settled first, and only inside runs that may spell them;
// then the text between those tokens is cut and merged as if it had come in one run.

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
        var matches: [ControlTokenTrie.Match] = []
        for run in runs {
            let start = bytes.count
            bytes.append(contentsOf: run.text.utf8)
            if run.allowsControlTokens { appendMatches(in: start..<bytes.count, of: bytes.span, to: &matches) }
        }

        // [matches + 1] the text before each control token and after the last.
        let starts = [0] + matches.map(\.range.upperBound)
        let ends = matches.map(\.range.lowerBound) + [bytes.count]
        var texts = zip(starts, ends).map { start, end in start..<end }
        if addsSpacePrefix { (bytes, texts) = spaced(texts, of: bytes) }

        var encoder = TextEncoder(self, byteCount: bytes.count, maxTokens: maxTokens)
        if addSpecialTokens && addsBOS, let bos { try encoder.append(bos) }
        for (index, text) in texts.enumerated() {
            try encoder.append(text, of: bytes.span)
            if index < matches.count { try encoder.append(matches[index].token) }
        }
        return encoder.tokens
    }

    private func appendMatches(
        in range: Range<Int>, of bytes: Span<UInt8>, to matches: inout [ControlTokenTrie.Match]
    ) {
        var start = range.lowerBound
        while let match = controlTokens.firstMatch(in: start..<range.upperBound, of: bytes) {
            matches.append(match)
            start = match.range.upperBound
        }
    }

    /// The same texts, each with a space before it unless it is empty or begins with one.
    private func spaced(_ texts: [Range<Int>], of bytes: [UInt8]) -> (bytes: [UInt8], texts: [Range<Int>]) {
        var result: [UInt8] = []
        var ranges: [Range<Int>] = []
        for text in texts {
            let start = result.count
            if let first = bytes[text].first, first != UInt8(ascii: " ") { result.append(UInt8(ascii: " ")) }
            result.append(contentsOf: bytes[text])
            ranges.append(start..<result.count)
        }
        return (result, ranges)
    }
}
