#!/usr/bin/env python3
"""What the figures G1 to G12 and G17 should come to on an H200, from bytes, operations and a few assumed costs.

Each is arithmetic over numbers that stand at the top with their origin, so that a measurement that differs says which
one was wrong. Shapes, tiles and launches are those of Kernels/cuda/linear_hopper.c, repeated here.
    h200_prediction.py                                 print the table
    h200_prediction.py --into docs/benchmarks/h200.md  put it between the two markers of the page
"""

import argparse
import pathlib

BEGIN, END = "<!-- begin: written by docs/benchmarks/h200_prediction.py -->", "<!-- end of predictions -->"

# Of one H200: a copy of 8.6 GB by PyTorch, counting both directions, and bf16 8192³ on random data.
COPY, MATMUL, MULTIPROCESSORS = 4.3e12, 788e12, 132
# Assumed. Reading alone as a share of a copy's rate (a sum on an H100 reached 96.7 % of its specification).
READ = 1.04
# Seconds that a kernel which streams weights loses at its ends, when the next one's first 12 MB are already on their
# way; that a small kernel takes between two of them; and each without overlap (1.3 µs a kernel in a graph: Hazy).
STREAM_END, SMALL, STREAM_END_ALONE, SMALL_ALONE = 1.0e-6, 1.6e-6, 3.0e-6, 2.9e-6
# Share of the matrix rate of torch's largest product that a tile's inner loop reaches, by its width in tokens; beside
# its loop a tile stores its sums, which no other group's products hide.
LOOP = {128: 0.90, 192: 0.96}
STORE = 2.5e-6
# Host seconds between two steps that nothing hides: launching a graph and its uploads, planned a step ahead.
HOST = 25e-6

# Host seconds to plan a step and to complete it, of 1 and of 256 sequences that decode with 1,000 tokens of context: medians of
# 700 steps, measured without a GPU on one core of the project's machine while others compiled.
PLANNING = (0.4e-6, 62e-6)

LLAMA_8B = {"layers": 32, "hidden": 4096, "ffn": 14336, "heads": 32, "kv": 8, "dim": 128, "vocab": 128256}
LLAMA_1B = {"layers": 16, "hidden": 2048, "ffn": 8192, "heads": 32, "kv": 8, "dim": 64, "vocab": 128256}
# Launches of a layer that stream weights (qkv, o, gate and up, down) and that do not (attention, its combination); of a
# step (head; embedding, plan, cosines, two norms, gathered rows, sampling). Rotation, cache and activation are done at the
# ends of products, and so are a layer's two norms where rows are few.
STREAMS, SMALLS, STEP_STREAMS, STEP_SMALLS = 4, 2, 1, 7
# Seconds that a product takes longer for its ending: in a norm, by the block that is last (an atomic, 16 KB twice from the
# second-level cache, a barrier); in heads (a row of cosines and a slot, one behind the other).
NORM_END, HEADS_END = 1.2e-6, 0.5e-6
# Seconds that a sum over ranks takes longer for the norm of the rows that its blocks have just written: two barriers, and
# twice 16 KB from the first-level cache.
SUM_NORM_END = 0.8e-6


def matrices(model):
    """(rows, columns) of a layer's matrices."""
    heads, hidden = model["heads"] * model["dim"], model["hidden"]
    return [(heads + 2 * model["kv"] * model["dim"], hidden), (hidden, heads), (2 * model["ffn"], hidden),
            (hidden, model["ffn"])]


def weights(model):
    """Weights that a step reads, the head with them."""
    return model["layers"] * sum(r * c for r, c in matrices(model)) + model["vocab"] * model["hidden"]


def launches(model, codes=False):
    """Launches of a step that stream weights, and others. With codes, inputs that no norm makes are quantized."""
    return (STREAMS * model["layers"] + STEP_STREAMS, (SMALLS + (2 if codes else 0)) * model["layers"] + STEP_SMALLS)


def decode_step(model, bytes_a_weight, overlaps=True, codes=False):
    """Seconds of a step of one sequence with little context."""
    streams, smalls = launches(model, codes)
    time = streams * (STREAM_END if overlaps else STREAM_END_ALONE) + smalls * (SMALL if overlaps else SMALL_ALONE)
    endings = model["layers"] * (2 * NORM_END + HEADS_END)
    return weights(model) * bytes_a_weight / (READ * COPY) + time + endings


