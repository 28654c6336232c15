#!/usr/bin/env python3
"""Turns what gpu_check.sh found into the tables of docs/benchmarks/h200.md.

A stage that did not run, or was stopped, leaves its rows out and says so; nothing is estimated.
    table.py FOLDER                                 print the tables
    table.py FOLDER --into docs/benchmarks/h200.md  put them between the two markers of a page
"""

import argparse
import json
import pathlib
import sys

BEGIN, END = "<!-- begin: written by Tests/gpu/table.py -->", "<!-- end -->"
# Bytes of weights that a decode step reads: every matrix once, in bf16; of the embedding only where it is the head.
STEP_BYTES = {"llama-3.1-8b": 2 * 7_504_658_432, "llama-3.2-1b": 2 * 1_235_746_816}


def records(folder, stage):
    """The JSON objects that a stage printed; a line that was cut off is not one."""
    path = folder / f"{stage}.jsonl"
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        found += [value] if isinstance(value, dict) else [item for item in value if isinstance(item, dict)]
    return found


def markdown(header, rows):
    """A table whose first two columns are words and whose others are numbers."""
    rule = "|" + "|".join("---" if index < 2 else "---:" for index in range(len(header))) + "|"
    return ["| " + " | ".join(header) + " |", rule] + ["| " + " | ".join(row) + " |" for row in rows]


def figure(value, places=1):
    return "–" if value is None else f"{value:,.{places}f}"


def rate(amount, microseconds):
    """Units of 10¹² a second."""
    return amount / microseconds / 1e6 if amount and microseconds else None


def machine(folder):
    facts = (records(folder, "facts") or [{}])[0]
    gpus = facts.get("gpus") or [{}]
    gpu = gpus[0]
    lines = [
        f"{facts.get('date', 'no date')}, commit {facts.get('commit') or 'unknown'}: {gpu.get('name', 'no GPU')}"
        + (f" (the first of {len(gpus)})" if len(gpus) > 1 else "")
        + f", driver {gpu.get('driver_version', '–')}, {gpu.get('memory.free', '–')} free of "
        + f"{gpu.get('memory.total', '–')}, SM clock to {gpu.get('clocks.max.sm', '–')}, limit "
        + f"{gpu.get('power.limit', '–')}, MIG {gpu.get('mig.mode.current', '–')}; torch {facts.get('torch') or '–'}."
    ]
    return lines


def stages(folder):
    rows = [[found["stage"], found["outcome"], str(found["seconds"])] for found in records(folder, "stages")]
    return markdown(["stage", "outcome", "seconds"], rows)


def conformance(folder):
    cases = records(folder, "verify")
    if not cases:
        return ["No case was reported."]
    lines = (folder / "verify.jsonl").read_text().splitlines()
    failed = [case for case in cases if not case.get("passed")]
    shares = [(case["worst"] / case["bound"], case["case"]) for case in cases if case.get("bound")]
    summary = f"{len(cases)} cases, {len(failed)} failed."
    if len(lines) > len(cases):
        # Not a number in the place of an error, or a stage that was stopped: either way not a pass.
        summary += f" {len(lines) - len(cases)} more cannot be read."
    if shares:
        share, name = max(shares)
        summary += f" The largest error, in “{name}”, is {share:.2f} of its bound."
    lines = [summary]
    for case in failed[:20]:
        lines.append(f"- failed: {case['case']} (worst {case.get('worst')}, bound {case.get('bound')})")
    return lines


