#!/usr/bin/env python3
"""Writes Sources/Tokenization/NormalizationTables.swift from what the `tokenizers` package itself does.

The reference normalizes by a Unicode version of its own, so every scalar is put to it: what it decomposes to, whether
its decomposition composes again, and whether marks are sorted around it. Python's `unicodedata` supplies the classes by
which they are sorted, and is compared with where both know a scalar.

    pip install tokenizers==0.23.3
    python make_normalization.py > ../../../Sources/Tokenization/NormalizationTables.swift

The numbers are written as digits of base 32, the least first, in the letters of base 64: those from the 33rd on say
that more digits follow.
"""
import sys
import unicodedata

import tokenizers
from tokenizers import normalizers

NFC, NFD, NFKD = (getattr(normalizers, name)().normalize_str for name in ("NFC", "NFD", "NFKD"))
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def scalars():
    return [value for value in range(0x110000)
            if not 0xD800 <= value < 0xE000 and not 0xAC00 <= value < 0xD7A4]


def written(numbers):
    text = ""
    for number in numbers:
        while number >= 32:
            text += LETTERS[32 + number % 32]
            number //= 32
        text += LETTERS[number]
    return text


def decompositions(normalize, known=None):
    """For each scalar that changes: the distance from the one before, the count of what it becomes, and that."""
    numbers, last, previous = [], 0, 0
    for value in scalars():
        result = [ord(c) for c in normalize(chr(value))]
        if result == [value] or (known and result == known(value)):
            continue
        numbers += [value - last, len(result)]
        for scalar in result:
            numbers.append((scalar - previous) * 2 if scalar >= previous else (previous - scalar) * 2 - 1)
            previous = scalar
        last = value
    return numbers


def compositions():
    """The scalars that their decomposition composes to: distances."""
    numbers, last = [], 0
    for value in scalars():
        result = NFD(chr(value))
        if result != chr(value) and NFC(result) == chr(value):
            numbers.append(value - last)
            last = value
    return numbers


def classes():
    """Runs of one combining class: the distance from the end of the run before, the length, the class."""
    runs, end, disagreed = [], 0, 0
    for value in scalars():
        # A mark of any class but 0 is sorted before U+0345, whose class, 240, is the highest.
        sorts = value == 0x345 or NFD("a\u0345" + chr(value))[1:] not in ("\u0345" + chr(value), "\u0345" + NFD(chr(value)))
        kind = unicodedata.combining(chr(value))
        if not sorts and kind:
            disagreed += 1
        if not (sorts and kind):
            continue
        if runs and end == value and runs[-1][2] == kind:
            runs[-1][1] += 1
        else:
            runs.append([value - end, 1, kind])
        end = value + 1
    print(disagreed, "scalars are marks to unicodedata only", file=sys.stderr)
    return [number for run in runs for number in run]


def main():
    print("// Unicode's decompositions, compositions and combining classes as the reference tokenizer knows them: generated, do")
    print("// not edit. Made by Tests/Fixtures/tokenization/make_normalization.py from the `tokenizers` package, version")
    print(f"// {tokenizers.__version__}. Numbers in base 32, the least digit first; letters from the 33rd on say that more follow.")
    print()
    print("/// The tables of `UnicodeNormalization`, as text.")
    print("enum NormalizationTables {")
    canonical = {value: [ord(c) for c in NFD(chr(value))] for value in scalars()}
    tables = [
        ("canonical", decompositions(NFD), "For each scalar with a canonical decomposition: distance, count, signed distances."),
        ("compatibility", decompositions(NFKD, canonical.get), "The same for the compatibility decompositions that differ."),
        ("compositions", compositions(), "The scalars that their canonical decomposition composes to: distances."),
        ("combiningClasses", classes(), "Runs of scalars of one combining class: distance, count, class."),
    ]
    for index, (name, numbers, note) in enumerate(tables):
        if index:
            print()
        print(f"    /// {note}")
        print(f'    static let {name}: StaticString = """')
        text = written(numbers)
        for start in range(0, len(text), 110):
            rest = start + 110 < len(text)
            print("        " + text[start:start + 110] + ("\\" if rest else ""))
        print('        """')
    print("}")


if __name__ == "__main__":
    main()
