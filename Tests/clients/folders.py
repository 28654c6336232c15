"""A tiny Llama as a Hugging Face folder, in the forms that quantizing tools write.

Its weights are small integers times powers of two, so a form loses nothing: whatever serves one right gives, in float32,
the tokens that it gives for the same numbers as plain F32.
"""

import json
import random
import struct

HIDDEN, MLP, HEADS, KV_HEADS, LAYERS, GROUP = 64, 128, 4, 2, 2, 32
# Every byte, and three special tokens, filled up to a multiple of eight.
BYTES, VOCAB = 256, 264
# Where AWQ puts the eight rows of a word, from its lowest bits on.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
# The bytes of 0 to 7 in E4M3.
E4M3 = (0x00, 0x38, 0x40, 0x44, 0x48, 0x4A, 0x4C, 0x4E)


class Matrix:
    """codes[row][column] in −7…7 times scales[row][column // GROUP]; one scale a row unless it is `grouped`."""

    def __init__(self, rng, rows, columns, grouped):
        self.rows, self.columns = rows, columns
        self.codes = [[rng.randint(-7, 7) for _ in range(columns)] for _ in range(rows)]
        groups = columns // GROUP
        self.scales = [
            [2.0 ** -rng.randint(4, 6) for _ in range(groups)] if grouped else [2.0 ** -rng.randint(4, 6)] * groups
            for _ in range(rows)]

    def floats(self):
        return [
            code * self.scales[row][column // GROUP]
            for row, codes in enumerate(self.codes) for column, code in enumerate(codes)]


def words(values):
    """Eight 4-bit values as one signed 32-bit word, the first lowest."""
    word = sum((value & 15) << (4 * place) for place, value in enumerate(values))
    return word - (1 << 32) if word >> 31 else word


def tensor(dtype, shape, values):
    letter = {"F32": "f", "F16": "e", "I32": "i", "I64": "q", "I8": "b", "F8_E4M3": "B"}[dtype]
    return dtype, shape, struct.pack(f"<{len(values)}{letter}", *values)


def plain(name, matrix):
    yield name + ".weight", tensor("F32", [matrix.rows, matrix.columns], matrix.floats())


def gptq(name, matrix):
    rows, columns = range(matrix.rows), range(0, matrix.columns, 8)
    yield name + ".qweight", tensor("I32", [matrix.columns // 8, matrix.rows], [
        words(matrix.codes[row][first + place] + 8 for place in range(8)) for first in columns for row in rows])
    groups = matrix.columns // GROUP
    # Its first format stores zeros one too small: 7 for the 8 that was added.
    yield name + ".qzeros", tensor("I32", [groups, matrix.rows // 8], [words([7] * 8)] * (groups * matrix.rows // 8))
    yield name + ".scales", tensor("F16", [groups, matrix.rows], [
        matrix.scales[row][group] for group in range(groups) for row in rows])
    yield name + ".g_idx", tensor("I32", [matrix.columns], [column // GROUP for column in range(matrix.columns)])


def awq(name, matrix):
    groups, firsts = matrix.columns // GROUP, range(0, matrix.rows, 8)
    yield name + ".qweight", tensor("I32", [matrix.columns, matrix.rows // 8], [
        words(matrix.codes[first + place][column] + 8 for place in AWQ_ORDER)
        for column in range(matrix.columns) for first in firsts])
    yield name + ".qzeros", tensor("I32", [groups, matrix.rows // 8], [words([8] * 8)] * (groups * len(firsts)))
    yield name + ".scales", tensor("F16", [groups, matrix.rows], [
        matrix.scales[row][group] for group in range(groups) for row in range(matrix.rows)])


def packed(name, matrix):
    yield name + ".weight_packed", tensor("I32", [matrix.rows, matrix.columns // 8], [
        words(code + 8 for code in codes[first:first + 8])
        for codes in matrix.codes for first in range(0, matrix.columns, 8)])
    yield name + ".weight_scale", tensor(
        "F32", [matrix.rows, matrix.columns // GROUP], [scale for row in matrix.scales for scale in row])
    yield name + ".weight_shape", tensor("I64", [2], [matrix.rows, matrix.columns])


def int8(name, matrix):
    yield name + ".weight", tensor("I8", [matrix.rows, matrix.columns], [code for row in matrix.codes for code in row])
    yield name + ".weight_scale", tensor("F32", [matrix.rows, 1], [row[0] for row in matrix.scales])


def fp8(name, matrix):
    yield name + ".weight", tensor("F8_E4M3", [matrix.rows, matrix.columns], [
        E4M3[abs(code)] | (0x80 if code < 0 else 0) for row in matrix.codes for code in row])
    yield name + ".weight_scale", tensor("F32", [matrix.rows, 1], [row[0] for row in matrix.scales])


def compressed(format_name):
    return {"quant_method": "compressed-tensors", "format": format_name}


# Name: how a matrix is stored, whether its groups have scales of their own, what config.json says.
FORMS = {
    "plain-groups": (plain, True, None),
    "plain-rows": (plain, False, None),
    "gptq": (gptq, True, {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False}),
    "awq": (awq, True, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}),
    "packed-int4": (packed, True, compressed("pack-quantized")),
    "int8": (int8, False, compressed("int-quantized")),
    "fp8": (fp8, False, compressed("float-quantized")),
}


def alphabet():
    """The printable character that stands for each byte in a byte-level tokenizer."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


def tokenizer():
    letters = alphabet()
    specials = ["<s>", "</s>", "<|turn|>"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [
            {"id": BYTES + place, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} for place, text in enumerate(specials)],
        "pre_tokenizer": level, "decoder": level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False,
            "vocab": {letters[byte]: byte for byte in range(BYTES)}, "merges": []}}


def write(folder, form):
    """Writes the model into `folder` in one of FORMS; equal scales give equal numbers, whatever the form."""
    store, grouped, quantization = FORMS[form]
    rng = random.Random(20)
    tensors = {}

    def vector(name):
        tensors[name] = tensor("F32", [HIDDEN], [1 + rng.randint(-8, 8) / 64 for _ in range(HIDDEN)])

    table = Matrix(rng, VOCAB, HIDDEN, grouped)
    tensors |= plain("model.embed_tokens", table)
    head = HIDDEN // HEADS
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name, rows, columns in (
                ("self_attn.q_proj", HIDDEN, HIDDEN), ("self_attn.k_proj", KV_HEADS * head, HIDDEN),
                ("self_attn.v_proj", KV_HEADS * head, HIDDEN), ("self_attn.o_proj", HIDDEN, HIDDEN),
                ("mlp.gate_proj", MLP, HIDDEN), ("mlp.up_proj", MLP, HIDDEN), ("mlp.down_proj", HIDDEN, MLP)):
            tensors |= store(prefix + name, Matrix(rng, rows, columns, grouped))
        vector(prefix + "input_layernorm.weight")
        vector(prefix + "post_attention_layernorm.weight")
    vector("model.norm.weight")

    header, position = {}, 0
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + len(content)]}
        position += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(content for _, _, content in tensors.values())
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": MLP,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "num_hidden_layers": LAYERS, "head_dim": head,
        "vocab_size": VOCAB, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": True, "bos_token_id": BYTES, "eos_token_id": BYTES + 1,
        "torch_dtype": "float32"}
    if quantization:
        config["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "chat_template": "{% for message in messages %}<|turn|>{{ message['content'] }}{% endfor %}<|turn|>"}))
    return folder
