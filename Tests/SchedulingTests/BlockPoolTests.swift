// The block pool by example, then against a model made of dictionaries and sets.

import Scheduling
import Testing

@Suite struct BlockPoolTests {
    /// Contents of a block, as if the tokens were hashed without collisions.
    private static func contents(_ tokens: [TokenID], parent: UInt64 = 0, salt: UInt64 = 0) -> BlockContents {
        let low = tokens.reduce(parent &* 31 &+ salt) { $0 &* 1_000_003 &+ UInt64($1) }
        return BlockContents(key: BlockKey(low: low, high: 0), salt: salt, parent: parent, tokens: tokens, start: 0)
    }

    private static let first: [TokenID] = Array(0..<8)
    private static let second: [TokenID] = Array(10..<18)

    @Test func `extending takes all the blocks it needs or none`() {
        var pool = BlockPool(blockCount: 3, blockSize: 8)
        var one = BlockTable()
        var other = BlockTable()
        let fits = pool.extend(&one, to: 2)
        let isRefused = !pool.extend(&other, to: 2)
        #expect(fits && isRefused)
        #expect(one.blocks == [BlockID(0), BlockID(1)])
        #expect(other.count == 0 && pool.freeCount == 1 && pool.heldCount == 2)
        pool.release(&one)
        #expect(pool.freeCount == 3)
    }

    @Test func `releasing an empty table changes nothing`() {
        var pool = BlockPool(blockCount: 2, blockSize: 8)
        var table = BlockTable()
        _ = pool.extend(&table, to: 1)
        pool.release(&table)
        pool.release(&table)
        #expect(pool.freeCount == 2)
    }

    @Test func `a published block is found with its tokens, salt and parent only`() {
        var pool = BlockPool(blockCount: 4, blockSize: 8)
        var table = BlockTable()
        _ = pool.extend(&table, to: 2)
        let parent = pool.publish(table.blocks[0], Self.contents(Self.first))
        _ = pool.publish(table.blocks[1], Self.contents(Self.second, parent: parent))
        #expect(pool.find(Self.contents(Self.first))?.block == table.blocks[0])
        #expect(pool.find(Self.contents(Self.second, parent: parent))?.block == table.blocks[1])
        #expect(pool.find(Self.contents(Self.second)) == nil)
        #expect(pool.find(Self.contents(Self.first, salt: 1)) == nil)
        pool.release(&table)
        #expect(pool.cachedCount == 2 && pool.freeCount == 4)
    }

    @Test func `contents that share a key are told apart`() {
        var pool = BlockPool(blockCount: 4, blockSize: 8)
        var table = BlockTable()
        _ = pool.extend(&table, to: 1)
        let key = BlockKey(low: 5, high: 5)
        let published = BlockContents(key: key, salt: 0, parent: 0, tokens: Self.first, start: 0)
        _ = pool.publish(table.blocks[0], published)
        #expect(pool.find(published)?.block == table.blocks[0])
        #expect(pool.find(BlockContents(key: key, salt: 0, parent: 0, tokens: Self.second, start: 0)) == nil)
        #expect(pool.find(BlockContents(key: key, salt: 9, parent: 0, tokens: Self.first, start: 0)) == nil)
        #expect(pool.find(BlockContents(key: key, salt: 0, adapter: 4, parent: 0, tokens: Self.first, start: 0)) == nil)
        #expect(pool.find(BlockContents(key: key, salt: 0, parent: 7, tokens: Self.first, start: 0)) == nil)
        pool.release(&table)
    }

    @Test func `the tail of a released table is taken before its head`() {
        var pool = BlockPool(blockCount: 3, blockSize: 8)
        var table = BlockTable()
        _ = pool.extend(&table, to: 3)
        var parent: UInt64 = 0
        for (index, block) in table.blocks.enumerated() {
            parent = pool.publish(block, Self.contents(Self.first.map { $0 + Int32(index) }, parent: parent))
        }
        let head = table.blocks[0]
        let tail = table.blocks[2]
        pool.release(&table)
        _ = pool.extend(&table, to: 1)
        #expect(table.blocks == [tail])
        #expect(pool.isPublished(head) && !pool.isPublished(tail))
        pool.release(&table)
    }

    @Test func `blocks without a prefix are taken before cached ones`() {
        var pool = BlockPool(blockCount: 2, blockSize: 8)
        var cached = BlockTable()
        var plain = BlockTable()
        _ = pool.extend(&cached, to: 1)
        _ = pool.extend(&plain, to: 1)
        _ = pool.publish(cached.blocks[0], Self.contents(Self.first))
        let worthless = plain.blocks[0]
        pool.release(&cached)
        pool.release(&plain)
        _ = pool.extend(&plain, to: 1)
        #expect(plain.blocks == [worthless])
        pool.release(&plain)
    }

