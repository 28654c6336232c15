// A mask against the definition: every token of a vocabulary is tried at random places of random grammars, and whether
// a text is a beginning or a whole is decided by the slow reference.

import Grammars
import Testing

@Suite struct MaskPropertyTests {
    /// All texts over a, b, c and é up to a length, with which membership is compared.
    static let texts: [[UInt8]] = {
        var all: [[UInt8]] = [[]]
        var last = all
        for _ in 0..<4 {
            last = last.flatMap { text in ["a", "b", "c", "é"].map { text + Array($0.utf8) } }
            all += last
        }
        return all
    }()

    @Test(arguments: 0..<400)
    func `a random grammar matches what its definition says`(seed: Int) throws {
        var random = TestRandom(state: UInt64(seed))
        let grammar = random.grammar()
        let reference = ReferenceMatcher(grammar: grammar)
        do {
            let compiled = try CompiledGrammar(grammar)
            for text in Self.texts where text.count < 4 || random.chance(20) {
                #expect(matches(compiled, text) == reference.matches(text), "\(String(decoding: text, as: UTF8.self))")
            }
            try compareMasks(compiled, reference, &random)
        } catch GrammarError.unsatisfiable {
            for text in Self.texts where text.count < 4 { #expect(!reference.matches(text)) }
        }
    }

    /// Walks at random through the grammar; at each place the mask equals trying each token, every token that is
    /// allowed can be followed to an end, and the end is allowed exactly where the reference says so.
    func compareMasks(
        _ grammar: CompiledGrammar, _ reference: ReferenceMatcher, _ random: inout TestRandom
    ) throws {
        var tokens: [[UInt8]?] = Self.texts.filter { !$0.isEmpty && $0.count < 4 && random.chance(60) }
        // Pieces of é, twice the same, none, and long ones.
        tokens += [[0xC3], [0xA9], [0xA9, 0x61], [0x61, 0xC3], [0x61], [0x61], nil, [], Array("aaabbb".utf8), [0xFF]]
        let end = tokens.count
        tokens.append(nil)
        let constraint = TokenGrammar(grammar, trie: TokenTrie(tokens: tokens, endTokens: [end]))
        for _ in 0..<3 {
            var matcher = GrammarMatcher(grammar)
            var text: [UInt8] = []
            for _ in 0..<6 {
                let mask = constraint.mask(at: matcher)
                var allowed: [Int] = []
                for (token, bytes) in tokens.enumerated() {
                    var copy = matcher
                    let expected = bytes.map { !$0.isEmpty && copy.advance($0) } ?? (token == end && matcher.canEnd)
                    #expect(mask.contains(token) == expected, "token \(token) after \(text)")
                    #expect(constraint.isAllowed(token, at: matcher) == expected)
                    if expected, token != end { allowed.append(token) }
                }
                #expect(matcher.canEnd == reference.matches(text))
                #expect(!matcher.mustEnd || matcher.canEnd && allowed.isEmpty)
                #expect(mask.count == allowed.count + (matcher.canEnd ? 1 : 0))
                try compareForced(matcher)
                guard let token = allowed.randomElement(using: &random), text.count < 8 else { break }
                let accepted = constraint.accept(token, &matcher)
                text += tokens[token] ?? []
                #expect(accepted)
            }
            finish(matcher, text, reference)
        }
    }

    /// From any place some text ends within a few bytes, and the reference agrees that it is a whole one.
    func finish(_ matcher: GrammarMatcher, _ text: [UInt8], _ reference: ReferenceMatcher) {
        var frontier = [(matcher, text)]
        var seen: Set<GrammarState> = [matcher.state]
        var next = 0
        while next < frontier.count {
            let (place, text) = frontier[next]
            next += 1
            if place.canEnd {
                #expect(reference.matches(text))
                return
            }
            for byte in [0x61, 0x62, 0x63, 0xC3, 0xA9] as [UInt8] {
                var further = place
                if further.advance(byte), seen.insert(further.state).inserted {
                    frontier.append((further, text + [byte]))
                }
            }
            if seen.count > 50_000 { break }
        }
        Issue.record("no end is reached after \(text)")
    }

    func compareForced(_ matcher: GrammarMatcher) throws {
        var place = matcher
        var forced: [UInt8] = []
        while !place.canEnd, forced.count < 40 {
            let next = (UInt8.min...UInt8.max).filter { byte in
                var copy = place
                return copy.advance(byte)
            }
            guard next.count == 1 else { break }
            let advanced = place.advance(next)
            try #require(advanced)
            forced += next
        }
        #expect(matcher.forcedBytes(limit: 40) == forced)
    }

    @Test(arguments: [(0, 100), (40, 60), (95, 700)])
    func `in a bounded text each place has its own mask`(least: Int, most: Int) throws {
        let character = Expression.choice([.byte(ByteSet([0x61, 0x62])), .scalar(["é"..."é"])])
        let text = Expression.sequence([
            .text("\""), .repetition(character, atLeast: least, atMost: most), .text("\""), .optional(.text(",b\"")),
        ])
        let grammar = try CompiledGrammar(Grammar(text))
        let tokens =
            ["a", "b", "é", "ab", "éa", "\"", "a\"", "bb\",", "\",b\"", "abababababab", "é\",b"].map { Array($0.utf8) }
            + [8, 15, 16, 17, 20, 33].map { [UInt8](repeating: 0x61, count: $0) } + [[0xA9], [0xC3], [0x61, 0xC3]]
        let constraint = TokenGrammar(grammar, trie: TokenTrie(tokens: tokens, endTokens: []))
        var matcher = GrammarMatcher(grammar)
        var next: UInt8? = UInt8(ascii: "\"")
        var places = 0
        while let byte = next, matcher.advance(byte) {
            let mask = constraint.mask(at: matcher)
            for (token, bytes) in tokens.enumerated() {
                var copy = matcher
                #expect(mask.contains(token) == copy.advance(bytes), "token \(token) at \(places)")
            }
            places += 1
            next = places % 5 == 1 ? 0xC3 : places % 5 == 2 ? 0xA9 : 0x61
        }
        #expect(places > most)
    }

    @Test(arguments: ["any", "person"])
    func `over the real vocabulary the mask equals trying every token`(name: String) throws {
        let trie = try RealVocabulary.trie.get()
        let grammar = try CompiledGrammar(name == "any" ? JSONGrammars.any : JSONGrammars.person)
        let constraint = TokenGrammar(grammar, trie: trie)
        var matcher = GrammarMatcher(grammar)
        for (index, token) in MaskCostTests.tokens(of: JSONGrammars.personText, trie).enumerated() {
            let mask = constraint.mask(at: matcher)
            if index % 8 == 0 || index < 12 {
                for token in 0..<trie.tokenCount {
                    var copy = matcher
                    let bytes = trie.bytes(of: token)
                    let expected = token == 2 ? matcher.canEnd : !bytes.isEmpty && copy.advance(bytes)
                    if mask.contains(token) != expected { Issue.record("token \(token) at \(index)") }
                }
            }
            let accepted = constraint.accept(token, &matcher)
            try #require(accepted)
        }
    }
}
