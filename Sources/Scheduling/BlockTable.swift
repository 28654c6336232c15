// The blocks of one sequence, oldest first.
//
// Holding a block is owning one reference to it, so the table cannot be copied, and dropping one that still holds
// blocks is a leak that traps. Only BlockPool changes a table.

/// The list of blocks that a sequence holds in the pool.
package struct BlockTable: ~Copyable {
    /// [blocks] Block i keeps positions i * blockSize ..< (i + 1) * blockSize.
    package private(set) var blocks: [BlockID] = []
    /// Leading entries whose blocks the sequence has given up: they lie behind its window, and may be others' by now.
    package private(set) var hiddenCount = 0

    /// A table that holds nothing.
    package init() {}

    deinit {
        precondition(heldBlocks.isEmpty, "a block table was dropped while it held \(heldBlocks.count) blocks")
    }

    /// Entries, those that are hidden included: what the sequence's tokens fill.
    package var count: Int { blocks.count }
    /// [blocks held] The entries that own a reference.
    package var heldBlocks: ArraySlice<BlockID> { blocks[hiddenCount...] }

    /// Adds a block whose reference now belongs to this table.
    mutating func append(_ block: BlockID) { blocks.append(block) }

    /// Gives up the last entry; the caller owns its reference.
    mutating func removeLast() -> BlockID { blocks.removeLast() }

    /// Gives up all entries; the caller owns their references.
    mutating func removeAll() {
        blocks.removeAll(keepingCapacity: true)
        hiddenCount = 0
    }

    /// Hides the first `count` entries; the caller owns the references of those that were not hidden before.
    mutating func hide(_ count: Int) {
        precondition(count >= hiddenCount && count <= blocks.count, "\(count) of \(blocks.count) entries to hide")
        hiddenCount = count
    }
}