def kernels(folder):
    peers = {(peer.get("kind"), peer.get("shape")): peer for peer in records(folder, "peers") if "error" not in peer}
    by_name = {peer["peer"]: peer for peer in peers.values()}
    copied, read = by_name.get("device copy"), by_name.get("read and reduce")
    peak = rate(read["bytes"], read["microseconds"]) if read else None
    lines = []
    if copied and read:
        moved = rate(copied["bytes"], copied["microseconds"])
        lines += [
            f"In the same sitting, over 1 GiB: a device copy moves {figure(moved, 2)} TB/s, torch's sum reads "
            f"{figure(peak, 2)} TB/s. \"Of read\" is the share of the second.", ""]
    rows = []
    for kernel in records(folder, "kernels"):
        time, name, shape = kernel.get("microseconds"), kernel.get("name", ""), kernel.get("shape", "")
        kind = "linear" if name.startswith("linear") else "attend" if name.startswith("attend") else None
        peer = peers.get((kind, shape))
        bandwidth = rate(kernel.get("bytes"), time)
        rows.append([
            name, shape, figure(time, 2), figure(bandwidth, 2),
            f"{100 * bandwidth / peak:.0f} %" if bandwidth and peak else "–", figure(rate(kernel.get("flops"), time)),
            figure(peer["microseconds"], 2) + ("" if peer.get("graph", True) else " (with launches)") if peer else "–",
            f"{peer['microseconds'] / time:.2f}×" if peer and time else "–",
        ])
    if not rows:
        return lines + ["No kernel was measured."]
    header = ["kernel", "shape", "µs", "TB/s", "of read", "TFLOP/s", "torch µs", "torch / Apus"]
    return lines + markdown(header, rows)


def beside_sm80(folder):
    """The kernels that only compute capability 9.0 has beside those for 8.0, of the cases that both were timed in."""
    older = {(kernel.get("name"), kernel.get("shape")): kernel.get("microseconds")
             for kernel in records(folder, "kernels-sm80")}
    rows = []
    for kernel in records(folder, "kernels"):
        key, time = (kernel.get("name"), kernel.get("shape")), kernel.get("microseconds")
        if time and older.get(key):
            rows.append([*key, figure(time, 2), figure(older[key], 2), f"{older[key] / time:.2f}×"])
    if not rows:
        return ["Nothing was measured with both."]
    return markdown(["kernel", "shape", "µs", "µs of 8.0's", "8.0's / these"], rows)


def end_to_end(folder):
    read = next((peer for peer in records(folder, "peers") if peer.get("peer") == "read and reduce"), None)
    peak = rate(read["bytes"], read["microseconds"]) if read else None
    rows = []
    for model, step_bytes in STEP_BYTES.items():
        for found in records(folder, model):
            gap = found.get("itl_p50_seconds")
            weights = rate(step_bytes, gap * 1e6) if gap else None
            rows.append([
                model, found.get("workload", ""), figure(found.get("output_tokens_per_second")),
                figure(found.get("tokens_per_second_per_stream")), figure(1000 * gap if gap else None, 2),
                figure(1000 * found["itl_p99_seconds"] if "itl_p99_seconds" in found else None, 2),
                figure(1000 * found["ttft_p50_seconds"] if "ttft_p50_seconds" in found else None),
                f"{100 * weights / peak:.0f} %" if weights and peak else "–",
            ])
    if not rows:
        return ["Nothing was measured end to end."]
    header = [
        "model", "workload", "output tok/s", "tok/s per stream", "ITL p50 ms", "ITL p99 ms", "TTFT p50 ms",
        "weights, of read"]
    return markdown(header, rows)


def page(folder):
    parts = [
        machine(folder), ["### Conformance", "", *conformance(folder)], ["### Kernels", "", *kernels(folder)],
        ["### Beside the kernels for compute capability 8.0", "", *beside_sm80(folder)],
        ["### End to end", "", *end_to_end(folder)], ["### Stages", "", *stages(folder)],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--into", type=pathlib.Path, help="a page with the two markers")
    options = parser.parse_args()
    if not options.folder.is_dir():
        sys.exit(f"table: {options.folder} is no folder; it is what gpu_check.sh left")
    tables = page(options.folder)
    if not options.into:
        print(tables, end="")
        return
    text = options.into.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        sys.exit(f"table: {options.into} must have the lines '{BEGIN}' and '{END}', once each and in that order")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    options.into.write_text(f"{before}{BEGIN}\n{tables}{END}{after}")


if __name__ == "__main__":
    main()
