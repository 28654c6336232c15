// The tables that a tokenizer is made of: what each token decodes to, the tokens that text spells out, and what turns
// pieces of text into tokens. Everything the definition says is checked on the way.

extension Tokenizer {
    /// What each token stands for, in bytes of text.
    static func decodedPieces(
        _ spelled: PackedStrings, _ types: [TokenType], _ pipeline: TokenizerPipeline
    ) throws(TokenizationError) -> PackedStrings {
        let alphabet = ByteAlphabet()
        var decoded = PackedStrings()
        decoded.reserve(count: spelled.count, byteCount: spelled.bytes.count)
        let bytes = spelled.bytes.span
        var piece: [UInt8] = []
        for token in 0..<spelled.count {
            let range = spelled.range(of: token)
            let limit =
                types[token].isSpelledOut || pipeline.algorithm == .unigram ? maxControlPieceBytes : maxPieceBytes
            guard range.count <= limit else {
                throw .pieceTooLong(token: token, bytes: range.count, limit: limit)
            }
            guard pipeline.algorithm != .byteMerges else {
                if types[token].isSpelledOut {
                    decoded.append(bytes.extracting(range))
                } else {
                    piece.removeAll(keepingCapacity: true)
                    alphabet.append(piece: range, of: bytes, to: &piece)
                    decoded.append(piece.span)
                }
                continue
            }
            if let byte = byte(of: range, bytes), types[token] == .byte || pipeline.usesByteFallback {
                decoded.append(CollectionOfOne(byte))
            } else if pipeline.replacements.allSatisfy({ !contains($0.pattern.first, range, bytes) }) {
                decoded.append(bytes.extracting(range))
            } else {
                piece = pipeline.replacements.reduce(Array(spelled[token])) { TextNormalizer.replaced($0, $1) }
                decoded.append(piece.span)
            }
        }
        return decoded
    }

    private static func contains(_ byte: UInt8?, _ range: Range<Int>, _ bytes: Span<UInt8>) -> Bool {
        for index in range where bytes[index] == byte { return true }
        return false
    }

