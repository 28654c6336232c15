// What a mask costs over the real vocabulary, printed. The bounds are far above what is seen: they catch a walk that
// became quadratic, not a slow machine.

import Foundation
import Grammars
import Testing

@Suite(.serialized) struct MaskCostTests {
    /// The longest tokens first, as a model tends to write.
    static func tokens(of text: String, _ trie: TokenTrie) -> [Int] {
        var longest: [[UInt8]: Int] = [:]
        for token in 0..<trie.tokenCount where !trie.bytes(of: token).isEmpty {
            longest[Array(trie.bytes(of: token))] = token
        }
        var rest = ArraySlice(text.utf8)
        var result: [Int] = []
        while !rest.isEmpty {
            for count in (1...min(rest.count, 24)).reversed() {
                guard let token = longest[Array(rest.prefix(count))] else { continue }
                result.append(token)
                rest = rest.dropFirst(count)
                break
            }
        }
        return result
    }

    @Test(arguments: ["any", "person"])
    func `a mask costs microseconds`(name: String) throws {
        let trie = try RealVocabulary.trie.get()
        let start = try ProcessorTime.now()
        let compiled = try CompiledGrammar(name == "any" ? JSONGrammars.any : JSONGrammars.person)
        let compile = try ProcessorTime.now() - start
        let constraint = TokenGrammar(compiled, trie: trie)
        let tokens = Self.tokens(of: JSONGrammars.personText, trie)
        var report =
            "\(name): \(compiled.stateCount) states, \(compiled.tableBytes >> 10) KiB, compiled in \(compile), "
            + "\(compiled.work) units; \(tokens.count) tokens\n"
        for (pass, text) in [tokens, tokens, Self.tokens(of: Self.shuffled, trie)].enumerated() {
            var matcher = GrammarMatcher(compiled)
            var costs: [Duration] = []
            for token in text {
                let start = try ProcessorTime.now()
                let allowed = constraint.mask(at: matcher).contains(token)
                costs.append(try ProcessorTime.now() - start)
                let accepted = constraint.accept(token, &matcher)
                try #require(allowed && accepted)
            }
            #expect(matcher.canEnd)
            costs.sort()
            report +=
                "  pass \(pass): median \(costs[costs.count / 2]), p99 \(costs[costs.count * 99 / 100]), "
                + "max \(costs[costs.count - 1])\n"
            if pass > 0 {
                #expect(costs[costs.count / 2] < .microseconds(200))
                #expect(costs[costs.count * 99 / 100] < .milliseconds(5))
            }
        }
        print(report)
    }

    /// Another text of the same grammar: what is remembered of states helps, what is remembered of places less so.
    static let shuffled = """
        {"name": "Grace Brewster Murray Hopper", "age": 85, "color": "red", "tags": ["navy", "COBOL", "nanoseconds"],
        "about": "It is easier to ask forgiveness than it is to get permission. A ship in port is safe, but that is not \
        what ships are built for.\\n\\tThe most dangerous phrase in the language is: \\"We've always done it this way.\\"",
        "other": [{"k": "v", "n": [1, 22, 333, 4444, 5.5e5]}, {"nested": {"more": {"most": ["end", false, "naïve ☃"]}}}]}
        """
}
