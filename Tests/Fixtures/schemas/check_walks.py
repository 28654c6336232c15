"""Validates texts that were drawn at random from the grammars of schemas.json with Python's `jsonschema`.

    APUS_SCHEMA_WALKS=walks.tsv swift test --filter SchemaFixtureTests && python3 check_walks.py walks.tsv
"""

import json
import pathlib
import sys

from jsonschema import Draft7Validator, Draft202012Validator


def validators():
    result = {}
    for case in json.loads(pathlib.Path(__file__).with_name("schemas.json").read_text()):
        schema = case["schema"]
        is_old = isinstance(schema, dict) and "draft-07" in schema.get("$schema", "")
        kind = Draft7Validator if is_old else Draft202012Validator
        result[case["name"]] = kind(schema, format_checker=kind.FORMAT_CHECKER)
    return result


def main(path):
    known = validators()
    count, failures = 0, []
    # A line break in a text is written as \n and stands only where JSON permits white space.
    for line in pathlib.Path(path).read_bytes().split(b"\n"):
        if not line:
            continue
        name, text = line.decode().split("\t", 1)
        count += 1
        value = json.loads(undo(text))
        failures += [f"{name}: {text}: {error.message}" for error in known[name].iter_errors(value)]
    print("\n".join(failures[:50]))
    print(f"{count} texts of {len(known)} schemas, {len(failures)} failures")
    return 1 if failures or count < 10 * len(known) else 0


def undo(text):
    """Line breaks outside of strings back to what they were; within strings \\n is an escape and stays."""
    parts, inside, index = [], False, 0
    while index < len(text):
        if inside and text[index] == "\\":
            parts.append(text[index : index + 2])
            index += 2
            continue
        if not inside and text.startswith("\\n", index):
            parts.append("\n")
            index += 2
            continue
        inside ^= text[index] == '"'
        parts.append(text[index])
        index += 1
    return "".join(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
