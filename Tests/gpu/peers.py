#!/usr/bin/env python3
"""Times what torch has in place of our kernels, in the shapes that `apus bench kernels` printed, in the same sitting.

Calls rotate over copies of the streamed operand that together exceed the second-level cache several times, are
recorded as one CUDA graph, and are timed between two events: neither a warm cache nor Python is in the number.
A shape is words with numbers, "tokens=16 rows=4096 columns=4096" for a name that begins with "linear"; sequences, query
(1), context, heads, kv_heads and head_dim for one that begins with "attend". Other kernels have no peer.
    peers.py [kernels.jsonl]      one JSON object a line: peer, shape, microseconds, bytes, flops
"""

import json
import math
import pathlib
import statistics
import sys

# The sum of the copies, in bytes: five times the second-level cache of an H200.
COLD_BYTES = 256 << 20
MAX_COPIES = 128
REPLAYS = 15
# At least so many in a graph: the time to launch it is in the number.
MIN_CALLS = 32

# Where there is no list of ours.
DEFAULT = [
    {"name": "linear bf16", "shape": f"tokens={tokens} rows=28672 columns=4096"} for tokens in (1, 16, 64, 256)
] + [
    {"name": "attend_decode", "shape": f"sequences={sequences} context=1024 heads=32 kv_heads=8 head_dim=128"}
    for sequences in (1, 16, 64, 256)
] + [
    {"name": "attend_prefill", "shape": "sequences=1 query=2048 context=2048 heads=32 kv_heads=8 head_dim=128"},
]


def numbers(shape):
    """{"tokens": 16, …} from "tokens=16 …"; words without a number are left out."""
    pairs = (word.split("=", 1) for word in shape.split() if "=" in word)
    return {key: int(value) for key, value in pairs if value.isdigit()}


def copies(streamed_bytes):
    return max(2, min(MAX_COPIES, math.ceil(COLD_BYTES / max(1, streamed_bytes))))


def microseconds(torch, calls):
    """Time of one of `calls` on the device: the median over replays of a graph that makes them in turn."""
    calls = calls * math.ceil(MIN_CALLS / len(calls))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls[:3]:
            call()
    torch.cuda.synchronize()
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        run, is_graph = graph.replay, True
    except RuntimeError:
        # A call that cannot be recorded: the time then has the launches in it, and says so.
        torch.cuda.synchronize()
        run, is_graph = (lambda: [call() for call in calls]), False
    times = []
    for _ in range(REPLAYS + 2):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / len(calls))
    return statistics.median(times[2:]), is_graph


def matmul(torch, shape):
    tokens, rows, columns = shape["tokens"], shape["rows"], shape["columns"]
    count = copies(2 * rows * columns)
    x = torch.randn(tokens, columns, device="cuda", dtype=torch.bfloat16)
    weights = [torch.randn(rows, columns, device="cuda", dtype=torch.bfloat16) for _ in range(count)]
    output = torch.empty(tokens, rows, device="cuda", dtype=torch.bfloat16)
    calls = [lambda weight=weight: torch.matmul(x, weight.t(), out=output) for weight in weights]
    return {
        "peer": "torch.matmul bf16", "calls": calls, "flops": 2 * tokens * rows * columns,
        "bytes": 2 * (rows * columns + tokens * columns + tokens * rows)}


def attention(torch, shape):
    from torch.nn.attention.bias import causal_lower_right

    sequences, context, query = shape["sequences"], shape["context"], shape.get("query", 1)
    heads, kv_heads, head_dim = shape["heads"], shape["kv_heads"], shape["head_dim"]
    cache_bytes = 4 * sequences * kv_heads * context * head_dim
    options = {"device": "cuda", "dtype": torch.bfloat16}
    q = torch.randn(sequences, heads, query, head_dim, **options)
    caches = [
        [torch.randn(sequences, kv_heads, context, head_dim, **options) for _ in range(2)]
        for _ in range(copies(cache_bytes))
    ]
    mask = causal_lower_right(query, context) if 1 < query < context else None
    attend = torch.nn.functional.scaled_dot_product_attention

    def call(k, v):
        return lambda: attend(q, k, v, attn_mask=mask, is_causal=1 < query == context, enable_gqa=heads != kv_heads)

    pairs = query * context - query * (query - 1) // 2
    return {
        "peer": "torch SDPA bf16", "calls": [call(k, v) for k, v in caches],
        "flops": 4 * sequences * heads * head_dim * pairs,
        "bytes": cache_bytes + 4 * sequences * heads * query * head_dim}


def copy(torch, shape):
    source, target = (torch.empty(shape["bytes"], device="cuda", dtype=torch.uint8) for _ in range(2))
    source.fill_(1)
    return {"peer": "device copy", "calls": [lambda: target.copy_(source)], "flops": 0, "bytes": 2 * shape["bytes"]}


def read(torch, shape):
    values = torch.ones(shape["bytes"] // 4, device="cuda", dtype=torch.float32)
    result = torch.empty((), device="cuda")
    return {
        "peer": "read and reduce", "calls": [lambda: torch.sum(values, dim=0, out=result)], "flops": 0,
        "bytes": shape["bytes"]}


def asked(path):
    """(what to time, shape) in order, each once."""
    lines = path.read_text().splitlines() if path and path.exists() else []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            # The last line of a stage that was stopped.
            continue
    found = {("copy", "bytes=1073741824"): copy, ("read", "bytes=1073741824"): read}
    for record in records or DEFAULT:
        name, shape = record.get("name", ""), record.get("shape", "")
        if name.startswith("linear"):
            found[("linear", shape)] = matmul
        elif name.startswith("attend"):
            found[("attend", shape)] = attention
    return found


def main():
    import torch

    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
    failed = 0
    with torch.inference_mode():
        for (kind, shape), prepare in asked(path).items():
            try:
                case = prepare(torch, numbers(shape))
                time, is_graph = microseconds(torch, case.pop("calls"))
                result = {**case, "shape": shape, "kind": kind, "microseconds": round(time, 3), "graph": is_graph}
            except (RuntimeError, KeyError, TypeError, ValueError) as error:
                failed += 1
                result = {"kind": kind, "shape": shape, "error": f"{type(error).__name__}: {error}".split("\n")[0]}
            print(json.dumps(result), flush=True)
            torch.cuda.empty_cache()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
