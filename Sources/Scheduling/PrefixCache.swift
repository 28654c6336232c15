// Finds the block that already holds a given prefix.
//
// A full block is published under a chained key. A lookup trusts neither the key nor chance: salt, adapter, tokens
// and the publication of the block before it must all match, so a hit is exact even if every key were the same, and
// evicting a block makes everything that was built on it unreachable.
//
// Where layers form groups, the blocks of windowed groups are not looked up: they keep company with the published block
// that holds the same tokens for the layers that see everything. Whatever becomes of one of them, the company parts.

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
    /// Blocks that keep company with a published one: all of them, or none.
    private let companySize: Int
    /// [blocks, company size] Of each published block; −1 where it has none.
    private var companies: [Int32]
    /// [blocks] The published block that each keeps company with; −1 for none. Empty where nobody has company.
    private var leaders: [Int32]

    init(blockCount: Int, blockSize: Int, companySize: Int = 0, faults: SchedulerFaults) {
        self.companySize = companySize
        companies = Array(repeating: -1, count: blockCount * companySize)
        leaders = Array(repeating: -1, count: companySize > 0 ? blockCount : 0)
        self.blockSize = blockSize
        self.faults = faults
        entries = Array(repeating: Entry(), count: blockCount)
        contents = Array(repeating: 0, count: blockCount * blockSize)
    }

    /// Published blocks, held or not.
    var count: Int { index.count }

    /// Whether a lookup can find this block, itself or in company.
    func contains(_ block: BlockID) -> Bool {
        entries[block.index].publication != 0 || companySize > 0 && leaders[block.index] >= 0
    }

    /// The published block that this one keeps company with.
    func leader(of block: BlockID) -> BlockID? {
        companySize > 0 && leaders[block.index] >= 0 ? BlockID(leaders[block.index]) : nil
    }

    /// Whether a published block has company.
    func hasCompany(_ block: BlockID) -> Bool { companySize > 0 && companies[block.index * companySize] >= 0 }

    /// A block of a published block's company.
    func companion(_ place: Int, of block: BlockID) -> BlockID {
        BlockID(companies[block.index * companySize + place])
    }

    /// Takes one block out of a company, all of which must go.
    mutating func removeCompanion(_ place: Int, of block: BlockID) -> BlockID {
        let companion = companion(place, of: block)
        companies[block.index * companySize + place] = -1
        leaders[companion.index] = -1
        return companion
    }

    private mutating func join(_ company: ArraySlice<BlockID>, to block: BlockID) {
        for (place, companion) in company.enumerated() {
            companies[block.index * companySize + place] = companion.rawValue
            leaders[companion.index] = block.rawValue
        }
    }

    /// The published block that holds exactly these contents.
    func find(_ wanted: BlockContents) -> CachedBlock? {
        guard let block = index[wanted.key], matches(block, wanted) else { return nil }
        return CachedBlock(block: block, publication: entries[block.index].publication)
    }

    /// Makes a full block findable, and its company with it. An equal one that is published already stays, unless it
    /// has lost its company: then the new one takes over its publication. Anything else under the same key, which a
    /// lookup for these contents could not use, gives way. Who lost the place is returned, its company still with it.
    mutating func publish(
        _ block: BlockID, _ contents: BlockContents, company: ArraySlice<BlockID>
    ) -> (publication: UInt64, displaced: BlockID?) {
        let present = index[contents.key]
        var publication: UInt64?
        if let present, matches(present, contents) {
            publication = entries[present.index].publication
            if let publication, company.isEmpty || hasCompany(present) { return (publication, nil) }
        }
        if let present { remove(present) }
        if publication == nil { publicationCount += 1 }
        index[contents.key] = block
        entries[block.index] = Entry(
            key: contents.key, salt: contents.salt, adapter: contents.adapter, parent: contents.parent,
            publication: publication ?? publicationCount)
        let base = block.index * blockSize
        for offset in 0..<blockSize { self.contents[base + offset] = contents.tokens[contents.start + offset] }
        join(company, to: block)
        return (publication ?? publicationCount, present)
    }

    /// Forgets a block; nothing happens when it is not published.
    mutating func remove(_ block: BlockID) {
        guard entries[block.index].publication != 0 else { return }
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

    /// The tokens that a block is found by, itself or in company; nil when it is not. For the deep check.
    func publishedTokens(of block: BlockID) -> ArraySlice<TokenID>? {
        guard contains(block) else { return nil }
        let base = (leader(of: block) ?? block).index * blockSize
        return contents[base..<base + blockSize]
    }

    /// Compares who leads with who follows. For the deep check.
    func checkCompanies() throws(InvariantViolation) {
        for block in leaders.indices {
            let members = companies[block * companySize..<(block + 1) * companySize]
            let present = members.filter { $0 >= 0 && leaders[Int($0)] == block }
            if present.count != (members.contains { $0 >= 0 } ? companySize : 0) {
                throw InvariantViolation("block \(block) has company \(members), and not all of it is there")
            }
            if !present.isEmpty, entries[block].publication == 0 {
                throw InvariantViolation("block \(block) has company \(members) and is not published")
            }
            let leader = Int(leaders[block])
            if leader >= 0, !companies[leader * companySize..<(leader + 1) * companySize].contains(Int32(block)) {
                throw InvariantViolation("block \(block) keeps company with \(leader), which does not know")
            }
        }
    }
}
