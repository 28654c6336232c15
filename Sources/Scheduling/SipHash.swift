// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012).
//
// Keyed with a secret of the process, so that nobody outside can construct two prompts whose blocks collide.

/// A keyed hash of a prefix: one block's tokens and everything before them.
package struct BlockKey: Hashable, Sendable {
    /// The first 64 bits of the hash, little-endian.
    package let low: UInt64
    /// The last 64 bits.
    package let high: UInt64

    /// Stands for "no block before this one".
    package static let root = BlockKey(low: 0, high: 0)

    /// Joins the halves.
    package init(low: UInt64, high: UInt64) {
        self.low = low
        self.high = high
    }

    // Already uniform: one half is enough for the dictionary.
    package func hash(into hasher: inout Hasher) { hasher.combine(low) }
}

/// The running state of one hash, fed with 64-bit words.
package struct SipHash128 {
    private var v0: UInt64
    private var v1: UInt64
    private var v2: UInt64
    private var v3: UInt64
    private var wordCount: UInt64 = 0

    /// Starts a hash under a 128-bit key (two little-endian words).
    package init(key: (UInt64, UInt64)) {
        v0 = 0x736f_6d65_7073_6575 ^ key.0
        v1 = 0x646f_7261_6e64_6f6d ^ key.1 ^ 0xee
        v2 = 0x6c79_6765_6e65_7261 ^ key.0
        v3 = 0x7465_6462_7974_6573 ^ key.1
    }

    /// Feeds eight bytes, as a little-endian word.
    package mutating func combine(_ word: UInt64) {
        v3 ^= word
        round()
        round()
        v0 ^= word
        wordCount &+= 1
    }

    /// Ends the message with its last `tailCount` (fewer than 8) bytes, packed little-endian into `tail`.
    package consuming func finish(tail: UInt64 = 0, tailCount: Int = 0) -> BlockKey {
        let byteCount = wordCount &* 8 &+ UInt64(tailCount)
        combine(byteCount << 56 | tail)
        v2 ^= 0xee
        for _ in 0..<4 { round() }
        let low = v0 ^ v1 ^ v2 ^ v3
        v1 ^= 0xdd
        for _ in 0..<4 { round() }
        return BlockKey(low: low, high: v0 ^ v1 ^ v2 ^ v3)
    }

    private mutating func round() {
        v0 &+= v1
        v1 = Self.rotate(v1, 13) ^ v0
        v0 = Self.rotate(v0, 32)
        v2 &+= v3
        v3 = Self.rotate(v3, 16) ^ v2
        v0 &+= v3
        v3 = Self.rotate(v3, 21) ^ v0
        v2 &+= v1
        v1 = Self.rotate(v1, 17) ^ v2
        v2 = Self.rotate(v2, 32)
    }

    private static func rotate(_ word: UInt64, _ count: UInt64) -> UInt64 { word << count | word >> (64 - count) }
}

/// Chains the keys of a sequence's blocks: key(i) covers (salt, adapter, key(i - 1), tokens of block i).
struct BlockHasher {
    /// The process secret.
    let key: (UInt64, UInt64)
    /// Keeps four bits of every key, so that the simulation meets collisions.
    let isWeak: Bool

    /// Hashes the block that starts at `start`. All fields have a fixed width, so no two messages are alike.
    func key(
        salt: UInt64, adapter: UInt64, parent: BlockKey, tokens: [TokenID], start: Int, blockSize: Int
    ) -> BlockKey {
        var hash = SipHash128(key: key)
        hash.combine(salt)
        hash.combine(adapter)
        hash.combine(parent.low)
        hash.combine(parent.high)
        for position in stride(from: start, to: start + blockSize, by: 2) {
            let first = UInt64(UInt32(bitPattern: tokens[position]))
            hash.combine(first | UInt64(UInt32(bitPattern: tokens[position + 1])) << 32)
        }
        let full = hash.finish()
        return isWeak ? BlockKey(low: full.low & 0xf, high: 0) : full
    }
}
