#!/usr/bin/env python3
"""Writes Sources/Tokenization/CharacterClassRanges.swift from what the `tokenizers` package itself does.

The reference has two notions of Unicode: its regex engine's \\p{L}, \\p{N} and \\s, and Rust's `char::is_numeric` for
the digit splitter. Neither is promised to match any library's Unicode version, so every scalar is put to both.

    pip install tokenizers==0.23.3
    python make_character_classes.py > ../../../Sources/Tokenization/CharacterClassRanges.swift
"""
import tokenizers
from tokenizers import pre_tokenizers

REGEX = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
DIGITS = pre_tokenizers.Digits(individual_digits=True)
LETTER, NUMBER, SPACE, LATER_DIGIT, OTHER = "letter", "number", "space", "laterDigit", None


def joins(prefix, character):
    return len(REGEX.pre_tokenize_str(prefix + character)) == 1


def classify(character):
    splits = len(DIGITS.pre_tokenize_str("a" + character)) == 2
    if joins("a", character):
        assert not splits
        return LETTER
    if joins("1", character):
        assert splits
        return NUMBER
    if joins("!", character):
        return LATER_DIGIT if splits else OTHER
    assert not splits
    return SPACE


def ranges():
    found = {LETTER: [], NUMBER: [], SPACE: [], LATER_DIGIT: []}
    for value in range(0x110000):
        if 0xD800 <= value < 0xE000:
            continue
        kind = classify(chr(value))
        if kind is OTHER:
            continue
        if found[kind] and found[kind][-1][1] == value - 1:
            found[kind][-1][1] = value
        else:
            found[kind].append([value, value])
    return found


def main():
    found = ranges()
    print("// Which Unicode scalars are letters, numbers and spaces to the reference tokenizer: generated, do not edit.")
    print("// Made by Tests/Fixtures/tokenization/make_character_classes.py from the `tokenizers` package, version")
    print(f"// {tokenizers.__version__}, by asking it about every scalar. Pairs of first and last scalar, ascending.")
    print()
    print("/// Scalar ranges of each class, as flat pairs [first, last, first, last, ...].")
    print("enum CharacterClassRanges {")
    notes = {
        LETTER: "`\\\\p{L}` of the reference's regex engine.".replace("\\\\", "\\"),
        NUMBER: "`\\\\p{N}` of the reference's regex engine; its digit splitter agrees on all of these.".replace("\\\\", "\\"),
        SPACE: "`\\\\s` of the reference's regex engine.".replace("\\\\", "\\"),
        LATER_DIGIT: "Numeric to the reference's digit splitter, whose Unicode is newer, but not to its regex engine.",
    }
    for index, (kind, name) in enumerate([(LETTER, "letters"), (NUMBER, "numbers"), (SPACE, "spaces"), (LATER_DIGIT, "laterDigits")]):
        if index:
            print()
        print(f"    /// {notes[kind]}")
        print(f"    static let {name}: [UInt32] = [")
        line = "       "
        for first, last in found[kind]:
            item = f" 0x{first:X}, 0x{last:X},"
            if len(line) + len(item) > 120:
                print(line)
                line = "       "
            line += item
        print(line)
        print("    ]")
    print("}")


if __name__ == "__main__":
    main()
