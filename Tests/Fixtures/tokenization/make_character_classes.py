#!/usr/bin/env python3
"""Writes CharacterClassRanges.swift and CharacterTraitRanges.swift of Sources/Tokenization from what the `tokenizers` package itself does.

The reference has two notions of Unicode: its regex engine's \\p{L}, \\p{N} and \\s, and Rust's `char::is_numeric` for
the digit splitter. Neither is promised to match any library's Unicode version, so every scalar is put to both. The
classes that newer patterns name (upper and lower case, marks) and what other pre-tokenizers go by are asked for too.

    pip install tokenizers==0.23.3
    python make_character_classes.py
"""
import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

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


def scalars():
    return (chr(value) for value in range(0x110000) if not 0xD800 <= value < 0xE000)


def packed(characters):
    found = []
    for value in map(ord, characters):
        if found and found[-1][1] == value - 1:
            found[-1][1] = value
        else:
            found.append([value, value])
    return found


def matching(pattern):
    """The scalars that a class of the regex engine holds: those left when all others are taken out of all text."""
    return packed(normalizers.Replace(Regex("[^" + pattern + "]"), "").normalize_str("".join(scalars())))


def words():
    cut = pre_tokenizers.Whitespace()
    return packed(c for c in scalars() if len(cut.pre_tokenize_str("a" + c)) == 1 and cut.pre_tokenize_str(c))


def punctuation():
    cut = pre_tokenizers.Punctuation("isolated")
    return packed(c for c in scalars() if len(cut.pre_tokenize_str("a" + c)) == 2)


def write(type_name, first_line, summary, classes):
    with open(f"../../../Sources/Tokenization/{type_name}.swift", "w", encoding="utf-8", newline="\n") as output:
        def line(text=""):
            print(text, file=output)

        line(f"// {first_line}: generated, do not edit.")
        line("// Made by Tests/Fixtures/tokenization/make_character_classes.py from the `tokenizers` package, version")
        line(f"// {tokenizers.__version__}, by asking it about every scalar. Pairs of first and last scalar, ascending.")
        line()
        line(f"/// {summary}")
        line(f"enum {type_name} {{")
        for index, (values, name, note) in enumerate(classes):
            if index:
                line()
            line(f"    /// {note}")
            line(f"    static let {name}: [UInt32] = [")
            row = "       "
            for first, last in values:
                item = f" 0x{first:X}, 0x{last:X},"
                if len(row) + len(item) > 120:
                    line(row)
                    row = "       "
                row += item
            line(row)
            line("    ]")
        line("}")


def main():
    found = ranges()
    write("CharacterClassRanges", "Which Unicode scalars are letters, numbers and spaces to the reference tokenizer",
          "Scalar ranges of each class, as flat pairs [first, last, first, last, ...].", [
              (found[LETTER], "letters", r"`\p{L}` of the reference's regex engine."),
              (found[NUMBER], "numbers", r"`\p{N}` of the reference's regex engine; its digit splitter agrees on all of these."),
              (found[SPACE], "spaces", r"`\s` of the reference's regex engine."),
              (found[LATER_DIGIT], "laterDigits",
               "Numeric to the reference's digit splitter, whose Unicode is newer, but not to its regex engine."),
          ])
    write("CharacterTraitRanges", "Which Unicode scalars have case, are marks, words or punctuation to the reference tokenizer",
          "Scalar ranges of each trait, as flat pairs [first, last, first, last, ...].", [
              (matching(r"\p{Lu}\p{Lt}"), "upperCase", r"`\p{Lu}` and `\p{Lt}` of the reference's regex engine."),
              (matching(r"\p{Ll}"), "lowerCase", r"`\p{Ll}` of the reference's regex engine."),
              (matching(r"\p{M}"), "marks", r"`\p{M}` of the reference's regex engine."),
              (words(), "words", r"`\w` of the reference's Whitespace pre-tokenizer."),
              (punctuation(), "punctuation", "What the reference's Punctuation pre-tokenizer cuts out."),
          ])


if __name__ == "__main__":
    main()
