#!/usr/bin/env python3
"""Writes families/: a small tokenizer of every family's shape, trained here, and what `tokenizers` makes of texts with it.

    pip install tokenizers==0.23.3
    python make_families.py

For each family NAME there are
    NAME.json   its tokenizer.json
    NAME.tsv    KIND, tab, ids, tab, the text as JSON, tab, the text that the ids decode to, tab, that without special
                tokens. KIND is `control` where the text may spell special tokens and `plain` where it may not.
    NAME.sums   for each text of smollm2.tsv, in order, the checksum of its ids (`control`).
"""
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import make_fixtures

MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SLASHES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT4 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + MARKS
QWEN = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + MARKS
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PREFIX = r"[^\r\n\p{L}\p{N}]?"
GPT4O = (PREFIX + UPPER + "*" + LOWER + "+" + CONTRACTIONS + "?|" + PREFIX + UPPER + "+" + LOWER + "*" + CONTRACTIONS + "?"
         + r"|\p{N}{1,3}|" + SLASHES)
TEKKEN = PREFIX + UPPER + "*" + LOWER + "+|" + PREFIX + UPPER + "+" + LOWER + "*" + r"|\p{N}|" + SLASHES
SPM_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def template(bos, eos=None):
    def make(tokenizer):
        single = f"{bos} $A" + (f" {eos}" if eos else "")
        names = [name for name in (bos, eos) if name]
        return processors.TemplateProcessing(single=single, special_tokens=[(name, tokenizer.token_to_id(name)) for name in names])
    return make


