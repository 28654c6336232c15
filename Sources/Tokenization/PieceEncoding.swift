// What turns a piece of text into tokens, made once from the vocabulary: the tokens of bytes and characters, what
// stands for the unknown, the merges or the scores.

/// The tables of encoding.
struct PieceEncoding: Sendable {
    let algorithm: TokenizerPipeline.Algorithm
    /// [256] by algorithm the token of each byte, or that stands for it when a character is missing ("<0x0A>"), or
    /// `PairTable.absent`.
    var tokenOfByte = [UInt32](repeating: PairTable.absent, count: 256)
    /// [128] the token of each ASCII character, or `PairTable.absent`.
    var tokenOfASCII = [UInt32](repeating: PairTable.absent, count: 128)
    /// The pieces as they are spelled; nil where bytes are all that is looked up.
    var index: PieceIndex?
    /// [vocab] whether text may become the piece.
    var isText: [Bool] = []
    /// What stands for a character that nothing else stands for, or `PairTable.absent`.
    var unknown = PairTable.absent
    var usesByteFallback = false
    var fusesUnknown = false
    var takesWholePieces = false
    var merges = BytePairMerges(capacity: 0)
    var unigram: UnigramPieces?
    /// Characters after which a space mark may be inside a token; after all others text can be cut before the mark, and
    /// no merge crosses the cut. nil where that is not to be done.
    var charactersBeforeMark: Set<UInt32>?

    init(_ algorithm: TokenizerPipeline.Algorithm) { self.algorithm = algorithm }

    /// The token spelled by `range` of `bytes`, if text may become it.
    @inline(__always)
    func token(_ range: Range<Int>, of bytes: Span<UInt8>) -> UInt32 {
        if range.count == 1, bytes[range.lowerBound] < 0x80 { return tokenOfASCII[Int(bytes[range.lowerBound])] }
        guard let token = index?.entry(equalTo: range, of: bytes), isText[token] else { return PairTable.absent }
        return UInt32(token)
    }
}
