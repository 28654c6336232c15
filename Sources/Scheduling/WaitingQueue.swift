// Those who wait, in the order of service.
//
// Under fair sharing every tenant has a line of its own, and the next to be served is the first of the line whose
// tenant was served least; otherwise there is one line for everybody.

/// The order of service within a line, and of what runs: lower urgency value first, then first come.
struct ServiceOrder: Comparable {
    /// Goes before everybody else: it lost its blocks so often that it must not lose them again.
    static let protected = Int.min

    /// 0 for everybody under first come, first served.
    var urgency: Int
    /// Number of the request in the order of `add`.
    let number: UInt64

    static func < (left: ServiceOrder, right: ServiceOrder) -> Bool {
        left.urgency == right.urgency ? left.number < right.number : left.urgency < right.urgency
    }
}

/// Sequences that wait, by line.
struct WaitingQueue {
    /// The next of a line is its last element, so taking it and putting a preempted one back cost nothing.
    private struct Line {
        let tenant: UInt64
        var reversed: [SequenceState] = []

        /// First place whose order is not later than `order`.
        func place(of order: ServiceOrder) -> Int {
            var low = 0
            var high = reversed.count
            while low < high {
                let middle = (low + high) / 2
                if reversed[middle].order > order { low = middle + 1 } else { high = middle }
            }
            return low
        }
    }

    private let isFair: Bool
    private var lines: [Line] = []
    private(set) var count = 0

    init(isFair: Bool) { self.isFair = isFair }

    var isEmpty: Bool { count == 0 }

    mutating func insert(_ sequence: SequenceState) {
        let line = index(of: sequence)
        lines[line].reversed.insert(sequence, at: lines[line].place(of: sequence.order))
        count += 1
    }

    /// Removes a sequence that is in the queue.
    mutating func remove(_ sequence: SequenceState) {
        let line = index(of: sequence)
        let place = lines[line].place(of: sequence.order)
        precondition(
            place < lines[line].reversed.count && lines[line].reversed[place] === sequence,
            "\(sequence.id) does not wait")
        lines[line].reversed.remove(at: place)
        count -= 1
        if lines[line].reversed.isEmpty { lines.swapAt(line, lines.count - 1); lines.removeLast() }
    }

    /// Appends the next `limit` in the order in which they would be admitted if nothing held them up.
    func appendNext(_ limit: Int, shares: borrowing FairShares, to sequences: inout [SequenceState]) {
        if lines.count == 1 {
            sequences.append(contentsOf: lines[0].reversed.suffix(limit).reversed())
            return
        }
        var heads = lines.map {
            (served: shares.served($0.tenant), running: shares.running($0.tenant), left: $0.reversed.count)
        }
        for _ in 0..<min(limit, count) {
            var best: Int?
            for line in heads.indices where heads[line].left > 0 {
                guard let present = best else { best = line; continue }
                if comes(line, before: present, heads) { best = line }
            }
            guard let best else { return }
            heads[best].left -= 1
            let next = lines[best].reversed[heads[best].left]
            heads[best].served += next.promptTokenCount
            heads[best].running += 1
            sequences.append(next)
        }
    }

    /// Whether the head of one line is served before that of another.
    private func comes(_ line: Int, before other: Int, _ heads: [(served: Int, running: Int, left: Int)]) -> Bool {
        let one = lines[line].reversed[heads[line].left - 1].order
        let two = lines[other].reversed[heads[other].left - 1].order
        let isProtected = one.urgency == ServiceOrder.protected
        if isProtected != (two.urgency == ServiceOrder.protected) { return isProtected }
        if heads[line].served != heads[other].served { return heads[line].served < heads[other].served }
        if heads[line].running != heads[other].running { return heads[line].running < heads[other].running }
        return one < two
    }

    /// How many of a tenant wait, where tenants have lines of their own.
    func count(of tenant: UInt64) -> Int {
        for line in lines where line.tenant == tenant { return line.reversed.count }
        return 0
    }

    /// Who waits holds nothing and stands in line in order. For the deep check.
    func check() throws(InvariantViolation) {
        for line in lines {
            var behind: ServiceOrder?
            for sequence in line.reversed {
                if sequence.stage != .waiting || sequence.table.count != 0 || sequence.computedTokenCount != 0
                    || sequence.isInFlight || sequence.pendingTokenCount != 0
                {
                    throw InvariantViolation(
                        "\(sequence.id) waits with \(sequence.table.count) blocks and "
                            + "\(sequence.computedTokenCount) computed tokens")
                }
                if let behind, behind <= sequence.order {
                    throw InvariantViolation("\(sequence.id) waits out of turn")
                }
                behind = sequence.order
            }
        }
    }

    private mutating func index(of sequence: SequenceState) -> Int {
        let tenant = isFair ? sequence.tenant : 0
        if let line = lines.firstIndex(where: { $0.tenant == tenant }) { return line }
        lines.append(Line(tenant: tenant))
        return lines.count - 1
    }
}
