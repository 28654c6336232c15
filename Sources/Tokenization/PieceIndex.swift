// From a piece's bytes to its id while a tokenizer is being made: one flat array, probed linearly, over the packed
// vocabulary. The hash is keyed at random, so no file can be written whose pieces all collide.

/// A hash index over the entries of a `PackedStrings`.
struct PieceIndex: Sendable {
    /// The entries that are indexed.
    private let pieces: PackedStrings
    /// [power of two] the high half of an entry's hash, then the entry's number plus one; 0 where the slot is free.
    private var slots: [UInt64]
    private let mask: Int
    private let key: UInt64

    /// Indexes those of `pieces` that are `included`, of which there must be fewer than 2³¹; no two may be alike unless
    /// `takesFirst`.
    init(
        _ pieces: PackedStrings, takesFirst: Bool = false, included: (Int) -> Bool = { _ in true }
    ) throws(TokenizationError) {
        self.pieces = pieces
        var capacity = 16
        while capacity < pieces.count * 2 { capacity *= 2 }
        slots = [UInt64](repeating: 0, count: capacity)
        mask = capacity - 1
        key = .random(in: .min ... .max)
        let bytes = pieces.bytes.span
        for entry in 0..<pieces.count where included(entry) {
            let range = pieces.range(of: entry)
            let (slot, found, hash) = probe(range, of: bytes)
            if let found {
                if takesFirst { continue }
                throw .duplicatePiece(piece: pieces.text(of: entry), first: found, second: entry)
            }
            slots[slot] = hash & ~0xFFFF_FFFF | UInt64(entry + 1)
        }
    }

    /// The entry equal to `range` of `bytes`, if there is one.
    func entry(equalTo range: Range<Int>, of bytes: Span<UInt8>) -> Int? { probe(range, of: bytes).found }

    /// The entry equal to `bytes`, if there is one.
    func entry(equalTo bytes: [UInt8]) -> Int? { entry(equalTo: 0..<bytes.count, of: bytes.span) }

    private func probe(_ range: Range<Int>, of bytes: Span<UInt8>) -> (slot: Int, found: Int?, hash: UInt64) {
        let hash = hash(range, of: bytes)
        let own = pieces.bytes.span
        var slot = Int(truncatingIfNeeded: hash) & mask
        while slots[slot] != 0 {
            let candidate = slots[slot]
            if candidate >> 32 == hash >> 32 {
                let entry = Int(candidate & 0xFFFF_FFFF) - 1
                if equal(pieces.range(of: entry), of: own, range, of: bytes) { return (slot, entry, hash) }
            }
            slot = (slot + 1) & mask
        }
        return (slot, nil, hash)
    }

    private func equal(_ a: Range<Int>, of left: Span<UInt8>, _ b: Range<Int>, of right: Span<UInt8>) -> Bool {
        guard a.count == b.count else { return false }
        for offset in 0..<a.count where left[a.lowerBound + offset] != right[b.lowerBound + offset] { return false }
        return true
    }

    private func hash(_ range: Range<Int>, of bytes: Span<UInt8>) -> UInt64 {
        var state = key
        var position = range.lowerBound
        while position < range.upperBound {
            var word: UInt64 = 0
            let end = min(position + 8, range.upperBound)
            while position < end {
                word = word << 8 | UInt64(bytes[position])
                position += 1
            }
            state = Self.mix(state ^ word)
        }
        return Self.mix(state ^ UInt64(range.count))
    }

    /// Folds the full 128-bit product, so that every bit of the input reaches both halves.
    static func mix(_ value: UInt64) -> UInt64 {
        let product = (value ^ 0x9E37_79B9_7F4A_7C15).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
        return product.high ^ product.low
    }
}
