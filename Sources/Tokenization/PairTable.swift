// From a pair of ids to a number, in one flat array probed linearly: the merges (left and right token to rank) and the
// edges of the control-token trie (node and byte to node). Keyed at random, for the reason given in PieceIndex.

/// A hash table from two 32-bit ids to a 32-bit value.
struct PairTable: Sendable {
    private struct Slot {
        var pair: UInt64
        var value: UInt32
    }

    /// The value of a pair that is not in the table.
    static let absent = UInt32.max

    /// [power of two] value is `absent` where the slot is free.
    private var slots: [Slot]
    private var mask: Int
    private let key: UInt64
    private(set) var count = 0

    /// An empty table with room for `capacity` pairs.
    init(capacity: Int) {
        var size = 16
        while size < capacity * 2 { size *= 2 }
        slots = [Slot](repeating: Slot(pair: 0, value: Self.absent), count: size)
        mask = size - 1
        key = .random(in: .min ... .max)
    }

    /// The value of (left, right), or `absent`.
    subscript(left: UInt32, right: UInt32) -> UInt32 {
        let pair = UInt64(left) << 32 | UInt64(right)
        var slot = home(of: pair)
        while slots[slot].value != Self.absent {
            if slots[slot].pair == pair { return slots[slot].value }
            slot = (slot + 1) & mask
        }
        return Self.absent
    }

    /// Gives (left, right) a value, in place of any that it had; `value` must not be `absent`.
    mutating func set(_ left: UInt32, _ right: UInt32, to value: UInt32) {
        if (count + 1) * 2 > slots.count { grow() }
        let pair = UInt64(left) << 32 | UInt64(right)
        var slot = home(of: pair)
        while slots[slot].value != Self.absent && slots[slot].pair != pair { slot = (slot + 1) & mask }
        if slots[slot].value == Self.absent { count += 1 }
        slots[slot] = Slot(pair: pair, value: value)
    }

    private func home(of pair: UInt64) -> Int {
        Int(truncatingIfNeeded: PieceIndex.mix(pair ^ key)) & mask
    }

    private mutating func grow() {
        let old = slots
        slots = [Slot](repeating: Slot(pair: 0, value: Self.absent), count: old.count * 2)
        mask = slots.count - 1
        for entry in old where entry.value != Self.absent {
            var slot = home(of: entry.pair)
            while slots[slot].value != Self.absent { slot = (slot + 1) & mask }
            slots[slot] = entry
        }
    }
}
