"""Seventy schemas with texts that are valid and texts that are not, as Python's `jsonschema` says.

    pip install 'jsonschema[format]' && python3 make_fixtures.py > schemas.json

Every valid text is written as the grammar writes JSON: members in the order of the schema, no escapes that are not
needed, no member that the schema does not mention where it mentions some.
"""

import json
import sys

from jsonschema import Draft7Validator, Draft202012Validator


def obj(properties, required=None, **more):
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False, **more}


def text(**more):
    return {"type": "string", **more}


def integer(**more):
    return {"type": "integer", **more}


def number(**more):
    return {"type": "number", **more}


def array(items, **more):
    return {"type": "array", "items": items, **more}


PERSON = obj({"name": text(), "age": integer(minimum=0, maximum=150)})
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {"node": obj({"value": integer(), "children": array({"$ref": "#/$defs/node"})})},
}
LIST = {"type": "object", "properties": {"head": integer(), "tail": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["head", "tail"], "additionalProperties": False}
SHAPES = {
    "oneOf": [
        obj({"kind": {"const": "circle"}, "radius": number(exclusiveMinimum=0)}),
        obj({"kind": {"const": "square"}, "side": number(exclusiveMinimum=0)}),
        obj({"kind": {"const": "label"}, "text": text(minLength=1)}),
    ]
}
PYDANTIC = {
    "$defs": {
        "Step": {"properties": {"explanation": {"title": "Explanation", "type": "string"},
                                "output": {"title": "Output", "type": "string"}},
                 "required": ["explanation", "output"], "title": "Step", "type": "object"},
    },
    "properties": {"steps": {"items": {"$ref": "#/$defs/Step"}, "title": "Steps", "type": "array"},
                   "final_answer": {"title": "Final Answer", "type": "string"}},
    "required": ["steps", "final_answer"], "title": "MathReasoning", "type": "object",
}
DISCRIMINATED = {
    "$defs": {
        "Cat": {"properties": {"kind": {"const": "cat", "default": "cat", "type": "string"},
                               "lives": integer(minimum=1, maximum=9)}, "required": ["lives"], "type": "object"},
        "Dog": {"properties": {"kind": {"const": "dog", "default": "dog", "type": "string"},
                               "barks": {"type": "boolean"}}, "required": ["barks"], "type": "object"},
    },
    "properties": {"pet": {"discriminator": {"propertyName": "kind"},
                           "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}},
    "required": ["pet"], "type": "object",
}

CASES = {
    "any value": ({}, [None, True, 0, -1.5, "a", [], [1, "x", None], {}, {"a": {"b": []}}]),
    "true": (True, [1, "x", {"k": 1}]),
    "any object": ({"type": "object"}, [{}, {"a": 1, "b": [True]}, [], "x", 3]),
    "any array": ({"type": "array"}, [[], [1, [2, [3]]], {}, 1]),
    "any string": (text(), ["", "a", "ünïcødé 漢字 😀", "\"quoted\" \\ back", "line\nbreak\ttab", "\x01\x1f", 1, None]),
    "boolean": ({"type": "boolean"}, [True, False, 0, "true", None]),
    "null": ({"type": "null"}, [None, False, 0, ""]),
    "list of types": ({"type": ["string", "null", "integer"]}, ["x", None, 3, 3.5, True, []]),
    "integer": (integer(), [0, 7, -12, 123456789, 1.5, "1", None]),
    "number": (number(), [0, 7, -12.25, 1e10, 0.001, "1", True]),
    "integer from 0 to 150": (integer(minimum=0, maximum=150), [0, 1, 9, 10, 99, 100, 149, 150, 151, 200, -1, 1000]),
    "integer from -37 to 1204": (integer(minimum=-37, maximum=1204),
                                 [-38, -37, -36, -10, -9, -1, 0, 5, 999, 1000, 1199, 1204, 1205, 1210, 2000, -100]),
    "integer above -5": (integer(exclusiveMinimum=-5), [-5, -4, -6, 0, 44, 123456, -44]),
    "integer below 1000": (integer(exclusiveMaximum=1000), [999, 1000, 1001, -5, -123456, 0]),
    "integer between fractions": (integer(minimum=0.5, maximum=3.5), [0, 1, 2, 3, 4, -1]),
    "number from 0 to 1": (number(minimum=0, maximum=1), [0, 0.5, 1, 1.5, -0.1, 0.999, 1.001, 2, 10]),
    "number inside (0.25, 0.75)": (number(exclusiveMinimum=0.25, exclusiveMaximum=0.75),
                                   [0.25, 0.75, 0.2501, 0.7499, 0.5, 0.3, 0.26, 0.76, 0.2, 0, 1, 0.8]),
    "number from -2.5 to 12.75": (number(minimum=-2.5, maximum=12.75),
                                  [-2.5, -2.51, -2.49, -3, -1, -0.5, 0, 12, 12.7, 12.75, 12.76, 12.8, 13, 20]),
    "number below zero": (number(exclusiveMaximum=0), [-0.001, -5, 0, 0.001, 3]),
    "number of at least 99.5": (number(minimum=99.5), [99, 99.4, 99.5, 99.51, 100, 1234.5, -99.6]),
    "multiple of 5": (integer(multipleOf=5), [0, 5, 10, 125, -15, 3, 51, 1002]),
    "multiple of 12 from 0": (integer(multipleOf=12, minimum=0), [0, 12, 24, 120, 1200000, 6, 13, -12, 100]),
    "multiple of 7 up to 100": (integer(multipleOf=7, minimum=-20, maximum=100), [-14, 0, 7, 98, 105, 15, -21, 100]),
    "multiple of 0.25": (number(multipleOf=0.25), [0, 1, 1.25, 2.5, -3.75, 0.1, 1.3]),
    "string of 2 to 4 characters": (text(minLength=2, maxLength=4), ["", "a", "ab", "abcd", "abcde", "漢字", "😀😀😀😀😀", "\"\\\n"]),
    "string of at most 300": (text(maxLength=300), ["", "a" * 300, "a" * 301, "é" * 300, "é" * 301]),
    "string of at least 3": (text(minLength=3), ["ab", "abc", "abcd" * 9, ""]),
    "pattern of a code": (text(pattern="^[A-Z]{3}-[0-9]{2,4}$"), ["ABC-12", "ABC-1234", "ABC-1", "abc-12", "ABC-12345", "xABC-12"]),
    "pattern somewhere": (text(pattern="cat|dog"), ["cat", "a dog!", "bird", "do g", "concatenate", ""]),
    "pattern and length": (text(pattern="^[a-z]+$", minLength=2, maxLength=5), ["ab", "abcde", "a", "abcdef", "aB", "a1"]),
    "pattern of what needs escapes": (text(pattern="^\"[^\"]*\"$"), ["\"a\"", "\"\"", "a", "\"a\"b\""]),
    "date": (text(format="date"), ["2024-02-29", "2023-02-29", "1999-12-31", "2000-02-29", "1900-02-29", "2024-04-31",
                                   "2024-13-01", "2024-00-10", "24-01-01", "2024-1-1"]),
    "time": (text(format="time"), ["12:00:00Z", "23:59:59.123+02:00", "24:00:00Z", "12:60:00Z", "12:00", "12:00:00"]),
    "date-time": (text(format="date-time"), ["2024-02-29T10:20:30Z", "2024-01-01T00:00:00.5-08:00", "2024-02-30T10:20:30Z",
                                             "2024-01-01 00:00:00Z", "2024-01-01"]),
    "email": (text(format="email"), ["ada@example.org", "a.b+c@mail.example.com", "ada", "ada example.org"]),
    "uuid": (text(format="uuid"), ["123e4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-42661417400g"]),
    "uri": (text(format="uri"), ["https://example.org/a/b?c=d#e", "urn:isbn:0451450523", "mailto:a@b.example", "http://[::1]:8080/", "no uri", "/relative"]),
    "addresses": ({"anyOf": [text(format="ipv4"), text(format="ipv6")]}, ["127.0.0.1", "255.255.255.255", "256.1.1.1", "::1", "2001:db8::ff00:42:8329", "1:2:3:4:5:6:7:8", "1:2:3", ":::"]),
    "hostname and duration": (obj({"host": text(format="hostname"), "ttl": text(format="duration")}),
                              [{"host": "www.example.org", "ttl": "PT5M"}, {"host": "localhost", "ttl": "P1Y2M3DT4H5M6S"},
                               {"host": "-bad-", "ttl": "PT5M"}, {"host": "ok", "ttl": "5 minutes"}, {"host": "ok", "ttl": "P3W"}]),
    "enum of strings": ({"enum": ["red", "green", "blue \"sky\""]}, ["red", "blue \"sky\"", "blue", "re", "redd", 1]),
    "enum of everything": ({"enum": [1, "1", None, True, [1, 2], {"a": 1}, 1.5]}, [1, "1", None, True, [1, 2], {"a": 1}, 1.5, 2, False, [1], {}]),
    "enum within type and bounds": (integer(enum=[1, 2, 3, "4", 50], maximum=10), [1, 3, "4", 50, 4]),
    "const": ({"const": {"a": [1, {"b": None}]}}, [{"a": [1, {"b": None}]}, {"a": [1]}, {}]),
    "person": (PERSON, [{"name": "Ada", "age": 36}, {"name": "Ada"}, {"age": 36, "name": 1}, {"name": "Ada", "age": 151},
                        {"name": "Ada", "age": 36, "x": 1}, {}, []]),
    "optional members": (obj({"a": integer(), "b": text(), "c": {"type": "null"}}, ["b"]),
                         [{"b": "x"}, {"a": 1, "b": "x"}, {"b": "x", "c": None}, {"a": 1, "b": "x", "c": None}, {"a": 1}, {"c": None}, {}]),
    "only optional members": (obj({"a": integer(), "b": text(), "c": {"type": "null"}, "d": {"type": "boolean"}}, []),
                              [{}, {"a": 1}, {"b": "x"}, {"a": 1, "d": True}, {"b": "y", "c": None, "d": False}, {"e": 1}, {"a": "1"}]),
    "map": ({"type": "object", "additionalProperties": integer()}, [{}, {"x": 1}, {"x": 1, "y z": 2, "é": 3}, {"x": "1"}]),
    "map of 1 to 2": ({"type": "object", "additionalProperties": integer(), "minProperties": 1, "maxProperties": 2},
                      [{}, {"x": 1}, {"x": 1, "y": 2}, {"x": 1, "y": 2, "z": 3}]),
    "members and others": ({"type": "object", "properties": {"id": integer()}, "required": ["id"], "additionalProperties": text()},
                           [{"id": 1}, {"id": 1, "note": "x"}, {"id": 1, "idx": "y"}, {"id": "1"}, {"id": 1, "note": 2}]),
    "two or three of four": (obj({"a": integer(), "b": integer(), "c": integer(), "d": integer()}, [], minProperties=2, maxProperties=3),
                             [{}, {"a": 1}, {"a": 1, "b": 2}, {"b": 1, "d": 2}, {"a": 1, "c": 2, "d": 3}, {"a": 1, "b": 2, "c": 3, "d": 4}]),
    "names by pattern": ({"type": "object", "patternProperties": {"^n_": integer(), "^s_": text()}, "additionalProperties": False},
                         [{}, {"n_a": 1}, {"s_a": "x", "n_b": 2}, {"n_a": "x"}, {"other": 1}]),
    "names of a form": ({"type": "object", "propertyNames": {"pattern": "^[a-z]{1,3}$"}, "additionalProperties": {"type": "boolean"}},
                        [{}, {"abc": True}, {"a": False, "b": True}, {"abcd": True}, {"A": True}, {"a": 1}]),
    "names of a list": ({"type": "object", "propertyNames": {"enum": ["low", "high"]}, "additionalProperties": number()},
                        [{}, {"low": 1}, {"low": 0.5, "high": 2}, {"mid": 1}, {"low": "1"}]),
    "list of 2 to 3": (array(integer(), minItems=2, maxItems=3), [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, "2"]]),
    "tuple": ({"type": "array", "prefixItems": [integer(), text(), {"type": "boolean"}], "items": False, "minItems": 2},
              [[1, "a"], [1, "a", True], [1], [], [1, "a", True, 4], ["a", 1]]),
    "tuple with more": ({"type": "array", "prefixItems": [text()], "items": integer()}, [[], ["a"], ["a", 1, 2], [1], ["a", "b"]]),
    "tuple of draft 7": ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [integer(), text()], "additionalItems": False},
                         [[], [1], [1, "a"], [1, "a", 2], ["a"]]),
    "set of colours": (array({"enum": ["red", "green", "blue"]}, uniqueItems=True, minItems=1),
                       [["red"], ["red", "blue"], ["red", "green", "blue"], [], ["red", "red"], ["pink"]]),
    "anyOf with siblings": ({"type": "object", "properties": {"a": integer(), "b": integer()}, "additionalProperties": False,
                             "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
                            [{"a": 1}, {"b": 1}, {"a": 1, "b": 2}, {}, {"c": 1}]),
    "exactly one of two members": ({"type": "object", "properties": {"a": integer(), "b": integer()},
                                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                                   [{"a": 1}, {"b": 1}, {"a": 1, "b": 2}, {}]),
    "shapes": (SHAPES, [{"kind": "circle", "radius": 2}, {"kind": "square", "side": 0.5}, {"kind": "label", "text": "x"},
                        {"kind": "circle", "side": 2}, {"kind": "label", "text": ""}, {"kind": "square", "side": 0}]),
    "a pet by its kind": (DISCRIMINATED, [{"pet": {"kind": "cat", "lives": 9}}, {"pet": {"kind": "dog", "barks": True}},
                                          {"pet": {"kind": "cat", "barks": True}}, {"pet": {}}]),
    "allOf merged": ({"allOf": [obj({"a": integer(minimum=0), "b": text()}, ["a"]),
                                {"properties": {"a": {"maximum": 9}, "b": {"maxLength": 2}}, "required": ["b"]}]},
                     [{"a": 9, "b": "xy"}, {"a": 10, "b": "x"}, {"a": -1, "b": "x"}, {"a": 1, "b": "xyz"}, {"a": 1}]),
    "a reference with siblings": ({"$ref": "#/$defs/short", "minLength": 2, "$defs": {"short": text(maxLength=3)}}, ["a", "ab", "abc", "abcd"]),
    "an anchor": ({"items": {"$ref": "#even"}, "type": "array", "$defs": {"x": {"$anchor": "even", **integer(multipleOf=2)}}}, [[], [2, 4], [3]]),
    "tree": (TREE, [{"value": 1, "children": []}, {"value": 1, "children": [{"value": 2, "children": []}]}, {"value": 1},
                    {"value": 1, "children": [{"value": "2", "children": []}]}]),
    "linked list": (LIST, [{"head": 1, "tail": None}, {"head": 1, "tail": {"head": 2, "tail": None}}, {"head": 1}, {"head": 1, "tail": 2}]),
    "steps and answer": (PYDANTIC, [{"steps": [{"explanation": "a", "output": "b"}], "final_answer": "c"}, {"steps": [], "final_answer": ""},
                                    {"steps": [{"explanation": "a"}], "final_answer": "c"}, {"final_answer": "c"}]),
    "keywords of other types": ({"minLength": 3, "minimum": 5}, ["abc", "ab", 5, 4, None, [], {}]),
    "not a type": ({"not": {"type": ["string", "number"]}}, [None, True, [], {}, "x", 1, 1.5]),
}

# Texts whose spelling matters, by the name of their schema.
SPELLED = {
    "person": ['{"name": "Ada", "age": 36}', '{ "name":"Ada","age":36 }', '{\n  "name": "Ada",\n  "age": 36\n}',
               '{\n    "name": "Ada",\n    "age": 36\n}', '{"name":"Ada",}', '{"name":"Ada" "age":36}', '{"name":"Ada","age":036}'],
    "any value": ["[1,2", "nul", "tru", '"a', "01", "1.", ".5", "+1", "[1,]", "{,}", '{"a"}', "NaN", "\"\t\""],
    "list of 2 to 3": ["[1, 2]", "[\n  1,\n  2\n]", "[1,2,]", "[1 2]"],
}


def main():
    result = []
    for name, (schema, values) in CASES.items():
        is_old = isinstance(schema, dict) and "draft-07" in schema.get("$schema", "")
        kind = Draft7Validator if is_old else Draft202012Validator
        kind.check_schema(schema)
        validator = kind(schema, format_checker=kind.FORMAT_CHECKER)
        texts = [json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values]
        case = {"name": name, "schema": schema, "valid": [], "invalid": []}
        for written in texts + SPELLED.get(name, []):
            try:
                value = json.loads(written, parse_constant=lambda word: 1 / 0)
                is_valid = validator.is_valid(value)
            except (ValueError, ZeroDivisionError):
                is_valid = False
            case["valid" if is_valid else "invalid"].append(written)
        assert case["valid"], name
        result.append(case)
    json.dump(result, sys.stdout, ensure_ascii=False, indent=1)
    print()


if __name__ == "__main__":
    main()