def tiles(rows, tokens, width):
    return -(-rows // 128) * -(-tokens // width)


def rounds(rows, tokens, width):
    """Passes over the device, in tiles: slices of K are items of their own where tiles are few."""
    count = tiles(rows, tokens, width)
    if 4 * count <= 3 * MULTIPROCESSORS:
        return -(-4 * count // MULTIPROCESSORS) / 4
    return -(-count // MULTIPROCESSORS)


def product(rows, columns, tokens):
    """Seconds of a product of more than 64 tokens."""
    def length(width):
        rate = LOOP[width] * MATMUL / MULTIPROCESSORS
        return rounds(rows, tokens, width) * (2 * 128 * width * columns / rate + STORE)
    # As the launch chooses: by rounds and width alone.
    width = 128 if rounds(rows, tokens, 128) * 128 < rounds(rows, tokens, 192) * 192 else 192
    return max(length(width), rows * columns * 2 / COPY)


def geometric_mean(values):
    result = 1.0
    for value in values:
        result *= value
    return result ** (1 / len(values))


def products_beside_torch():
    """Time of torch at its best rate over ours: the shapes of G7."""
    shares = []
    for rows, columns in matrices(LLAMA_8B):
        for tokens in (1024, 2048, 4096, 8192):
            shares.append(2 * rows * columns * tokens / MATMUL / product(rows, columns, tokens))
    return geometric_mean(shares), min(shares)


def skinny(tokens):
    """Share of the copy's rate that the four matrices of a layer stream at."""
    total, time = 0, 0
    for rows, columns in matrices(LLAMA_8B):
        size = rows * columns * 2
        # Activations and sums of slices stay in the second-level cache, which moves about twice as much.
        count = -(-rows // 64)
        split = count < 2 * MULTIPROCESSORS * (3 if tokens <= 16 else 1)
        cached = count * columns * tokens * 2 + (2 * 4 * rows * tokens * 4 if split else 0)
        total += size
        time += max(size / (READ * COPY), (size + cached) / (2 * COPY)) + STREAM_END
    return total / time / COPY


def prefill(tokens):
    """Share of the matrix rate that a prompt's products and attention reach together."""
    model = LLAMA_8B
    operations = 2 * tokens * model["layers"] * sum(r * c for r, c in matrices(model))
    attention = 2 * model["layers"] * model["heads"] * model["dim"] * tokens ** 2
    time = model["layers"] * sum(product(r, c, tokens) for r, c in matrices(model))
    # Norms, rotation and cache read and write f32 and bf16 rows; the activation is at the end of its product.
    rows = model["layers"] * tokens * (2 * 6 * model["hidden"] + 3 * 4 * 6144)
    time += attention / attention_rate(tokens) + rows / (0.8 * COPY)
    return (operations + attention) / time / MATMUL


# The prefill kernel's loop, from its machine code: 800 instructions of a warp for a span of 128 positions by 64 columns of 128
# dimensions, folding it included (66 of them exponentials, eight cycles each on a scheduler). Eight warps on four schedulers
# issue them in twice as many cycles; the products of both groups take 2,048. So products are the bound, if they are fed:
# FlashAttention-3's best, 648e12 without a mask, is 0.82 of the matrix rate with some 450 instructions. Assumed: 0.70.
ISSUE_CYCLES, EXPONENTIAL_CYCLES, SPAN_CYCLES, FED = 2 * 800, 2 * 66 * 8, 2048, 0.70
# An item is 32 tokens of four heads. It looks back on half of a prompt in the mean, rounded up to spans; its first keys, and
# its results, are on their way while nobody multiplies.
ITEM_TOKENS, ITEM_CYCLES = 32, 1500


def attention_rate(tokens):
    """Operations a second of causal prefill attention over a prompt, 128 dimensions, counted as half of the square."""
    useful = tokens / 2 / 128
    spans = useful + (128 + ITEM_TOKENS) / 2 / 128
    cycles = spans * max(SPAN_CYCLES / FED, ISSUE_CYCLES, EXPONENTIAL_CYCLES) + ITEM_CYCLES
    return MATMUL * useful * SPAN_CYCLES / cycles


# FlashAttention-3's published curve, causal, on an H100.
FA3 = {2048: 521e12, 4096: 579e12, 8192: 602e12}


# Between devices, in f32: seconds that a meeting of ranks takes, and the rate at which one reads the others' memory.
# Fitted to measured one-shot sums on four H100 (10, 14, 23 and 38 µs for 0.5, 1, 2 and 4 MB); two ranks and 0.5 MB then
# come to 7 µs, as was measured too.
MEETING, LINK = 6.0e-6, 375e9
# A second meeting begins with all ranks together.
SECOND_MEETING = 3.0e-6


def is_whole(count, ranks):
    """Whether every rank adds a whole message of f32 (collective_is_whole)."""
    return 4 * count * (ranks - 1) * (ranks - 2) <= ranks * (1125 << 10)


def norms(model, ranks, tokens):
    """Seconds of a layer's two norms: at the end of products of few rows, of sums over ranks of few rows that every rank
    adds whole, or launches of their own that read f32 and write bf16."""
    if ranks == 1 and tokens <= 4:
        return 2 * NORM_END
    if ranks > 1 and tokens <= 64 and is_whole(tokens * model["hidden"], ranks):
        return 2 * SUM_NORM_END
    return 2 * (SMALL + 6 * tokens * model["hidden"] / (0.8 * COPY))


def all_reduce(size, ranks):
    """Seconds of a sum over ranks: each reads all of the others', or, where that is long, its part and then the sums."""
    if ranks == 1:
        return 0.0
    whole = MEETING + size * (ranks - 1) / LINK
    return min(whole, MEETING + SECOND_MEETING + 2 * size * (ranks - 1) / ranks / LINK)


def ranks_step(model, ranks, tokens, context=1000):
    """Seconds of a decoding step that ranks share: products and cache by their number, launches and norms as they are,
    two sums a layer, one of the embedding, the logits, and what the first chose."""
    if tokens == 1:
        ends = decode_step(model, 2) - weights(model) * 2 / (READ * COPY)
        ends += model["layers"] * (norms(model, ranks, 1) - norms(model, 1, 1))
        compute = weights(model) * 2 / ranks / (READ * COPY) + ends
    else:
        cache = tokens * context * 4 * model["kv"] * model["dim"] * model["layers"] / ranks / (0.95 * COPY)
        (qkv, hidden), (_, heads), (gate_up, _), (_, ffn) = matrices(model)
        cut = [(qkv / ranks, hidden), (hidden, heads / ranks), (gate_up / ranks, hidden), (hidden, ffn / ranks)]
        products = sum(max(product(r, c, tokens), r * c * 2 / (READ * COPY) + STREAM_END) for r, c in cut)
        small = (SMALLS * model["layers"] + STEP_SMALLS) * SMALL
        compute = model["layers"] * (products + norms(model, ranks, tokens)) + cache + small
        compute += model["vocab"] * model["hidden"] * 2 / ranks / COPY
    sums = (2 * model["layers"] + 1) * all_reduce(tokens * model["hidden"] * 4, ranks)
    logits = all_reduce(tokens * model["vocab"] / ranks * 4, ranks) if ranks > 1 else 0
    samples = all_reduce(tokens * 4, ranks)
    return compute, sums + logits + samples


def ranks_table():
    lines = ["| ranks | " + " | ".join(f"{count} sequence{'s' if count > 1 else ''}" for count in (1, 64, 256)) + " |",
             "|---:|---|---|---|"]
    for ranks in (1, 2, 4, 8):
        cells = []
        for tokens in (1, 64, 256):
            compute, exchange = ranks_step(LLAMA_8B, ranks, tokens)
            step, alone = compute + exchange, sum(ranks_step(LLAMA_8B, 1, tokens))
            cells.append(f"{1e3 * compute:.2f} + {1e3 * exchange:.2f} ms, {tokens / step:,.0f} tok/s, "
                         f"{100 * alone / step / ranks:.0f} %")
        lines.append(f"| {ranks} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def predictions():
    one, small = decode_step(LLAMA_8B, 2), decode_step(LLAMA_1B, 2)
    geomean, worst = products_beside_torch()
    floor_8b = weights(LLAMA_8B) * 2 / COPY
    quantized = weights(LLAMA_8B) * 34 / 32
    q4_0 = weights(LLAMA_8B) * 18 / 32
    fp8 = weights(LLAMA_8B) + LLAMA_8B["vocab"] * LLAMA_8B["hidden"]
    # 256 sequences of 1,000 tokens of context: weights, cache, and the products' own rate.
    cache = 256 * 1000 * 131072 / (0.95 * COPY)
    step_256 = 32 * sum(product(r, c, 256) for r, c in matrices(LLAMA_8B)) + cache + 400e-6
    without = decode_step(LLAMA_8B, 2, overlaps=False)
    wide = 2 * 128 * 256 * 4096 / (0.97 * MATMUL / MULTIPROCESSORS) + STORE
    ours = 2 * 128 * 192 * 4096 / (LOOP[192] * MATMUL / MULTIPROCESSORS) + STORE
    cost = ours / 192 / (wide / 256) - 1
    percent = lambda share: f"{100 * share:.0f} %"
    return [
        ("G1", "8B bf16, one sequence, of copy", "75 % / 85 %", percent(floor_8b / one),
         f"{1e3 * one:.2f} ms, {1 / one:.0f} tok/s; {percent(floor_8b / without)} without overlap"),
        ("G2", "1B bf16, one sequence, of copy", "60 % / 75 %", percent(weights(LLAMA_1B) * 2 / COPY / small),
         f"{1e3 * small:.2f} ms; {sum(launches(LLAMA_1B))} launches are {percent((small - weights(LLAMA_1B) * 2 / READ / COPY) / small)} of it"),
        ("G3", "8B q8_0, one sequence, of copy", "65 % / 78 %",
         percent(quantized / COPY / decode_step(LLAMA_8B, 34 / 32)), "a layer's matrices of one format"),
        ("G3", "8B fp8, inputs too, one sequence, of copy", "65 % / 78 %",
         percent(fp8 / COPY / decode_step(LLAMA_8B, fp8 / weights(LLAMA_8B), codes=True)),
         f"{1e3 * decode_step(LLAMA_8B, fp8 / weights(LLAMA_8B), codes=True):.2f} ms; head in bf16; "
         "two launches a layer quantize inputs that no norm makes"),
        ("G4", "8B q4_0, one sequence, of copy", "50 % / 70 %",
         percent(q4_0 / COPY / decode_step(LLAMA_8B, 18 / 32)), "4.5 bits a weight; arithmetic hidden"),
        ("G5", "decode attention, uniform, of copy", "85 % / 95 %", "92 %",
         "reads only; 12 warps a multiprocessor with 4 KB each in flight in the mean, 33 KB being enough"),
        ("G6", "the same, skewed, of uniform", "0.80 / 0.92", "0.95", "spans of 128 positions are dealt out one by one"),
        ("G7", "products of 1,024 to 8,192 tokens, of torch", "90 % / 97 %", percent(geomean),
         f"the least {percent(worst)}, in rounds that the device does not fill"),
        ("G8", "products of 16, 32, 64 tokens, of copy", "70 % / 85 %",
         ", ".join(percent(skinny(tokens)) for tokens in (16, 32, 64)), "weights streamed once; sums of slices in L2"),
        ("G9", "prefill attention of 2k, 4k and 8k, of FA3's curve", "75 % / 90 %",
         ", ".join(percent(attention_rate(tokens) / FA3[tokens]) for tokens in (2048, 4096, 8192)),
         f"{attention_rate(4096) / 1e12:.0f} TFLOP/s at 4k: bound by wgmma, fed {percent(FED)} of the time"),
        ("G10", "prefill of 2k and 8k, of a large product", "75 % / 85 %",
         f"{percent(prefill(2048))}, {percent(prefill(8192))}",
         "attention takes what products leave"),
        ("G11", "host time not hidden, 256 sequences", "10 % / 3 %", f"{100 * HOST / step_256:.1f} %",
         f"{1e6 * HOST:.0f} µs of {1e3 * step_256:.1f} ms: one graph, planned a step ahead"),
        ("G12", "planning a step, 1 / 256 sequences", "50 / 400 µs",
         ", ".join(f"{1e6 * time:.2g} µs" for time in PLANNING), "measured: no GPU in it; inputs are filled in addition"),
        ("G17", "cost of the same bits in any batch", "25 % / 10 %", f"{100 * cost:.0f} %",
         "tiles 192 wide in place of 256, for two sets of sums; decoding pays nothing"),
    ]


def table():
    lines = ["| | figure | floor / goal | predicted | how |", "|---|---|---|---|---|"]
    figures = "\n".join(lines + ["| " + " | ".join(row) + " |" for row in predictions()]) + "\n"
    return figures + """
The 8B shape in bf16 on 1, 2, 4 and 8 devices joined by NVLink: a decoding step as computing plus exchange (two sums a
layer of sequences × 4,096 f32), what all sequences together then get, and how much of so many single devices that is.

""" + ranks_table()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=pathlib.Path, help="a page with the two markers")
    options = parser.parse_args()
    if not options.into:
        print(table(), end="")
        return
    text = options.into.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    options.into.write_text(f"{before}{BEGIN}\n{table()}{END}{after}")


if __name__ == "__main__":
    main()
