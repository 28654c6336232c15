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

    private let cutter: TextCutter
    private let encoding: PieceEncoding
    private let maxTokens: Int
    private var memory: [Memory]
    private var scratch = BytePairScratch()
    private var lattice = UnigramLattice()
    /// The tokens so far.
    private(set) var tokens: [Int32] = []

    /// An encoder of a text of `byteCount` bytes, fewer than 2³¹.
    init(_ tokenizer: Tokenizer, byteCount: Int, maxTokens: Int) {
        cutter = tokenizer.cutter
        encoding = tokenizer.encoding
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
        let cutter = cutter
        try cutter.forEachPiece(of: range, in: bytes) { (piece) throws(TokenizationError) in
            if encoding.charactersBeforeMark == nil {
                try appendPiece(piece, of: bytes)
            } else {
                try appendWords(piece, of: bytes)
            }
        }
    }

    /// Cuts before every space mark that no token holds together with what precedes it.
    private mutating func appendWords(_ piece: Range<Int>, of bytes: Span<UInt8>) throws(TokenizationError) {
        var start = piece.lowerBound
        var position = start
        var previous: UInt32 = 0x2581
        while position < piece.upperBound {
            let (scalar, end) = Characters.next(bytes, position, piece.upperBound)
            if scalar == 0x2581, previous != 0x2581, encoding.charactersBeforeMark?.contains(previous) == false {
                try appendPiece(start..<position, of: bytes)
                start = position
            }
            (previous, position) = (scalar, end)
        }
        if start < piece.upperBound { try appendPiece(start..<piece.upperBound, of: bytes) }
    }

    private mutating func appendPiece(_ piece: Range<Int>, of bytes: Span<UInt8>) throws(TokenizationError) {
        guard piece.count <= Self.memorableBytes else {
            encode(piece, of: bytes)
            return try checkCount()
        }
        let hash = hash(piece, of: bytes)
        let slot = Int(hash) & (memory.count - 1)
        let known = memory[slot]
        if known.hash == hash, known.length == piece.count, isEqual(piece, to: Int(known.start), in: bytes) {
            for index in 0..<Int(known.tokenCount) { tokens.append(tokens[Int(known.tokenStart) + index]) }
            return try checkCount()
        }
        let tokenStart = tokens.count
        encode(piece, of: bytes)
        memory[slot] = Memory(
            hash: hash, start: Int32(piece.lowerBound), length: Int32(piece.count),
            tokenStart: Int32(tokenStart), tokenCount: Int32(tokens.count - tokenStart))
        try checkCount()
    }

    private func checkCount() throws(TokenizationError) {
        guard tokens.count <= maxTokens else { throw .tooManyTokens(limit: maxTokens) }
    }

    // MARK: One piece

    private mutating func encode(_ piece: Range<Int>, of bytes: Span<UInt8>) {
        if encoding.takesWholePieces, let token = encoding.index?.entry(equalTo: piece, of: bytes),
            encoding.isText[token]
        {
            return tokens.append(Int32(truncatingIfNeeded: token))
        }
        switch encoding.algorithm {
        case .byteMerges: mergeBytes(piece, of: bytes)
        case .characterMerges: mergeCharacters(piece, of: bytes)
        case .unigram: cutByScores(piece, of: bytes)
        }
    }

    /// Bytes that the vocabulary lacks are left out before merging where no piece stands for the unknown: so does the
    /// reference. Their neighbours may then merge.
    private mutating func mergeBytes(_ piece: Range<Int>, of bytes: Span<UInt8>) {
        scratch.tokens.removeAll(keepingCapacity: true)
        for index in piece {
            let token = encoding.tokenOfByte[Int(bytes[index])]
            if token != PairTable.absent {
                scratch.tokens.append(token)
            } else if encoding.unknown != PairTable.absent {
                appendUnknown()
            }
        }
        appendMerged()
    }

    private mutating func mergeCharacters(_ piece: Range<Int>, of bytes: Span<UInt8>) {
        scratch.tokens.removeAll(keepingCapacity: true)
        var position = piece.lowerBound
        while position < piece.upperBound {
            let end = Characters.next(bytes, position, piece.upperBound).end
            let token = encoding.token(position..<end, of: bytes)
            if token != PairTable.absent {
                scratch.tokens.append(token)
            } else if encoding.usesByteFallback, hasTokens(for: position..<end, of: bytes) {
                for index in position..<end { scratch.tokens.append(encoding.tokenOfByte[Int(bytes[index])]) }
            } else if encoding.unknown != PairTable.absent {
                appendUnknown()
            }
            position = end
        }
        appendMerged()
    }

    private func hasTokens(for range: Range<Int>, of bytes: Span<UInt8>) -> Bool {
        for index in range where encoding.tokenOfByte[Int(bytes[index])] == PairTable.absent { return false }
        return true
    }

    private mutating func appendUnknown() {
        if encoding.fusesUnknown, scratch.tokens.last == encoding.unknown { return }
        scratch.tokens.append(encoding.unknown)
    }

    private mutating func appendMerged() {
        scratch.merge(encoding.merges)
        for token in scratch.tokens { tokens.append(Int32(truncatingIfNeeded: token)) }
    }

    private mutating func cutByScores(_ piece: Range<Int>, of bytes: Span<UInt8>) {
        guard let pieces = encoding.unigram else { return }
        lattice.cut(piece, of: bytes, pieces)
        var wasUnknown = false
        for (token, range) in lattice.path.reversed() {
            guard token < 0 else {
                tokens.append(token)
                wasUnknown = false
                continue
            }
            if encoding.usesByteFallback, hasTokens(for: range, of: bytes) {
                for index in range { tokens.append(Int32(encoding.tokenOfByte[Int(bytes[index])])) }
            } else if encoding.unknown != PairTable.absent, !(wasUnknown && encoding.fusesUnknown) {
                tokens.append(Int32(encoding.unknown))
                wasUnknown = true
            }
        }
    }

    // MARK: Memory

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
