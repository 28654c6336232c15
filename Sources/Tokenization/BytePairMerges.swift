// The merges of a BPE vocabulary and how they are applied to one piece of text: always the merge of lowest rank, and of
// equals the leftmost. A short piece is scanned for it; a long one is a linked list whose candidates wait in a queue
// (MergeQueue), so that a megabyte of one letter costs n log n and not n².

/// The ranked merges of a vocabulary. Source: Sennrich et al., arXiv 1508.07909.
struct BytePairMerges: Sendable {
    /// (left, right) to the rank of their merge.
    private var ranks: PairTable
    /// [merges] the token that each rank makes.
    private var products: [UInt32] = []

    init(capacity: Int) {
        ranks = PairTable(capacity: capacity)
        products.reserveCapacity(capacity)
    }

    /// Adds the merge of the next rank. A pair that is named twice has the later rank, as in the reference.
    mutating func append(left: UInt32, right: UInt32, product: UInt32) {
        ranks.set(left, right, to: UInt32(products.count))
        products.append(product)
    }

    /// Adds a pair to the merges of the rank last appended: more than one pair may make the same product.
    mutating func appendAgain(left: UInt32, right: UInt32) {
        ranks.set(left, right, to: UInt32(products.count - 1))
    }

    /// Adds a rank that no pair has yet.
    mutating func appendRank(product: UInt32) { products.append(product) }

    /// The rank of the merge of two tokens, or `PairTable.absent`, which is above every rank.
    @inline(__always)
    fileprivate func rank(_ left: UInt32, _ right: UInt32) -> UInt32 { ranks[left, right] }

    /// How many ranks there are.
    fileprivate var count: Int { products.count }

    @inline(__always)
    fileprivate func product(ofRank rank: UInt32) -> UInt32 { products[Int(rank)] }
}

/// Applies merges to pieces, one after another, in memory that is kept between them.
struct BytePairScratch {
    /// Up to this many symbols, looking at all of them for each merge is faster than a queue.
    static let shortCount = 48

    /// A token of a long piece, in a list; `next` is -1 at the end and `rank` that of merging with it.
    private struct Symbol {
        var token: UInt32
        var rank: UInt32
        var previous: Int32
        var next: Int32
    }

    /// The tokens of the piece: the caller fills them in, `merge` leaves the result.
    var tokens: [UInt32] = []
    /// [tokens] the rank of merging each token with the next.
    private var ranks: [UInt32] = []
    private var symbols: [Symbol] = []
    private var candidates = MergeQueue()

    /// Replaces `tokens`, fewer than 2²⁹ of them, by what the merges make of them.
    mutating func merge(_ merges: BytePairMerges) {
        if tokens.count <= Self.shortCount { mergeShort(merges) } else { mergeLong(merges) }
    }

    private mutating func mergeShort(_ merges: BytePairMerges) {
        var count = tokens.count
        guard count > 1 else { return }
        ranks.removeAll(keepingCapacity: true)
        for index in 1..<count { ranks.append(merges.rank(tokens[index - 1], tokens[index])) }
        while count > 1 {
            var best = 0
            for index in 1..<(count - 1) where ranks[index] < ranks[best] { best = index }
            if ranks[best] == PairTable.absent { break }
            tokens[best] = merges.product(ofRank: ranks[best])
            count -= 1
            for index in (best + 1)..<max(count, best + 1) {
                tokens[index] = tokens[index + 1]
                ranks[index - 1] = ranks[index]
            }
            if best > 0 { ranks[best - 1] = merges.rank(tokens[best - 1], tokens[best]) }
            if best + 1 < count { ranks[best] = merges.rank(tokens[best], tokens[best + 1]) }
        }
        tokens.removeSubrange(count...)
    }

    private mutating func mergeLong(_ merges: BytePairMerges) {
        let count = tokens.count
        symbols.removeAll(keepingCapacity: true)
        candidates.begin(rankCount: merges.count)
        for index in 0..<count {
            let isLast = index + 1 == count
            let rank = isLast ? PairTable.absent : merges.rank(tokens[index], tokens[index + 1])
            let next = isLast ? -1 : Int32(index + 1)
            symbols.append(Symbol(token: tokens[index], rank: rank, previous: Int32(index) - 1, next: next))
            if rank != PairTable.absent { candidates.push(rank: rank, position: UInt32(index)) }
        }
        while let (rank, position) = candidates.popLowest() {
            // A candidate is stale once either of its tokens was merged otherwise; its symbol's rank has then changed.
            let left = Int(position)
            guard symbols[left].rank == rank, symbols[left].next >= 0 else { continue }
            let right = Int(symbols[left].next)
            let next = symbols[right].next
            symbols[left].token = merges.product(ofRank: rank)
            symbols[left].next = next
            symbols[right].rank = PairTable.absent
            symbols[right].next = -1
            if next >= 0 { symbols[Int(next)].previous = Int32(left) }
            updateRank(at: left, merges)
            if symbols[left].previous >= 0 { updateRank(at: Int(symbols[left].previous), merges) }
        }
        tokens.removeAll(keepingCapacity: true)
        var index: Int32 = 0
        while index >= 0 {
            tokens.append(symbols[Int(index)].token)
            index = symbols[Int(index)].next
        }
    }

    private mutating func updateRank(at index: Int, _ merges: BytePairMerges) {
        let next = symbols[index].next
        let rank = next < 0 ? PairTable.absent : merges.rank(symbols[index].token, symbols[Int(next)].token)
        symbols[index].rank = rank
        if rank != PairTable.absent { candidates.push(rank: rank, position: UInt32(index)) }
    }
}
