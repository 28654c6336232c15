// The largest schemas that are likely: what they cost to translate and compile, in units of work, which are the same on
// every machine, and in time, which is printed.

import Grammars
import JSON
import Testing

@Suite struct StressSchemaTests {
    private static func object(of count: Int) -> JSONValue {
        let kinds = ["string", "integer", "boolean", "number"]
        let members = (0..<count).map { index in
            let type = JSONValue.string(kinds[index % kinds.count])
            return JSONValue.Member(name: "member_\(index)", value: .object([.init(name: "type", value: type)]))
        }
        return .object([
            .init(name: "type", value: .string("object")), .init(name: "properties", value: .object(members)),
        ])
    }

    @Test func `200 members that may all be left out compile within a third of the budget`() throws {
        let start = try ProcessorTime.now()
        let compiled = try CompiledGrammar(JSONSchema.grammar(for: Self.object(of: 200)))
        let time = try ProcessorTime.now() - start
        print("200 optional members: \(time), \(compiled.work) units, \(compiled.stateCount) states")
        #expect(compiled.work < GrammarLimits().work / 3)
        var matcher = GrammarMatcher(compiled)
        let isRead = matcher.advance(#"{"member_3": 1.5, "member_77":1, "member_199": 2}"#.utf8)
        #expect(isRead && matcher.canEnd)
        var reversed = GrammarMatcher(compiled)
        let isReversedRead = reversed.advance(#"{"member_77": 1, "member_3": 1.5}"#.utf8)
        #expect(!isReversedRead)
    }
}
