// What a schema is refused for: the sentence names the place and the keyword. Nothing that a schema says is ignored.

import Grammars
import JSON
import Testing

private func refusal(_ schema: String) throws -> GrammarError? {
    let value = try JSONParser.parse(Array(schema.utf8))
    do throws(GrammarError) {
        _ = try JSONSchema.grammar(for: value)
        return nil
    } catch { return error }
}

@Suite struct SchemaRefusalTests {
    @Test(arguments: [
        (##"{"type":"string","minLenght":3}"##, ##"#/minLenght: the keyword "minLenght" is not supported"##),
        (##"{"properties":{"a":{"if":{},"then":{}}}}"##, ##"#/properties/a/if: the keyword "if" is not supported"##),
        (##"{"not":{"minimum":3}}"##, ##"#/not: the keyword "not" of anything but types is not supported"##),
        (##"{"type":"array","contains":{}}"##, ##"#/contains: the keyword "contains" is not supported"##),
        (
            ##"{"type":"array","uniqueItems":true,"items":{"type":"integer"}}"##,
            "#/uniqueItems: uniqueItems of anything but elements from a given set is not supported"
        ),
        (##"{"type":"string","format":"color"}"##, ##"#/format: the format "color" is not supported"##),
        (##"{"type":"number","multipleOf":0.01}"##, "#/multipleOf: multipleOf with this number is not supported"),
        (
            ##"{"$ref":"https://example.org/s.json"}"##,
            ##"#/$ref: a reference outside of the schema, "https://example.org/s.json", is not supported"##
        ),
        (##"{"$ref":"#"}"##, "#: a reference that leads back to itself before any text is not supported"),
        (
            ##"{"anyOf":[{"type":"null"},{"$ref":"#/$defs/a"}],"$defs":{"a":{"allOf":[{"$ref":"#"}]}}}"##,
            "#: a reference that leads back to itself before any text is not supported"
        ),
        (
            ##"{"oneOf":[{"type":"integer"},{"type":"number"}]}"##,
            "#/oneOf: oneOf whose branches 0 and 1 a value may satisfy both is not supported"
        ),
        (
            ##"{"type":"object","minProperties":2,"additionalProperties":{}}"##,
            "#/minProperties: a minimum that needs several members of free names is not supported"
        ),
        (
            ##"{"type":"object","dependentRequired":{}}"##,
            ##"#/dependentRequired: the keyword "dependentRequired" is not supported"##
        ),
        (##"{"pattern":"(?=a)b"}"##, "(?="),
        (##"{"properties":{"a/b~c":{"foo":1}}}"##, ##"#/properties/a~1b~0c/foo: the keyword "foo" is not supported"##),
    ]) func `what cannot be guaranteed is named with its place`(schema: String, sentence: String) throws {
        let error = try #require(try refusal(schema))
        guard case .unsupported = error else {
            Issue.record("\(error)")
            return
        }
        #expect(error.description == sentence || (sentence == "(?=" && error.description.hasPrefix("#/pattern, ")))
    }

    @Test(arguments: [
        ("false", "#: nothing can satisfy this: the schema is false"),
        (
            ##"{"type":"string","minLength":5,"maxLength":3}"##,
            "#/maxLength: nothing can satisfy this: a string needs 5 characters and may have 3"
        ),
        (
            ##"{"type":"object","properties":{"a":false},"required":["a"]}"##,
            "#/properties/a: nothing can satisfy this: the schema is false"
        ),
        (
            ##"{"type":"integer","enum":["a","b"]}"##,
            "#/enum: nothing can satisfy this: none of its values satisfies the rest"
        ),
        (
            ##"{"type":"integer","minimum":5,"maximum":4}"##,
            "#/maximum: nothing can satisfy this: no number is within both bounds"
        ),
        (
            ##"{"type":"string","pattern":"^a{5}$","maxLength":3}"##,
            "#/pattern: nothing can satisfy this: no string satisfies its length, patterns and formats together"
        ),
        (
            ##"{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}"##,
            "#: nothing can satisfy this: every value would contain another one without end"
        ),
        (
            ##"{"allOf":[{"type":"string"},{"type":"integer"}]}"##,
            "#/allOf/0: nothing can satisfy this: no type satisfies all that is said of it"
        ),
        (
            ##"{"type":"object","properties":{"a":{},"b":{}},"additionalProperties":false,"minProperties":3}"##,
            "#/minProperties: nothing can satisfy this: there are only 2 members"
        ),
        (
            ##"{"type":"array","items":{"type":"object","properties":{"x":{"minItems":2,"maxItems":1,"type":"array"}},"##
                + ##""required":["x"]},"minItems":1}"##,
            "#/items/properties/x/maxItems: nothing can satisfy this: a list needs 2 elements and may have 1 of them"
        ),
    ]) func `a contradiction is named with its place`(schema: String, sentence: String) throws {
        #expect(try refusal(schema)?.description == sentence)
    }

    @Test(arguments: [
        ##"{"type":"text"}"##, ##"{"type":[]}"##, ##"{"minLength":-1}"##, ##"{"minLength":1.5}"##, ##"{"enum":"a"}"##,
        ##"{"properties":[]}"##, ##"{"required":"a"}"##, ##"{"required":[1]}"##, ##"{"multipleOf":0}"##,
        ##"{"anyOf":[]}"##,
        ##"{"$ref":"#/nowhere"}"##, ##"{"$ref":"#nowhere"}"##, ##"{"$ref":"#/%zz"}"##, ##"{"items":3}"##, #"[]"#,
        #""x""#,
        ##"{"type":"number","exclusiveMinimum":true}"##, ##"{"pattern":"("}"##,
    ]) func `what is no schema is malformed`(schema: String) throws {
        guard case .malformed = try refusal(schema) else {
            Issue.record("\(String(describing: try refusal(schema)))")
            return
        }
    }

    @Test(arguments: [
        ##"{"type":"string","title":"t","description":"d","default":1,"examples":[],"deprecated":true,"x-y":{"if":1}}"##,
        ##"{"type":"string","contains":{"type":"string"},"uniqueItems":true}"##,
        ##"{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://example.org/x","type":"object"}"##,
        ##"{"type":"string","nullable":true}"##,
    ]) func `annotations and keywords of other types are no reason to refuse`(schema: String) throws {
        #expect(try refusal(schema) == nil)
    }
}
