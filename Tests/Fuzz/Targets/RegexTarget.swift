// Bytes as a regular expression, for a whole text and for a text that it occurs in.

import Grammars

enum RegexTarget {
    static func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        let source = String(decoding: bytes, as: UTF8.self)
        func compiled(_ extent: RegularExpression.Extent) throws(BrokenPromise) -> CompiledGrammar? {
            try GrammarWalk.compiled { () throws(GrammarError) in
                Grammar(try RegularExpression.expression(source, extent: extent, limits: GrammarWalk.limits))
            }
        }
        let anywhere = try compiled(.anywhere)
        var walk = GrammarWalk(seed: bytes)
        if let whole = try compiled(.whole) {
            try walk.run(whole, stepCount: 24) { (text) throws(BrokenPromise) in
                try BrokenPromise.check(
                    String(validating: text, as: UTF8.self) != nil, "an expression allows what is no UTF-8: \(text)")
                guard let anywhere else { return }
                var matcher = GrammarMatcher(anywhere)
                try BrokenPromise.check(
                    matcher.advance(text) && matcher.canEnd, "what matches as a whole occurs nowhere: \(text)")
            }
        } else if let anywhere {
            try walk.run(anywhere, stepCount: 8) { (_) throws(BrokenPromise) in }
        }
    }
}
