// One call's worth of encoding: text in, token ids out. Most words of a text have been seen earlier in it, so a small
// direct-mapped table remembers where each word last occurred in the text and where its tokens lie in the output;
// a collision only forgets.

/// Encodes pieces of one text into one list of tokens.
struct TextEncoder {
    /// Where a word occurred and what it became.
    private struct Memory {
        var hash: UInt32 = 0
        var start: Int32 = 0
        var length: Int32 = 0
        var tokenStart: Int32 = 0
        var tokenCount: Int32 = 0
    }

    /// The longest word that is remembered, in bytes.
    private static let memorableBytes = 64
    /// The most words that are remembered; a power of two.
    private static let memoryCapacity = 8192

    private let preTokenizer: PreTokenizer
    private let merges: BytePairMerges
    /// [256] the token of each byte alone, or `PairTable.absent`.
    private let tokenOfByte: [UInt32]
    private let maxTokens: Int
    private var memory: [Memory]
    private var scratch = BytePairScratch()
    /// The tokens so far.
    private(set) var tokens: [Int32] = []

    /// An encoder of a text of `byteCount` bytes, fewer than 2³¹.
    init(_ tokenizer: Tokenizer, byteCount: Int, maxTokens: Int) {
        preTokenizer = tokenizer.preTokenizer
        merges = tokenizer.merges
        tokenOfByte = tokenizer.tokenOfByte
        self.maxTokens = maxTokens
        var capacity = 16
        while capacity < Self.memoryCapacity && capacity * 8 < byteCount { capacity *= 2 }
        memory = [Memory](repeating: Memory(), count: capacity)
        tokens.reserveCapacity(min(byteCount / 3 + 8, 1 << 16))
    }

    /// Adds one token as it is.
    mutating func append(_ token: Int32) throws(TokenizationError) {
        guard tokens.count < maxTokens else { throw .tooManyTokens(limit: maxTokens) }
        tokens.append(token)
    }

    /// Encodes `range` of `bytes`, which holds whole characters and is a text of its own to the pre-tokenizer.
    mutating func append(_ range: Range<Int>, of bytes: Span<UInt8>) throws(TokenizationError) {
        var start = range.lowerBound
        while start < range.upperBound {
            let end = preTokenizer.end(ofPieceAt: start, in: bytes, limit: range.upperBound)
            appendPiece(start..<end, of: bytes)
            guard tokens.count <= maxTokens else { throw .tooManyTokens(limit: maxTokens) }
            start = end
        }
    }

    private mutating func appendPiece(_ piece: Range<Int>, of bytes: Span<UInt8>) {
        if piece.count > Self.memorableBytes { return merge(piece, of: bytes) }
        let hash = hash(piece, of: bytes)
        let slot = Int(hash) & (memory.count - 1)
        let known = memory[slot]
        if known.hash == hash, known.length == piece.count, isEqual(piece, to: Int(known.start), in: bytes) {
            for index in 0..<Int(known.tokenCount) { tokens.append(tokens[Int(known.tokenStart) + index]) }
            return
        }
        let tokenStart = tokens.count
        merge(piece, of: bytes)
        memory[slot] = Memory(
            hash: hash, start: Int32(piece.lowerBound), length: Int32(piece.count),
            tokenStart: Int32(tokenStart), tokenCount: Int32(tokens.count - tokenStart))
    }

    /// Bytes that the vocabulary lacks are left out before merging: so does the reference when, as here, no piece
    /// stands for the unknown. Their neighbours may then merge.
    private mutating func merge(_ piece: Range<Int>, of bytes: Span<UInt8>) {
        scratch.tokens.removeAll(keepingCapacity: true)
        for index in piece {
            let token = tokenOfByte[Int(bytes[index])]
            if token != PairTable.absent { scratch.tokens.append(token) }
        }
        scratch.merge(merges)
        for token in scratch.tokens { tokens.append(Int32(truncatingIfNeeded: token)) }
    }

    private func isEqual(_ piece: Range<Int>, to start: Int, in bytes: Span<UInt8>) -> Bool {
        for offset in 0..<piece.count where bytes[piece.lowerBound + offset] != bytes[start + offset] { return false }
        return true
    }

    private func hash(_ piece: Range<Int>, of bytes: Span<UInt8>) -> UInt32 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for index in piece { hash = (hash ^ UInt64(bytes[index])) &* 0x0000_0100_0000_01B3 }
        return UInt32(truncatingIfNeeded: hash ^ hash >> 32)
    }
}
