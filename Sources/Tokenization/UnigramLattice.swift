// SentencePiece's unigram model: of all ways to cut a piece of text into tokens, the one whose scores have the largest
// sum, found from left to right. A token is at most `Tokenizer.maxControlPieceBytes` long, so a text costs at most that
// many steps a byte. Source: Kudo, arXiv 1804.10959.

/// The pieces of a unigram vocabulary and their scores.
struct UnigramPieces: Sendable {
    /// What the best score loses for a character that is no piece.
    private static let unknownPenalty = 10.0

    /// [vocab]
    let scores: [Double]
    /// The score of a character that nothing stands for.
    let unknownScore: Double
    private var edges = PairTable(capacity: 1024)
    /// [nodes] the token that ends at each node, or -1; node 0 is the root.
    private var tokenOfNode: [Int32] = [-1]

    init(scores: [Float]) {
        self.scores = scores.map(Double.init)
        unknownScore = (self.scores.min() ?? 0) - Self.unknownPenalty
    }

    mutating func insert(_ piece: ArraySlice<UInt8>, token: Int32) {
        var node: UInt32 = 0
        for byte in piece {
            var below = edges[node, UInt32(byte)]
            if below == PairTable.absent {
                below = UInt32(tokenOfNode.count)
                tokenOfNode.append(-1)
                edges.set(node, UInt32(byte), to: below)
            }
            node = below
        }
        if node > 0 { tokenOfNode[Int(node)] = token }
    }

    @inline(__always)
    func step(from node: UInt32, _ byte: UInt8) -> (node: UInt32, token: Int32)? {
        let below = edges[node, UInt32(byte)]
        return below == PairTable.absent ? nil : (below, tokenOfNode[Int(below)])
    }
}

/// Cuts pieces, one after another, in memory that is kept between them.
struct UnigramLattice {
    /// The best way to the end of some token.
    private struct Arrival {
        var score = 0.0
        /// -1 where no way leads.
        var start: Int32 = -1
        /// -1 is a character that nothing stands for.
        var token: Int32 = -1
    }

    private var arrivals: [Arrival] = []
    /// The tokens of the piece last cut, from its end to its beginning, with the text of each; -1 is unknown.
    private(set) var path: [(token: Int32, range: Range<Int>)] = []

    mutating func cut(_ range: Range<Int>, of bytes: Span<UInt8>, _ pieces: UnigramPieces) {
        arrivals.removeAll(keepingCapacity: true)
        arrivals.append(contentsOf: repeatElement(Arrival(), count: range.count + 1))
        var start = range.lowerBound
        while start < range.upperBound {
            let score = arrivals[start - range.lowerBound].score
            let endOfCharacter = Characters.next(bytes, start, range.upperBound).end
            var isPiece = false
            var node: UInt32 = 0
            var position = start
            while position < range.upperBound, let (below, token) = pieces.step(from: node, bytes[position]) {
                node = below
                position += 1
                guard token >= 0 else { continue }
                arrive(at: position - range.lowerBound, score + pieces.scores[Int(token)], start, token)
                if position == endOfCharacter { isPiece = true }
            }
            if !isPiece { arrive(at: endOfCharacter - range.lowerBound, score + pieces.unknownScore, start, -1) }
            start = endOfCharacter
        }
        path.removeAll(keepingCapacity: true)
        var end = range.upperBound
        while end > range.lowerBound {
            let arrival = arrivals[end - range.lowerBound]
            // Every character has a way; were the text not UTF-8, what no way leads to would be unknown.
            let start = arrival.start < 0 ? range.lowerBound : Int(arrival.start)
            path.append((arrival.start < 0 ? -1 : arrival.token, start..<end))
            end = start
        }
    }

    private mutating func arrive(at end: Int, _ score: Double, _ start: Int, _ token: Int32) {
        if arrivals[end].start < 0 || score > arrivals[end].score {
            arrivals[end] = Arrival(score: score, start: Int32(start), token: token)
        }
    }
}
