// The changes that are made to text before it is cut. Each is linear in the text but for the sorting of marks, and what
// a change makes of a text is bounded: the caller's limit on text holds for the result too.

/// Applies normalization steps to one text after another.
struct TextNormalizer {
    private let steps: [NormalizationStep]

    init(_ steps: [NormalizationStep]) { self.steps = steps }

    var isIdentity: Bool { steps.isEmpty }

    /// `text`, changed; `isFirst` says that the whole text begins with it.
    func normalize(_ text: [UInt8], isFirst: Bool, limit: Int) throws(TokenizationError) -> [UInt8] {
        var text = text
        for step in steps {
            switch step {
            case .form(let form): text = UnicodeNormalization.shared.normalize(text, to: form)
            case .replace(let replacement): text = Self.replaced(text, replacement)
            case .replaceSpaceRuns(let content): text = Self.replacedSpaceRuns(text, by: content)
            case .prepend(let content): if !text.isEmpty { text = content + text }
            case .prependUnlessThere(let content, let reach):
                if reach == .all || reach == .firstOnly && isFirst, !text.isEmpty, !text.starts(with: content) {
                    text = content + text
                }
            case .strip(let left, let right): text = Self.stripped(text, left: left, right: right)
            case .lowercase: text = Self.lowercased(text)
            }
            guard text.count <= limit else { throw .textTooLong(bytes: text.count, limit: limit) }
        }
        return text
    }

    static func replaced(_ text: [UInt8], _ replacement: Replacement) -> [UInt8] {
        let pattern = replacement.pattern
        guard let first = pattern.first, text.contains(first) else { return text }
        var result: [UInt8] = []
        result.reserveCapacity(text.count + text.count / 2)
        var position = 0
        while position < text.count {
            if text[position] == first, text.count - position >= pattern.count,
                pattern.count == 1 || text[position..<(position + pattern.count)].elementsEqual(pattern)
            {
                result.append(contentsOf: replacement.content)
                position += pattern.count
            } else {
                result.append(text[position])
                position += 1
            }
        }
        return result
    }

    private static func replacedSpaceRuns(_ text: [UInt8], by content: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        var position = 0
        while position < text.count {
            var end = position
            while end < text.count, text[end] == 0x20 { end += 1 }
            if end - position >= 2 {
                result.append(contentsOf: content)
                position = end
            } else {
                result.append(text[position])
                position += 1
            }
        }
        return result
    }

    private static func stripped(_ text: [UInt8], left: Bool, right: Bool) -> [UInt8] {
        let span = text.span
        let start = left ? endOfSpace(span, from: 0, to: text.count) : 0
        let end = right ? startOfSpace(span, from: start, to: text.count) : text.count
        return Array(text[start..<end])
    }

    /// Where the white space that begins at `start` ends.
    static func endOfSpace(_ bytes: Span<UInt8>, from start: Int, to end: Int) -> Int {
        var position = start
        while position < end {
            let (scalar, next) = Characters.next(bytes, position, end)
            guard CharacterClasses.shared[scalar] == .space else { break }
            position = next
        }
        return position
    }

    /// Where the white space that ends at `end` begins.
    static func startOfSpace(_ bytes: Span<UInt8>, from start: Int, to end: Int) -> Int {
        var position = end
        while position > start {
            let last = Characters.start(ofLast: bytes, start, position)
            guard CharacterClasses.shared[Characters.next(bytes, last, position).scalar] == .space else { break }
            position = last
        }
        return position
    }

    private static func lowercased(_ text: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        let span = text.span
        var position = 0
        while position < text.count {
            let (scalar, next) = Characters.next(span, position, text.count)
            position = next
            if scalar < 0x80 {
                let isUpper = scalar >= 0x41 && scalar <= 0x5A
                result.append(UInt8(isUpper ? scalar + 0x20 : scalar))
            } else if let character = Unicode.Scalar(scalar) {
                result.append(contentsOf: character.properties.lowercaseMapping.utf8)
            }
        }
        return result
    }
}
