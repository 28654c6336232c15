// Bytes as a grammar that someone wrote, in GBNF or in Lark's language.

import Grammars

enum GrammarTarget {
    static func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        let source = String(decoding: bytes, as: UTF8.self)
        let compiled = try GrammarWalk.compiled { () throws(GrammarError) in
            try GrammarText.grammar(source, limits: GrammarWalk.limits)
        }
        guard let compiled else { return }
        var walk = GrammarWalk(seed: bytes)
        try walk.run(compiled, stepCount: 24) { (text) throws(BrokenPromise) in
            try BrokenPromise.check(
                String(validating: text, as: UTF8.self) != nil, "a grammar allows what is no UTF-8: \(text)")
        }
    }
}
