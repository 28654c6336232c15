#!/usr/bin/env python3
"""Writes smollm2.tsv: texts, and what the `tokenizers` package makes of them with this model's vocabulary.

    pip install tokenizers==0.23.3 gguf
    python make_fixtures.py SmolLM2-135M-Instruct.Q4_1.gguf

Each line is KIND, a tab, token ids, a tab, and the text as a JSON string. KIND says what leads to what:
    plain    text -> ids, where control tokens are only the characters they are written with
    control  text -> ids, where the text may spell control tokens
    gpt-2    text -> ids, plain, with GPT-2's pre-tokenizer instead of this model's
    decode   ids -> text
    skip     ids -> text, control tokens left out
All text is made here, from the words below and a seed.
"""
import json
import random
import sys

import gguf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

OUTPUT = "smollm2.tsv"
CONTROL = 3

WORDS = """the a of and to in it is was for on with as by at from this that which not are be have has had will would
can could there their what when where who how many more most other some any each every early morning swift wing
cloud tower harbour evening window summer flight feather weather distance nothing something village mountain river
understand believe remember carry follow measure between through against without because although however perhaps
quickly slowly quietly certainly uncomfortable extraordinary responsibility misunderstanding internationalization
antidisestablishmentarianism electroencephalography don't can't won't I'm you're they've we'll she'd it's o'clock
HTTP JSON GPU KV API tokenizer cache block batch queue latency throughput scheduler""".split()
SCRIPTS = [
    ["雨燕", "天空", "在", "飞", "我们", "。", "，", "今天天气", "学习", "語言模型", "的", "了"],
    ["つばめ", "は", "空を", "飛ぶ", "カタカナ", "ヒラガナ", "です。", "ー", "「", "」", "東京"],
    ["제비", "하늘", "날다", "안녕하세요", "은", "는", "모델", "ㅋㅋㅋ"],
    ["السنونو", "طائر", "في", "السماء", "لغة", "نموذج", "؟", "،", "١٢٣", "ـــ"],
    ["סיס", "שמיים", "עוף", "מודל", "שפה", "שָׁלוֹם", "־", "״"],
    ["стриж", "небо", "летит", "модель", "язык", "ёлка", "Привет,", "мир!"],
    ["χελιδόνι", "ουρανός", "γλώσσα", "μοντέλο", "Ελλάδα", "ά", "ΐ"],
    ["आकाश", "पक्षी", "भाषा", "क्षत्रिय", "नमस्ते", "१२३", "।"],
    ["ท้องฟ้า", "นก", "ภาษา", "สวัสดี", "๑๒๓"],
    ["ქართული", "հայերեն", "አማርኛ", "தமிழ்", "ไทย", "ខ្មែរ", "မြန်မာ", "བོད་"],
    ["café", "naïve", "Straße", "İstanbul", "ßẞ", "œuvre", "Łódź", "Ångström", "ǅ", "ﬁ", "ſ"],
]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇨🇭", "1️⃣", "❤️", "🧑🏿‍🚀", "✨", "☂︎", "🐦‍⬛", "🫱🏻‍🫲🏿", "\u200d", "\ufe0f"]
MARKS = ["e\u0301", "a\u0300\u0316", "o\u0308\u0304", "\u0301", "n\u0303", "Z\u0351\u036b\u0343\u036a\u0302", "\u20dd", "x\u0338"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", "\v", "\f", "\u00a0", "\u0085", "\u1680", "\u2003", "\u2009",
          "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", "\u180e", "\x1c", "\x1f"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'VE", "'M", "'LL", "'D", "'l", "'r", "'v",
                "''s", "'", "’s", "ʼs", "'sx", "'tis", "'re-", "'9"]
NUMBERS = ["½", "²", "①", "Ⅷ", "٣", "१", "㊿", "\U0001d7d8", "〇", "五", "\U00011de3", "\U00016ff5"]
CODE = ["def {w}({w}, {w}=None):\n    return [{w}.{w}({n}) for {w} in range({n})]\n", "if ({w} != {n} && {w} >= {n}) {{ {w}++; }} // {w} {w}",
        "let {w}: [Int32] = [{n}, {n}, -{n}]\n\tprint(\"{w} \\({w})\")", "SELECT {w}, COUNT(*) FROM {w} WHERE {w} = '{w}' LIMIT {n};",
        "<div class=\"{w}-{w}\"><a href='/{w}?{w}={n}&amp;{w}'>{w}</a></div>", "{{\"{w}\": {n}.{n}, \"{w}\": [true, null, \"\\u00e9\"]}}",
        "#include <{w}.h>\nint main(void) {{\n\treturn {w}->{w}[{n}] << {n};\n}}\n", "$ {w} --{w}={n} -x ./{w}/{w}.txt | grep -E '^{w}+$'",
        "    {w}:\n      - {w}: {n}\n      - {w}\n", "https://{w}.example/{w}/{n}?{w}=%20{n}#{w}", "{w}_{w}__{n}__{W}{W}", "/* {w} */ #define {W} 0x{n}FFu",
        "\\frac{{{w}_{n}}}{{\\sqrt{{{w}}}}} \\le {n}", "{n}-{n}-{n}T{n}:{n}:{n}Z", "@{w} #{w} {w}@{w}.example ~{w}^{n}*{w}%{n}"]


