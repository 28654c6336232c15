// Text to token ids and back. A tokenizer is checked in full when it is made and never changes, so one serves every
// thread; what a call needs beyond it lives and dies with the call.

/// A byte-level BPE tokenizer.
package final class Tokenizer: Sendable {
    /// The largest vocabulary accepted.
    package static let maxVocabulary = 1 << 20
    /// The most merges accepted.
    package static let maxMerges = 1 << 21
    /// The longest piece accepted, in bytes.
    package static let maxPieceBytes = 1 << 12
    /// The longest piece accepted of a token that text may spell out, in bytes: finding such tokens costs at most this
    /// many steps for each byte of text.
    package static let maxControlPieceBytes = 1 << 8
    /// The most bytes that the pieces that text may spell out have together.
    package static let maxControlBytes = 1 << 22
    /// The longest text that can be encoded in one call, in bytes: what positions of 31 bits have ample room for.
    package static let maxTextBytes = 1 << 28

    /// The token that begins a text, if the checkpoint names one.
    package let bos: Int32?
    /// The token that ends a text, if the checkpoint names one.
    package let eos: Int32?
    /// The token for the unknown, if the checkpoint names one; `encode` never emits it.
    package let unk: Int32?
    /// The token that fills up batches, if the checkpoint names one.
    package let pad: Int32?
    /// Whether `encode` with special tokens puts `bos` first.
    package let addsBOS: Bool
    let addsSpacePrefix: Bool

    /// [vocab] what each token stands for, in bytes of text.
    let pieces: PackedStrings
    /// [vocab] the type of each token.
    let types: [TokenType]
    let preTokenizer: PreTokenizer
    let merges: BytePairMerges
    /// [256] the token of each byte alone, or `PairTable.absent` where the vocabulary has none.
    let tokenOfByte: [UInt32]
    let controlTokens: ControlTokenTrie

    /// The tokenizer that `definition` describes.
    ///
    /// Complexity: linear in the definition; a vocabulary of 50 000 pieces and as many merges takes some milliseconds.
    package init(_ definition: TokenizerDefinition) throws(TokenizationError) {
        guard definition.model == "gpt2" else { throw .unsupportedModel(definition.model) }
        preTokenizer = try PreTokenizer(named: definition.preTokenizer)
        types = try Self.checkedTypes(definition)
        try Self.checkSpecialTokens(definition)
        bos = definition.bos
        eos = definition.eos
        unk = definition.unk
        pad = definition.pad
        addsBOS = definition.addsBOS
        addsSpacePrefix = definition.addsSpacePrefix

        let alphabet = ByteAlphabet()
        pieces = try Self.decodedPieces(definition.pieces, types, alphabet)
        controlTokens = try Self.trie(of: pieces, types)
        let index = try PieceIndex(definition.pieces)
        var tokenOfByte = [UInt32](repeating: PairTable.absent, count: 256)
        for byte in UInt8.min...UInt8.max {
            if let token = index.entry(equalTo: alphabet.spelling(of: byte)), !types[token].isControl {
                tokenOfByte[Int(byte)] = UInt32(token)
            }
        }
        self.tokenOfByte = tokenOfByte
        merges = try Self.merges(definition, index, types)
    }

    /// How many tokens there are; ids are `0..<vocabularyCount`.
    package var vocabularyCount: Int { pieces.count }

    /// Whether `token` is in the vocabulary.
    package func contains(_ token: Int32) -> Bool { token >= 0 && Int(token) < pieces.count }

    /// The bytes of text that `token` stands for, which need not be whole characters; nil if there is no such token.
    package func bytes(of token: Int32) -> ArraySlice<UInt8>? {
        contains(token) ? pieces[Int(token)] : nil
    }

    /// What `token` stands for, with U+FFFD where its bytes are not whole characters; nil if there is no such token.
    package func text(of token: Int32) -> String? {
        contains(token) ? pieces.text(of: Int(token)) : nil
    }

    /// Whether `token` steers the model rather than standing for text; false if there is no such token.
    package func isControl(_ token: Int32) -> Bool { contains(token) && types[Int(token)].isControl }

    /// The control or user-defined token spelled `text`, if there is one.
    package func controlToken(spelled text: String) -> Int32? { controlTokens.token(spelled: text.utf8) }
}

// The checks and tables of `init`.
extension Tokenizer {
    private static func checkedTypes(_ definition: TokenizerDefinition) throws(TokenizationError) -> [TokenType] {
        let count = definition.pieces.count
        guard count >= 1, count <= maxVocabulary else {
            throw .vocabularySize(count: count, limit: maxVocabulary)
        }
        guard definition.types.count == count else {
            throw .typeCount(types: definition.types.count, pieces: count)
        }
        var types: [TokenType] = []
        types.reserveCapacity(count)
        for raw in definition.types {
            guard let type = TokenType(rawValue: raw) else {
                throw .unknownTokenType(token: types.count, type: raw)
            }
            types.append(type)
        }
        return types
    }

    private static func checkSpecialTokens(_ definition: TokenizerDefinition) throws(TokenizationError) {
        let count = definition.pieces.count
        let named: [(String, Int32?)] = [
            ("beginning-of-text", definition.bos), ("end-of-text", definition.eos),
            ("unknown", definition.unk), ("padding", definition.pad),
        ]
        for (name, id) in named {
            if let id, id < 0 || Int(id) >= count {
                throw .specialTokenOutOfRange(name: name, id: id, vocabulary: count)
            }
        }
        if definition.addsBOS && definition.bos == nil { throw .beginningTokenMissing }
    }

    private static func decodedPieces(
        _ spelled: PackedStrings, _ types: [TokenType], _ alphabet: ByteAlphabet
    ) throws(TokenizationError) -> PackedStrings {
        var decoded = PackedStrings()
        decoded.reserve(count: spelled.count, byteCount: spelled.bytes.count)
        let bytes = spelled.bytes.span
        var piece: [UInt8] = []
        for token in 0..<spelled.count {
            let range = spelled.range(of: token)
            let limit = types[token].isSpelledOut ? maxControlPieceBytes : maxPieceBytes
            guard range.count <= limit else {
                throw .pieceTooLong(token: token, bytes: range.count, limit: limit)
            }
            if types[token].isSpelledOut {
                decoded.append(bytes.extracting(range))
            } else {
                piece.removeAll(keepingCapacity: true)
                alphabet.append(piece: range, of: bytes, to: &piece)
                decoded.append(piece.span)
            }
        }
        return decoded
    }

    private static func trie(
        of pieces: PackedStrings, _ types: [TokenType]
    ) throws(TokenizationError) -> ControlTokenTrie {
        var trie = ControlTokenTrie()
        var byteCount = 0
        for token in 0..<pieces.count where types[token].isSpelledOut {
            byteCount += pieces.range(of: token).count
            guard byteCount <= maxControlBytes else {
                throw .controlPiecesTooLong(bytes: byteCount, limit: maxControlBytes)
            }
            trie.insert(pieces[token], token: Int32(token))
        }
        return trie
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
                let space = range.first(where: { bytes[$0] == UInt8(ascii: " ") }),
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
            for token in [leftToken, rightToken, product] where types[token].isControl {
                throw .mergeOfControlToken(merge: line, piece: definition.pieces.text(of: token))
            }
            merges.append(left: UInt32(leftToken), right: UInt32(rightToken), product: UInt32(product))
        }
        return merges
    }
}
