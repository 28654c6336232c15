// A random text that a compiled grammar allows, byte by byte, and what must hold at every place on the way: what is
// refused changes nothing, what is forced is allowed, and no place is a dead end. The same input walks the same way.

import Grammars

struct GrammarWalk {
    /// What keeps a million inputs affordable; a constraint that costs more is refused with a typed error.
    static let limits: GrammarLimits = {
        var limits = GrammarLimits()
        limits.work = 1 << 15
        limits.states = 1 << 12
        limits.expressionNodes = 1 << 14
        limits.stackDepth = 40
        limits.poolEntries = 1 << 13
        return limits
    }()

    private var state: UInt64
    private(set) var text: [UInt8] = []

    init(seed: [UInt8]) {
        state = seed.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }

    /// The grammar, compiled; nil when it is refused as it may be.
    static func compiled(
        _ make: () throws(GrammarError) -> Grammar
    ) throws(BrokenPromise) -> CompiledGrammar? {
        do throws(GrammarError) {
            return try CompiledGrammar(try make(), limits: limits)
        } catch {
            // A place may be a JSON pointer, and names what the source does.
            try BrokenPromise.check(refusal: error.description, limit: 16 << 10)
            return nil
        }
    }

    /// Walks `stepCount` bytes or to the end; `check` sees every text that may end.
    mutating func run(
        _ grammar: CompiledGrammar, stepCount: Int, check: ([UInt8]) throws(BrokenPromise) -> Void
    ) throws(BrokenPromise) {
        var matcher = GrammarMatcher(grammar)
        for _ in 0..<stepCount {
            let forced = matcher.forcedBytes(limit: 2)
            if matcher.canEnd {
                try BrokenPromise.check(forced.isEmpty, "bytes are forced where the text may end")
                try check(text)
            }
            guard let byte = try next(&matcher) else {
                // Text that would nest deeper than the limit is left out, and so may all that could follow.
                let isDeep = text.count >= Self.limits.stackDepth
                return try BrokenPromise.check(matcher.canEnd || isDeep, "no text can follow \(text)")
            }
            try BrokenPromise.check(!matcher.mustEnd || matcher.canEnd, "a text must end that cannot")
            try BrokenPromise.check(forced.first.map { $0 == byte } ?? true, "another byte follows than the forced one")
            text.append(byte)
        }
        let forced = matcher.forcedBytes(limit: 2)
        try BrokenPromise.check(matcher.advance(forced), "forced bytes are refused")
        if matcher.canEnd { try check(text + forced) }
    }

    /// Reads a byte that may follow: one that closes something, or the first at or after a random one.
    private mutating func next(_ matcher: inout GrammarMatcher) throws(BrokenPromise) -> UInt8? {
        let couldEnd = matcher.canEnd
        let (random, wish) = (draw(), draw())
        if wish & 1 == 0 {
            for byte in "\"}],:".utf8 where matcher.advance(byte) { return byte }
        }
        for offset in 0...UInt8.max {
            let byte = UInt8(truncatingIfNeeded: random >> 32) &+ offset
            if matcher.advance(byte) { return byte }
        }
        try BrokenPromise.check(matcher.canEnd == couldEnd, "bytes that are refused move the matcher")
        return nil
    }

    private mutating func draw() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state >> 17
    }
}
