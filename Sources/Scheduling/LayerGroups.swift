// Models whose layers do not all look back equally far: some on everything, the others on a window.
//
// The windowed layers form groups as large as the group of those without a window, and all groups take their blocks
// from one pool: a block holds a block's worth of tokens for the layers of one group. What one sequence gives back
// behind its window, another may take for all that it has seen.

/// The groups of layers with a window, beside the one group without.
package struct LayerGroups: Sendable, Equatable {
    /// Groups with a window; each has a block of its own for the same tokens.
    package let windowedCount: Int
    /// Positions that their layers look back on, a row's own included.
    package let window: Int

    /// Gathers the fields.
    package init(windowedCount: Int, window: Int) {
        self.windowedCount = windowedCount
        self.window = window
    }

    /// Blocks that all groups of a sequence hold together at most, on its way to `entryCount` block's worth of tokens,
    /// when a step computes at most `chunk` of them and two may be under way.
    package func blocks(forEntries entryCount: Int, chunk: Int, blockSize: Int) -> Int {
        entryCount + windowedCount * entriesSeen(of: entryCount, chunk: chunk, blockSize: blockSize)
    }

    /// Entries of those that windowed groups hold at most: from the window of the oldest row under way to the newest.
    func entriesSeen(of entryCount: Int, chunk: Int, blockSize: Int) -> Int {
        min(entryCount, (window + 2 * chunk + 2 * blockSize - 3) / blockSize)
    }
}
