// Finds the block that already holds a given prefix.
//
// A full block is published under a chained key. A lookup trusts neither the key nor chance: salt, adapter, tokens
// and the publication of the block before it must all match, so a hit is exact even if every key were the same, and
// evicting a block makes everything that was built on it unreachable.

/// A block found in the cache.
package struct CachedBlock: Equatable {
    /// Where the prefix lives.
    package let block: BlockID
    /// Number of the act of publishing it, never used twice; the parent of the blocks that follow.
    package let publication: UInt64
}

/// What identifies a block's contents: everything before it, by reference to its parent, and its own tokens.
package struct BlockContents {
    /// Hash of all of it.
    package let key: BlockKey
    /// The tenant's salt.
    package let salt: UInt64
    /// The number of the adapter that it was computed with; 0 for none.
    package let adapter: UInt64
    /// Publication of the block before; 0 for the first.
    package let parent: UInt64
    /// [tokens] The whole sequence's tokens, of which the block's begin at `start`.
    package let tokens: [TokenID]
    /// Position of the block's first token.
    package let start: Int

    /// Gathers the fields.
    package init(key: BlockKey, salt: UInt64, adapter: UInt64 = 0, parent: UInt64, tokens: [TokenID], start: Int) {
        self.key = key
        self.salt = salt
        self.adapter = adapter
        self.parent = parent
        self.tokens = tokens
        self.start = start
    }
}

/// The index from prefixes to blocks.
struct PrefixCache {
    private struct Entry {
        var key = BlockKey.root
        var salt: UInt64 = 0
        var adapter: UInt64 = 0
        var parent: UInt64 = 0
        /// 0: not published.
        var publication: UInt64 = 0
    }

    private let blockSize: Int
    private let faults: SchedulerFaults
    private var index: [BlockKey: BlockID] = [:]
    /// [blocks]
    private var entries: [Entry]
    /// [blocks, blockSize] Tokens of the published blocks.
    private var contents: [TokenID]
    private var publicationCount: UInt64 = 0

    init(blockCount: Int, blockSize: Int, faults: SchedulerFaults) {
        self.blockSize = blockSize
        self.faults = faults
        entries = Array(repeating: Entry(), count: blockCount)
        contents = Array(repeating: 0, count: blockCount * blockSize)
    }

    /// Published blocks, held or not.
    var count: Int { index.count }

    /// Whether a lookup can find this block.
    func contains(_ block: BlockID) -> Bool { entries[block.index].publication != 0 }

    /// The published block that holds exactly these contents.
    func find(_ wanted: BlockContents) -> CachedBlock? {
        guard let block = index[wanted.key], matches(block, wanted) else { return nil }
        return CachedBlock(block: block, publication: entries[block.index].publication)
    }

    /// Makes a full block findable. An equal one that is published already stays; anything else under the same key,
    /// which a lookup for these contents could not use, gives way and is returned.
    mutating func publish(_ block: BlockID, _ contents: BlockContents) -> (publication: UInt64, displaced: BlockID?) {
        let present = index[contents.key]
        if let present, matches(present, contents) { return (entries[present.index].publication, nil) }
        if let present { remove(present) }
        publicationCount += 1
        index[contents.key] = block
        entries[block.index] = Entry(
            key: contents.key, salt: contents.salt, adapter: contents.adapter, parent: contents.parent,
            publication: publicationCount)
        let base = block.index * blockSize
        for offset in 0..<blockSize { self.contents[base + offset] = contents.tokens[contents.start + offset] }
        return (publicationCount, present)
    }

    /// Forgets a block; nothing happens when it is not published.
    mutating func remove(_ block: BlockID) {
        guard contains(block) else { return }
        index[entries[block.index].key] = nil
        entries[block.index].publication = 0
    }

    private func matches(_ block: BlockID, _ wanted: BlockContents) -> Bool {
        let entry = entries[block.index]
        if faults.contains(.trustsHash) { return true }
        guard entry.salt == wanted.salt, entry.adapter == wanted.adapter, entry.parent == wanted.parent else {
            return false
        }
        let base = block.index * blockSize
        for offset in 0..<blockSize where contents[base + offset] != wanted.tokens[wanted.start + offset] {
            return false
        }
        return true
    }

    /// The published tokens of a block; nil when it is not published. For the deep check.
    func publishedTokens(of block: BlockID) -> ArraySlice<TokenID>? {
        contains(block) ? contents[block.index * blockSize..<(block.index + 1) * blockSize] : nil
    }
}
