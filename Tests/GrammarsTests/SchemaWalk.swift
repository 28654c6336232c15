// Texts that a grammar permits, drawn at random: the bytes of each are picked from those that may follow, and after a
// while from those that tend to end a value.

import Grammars

/// A reproducible source of random texts.
struct SchemaWalk {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

    private mutating func random(below bound: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int((state >> 11) % UInt64(bound))
    }

    /// Bytes in the order in which a walk that should end tries them.
    private static let closing = Array("]}\",:0".utf8)

    /// One text of `grammar`; nil if it did not end within `limit` bytes.
    mutating func text(_ grammar: CompiledGrammar, limit: Int = 4000) -> [UInt8]? {
        var matcher = GrammarMatcher(grammar)
        var text: [UInt8] = []
        // Some texts are as short as they can be, others wander first.
        let patience = [0, 20, 60, 200][random(below: 4)]
        while text.count < limit {
            if matcher.canEnd, matcher.mustEnd || random(below: 3) == 0 { return text }
            let isClosing = text.count >= patience && random(below: 8) > 0
            guard let byte = advance(&matcher, closing: isClosing) else { return matcher.canEnd ? text : nil }
            text.append(byte)
        }
        return nil
    }

    /// Reads one byte that may follow: one that tends to end a value, one of a few tried at random, or the first one
    /// that may follow from a random place on.
    private mutating func advance(_ matcher: inout GrammarMatcher, closing: Bool) -> UInt8? {
        if closing, let byte = Self.closing.first(where: { matcher.advance($0) }) { return byte }
        for _ in 0..<6 {
            let byte = UInt8(random(below: random(below: 3) == 0 ? 256 : 128))
            if matcher.advance(byte) { return byte }
        }
        let start = random(below: 256)
        for offset in 0..<256 {
            let byte = UInt8((start + offset) & 255)
            if matcher.advance(byte) { return byte }
        }
        return nil
    }
}
