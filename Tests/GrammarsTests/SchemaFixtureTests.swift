// Seventy schemas with texts that Python's `jsonschema` calls valid or invalid, checked through the matcher, and
// texts drawn at random from each grammar for `check_walks.py` to validate.

import Foundation
import Grammars
import JSON
import Testing

/// One schema of `Tests/Fixtures/schemas/schemas.json`.
struct SchemaCase: Sendable, CustomTestStringConvertible {
    let name: String
    let schema: JSONValue
    let valid: [String]
    let invalid: [String]

    var testDescription: String { name }

    static func all() throws -> [SchemaCase] {
        let file = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../Fixtures/schemas/schemas.json")
        guard case .array(let cases) = try JSONParser.parse(Array(try Data(contentsOf: file))) else { return [] }
        return try cases.map { value in
            guard case .object(let members) = value else { throw JSONError(offset: 0, reason: "no case") }
            var parts: [String: JSONValue] = [:]
            for member in members { parts[member.name] = member.value }
            func texts(_ name: String) -> [String] {
                guard case .array(let elements)? = parts[name] else { return [] }
                return elements.compactMap { if case .string(let text) = $0 { text } else { nil } }
            }
            guard case .string(let name)? = parts["name"], let schema = parts["schema"] else {
                throw JSONError(offset: 0, reason: "a case has no name or no schema")
            }
            return SchemaCase(name: name, schema: schema, valid: texts("valid"), invalid: texts("invalid"))
        }
    }
}

/// Whether `text` is one of the texts of `grammar`.
func permits(_ grammar: CompiledGrammar, _ text: String) -> Bool {
    var matcher = GrammarMatcher(grammar)
    return matcher.advance(text.utf8) && matcher.canEnd
}

@Suite struct SchemaFixtureTests {
    @Test func `what jsonschema calls valid is permitted and what it calls invalid is not`() throws {
        let cases = try SchemaCase.all()
        #expect(cases.count >= 60)
        for one in cases {
            let grammar = try CompiledGrammar(try JSONSchema.grammar(for: one.schema))
            for text in one.valid { #expect(permits(grammar, text), "\(one.name): \(text)") }
            for text in one.invalid { #expect(!permits(grammar, text), "\(one.name): \(text)") }
        }
    }

    @Test func `compact grammars permit the compact texts only`() throws {
        var options = JSONSchema.Options()
        options.whitespace = .compact
        for one in try SchemaCase.all() {
            let grammar = try CompiledGrammar(try JSONSchema.grammar(for: one.schema, options: options))
            for text in one.valid {
                let isSpread = text.contains("\n ") || text.contains(": ") || text.contains("{ ") || text.contains(", ")
                #expect(permits(grammar, text) != isSpread, "\(one.name): \(text)")
            }
            for text in one.invalid { #expect(!permits(grammar, text), "\(one.name): \(text)") }
        }
    }

    @Test func `texts drawn at random are strict JSON and end`() throws {
        var written = ""
        var ended = 0
        let cases = try SchemaCase.all()
        for one in cases {
            let grammar = try CompiledGrammar(try JSONSchema.grammar(for: one.schema))
            for seed in 0..<20 {
                var walk = SchemaWalk(seed: UInt64(seed) + 1)
                guard let text = walk.text(grammar) else { continue }
                ended += 1
                let parsed = Result { () throws(JSONError) in try JSONParser.parse(text) }
                if case .failure(let error) = parsed, !error.reason.contains("occurs twice") {
                    Issue.record("\(one.name): \(error) in \(String(decoding: text, as: UTF8.self))")
                }
                written += "\(one.name)\t\(String(decoding: text, as: UTF8.self).replacing("\n", with: "\\n"))\n"
            }
        }
        // A walk hardly ever happens on what a pattern looks for.
        #expect(ended >= cases.count * 19, "of each 20 texts")
        // For Tests/Fixtures/schemas/check_walks.py, which asks another validator about every text.
        if let path = ProcessInfo.processInfo.environment["APUS_SCHEMA_WALKS"] {
            try written.write(toFile: path, atomically: true, encoding: .utf8)
        }
    }
}