def word():
    return random.choice(WORDS)


def number():
    return str(random.randrange(10 ** random.randint(1, 12)))


def prose():
    text = " ".join(word() for _ in range(random.randint(3, 14)))
    return random.choice([text, text.capitalize() + random.choice(".?!"), text.upper(), text.title(), "\"" + text + ",\" " + word()])


def code():
    text = random.choice(CODE)
    while "{w}" in text or "{n}" in text or "{W}" in text:
        text = text.replace("{w}", word(), 1).replace("{n}", number()[:4], 1).replace("{W}", word().upper(), 1)
    return text.replace("{{", "{").replace("}}", "}")


def script():
    words = random.choice(SCRIPTS)
    return random.choice(["", " "]).join(random.choice(words) for _ in range(random.randint(2, 9)))


def joined(items):
    return lambda: "".join(random.choice(items + [word(), " " + word()]) for _ in range(random.randint(2, 8)))


def runs():
    pieces = []
    for _ in range(random.randint(1, 3)):
        unit = random.choice([" ", "\n", "0", "7", "a", "-", "=", "\t", "the", "\u3000", "好", "é", "\u0301", "🙂", "!", ".", "A", "x1"])
        pieces.append(unit * random.choice([1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 47, 48, 49, 50, 64, 65]))
    return "".join(pieces)


def digits():
    return random.choice(["", " ", "-", "$", "v"]).join("".join(random.choices("0123456789", k=random.randint(1, 24))) for _ in range(3))


def scalars():
    bounds = [(0, 0x7F), (0x80, 0x24F), (0x250, 0xFFF), (0x1000, 0x2FFF), (0x3000, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    return "".join(chr(random.randint(*random.choice(bounds))) for _ in range(random.randint(1, 10)))


def mixed():
    makers = [word, number, script, joined(EMOJI), joined(MARKS), lambda: random.choice(SPACES), lambda: random.choice(CONTRACTIONS),
              lambda: random.choice(NUMBERS), scalars, lambda: chr(random.randrange(128))]
    return "".join(random.choice(makers)() for _ in range(random.randint(2, 6)))


def texts():
    """The plain texts: a name for each family only to keep the counts in sight."""
    families = [(prose, 300), (code, 300), (script, 330), (joined(EMOJI), 180), (joined(MARKS), 130), (joined(SPACES), 220),
                (joined(CONTRACTIONS), 180), (joined(NUMBERS), 80), (runs, 220), (digits, 100), (scalars, 160), (mixed, 350)]
    lines = [maker() for maker, count in families for _ in range(count)]
    lines += ["", " ", "  ", "\n", "'", "'s", "a", "\x00", "\x04", "a\x04b", "\U000f0000", "\u088f", " '", "'ll'll", "1 1", "  1", " 1a", "\n 1"]
    return lines


def control_texts(control):
    lines = []
    for _ in range(200):
        parts = []
        for _ in range(random.randint(1, 6)):
            name = random.choice(control)
            cut = random.randint(1, len(name) - 1)
            parts.append(random.choice([name, name, name[:cut], name[cut:], prose(), word(), "\n", " ", "<", "<|", script()]))
        lines.append("".join(parts))
    return lines


def read_vocabulary(path):
    fields = gguf.GGUFReader(path).fields
    return tuple(fields["tokenizer.ggml." + name].contents() for name in ("tokens", "token_type", "merges"))


def reference(pieces, merges, digits_first=True, control=()):
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if digits_first:
        cut = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), cut])
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(control))
    return tokenizer


def byte_of_character():
    """Byte-level BPE's alphabet, the other way round."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(rest)}


def main():
    random.seed(20240611)
    pieces, types, merges = read_vocabulary(sys.argv[1])
    control = [piece for piece, kind in zip(pieces, types) if kind == CONTROL]
    plain = reference(pieces, merges)
    gpt2 = reference(pieces, merges, digits_first=False)
    spelled = reference(pieces, merges, control=control)
    rows = []
    with_control = control_texts(control)
    for text in texts() + with_control:
        rows.append(("plain", plain.encode(text).ids, text))
    for text in with_control:
        rows.append(("control", spelled.encode(text).ids, text))
    for text in random.sample([text for _, _, text in rows], 300):
        rows.append(("gpt-2", gpt2.encode(text).ids, text))
    bytes_of = byte_of_character()
    short = [index for index, piece in enumerate(pieces) if len(piece) < 3 and any(bytes_of[c] >= 0x80 for c in piece)]
    for kind, skips in (("decode", False), ("skip", True)):
        for _ in range(200):
            ids = [random.choice([random.choice(short), random.choice(short), random.randrange(len(pieces)), random.randrange(17)])
                   for _ in range(random.randint(0, 12))]
            text = spelled.decode(ids, skip_special_tokens=skips)
            kept = "".join(pieces[token] for token in ids if not (skips and types[token] == CONTROL))
            assert text == bytes(bytes_of[c] for c in kept).decode("utf-8", errors="replace")
            rows.append((kind, ids, text))
    with open(OUTPUT, "w", encoding="utf-8", newline="\n") as output:
        for kind, ids, text in rows:
            print(kind, " ".join(map(str, ids)), json.dumps(text, ensure_ascii=False), sep="\t", file=output)


if __name__ == "__main__":
    main()