def byte_level(pattern, corpus, size=700, special=("<|begin|>", "<|end|>"), more=(), normalizer=None, post=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if pattern is not None:
        cut = pre_tokenizers.Sequence([pattern, cut])
    else:
        cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = cut
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    tokenizer.add_tokens(list(more))
    steps = [processors.ByteLevel(trim_offsets=False)]
    tokenizer.post_processor = processors.Sequence(steps + [post(tokenizer)]) if post else steps[0]
    return tokenizer


def sentence_pieces(corpus, size=800, first=("<unk>", "<s>", "</s>"), leading=True):
    """Merges over characters with bytes to fall back to, as converters of SentencePiece models write them."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    trained.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, show_progress=False, limit_alphabet=120))
    model = json.loads(trained.to_str())["model"]
    pieces = list(first) + [f"<0x{byte:02X}>" for byte in range(256)]
    known = set(pieces)
    pieces += [piece for piece in model["vocab"] if piece not in known]
    pieces += [piece for piece in ("▁▁", "▁▁▁▁", ">▁</", "▁</") if piece not in pieces]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    # As the converters do: every way to put two pieces together to a third, the earlier third first.
    merges = [(piece[:cut], piece[cut:]) for piece in pieces[len(first) + 256:] for cut in range(1, len(piece))
              if piece[:cut] in vocabulary and piece[cut:] in vocabulary]
    return Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))


def special(*names, **flags):
    return [AddedToken(name, normalized=flags.get("normalized", False), special=True, lstrip=flags.get("lstrip", False),
                       rstrip=flags.get("rstrip", False), single_word=flags.get("single_word", False)) for name in names]


def llama2(corpus):
    tokenizer = sentence_pieces(corpus)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>"))
    tokenizer.post_processor = template("<s>")(tokenizer)
    tokenizer.decoder = decoders.Sequence(SPM_DECODER + [decoders.Strip(" ", 1, 0)])
    return tokenizer


def mistral(corpus):
    tokenizer = sentence_pieces(corpus)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>", "[INST]", "[/INST]"))
    tokenizer.post_processor = template("<s>")(tokenizer)
    tokenizer.decoder = decoders.Sequence(SPM_DECODER + [decoders.Strip(" ", 1, 0)])
    return tokenizer


def phi3(corpus):
    tokenizer = llama2(corpus)
    tokenizer.add_special_tokens(special("<|endoftext|>", "<|assistant|>", "<|user|>", "<|end|>", rstrip=True))
    return tokenizer


def gemma(corpus):
    tokenizer = sentence_pieces(corpus, first=("<pad>", "<eos>", "<bos>", "<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_special_tokens(special("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"))
    tokenizer.add_tokens([AddedToken("\n" * count, normalized=False) for count in range(2, 6)]
                         + [AddedToken("▁" * count, normalized=False) for count in range(2, 6)]
                         + [AddedToken(name, normalized=False) for name in ("<table>", "</table>", "<b>")])
    tokenizer.post_processor = template("<bos>")(tokenizer)
    tokenizer.decoder = decoders.Sequence(SPM_DECODER)
    return tokenizer


def unigram(corpus, fallback=False):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>",
                                      show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    if fallback:
        tree = json.loads(tokenizer.to_str())
        tree["model"]["vocab"] += [[f"<0x{byte:02X}>", 0.0] for byte in range(256)]
        tree["model"]["byte_fallback"] = True
        tree["normalizer"] = None
        tokenizer = Tokenizer.from_str(json.dumps(tree))
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
    else:
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = template("<s>", "</s>")(tokenizer)
    return tokenizer


def words(corpus):
    """What no family has together: every other normalizer, cut and flag."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.Strip(left=True, right=False)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Punctuation("contiguous")])
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=500, special_tokens=["[UNK]", "[CLS]"], show_progress=False,
                                                              limit_alphabet=100))
    tokenizer.add_special_tokens(special("[UNK]", "[CLS]"))
    tokenizer.add_tokens([AddedToken("swift", single_word=True, normalized=False), AddedToken("Café", normalized=True),
                          AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<both>", lstrip=True, rstrip=True, normalized=True)])
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def gpt_split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def families(corpus):
    think = [AddedToken(name, normalized=False) for name in ("<think>", "</think>", "<tool_call>")]
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    smollm2 = byte_level(None, corpus)
    smollm2.pre_tokenizer = digits
    spaced = byte_level(None, corpus)
    spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    return {
        "gpt2": byte_level(None, corpus),
        "gpt2-spaced": spaced,
        "smollm2": smollm2,
        "llama3": byte_level(gpt_split(GPT4), corpus, ignore_merges=True, post=template("<|begin|>")),
        "qwen3": byte_level(gpt_split(QWEN), corpus, more=think, normalizer=normalizers.NFC()),
        "phi4": byte_level(gpt_split(GPT4), corpus, special=("<|im_start|>", "<|im_end|>", "<|im_sep|>")),
        "gpt-oss": byte_level(gpt_split(GPT4O), corpus, special=("<|start|>", "<|end|>", "<|message|>", "<|channel|>")),
        "tekken": byte_level(gpt_split(TEKKEN), corpus, ignore_merges=True),
        "llama2": llama2(corpus),
        "mistral": mistral(corpus),
        "phi3": phi3(corpus),
        "gemma": gemma(corpus),
        "unigram": unigram(corpus),
        "unigram-bytes": unigram(corpus, fallback=True),
        "words": words(corpus),
    }


def hostile(names):
    lines = ["", " ", "  ", "\n\n\n", "a\n\n\nb", "▁", "▁▁ ▁", " ▁a▁", "a▁▁b", "\u2581\u0301", "'", "'S'LL'dx", "it'S", "WE'LLx", "\u0301a\u0301B",
             "aB中Cdé", "ǅungla ʰH", "HTTPServer2XMLhttpRequest", "x\u0338>\u0338", "İIı", "ﬁﬃ ①½ ㍿ ﷺ", "각\u11a8가\u11a8 ᄀ\u1161\u11a8", "e\u0323\u0301 e\u0301\u0323",
             "\u1e69\u0323", "a" * 300, " " * 70, "\t" * 40, "\r\n \r\n\r a", "/\r\n/ !/\n//x", "!!!\n\n  \n", "12345678901", "１２３４ ٣٤٥", "  leading", "trailing  ",
             "<b>bold</b> <table>  x", "> </ >▁</ a> </b", "swift swifter, swift. Swift", "Café CAFÉ cafe\u0301", "a <left> b  <both>  c", "<LEFT>", "\u0000\u0001", "🙂🙃👩‍👩‍👧", "☃☃ ☃",
             "<0x41>", "<0xE2><0x82>", "\ufeffbom", "ſ'ſ's", "\u1ea1\u0323", "K\u212a", "the the the the", "not </s> the end", "\u0345\u0301a\u0345\u0301"]
    for _ in range(40):
        parts = [random.choice([random.choice(names), make_fixtures.word(), " ", "\n", make_fixtures.script(), "  ", "x"]) for _ in range(random.randint(2, 7))]
        lines.append("".join(parts))
    return lines


def checksum(ids):
    """FNV-1a of 32 bits, an id at a time."""
    value = 0x811C9DC5
    for token in ids:
        value = (value ^ token) * 0x01000193 & 0xFFFFFFFF
    return f"{value:08x}"


def main():
    random.seed(20261121)
    corpus = [maker() for maker, count in ((make_fixtures.prose, 900), (make_fixtures.code, 300), (make_fixtures.script, 250)) for _ in range(count)]
    corpus += ["  indented  text", "a    b\n\n\n", "<b>bold</b> </b> </"] * 5
    with open(make_fixtures.OUTPUT, encoding="utf-8") as fixture:
        lines = [json.loads(row.rstrip("\n").split("\t", 2)[2]) for row in fixture if row.startswith("plain\t")]
    os.makedirs("families", exist_ok=True)
    for name, tokenizer in families(corpus).items():
        with open(f"families/{name}.json", "w", encoding="utf-8", newline="\n") as output:
            output.write(tokenizer.to_str())
        tokenizer = Tokenizer.from_file(f"families/{name}.json")
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        random.seed(7)
        sample = hostile(added) + random.sample(lines, 20)
        with open(f"families/{name}.tsv", "w", encoding="utf-8", newline="\n") as output:
            for kind in ("control", "plain"):
                tokenizer.encode_special_tokens = kind == "plain"
                for text in sample if kind == "control" else sample[:len(sample) - 20]:
                    ids = tokenizer.encode(text).ids
                    texts = [json.dumps(t, ensure_ascii=False) for t in (
                        text, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids, skip_special_tokens=True))]
                    print(kind, " ".join(map(str, ids)), *texts, sep="\t", file=output)
        tokenizer.encode_special_tokens = False
        with open(f"families/{name}.sums", "w", encoding="utf-8", newline="\n") as output:
            for text in lines:
                print(checksum(tokenizer.encode(text).ids), file=output)


if __name__ == "__main__":
    main()