    /// The byte that a piece spelled "<0x0A>" stands for.
    static func byte(of range: Range<Int>, _ bytes: Span<UInt8>) -> UInt8? {
        guard range.count == 6, bytes[range.lowerBound] == UInt8(ascii: "<"),
            bytes[range.lowerBound + 1] == UInt8(ascii: "0"), bytes[range.lowerBound + 2] == UInt8(ascii: "x"),
            bytes[range.lowerBound + 5] == UInt8(ascii: ">"), let high = digit(bytes[range.lowerBound + 3]),
            let low = digit(bytes[range.lowerBound + 4])
        else { return nil }
        return high << 4 | low
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    // MARK: Tokens that text spells out

    /// Those looked for in text as it is, and those looked for in normalized text.
    static func tries(
        _ definition: TokenizerDefinition, _ types: [TokenType], _ normalizer: TextNormalizer
    ) throws(TokenizationError) -> (ControlTokenTrie, ControlTokenTrie) {
        var (plain, normalized) = (ControlTokenTrie(), ControlTokenTrie())
        var byteCount = 0
        for token in 0..<definition.pieces.count where types[token].isSpelledOut {
            let piece = definition.pieces[token]
            byteCount += piece.count
            guard byteCount <= maxControlBytes else {
                throw .controlPiecesTooLong(bytes: byteCount, limit: maxControlBytes)
            }
            if definition.addedTokenRules[Int32(token)]?.isNormalized == true, !normalizer.isIdentity {
                let text = try normalizer.normalize(Array(piece), isFirst: true, limit: maxPieceBytes)
                normalized.insert(text[...], token: Int32(token))
            } else {
                plain.insert(piece, token: Int32(token))
            }
        }
        return (plain, normalized)
    }

    /// User-defined tokens that any text may spell out: those that nobody would take for markup. The template's own
    /// markup is for the template alone, and so is whatever looks like "<|this|>".
    static func plainTokens(_ definition: TokenizerDefinition, _ types: [TokenType]) -> Set<Int32> {
        var plain: Set<Int32> = []
        for token in 0..<definition.pieces.count where types[token] == .userDefined {
            let piece = definition.pieces[token]
            let isSpace = piece.allSatisfy { $0 == 0x20 || (0x09...0x0D).contains($0) }
            let text = String(decoding: piece, as: UTF8.self)
            let isMarkup = text.hasPrefix("<|") && text.hasSuffix("|>") || definition.markup.contains(text)
            if isSpace || !isMarkup { plain.insert(Int32(token)) }
        }
        return plain
    }

    // MARK: Encoding

    static func encoding(
        _ definition: TokenizerDefinition, _ pipeline: TokenizerPipeline, _ types: [TokenType]
    ) throws(TokenizationError) -> PieceEncoding {
        var encoding = PieceEncoding(pipeline.algorithm)
        encoding.usesByteFallback = pipeline.usesByteFallback
        encoding.fusesUnknown = pipeline.fusesUnknown
        encoding.takesWholePieces = pipeline.takesWholePieces
        // GGUF's byte-level vocabularies name an unknown token that is never meant.
        if let unk = definition.unk, pipeline.algorithm != .byteMerges || definition.pipeline != nil {
            encoding.unknown = UInt32(unk)
        }
        encoding.isText = types.map { !$0.isControl }
        let spelled = try PieceIndex(definition.pieces) { types[$0] != .unused || definition.pieces[$0].count > 0 }
        switch pipeline.algorithm {
        case .byteMerges:
            let alphabet = ByteAlphabet()
            for byte in UInt8.min...UInt8.max {
                if let token = spelled.entry(equalTo: alphabet.spelling(of: byte)), !types[token].isControl {
                    encoding.tokenOfByte[Int(byte)] = UInt32(token)
                }
            }
            if pipeline.takesWholePieces {
                let decoded = try decodedPieces(definition.pieces, types, pipeline)
                encoding.index = try PieceIndex(decoded, takesFirst: true) { !types[$0].isSpelledOut }
            }
            encoding.merges = try merges(definition, spelled, types)
        case .characterMerges, .unigram:
            let span = definition.pieces.bytes.span
            for token in 0..<definition.pieces.count where !types[token].isControl {
                let range = definition.pieces.range(of: token)
                if range.count == 1, span[range.lowerBound] < 0x80 {
                    encoding.tokenOfASCII[Int(span[range.lowerBound])] = UInt32(token)
                } else if let byte = byte(of: range, span) {
                    encoding.tokenOfByte[Int(byte)] = UInt32(token)
                }
            }
            encoding.index = spelled
            if pipeline.algorithm == .unigram {
                var pieces = UnigramPieces(scores: definition.scores)
                for token in 0..<definition.pieces.count where !types[token].isControl && types[token] != .byte {
                    pieces.insert(definition.pieces[token], token: Int32(token))
                }
                encoding.unigram = pieces
            } else {
                encoding.merges =
                    definition.merges.count > 0
                    ? try merges(definition, spelled, types) : mergesByScore(definition, spelled, types)
                encoding.charactersBeforeMark = charactersBeforeMark(definition.pieces, types, spelled)
            }
        }
        return encoding
    }

    private static func merges(
        _ definition: TokenizerDefinition, _ index: PieceIndex, _ types: [TokenType]
    ) throws(TokenizationError) -> BytePairMerges {
        let lines = definition.merges
        guard lines.count <= maxMerges else { throw .tooManyMerges(count: lines.count, limit: maxMerges) }
        var merges = BytePairMerges(capacity: lines.count)
        let bytes = lines.bytes.span
        var joined: [UInt8] = []
        for line in 0..<lines.count {
            let range = lines.range(of: line)
            guard range.count <= 2 * maxPieceBytes + 1,
                let space = range.first(where: { bytes[$0] == definition.mergeSeparator }),
                space > range.lowerBound, space + 1 < range.upperBound
            else { throw .malformedMerge(merge: line, text: String(decoding: lines[line].prefix(80), as: UTF8.self)) }
            let left = range.lowerBound..<space
            let right = (space + 1)..<range.upperBound
            joined.removeAll(keepingCapacity: true)
            for position in left { joined.append(bytes[position]) }
            for position in right { joined.append(bytes[position]) }

            let found = (
                index.entry(equalTo: left, of: bytes), index.entry(equalTo: right, of: bytes),
                index.entry(equalTo: 0..<joined.count, of: joined.span)
            )
            guard let leftToken = found.0, let rightToken = found.1, let product = found.2 else {
                let missing = found.0 == nil ? lines.bytes[left] : found.1 == nil ? lines.bytes[right] : joined[...]
                throw .mergeOfUnknownPiece(merge: line, piece: String(decoding: missing, as: UTF8.self))
            }
            if let control = [leftToken, rightToken, product].first(where: { types[$0].isControl }) {
                // Converters of SentencePiece vocabularies write merges of control tokens too; no text becomes one.
                if definition.pipeline?.algorithm == .characterMerges { continue }
                throw .mergeOfControlToken(merge: line, piece: definition.pieces.text(of: control))
            }
            merges.append(left: UInt32(leftToken), right: UInt32(rightToken), product: UInt32(product))
        }
        return merges
    }

    /// SentencePiece's merges: any two tokens that make a third may merge, the third of the highest score first, and of
    /// equals the earlier in the vocabulary.
    private static func mergesByScore(
        _ definition: TokenizerDefinition, _ index: PieceIndex, _ types: [TokenType]
    ) -> BytePairMerges {
        let pieces = definition.pieces
        let bytes = pieces.bytes.span
        var order: [(score: Float, token: Int32)] = []
        for token in 0..<pieces.count where types[token] == .normal && pieces.range(of: token).count > 1 {
            order.append((definition.scores[token], Int32(token)))
        }
        // A score that is no number is the lowest of all.
        func precedes(_ left: (score: Float, token: Int32), _ right: (score: Float, token: Int32)) -> Bool {
            let scores = (left.score.isNaN ? -.infinity : left.score, right.score.isNaN ? -.infinity : right.score)
            return scores.0 == scores.1 ? left.token < right.token : scores.0 > scores.1
        }
        // Most vocabularies are in this order already.
        let isSorted = zip(order, order.dropFirst()).allSatisfy { precedes($0, $1) }
        if !isSorted { order.sort(by: precedes) }
        var merges = BytePairMerges(capacity: pieces.count * 5 / 2)
        for (_, token) in order {
            let range = pieces.range(of: Int(token))
            merges.appendRank(product: UInt32(token))
            var split = range.lowerBound + 1
            while split < range.upperBound {
                defer { split += 1 }
                guard bytes[split] & 0xC0 != 0x80,
                    let left = index.entry(equalTo: range.lowerBound..<split, of: bytes), types[left] == .normal,
                    let right = index.entry(equalTo: split..<range.upperBound, of: bytes), types[right] == .normal
                else { continue }
                merges.appendAgain(left: UInt32(left), right: UInt32(right))
            }
        }
        return merges
    }

    /// The characters that stand before a space mark inside some token; nil if there are too many, or no mark.
    private static func charactersBeforeMark(
        _ pieces: PackedStrings, _ types: [TokenType], _ index: PieceIndex
    ) -> Set<UInt32>? {
        guard index.entry(equalTo: TokenizerPipeline.spaceMark) != nil else { return nil }
        let bytes = pieces.bytes.span
        var characters: Set<UInt32> = []
        for token in 0..<pieces.count where !types[token].isControl {
            let range = pieces.range(of: token)
            guard range.count > 3 else { continue }
            for position in (range.lowerBound + 1)..<max(range.upperBound - 2, range.lowerBound + 1)
            where bytes[position] == 0xE2 && bytes[position + 1] == 0x96 && bytes[position + 2] == 0x81 {
                let start = Characters.start(ofLast: bytes, range.lowerBound, position)
                let previous = Characters.next(bytes, start, position).scalar
                if previous != 0x2581 { characters.insert(previous) }
            }
            if characters.count > 256 { return nil }
        }
        return characters
    }
}
