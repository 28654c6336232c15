#!/usr/bin/env python3
"""Writes python-re.json: patterns, and which of a list of texts Python's `re` (ASCII classes) matches with each.

One string of digits for each pattern, a digit for each text: bit 0, the whole text matches; bit 1, some part of it.
"""

import json
import pathlib
import random
import re

TEXTS = [
    "", "a", "b", "ab", "ba", "abc", "aab", "aaa", "aaaa", "abab", "cab", "é", "aé", "éé", "ab é", "0", "42", "-1.5",
    "1e9", "a_1", "A", "Zz", "foo", "foobar", "barfoo", "foo bar", " ", "\t", "a\nb", "[x]", "{", "a{2}", "a-b", "a.b",
    "2024-02-29", "12:30:00", "user@example.org", "::1", "\\", "/", "\"", "☃", "😀", "x😀y", "ABC-123", "$", "^a",
]
PATTERNS = [
    "", "a", "ab|cd", "a*", "a+b?", "(ab)+", "(?:ab){2}", "(?P<n>a|b)c", "a{2}", "a{2,}", "a{1,3}", "a{0}", "a{2", "{",
    "a*?b", "a+?", "(a|b)??", "[abc]", "[^abc]", "[a-c]+", "[^a-z]*", "[]", "[\\]x[]+", "[a\\-z]+", "[-a]+", "[a-]+",
    "\\d+", "\\D+", "\\w+", "\\W+", "\\s", "\\S+", "[\\d.]+", "[^\\w]", "[\\s\\S]*", ".", ".*", ".{2}", "\\.", "\\\\",
    "^a", "a$", "^a$", "^$", "^", "$", "^a|b$", "(^a|b)c", "(^)*a", "a(b$|c)", "(a$)?b", "a^b", "(a*)^b", "a*$b*",
    "^(foo|bar)$", "^foo", "bar$", "foo|^bar", "(?:^|x)a", "a(?:$|b)", "^^a$$", "(^a$)|b", "\\x61", "\\u00e9+",
    "\\U0001F600", "[\\x61-\\x63]+", "[à-ü]", "é{2}", "x.y", "^\\d{4}-\\d{2}-\\d{2}$", "^[A-Z]{3}-\\d{3}$",
    "^[^@\\s]+@[^@\\s]+\\.[a-z]{2,}$", "^-?\\d+(\\.\\d+)?([eE][+-]?\\d+)?$", "^([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d$",
    "(a|ab)(c|bcd)?", "(a*)*", "(a*)+b", "((a|b)*c)?", "(a|a)*b", "(|a)b", "(a|)b", "()", "()a", "\\[x\\]", "\\/", "\"",
    "\\$", "\\^a", "\\{", "a\\{2\\}", "[$^]", "[.]", "\\A\\w+\\Z", "\\t", "(?:(?:a)b)c",
]


def random_pattern(source, depth):
    kind = source.randrange(4 if depth == 0 else 10)
    if kind == 0:
        return source.choice("abcé")
    if kind == 1:
        return source.choice(["[ab]", "[^a]", "[b-c]", "\\w", "\\d", ".", "\\s"])
    if kind in (2, 3):
        return source.choice("ab")
    if kind in (4, 5):
        return "".join(random_pattern(source, depth - 1) for _ in range(source.randrange(1, 4)))
    if kind in (6, 7):
        return "(" + "|".join(random_pattern(source, depth - 1) for _ in range(source.randrange(1, 4))) + ")"
    if kind == 8 and depth > 2:
        return source.choice(["^", "", "(^|a)"]) + random_pattern(source, depth - 1) + source.choice(["$", "", "($|b)"])
    quantifier = source.choice(["*", "+", "?", "{2}", "{1,2}", "{0,3}", "{1,}", "*?"])
    return "(?:" + random_pattern(source, depth - 1) + ")" + quantifier


def main():
    source = random.Random(6)
    patterns = PATTERNS + [random_pattern(source, 4) for _ in range(300)]
    rows = []
    for pattern in dict.fromkeys(patterns):
        try:
            compiled = re.compile(pattern, re.ASCII)
        except re.error:
            continue
        digits = [(compiled.fullmatch(text) is not None) + 2 * (compiled.search(text) is not None) for text in TEXTS]
        rows.append([pattern, "".join(map(str, digits))])
    path = pathlib.Path(__file__).with_name("python-re.json")
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f'{{"texts": {json.dumps(TEXTS, ensure_ascii=False)},\n"patterns": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
