// Hostile schemas: each is refused, or translated, within a bounded amount of work.

import Grammars
import JSON
import Testing

@Suite struct SchemaBudgetTests {
    private static func object(_ members: [(String, JSONValue)]) -> JSONValue {
        .object(members.map { JSONValue.Member(name: $0.0, value: $0.1) })
    }

    private static func error(_ schema: JSONValue) -> GrammarError? {
        do throws(GrammarError) {
            _ = try CompiledGrammar(try JSONSchema.grammar(for: schema))
            return nil
        } catch { return error }
    }

    private static func isOverBudget(_ schema: JSONValue) -> Bool {
        if case .overBudget? = error(schema) { return true }
        return false
    }

    @Test func `depth is limited before anything recurses`() {
        var schema = Self.object([("type", .string("string"))])
        for _ in 0..<5000 { schema = Self.object([("items", schema)]) }
        #expect(Self.isOverBudget(schema))
    }

    @Test func `bytes are limited`() {
        #expect(Self.isOverBudget(Self.object([("description", .string(String(repeating: "a", count: 70_000)))])))
    }

    @Test func `values of an enum are limited`() {
        let values = (0...4096).map { JSONValue.integer($0) }
        #expect(Self.isOverBudget(Self.object([("enum", .array(values))])))
        #expect(Self.error(Self.object([("enum", .array(Array(values.dropLast())))])) == nil)
    }

    @Test func `branches do not multiply`() {
        let branches = JSONValue.array(
            (0..<8).map { Self.object([("minLength", .integer($0)), ("minimum", .integer($0))]) })
        let group = Self.object([("anyOf", branches)])
        #expect(Self.isOverBudget(Self.object([("allOf", .array(Array(repeating: group, count: 8)))])))
    }

    @Test func `references that double do not explode`() {
        // Each definition refers twice to the next, in members of different names.
        var definitions: [(String, JSONValue)] = []
        for index in 0..<100 {
            let next = Self.object([("$ref", .string("#/$defs/d\(index + 1)"))])
            let parts = Self.object([("a", next), ("b", next)])
            definitions.append(("d\(index)", Self.object([("type", .string("object")), ("properties", parts)])))
        }
        definitions.append(("d100", Self.object([("type", .string("null"))])))
        let schema = Self.object([("$ref", .string("#/$defs/d0")), ("$defs", Self.object(definitions))])
        #expect(Self.error(schema) == nil)
    }

    @Test func `merged references that double are refused or small`() {
        var definitions: [(String, JSONValue)] = []
        for index in 0..<40 {
            let next = Self.object([("$ref", .string("#/$defs/d\(index + 1)"))])
            definitions.append(
                ("d\(index)", Self.object([("allOf", .array([next, next])), ("minLength", .integer(1))])))
        }
        definitions.append(("d40", Self.object([("type", .string("string"))])))
        let schema = Self.object([("$ref", .string("#/$defs/d0")), ("$defs", Self.object(definitions))])
        #expect(Self.error(schema) == nil)
    }

    @Test func `subsets of recursive definitions are counted`() {
        // Every member's schema is the conjunction of another subset of definitions.
        var definitions: [(String, JSONValue)] = []
        for index in 0..<14 {
            let members = (0..<14).map { member in
                ("p\(member)", Self.object([("$ref", .string("#/$defs/d\((index * (member + 1) + member) % 14)"))]))
            }
            definitions.append(("d\(index)", Self.object([("properties", Self.object(members))])))
        }
        let all = (0..<14).map { Self.object([("$ref", .string("#/$defs/d\($0)"))]) }
        let schema = Self.object([("allOf", .array(all)), ("$defs", Self.object(definitions))])
        let clock = ContinuousClock()
        let time = clock.measure { _ = Self.error(schema) }
        #expect(time < .seconds(2))
    }

    @Test func `large counts cost little or are refused`() {
        let string = Self.object([("type", .string("string")), ("maxLength", .integer(1_000_000))])
        #expect(Self.error(string) == nil)
        let list = Self.object([
            ("type", .string("array")), ("minItems", .integer(100_000)),
            ("items", Self.object([("type", .string("null"))])),
        ])
        #expect(Self.error(list) == nil)
        let pattern = Self.object([
            ("type", .string("string")), ("pattern", .string("^(a?){900}b{900}$")), ("maxLength", .integer(900)),
        ])
        _ = Self.error(pattern)
        let huge = Self.object([("type", .string("array")), ("minItems", .integer(.max)), ("maxItems", .integer(.max))])
        #expect(Self.isOverBudget(huge) || Self.error(huge) == nil)
    }

    @Test func `the deepest schema that is accepted costs no stack`() async {
        // Tasks have small stacks.
        await Task.detached {
            var schema = Self.object([("type", .string("integer"))])
            for _ in 0..<60 { schema = Self.object([("items", schema)]) }
            #expect(Self.error(schema) == nil)
            var definitions: [(String, JSONValue)] = []
            for index in 0..<200 {
                definitions.append(("d\(index)", Self.object([("$ref", .string("#/$defs/d\(index + 1)"))])))
            }
            definitions.append(("d200", Self.object([("type", .string("null"))])))
            let chain = Self.object([("$ref", .string("#/$defs/d0")), ("$defs", Self.object(definitions))])
            #expect(Self.isOverBudget(chain))
        }.value
    }
}
