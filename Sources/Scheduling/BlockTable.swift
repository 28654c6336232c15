// The blocks of one sequence, oldest first.
//
// Holding a block is owning one reference to it, so the table cannot be copied, and dropping one that still holds
// blocks is a leak that traps. Only BlockPool changes a table.

/// The list of blocks that a sequence holds in the pool. An entry is a block's worth of tokens: one block, or in the
/// table of several groups of layers, one for each of them.
package struct BlockTable: ~Copyable {
    /// [entries, width] Entry i keeps positions i * blockSize ..< (i + 1) * blockSize.
    package private(set) var blocks: [BlockID] = []
    /// Leading entries whose blocks the sequence has given up: they lie behind its window, and may be others' by now.
    package private(set) var hiddenCount = 0
    /// Blocks of one entry.
    package let width: Int

    /// A table that holds nothing.
    package init(width: Int = 1) { self.width = width }

    deinit {
        precondition(heldBlocks.isEmpty, "a block table was dropped while it held \(heldBlocks.count) blocks")
    }

    /// Entries, those that are hidden included: what the sequence's tokens fill.
    package var count: Int { width == 1 ? blocks.count : blocks.count / width }
    /// Entries that are not hidden.
    package var heldCount: Int { count - hiddenCount }
    /// [blocks held] Those that own a reference.
    package var heldBlocks: ArraySlice<BlockID> { blocks[(hiddenCount * width)...] }
    /// [width] The blocks of one entry.
    package func entry(_ index: Int) -> ArraySlice<BlockID> { blocks[index * width..<(index + 1) * width] }

    /// Adds one for each block held to the count of its holders. For the deep check.
    func count(into holders: inout [Int]) {
        for place in hiddenCount * width..<blocks.count { holders[blocks[place].index] += 1 }
    }

    /// Adds a block whose reference now belongs to this table.
    mutating func append(_ block: BlockID) { blocks.append(block) }

    /// Gives up the last block; the caller owns its reference.
    mutating func removeLast() -> BlockID { blocks.removeLast() }

    /// Gives up all entries; the caller owns their references.
    mutating func removeAll() {
        blocks.removeAll(keepingCapacity: true)
        hiddenCount = 0
    }

    /// Hides the first `count` entries; the caller owns the references of those that were not hidden before.
    mutating func hide(_ count: Int) {
        precondition(count >= hiddenCount && count <= self.count, "\(count) of \(self.count) entries to hide")
        hiddenCount = count
    }

    /// Begins an empty table behind `count` entries that it never holds.
    mutating func skip(_ count: Int) {
        precondition(blocks.isEmpty, "\(self.count) entries before those to skip")
        blocks.append(contentsOf: repeatElement(BlockID(0), count: count * width))
        hiddenCount = count
    }
}
