// Bytes as a JSON Schema: from JSON to a grammar and its automaton. Whatever text the grammar lets end is JSON.

import Grammars
import JSON

enum SchemaTarget {
    private static let options: JSONSchema.Options = {
        var options = JSONSchema.Options()
        options.limits.steps = 20_000
        options.limits.rules = 1024
        options.limits.count = 100
        return options
    }()

    static func run(_ bytes: [UInt8]) throws(BrokenPromise) {
        let schema: JSONValue
        do throws(JSONError) {
            schema = try JSONParser.parse(bytes)
        } catch {
            return try BrokenPromise.check(refusal: error.reason)
        }
        let options = options
        let compiled = try GrammarWalk.compiled { () throws(GrammarError) in
            try JSONSchema.grammar(for: schema, options: options)
        }
        guard let compiled else { return }
        var walk = GrammarWalk(seed: bytes)
        try walk.run(compiled, stepCount: 40) { (text) throws(BrokenPromise) in
            do throws(JSONError) {
                _ = try JSONParser.parse(text)
            } catch {
                // JSON allows a name twice, and an automaton does not remember the names that a schema leaves free.
                if error.reason.contains("occurs twice") { return }
                let spelled = String(decoding: text, as: UTF8.self)
                throw BrokenPromise(description: "a schema allows what is no JSON: \(spelled): \(error.reason)")
            }
        }
    }
}
