// The blocks of one sequence, oldest first.
//
// Holding a block is owning one reference to it, so the table cannot be copied, and dropping one that still holds
// blocks is a leak that traps. Only BlockPool changes a table.

/// The list of blocks that a sequence holds in the pool.
package struct BlockTable: ~Copyable {
    /// [blocks] Block i keeps positions i * blockSize ..< (i + 1) * blockSize.
    package private(set) var blocks: [BlockID] = []

    /// A table that holds nothing.
    package init() {}

    deinit {
        precondition(blocks.isEmpty, "a block table was dropped while it held \(blocks.count) blocks")
    }

    /// Blocks held.
    package var count: Int { blocks.count }

    /// Adds a block whose reference now belongs to this table.
    mutating func append(_ block: BlockID) { blocks.append(block) }

    /// Gives up the last entry; the caller owns its reference.
    mutating func removeLast() -> BlockID { blocks.removeLast() }

    /// Gives up all entries; the caller owns their references.
    mutating func removeAll() { blocks.removeAll(keepingCapacity: true) }
}
