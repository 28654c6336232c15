// Text to token ids and back. A tokenizer is checked in full when it is made and never changes, so one serves every
// thread; what a call needs beyond it lives and dies with the call.

/// A tokenizer of any of the kinds that `TokenizerPipeline` describes.
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
    /// What `encode` with special tokens puts before a text and after it.
    package let prefix: [Int32]
    package let suffix: [Int32]
    /// Whether `encode` with special tokens puts `bos` first.
    package var addsBOS: Bool { bos != nil && prefix.first == bos }

    /// [vocab] what each token stands for, in bytes of text.
    let pieces: PackedStrings
    /// [vocab] the type of each token.
    let types: [TokenType]
    let normalizer: TextNormalizer
    let opener: TextNormalizer
    let cutter: TextCutter
    let encoding: PieceEncoding
    let leadingSpace: TokenizerPipeline.LeadingSpace
    /// The tokens that text may spell out, and those of them that normalized text may.
    let controlTokens: ControlTokenTrie
    let normalizedTokens: ControlTokenTrie
    /// Tokens that any text may spell out, a user's too.
    let plainTokens: Set<Int32>
    let addedTokenRules: [Int32: AddedTokenRule]

    /// The tokenizer that `definition` describes.
    ///
    /// Complexity: linear in the definition; a vocabulary of 50 000 pieces and as many merges takes some milliseconds.
    package init(_ definition: TokenizerDefinition) throws(TokenizationError) {
        let pipeline: TokenizerPipeline
        if let spelledOut = definition.pipeline {
            pipeline = spelledOut
        } else {
            pipeline = try TokenizerPipeline(definition)
        }
        types = try Self.checkedTypes(definition)
        try Self.checkSpecialTokens(definition, pipeline)
        bos = definition.bos
        eos = definition.eos
        unk = definition.unk
        pad = definition.pad
        prefix = pipeline.prefix
        suffix = pipeline.suffix
        normalizer = TextNormalizer(pipeline.normalization)
        opener = TextNormalizer(pipeline.opening)
        cutter = TextCutter(pipeline.cuts)
        leadingSpace = pipeline.leadingSpace
        pieces = try Self.decodedPieces(definition.pieces, types, pipeline)
        addedTokenRules = definition.addedTokenRules.filter { $0.value != AddedTokenRule() }
        (controlTokens, normalizedTokens) = try Self.tries(definition, types, normalizer)
        plainTokens = Self.plainTokens(definition, types)
        encoding = try Self.encoding(definition, pipeline, types)
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
    package func controlToken(spelled text: String) -> Int32? {
        if let token = controlTokens.token(spelled: text.utf8) { return token }
        if normalizedTokens.isEmpty { return nil }
        return types.indices.first { types[$0].isSpelledOut && pieces[$0].elementsEqual(text.utf8) }.map { Int32($0) }
    }
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

    private static func checkSpecialTokens(
        _ definition: TokenizerDefinition, _ pipeline: TokenizerPipeline
    ) throws(TokenizationError) {
        let count = definition.pieces.count
        let added = (pipeline.prefix + pipeline.suffix).map { ("added", Int32?.some($0)) }
        let named: [(String, Int32?)] =
            [
                ("beginning-of-text", definition.bos), ("end-of-text", definition.eos),
                ("unknown", definition.unk), ("padding", definition.pad),
            ] + added
        for (name, id) in named {
            if let id, id < 0 || Int(id) >= count {
                throw .specialTokenOutOfRange(name: name, id: id, vocabulary: count)
            }
        }
        let needsScores =
            pipeline.algorithm == .unigram || pipeline.algorithm == .characterMerges && definition.merges.count == 0
        if definition.scores.count != (needsScores ? count : definition.scores.isEmpty ? 0 : count) {
            throw .scoreCount(scores: definition.scores.count, pieces: count)
        }
    }
}