    @Test func `a shared block is free when its last holder releases it`() {
        var pool = BlockPool(blockCount: 2, blockSize: 8)
        var one = BlockTable()
        var other = BlockTable()
        _ = pool.extend(&one, to: 1)
        let block = one.blocks[0]
        _ = pool.publish(block, Self.contents(Self.first))
        pool.share(block, with: &other)
        #expect(pool.referenceCount(of: block) == 2)
        pool.release(&one)
        #expect(pool.freeCount == 1)
        pool.release(&other)
        #expect(pool.freeCount == 2 && pool.cachedCount == 1)
    }

    @Test func `what was built on an unpublished block cannot be found`() {
        var pool = BlockPool(blockCount: 4, blockSize: 8)
        var table = BlockTable()
        _ = pool.extend(&table, to: 1)
        let parent = pool.publish(table.blocks[0], Self.contents(Self.first))
        pool.unpublish(table)
        #expect(pool.find(Self.contents(Self.first)) == nil)
        let again = pool.publish(table.blocks[0], Self.contents(Self.first))
        #expect(again != parent)
        pool.release(&table)
    }

    @Test func `dropping a table that holds blocks stops the process`() async {
        await #expect(processExitsWith: .failure) {
            var pool = BlockPool(blockCount: 2, blockSize: 8)
            var table = BlockTable()
            _ = pool.extend(&table, to: 1)
        }
    }
}

/// The same operations on the pool and on a model so plain that it is right.
@Suite struct BlockPoolFuzzTests {
    private struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state ^ state >> 33) &* 0xff51_afd7_ed55_8ccd
        }
    }

    /// A table lives in a class, because arrays cannot hold what cannot be copied.
    private final class Holder {
        var table = BlockTable()
        /// Tokens of the block at each index that was published or shared.
        var prefix: [[TokenID]] = []
        var publication: UInt64 = 0
    }

    @Test(arguments: 1...40)
    func `the pool agrees with a model made of dictionaries`(seed: Int) throws {
        var random = Generator(state: UInt64(seed))
        let blockCount = Int.random(in: 1...24, using: &random)
        var pool = BlockPool(blockCount: blockCount, blockSize: 8)
        let holders = (0..<5).map { _ in Holder() }
        // The model: what each whole prefix is stored in, and who holds what.
        var published: [[[TokenID]]: BlockID] = [:]
        for _ in 0..<600 {
            let holder = holders[Int.random(in: 0..<holders.count, using: &random)]
            switch Int.random(in: 0..<5, using: &random) {
            case 0:
                let count = holder.table.count + Int.random(in: 0...4, using: &random)
                let free = pool.freeCount
                let before = holder.table.blocks
                let fits = pool.extend(&holder.table, to: count)
                #expect(fits == (count - before.count <= free))
                #expect(Array(holder.table.blocks.prefix(before.count)) == before)
                let taken = Set(holder.table.blocks.dropFirst(before.count))
                published = published.filter { !taken.contains($0.value) }
            case 1:
                // Publish the next block under tokens from a small choice, so that prefixes repeat.
                let index = holder.prefix.count
                guard index < holder.table.count else { continue }
                let tokens = Self.tokens(Int.random(in: 0...1, using: &random))
                let contents = Self.contents(tokens, after: holder)
                let isKnown = pool.find(contents) != nil
                holder.publication = pool.publish(holder.table.blocks[index], contents)
                holder.prefix.append(tokens)
                if !isKnown { published[holder.prefix] = holder.table.blocks[index] }
            case 2:
                // Look the next block up and share it.
                guard holder.prefix.count == holder.table.count else { continue }
                let tokens = Self.tokens(Int.random(in: 0...1, using: &random))
                guard let match = pool.find(Self.contents(tokens, after: holder)) else { continue }
                #expect(published[holder.prefix + [tokens]] == match.block)
                pool.share(match.block, with: &holder.table)
                holder.prefix.append(tokens)
                holder.publication = match.publication
            case 3:
                pool.release(&holder.table)
                holder.prefix = []
                holder.publication = 0
            default:
                guard Int.random(in: 0..<8, using: &random) == 0 else { continue }
                let gone = Set(holder.table.blocks)
                pool.unpublish(holder.table)
                published = published.filter { !gone.contains($0.value) }
            }
            var counts = Array(repeating: 0, count: blockCount)
            for holder in holders { holder.table.blocks.forEach { counts[Int($0.rawValue)] += 1 } }
            try pool.checkInvariants(holders: counts)
            #expect(pool.heldCount == counts.count { $0 > 0 })
        }
        for holder in holders { pool.release(&holder.table) }
        #expect(pool.freeCount == blockCount)
    }

    private static func tokens(_ choice: Int) -> [TokenID] { Array(repeating: TokenID(choice), count: 8) }

    /// One key for everything of a length: every lookup meets collisions.
    private static func contents(_ tokens: [TokenID], after holder: Holder) -> BlockContents {
        BlockContents(
            key: BlockKey(low: UInt64(holder.prefix.count) * 2 + UInt64(tokens[0]), high: 0), salt: 0,
            parent: holder.publication, tokens: tokens, start: 0)
    }
}
