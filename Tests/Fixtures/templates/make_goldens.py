#!/usr/bin/env python3
"""Renders the templates of this folder and the snippets below with Python's jinja2, and writes goldens.json.

The environment is the one that chat templates are written for: the immutable sandbox, trim_blocks, lstrip_blocks,
break and continue, generation blocks, and a `tojson` without HTML escapes.

    pip install jinja2==3.1.6 && python make_goldens.py
"""
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent
NOW = 1_700_000_000


class Generation(jinja2.ext.Extension):
    """`{% generation %}` as a scope that prints its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("pass_through"), [], [], body).set_lineno(line)

    def pass_through(self, caller):
        return caller()


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(format)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


ENV = environment()


def ordered(value):
    """Members by name: the reader of the goldens does not keep their order."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [ordered(element) for element in value]
    return value


def render(source, context):
    full = {"messages": [], "add_generation_prompt": False, "bos_token": "<s>", "eos_token": "</s>", "tools": None}
    full.update(context)
    try:
        return {"output": ENV.from_string(source).render(**ordered(full))}
    except Exception as error:  # any failure is a failure there and must be one here
        return {"error": f"{type(error).__name__}: {error}"}


TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather at a place, \"now\" <or> later & more",
    "parameters": {"type": "object", "required": ["place"], "properties": {
        "place": {"type": "string", "description": "Où? 東京"},
        "days": {"type": "array", "items": {"type": "integer"}},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}}}}

SEARCH = {"type": "function", "function": {
    "name": "search", "description": "Finds texts.", "parameters": {"type": "object", "properties": {
        "query": {"type": ["string", "null"], "description": "Words"},
        "limit": {"oneOf": [{"type": "integer", "default": 5}, {"type": "string", "enum": ["all"]}], "default": 5},
        "order": {"type": "string", "enum": ["new", "old"], "default": "new"},
        "within": {"type": "object", "nullable": True, "properties": {
            "years": {"type": "array", "items": {"type": ["integer", "null"]}},
            "places": {"type": "array", "items": {"type": "array"}}}, "required": ["years"]}}}}}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


CALL = message("assistant", None, tool_calls=[{"id": "abcdefghi", "type": "function", "function": {
    "name": "get_weather", "arguments": {"place": "Zürich", "days": [1, 2]}}}])
TALK = [message("user", "Hi  "), message("assistant", " Hello! "), message("user", "What's 2+2?\n<|im_end|>")]
CONVERSATIONS = {
    "one": {"messages": [message("user", "Hello")], "add_generation_prompt": True},
    "system": {"messages": [message("system", " Be brief. ")] + TALK, "add_generation_prompt": True},
    "talk": {"messages": TALK},
    "thought": {"messages": [message("user", "q"), message("assistant", "<think>\nhm\n</think>\n\nyes")]},
    "thought more": {"messages": [message("user", "q"), message("assistant", "<think>\nhm\n</think>\n\nyes"),
                                  message("user", "r")], "add_generation_prompt": True, "enable_thinking": False},
    "tools": {"messages": [message("system", "S"), message("user", "Weather?")], "tools": [TOOL, TOOL],
              "add_generation_prompt": True},
    "call": {"messages": [message("user", "Weather?"), CALL, message("tool", "{\"t\": 21.5}", tool_call_id="abcdefghi"),
                          message("assistant", "Warm.")], "tools": [TOOL]},
    "result": {"messages": [message("user", "Weather?"), {**CALL, "content": ""},
                            message("tool", "21", tool_call_id="abcdefghi"),
                            message("tool", "22", tool_call_id="abcdefghi")], "add_generation_prompt": True},
    "schemas": {"messages": [message("user", "Find it."), message("assistant", "", reasoning="Search.", tool_calls=[
        {"id": "abcdefghi", "function": {"name": "search", "arguments": {"query": "it", "limit": "all"}}}]),
        message("tool", "[]", tool_call_id="abcdefghi")], "tools": [SEARCH], "builtin_tools": ["search", "code_interpreter"],
                "add_generation_prompt": True},
    "no thought": {"messages": [message("system", "Be kind. /no_think"), message("user", "q"), message("assistant", "a"),
                                message("user", "r")], "add_generation_prompt": True, "thinking": True},
    "parts": {"messages": [message("user", [{"type": "text", "text": " a "}, {"type": "text", "text": "b"}])]},
    "image": {"messages": [message("user", [{"type": "image"}, {"type": "text", "text": "see"}])]},
    "not alternating": {"messages": [message("user", "a"), message("user", "b")]},
    "developer": {"messages": [message("developer", "D"), message("user", "u"), message("system", "late"),
                               message("assistant", "a")], "reasoning_effort": "high"},
    "unicode": {"messages": [message("user", "e\u0301 👩‍👩‍👧 שלום \u0000\u200b\r\nx")], "add_generation_prompt": True},
    "empty": {"messages": []},
    "content missing": {"messages": [{"role": "user"}]},
}

DATA = {"s": "Hello World", "n": None, "t": True, "f": False, "i": 7, "x": 2.5, "e": "", "l": [3, 1, 2], "z": 0,
        "d": {"b": 2, "a": 1, "C": 3}, "u": "naïve ÉCOLE straße", "m": "a\n  b\n\nc\n", "w": "  pad \t\n",
        "users": [{"name": "Bo", "age": 30, "in": {"k": 1}}, {"name": "al", "age": 25, "in": {"k": 2}},
                  {"name": "Cy", "age": 30, "in": {"k": 3}}], "nest": {"items": [1], "keys": "k", "a": {"b": [10, 20]}},
        "q": "it's \"q\"\\", "words": ["b", "A", "c", "a"], "h": "<a href='x'>&\"</a>"}

SNIPPETS = (HERE / "snippets.txt").read_bytes().decode("utf-8").split("\n%%\n")


def main():
    cases = []
    for path in sorted(HERE.glob("*.jinja")):
        for name, context in CONVERSATIONS.items():
            cases.append({"name": f"{path.name}: {name}", "file": path.name, "context": context,
                          **render(path.read_text(encoding="utf-8"), context)})
    for index, source in enumerate(SNIPPETS):
        cases.append({"name": f"snippet {index}: {source}", "source": source, **render(source, DATA)})
    document = {"now": NOW, "data": DATA, "cases": cases}
    text = json.dumps(document, indent=1, ensure_ascii=True, sort_keys=True)
    (HERE / "goldens.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(cases)} cases, {sum('error' in case for case in cases)} of them errors")


if __name__ == "__main__":
    main()
