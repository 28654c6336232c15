// The merges that a long piece could make, lowest rank first and leftmost among equals. The candidates of one rank turn
// up from left to right: what a pair of tokens spells was made by the same merges wherever it stands, the reluctant one
// of them was made from left to right, and all below it at once. So each rank keeps a chain in order of arrival, and
// the heap holds only the ranks in play, which fit the nearest cache.

/// A priority queue of (rank, position), for ranks below a known count.
struct MergeQueue {
    /// A candidate; `next` is the one behind it in its rank's chain, or -1.
    private struct Candidate {
        var position: UInt32
        var next: Int32
    }

    /// The first and last of a rank's candidates, or -1: positions ascend along the chain.
    private struct Chain {
        var first: Int32 = -1
        var last: Int32 = -1
    }

    /// [ranks] all empty whenever the queue is.
    private var chains: [Chain] = []
    private var candidates: [Candidate] = []
    /// A four-ary heap of the ranks whose chains are not empty.
    private var ranks: [UInt32] = []

    /// Makes the queue, which must be empty, ready for ranks below `rankCount`.
    mutating func begin(rankCount: Int) {
        if chains.count < rankCount { chains = [Chain](repeating: Chain(), count: rankCount) }
        candidates.removeAll(keepingCapacity: true)
    }

    /// Adds a candidate; there may be fewer than 2³¹ of them between two calls of `begin`.
    mutating func push(rank: UInt32, position: UInt32) {
        let new = Int32(candidates.count)
        candidates.append(Candidate(position: position, next: -1))
        let last = chains[Int(rank)].last
        chains[Int(rank)].last = new
        if last >= 0 {
            assert(candidates[Int(last)].position < position, "candidates of one rank arrive from left to right")
            candidates[Int(last)].next = new
        } else {
            chains[Int(rank)].first = new
            rise(rank)
        }
    }

    /// Takes out the candidate of lowest rank, and of those the leftmost.
    mutating func popLowest() -> (rank: UInt32, position: UInt32)? {
        guard let rank = ranks.first else { return nil }
        let candidate = candidates[Int(chains[Int(rank)].first)]
        chains[Int(rank)].first = candidate.next
        if candidate.next < 0 {
            chains[Int(rank)].last = -1
            if let last = ranks.popLast(), !ranks.isEmpty { sink(last) }
        }
        return (rank, candidate.position)
    }

    /// Puts `rank` at the end of the heap and moves it up to its place.
    private mutating func rise(_ rank: UInt32) {
        var index = ranks.count
        ranks.append(rank)
        while index > 0 {
            let parent = (index - 1) / 4
            if ranks[parent] <= rank { break }
            ranks[index] = ranks[parent]
            index = parent
        }
        ranks[index] = rank
    }

    /// Puts `rank` in the place of the lowest and moves it down to its own.
    private mutating func sink(_ rank: UInt32) {
        var index = 0
        while true {
            let firstChild = index * 4 + 1
            guard firstChild < ranks.count else { break }
            var least = firstChild
            for child in (firstChild + 1)..<max(firstChild + 1, min(firstChild + 4, ranks.count))
            where ranks[child] < ranks[least] {
                least = child
            }
            if ranks[least] >= rank { break }
            ranks[index] = ranks[least]
            index = least
        }
        ranks[index] = rank
    }
}
