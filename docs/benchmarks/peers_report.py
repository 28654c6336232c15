"""What peers.py writes: tables for a page, and a plot of throughput against concurrency as SVG."""

import math
import statistics
from xml.sax.saxutils import escape

# What the table shows: (workload, member of a run, heading, decimals, whether larger is better).
SHOWN = [
    ("single", "decode", "single, decode tok/s", 0, True),
    ("single", "ttft_median", "single, TTFT ms", 0, False),
    ("c8", "output_rate", "c8, output tok/s", 0, True),
    ("c16", "output_rate", "c16, output tok/s", 0, True),
    ("c16", "itl_p99", "c16, inter-token p99 ms", 1, False),
    ("c32", "output_rate", "c32, output tok/s", 0, True),
    ("prefill", "total_rate", "prefill 1024/16, total tok/s", 0, True),
    ("prefix", "output_rate", "shared prefix, output tok/s", 0, True),
    ("c16", "resident_peak", "resident memory in c16, MiB", 0, False),
]


def percentile(ordered, percent):
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values, decimals):
    """The median, and least and most where they differ."""
    text = f"{statistics.median(values):,.{decimals}f}"
    low, high = (f"{value:,.{decimals}f}" for value in (min(values), max(values)))
    return text if low == high else f"{text} ({low}–{high})"


def ratio(values, name, larger):
    """How far the first peer is ahead of the best other, by medians, and whether every run of it is."""
    others = {other: found for other, found in values.items() if other != name and found}
    if name not in values or not others:
        return "–"
    best = (max if larger else min)(others.values(), key=statistics.median)
    mine = values[name]
    factor = statistics.median(mine) / statistics.median(best)
    factor = factor if larger else 1 / factor
    leads = min(mine) > max(best) if larger else max(mine) < min(best)
    return f"{factor:.2f} ×" + ("" if leads else ", runs overlap" if factor > 1 else "")


def markdown(result):
    facts, names = result["machine"], result["peers"]
    lines = [
        f"{result['date']}, {facts['processor']} ({', '.join(facts['instructions'])}), {facts['cores']} cores, "
        f"{facts['memory_gib']} GiB; commit {result['commit']}; `{result['command']}`, "
        f"{result['minutes']:.1f} minutes.", "",
        "Medians of interleaved runs, with the least and the most in brackets; one client for all servers, on the same "
        "cores. OpenVINO runs in its process, without HTTP. A ratio without a remark means that every run of Apus is "
        "ahead of every run of the best other.", "",
        "| workload | " + " | ".join(names) + " | Apus against the best other |",
        "|---|" + "---:|" * (len(names) + 1),
    ]
    runs = result["runs"]
    for workload, key, heading, decimals, larger in SHOWN:
        values = {
            name: [run[key] for run in runs.get(name, {}).get(workload, [])] for name in names}
        if any(values.values()):
            cells = [spread(values[name], decimals) if values[name] else "–" for name in names]
            lines.append(f"| {heading} | " + " | ".join(cells) + f" | {ratio(values, 'Apus', larger)} |")
    starts = {name: [result["starts"][name]] for name in names if name in result["starts"]}
    cells = [spread(starts[name], 2) if name in starts else "–" for name in names]
    lines.append("| start to first token, s | " + " | ".join(cells) + f" | {ratio(starts, 'Apus', False)} |")
    lines += ["", "Runs: " + "; ".join(
        f"{name} " + ", ".join(f"{workload} {len(found)}" for workload, found in runs.get(name, {}).items())
        for name in names) + "."]
    disturbed = [
        f"{name} {workload} ({max(run['others'] for run in found):.2f})" for name in names
        for workload, found in runs.get(name, {}).items() if max(run["others"] for run in found) > 0.1]
    if disturbed:
        lines.append("Somebody else used more than a tenth of a processor during: " + ", ".join(disturbed) + ".")
    short = [f"{name} {workload}" for name in names for workload, found in runs.get(name, {}).items()
             if any(run["missing_tokens"] for run in found)]
    if short:
        lines.append("Answers were shorter than asked for in: " + ", ".join(short) + ".")
    lines += [f"Absent: {sentence}" for sentence in result["absent"]]
    lines += [f"Failed: {sentence}" for sentence in result["problems"]]
    lines += ["", "Started as:", "", "```"] + [f"{name}: {command}" for name, command in result["commands"].items()]
    return "\n".join(lines + ["```", ""])


COLORS = ["#d9480f", "#1c7ed6", "#2f9e44", "#9c36b5", "#868e96"]


def plot(result):
    """Throughput against concurrency: one line for each peer, with a bar from its least to its most."""
    points = [(result["workloads"][name]["concurrency"], name) for name in ("single", "c8", "c16", "c32")]
    series = []
    for name in result["peers"]:
        found = result["runs"].get(name, {})
        series.append((name, [
            (level, [run["output_rate"] for run in found[workload]])
            for level, workload in points if workload in found]))
    series = [one for one in series if one[1]]
    if not series:
        return None
    width, height, left, right, top, bottom = 720, 400, 64, 110, 48, 48
    highest = max(max(values) for _, line in series for _, values in line)
    step = 10 ** math.floor(math.log10(highest))
    step = next(step * factor for factor in (0.2, 0.5, 1, 2) if highest / (step * factor) <= 6)
    ceiling = math.ceil(highest / step) * step
    levels = [level for level, _ in points]

    def x(level):
        return left + (width - left - right) * math.log2(level) / math.log2(max(levels))

    def y(value):
        return height - bottom - (height - top - bottom) * value / ceiling

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>Output tokens per second against concurrency</title>",
        "<style>.ink{fill:#212529}.soft{fill:#868e96}.grid{stroke:#dee2e6}"
        "@media (prefers-color-scheme:dark){.ink{fill:#e9ecef}.soft{fill:#adb5bd}.grid{stroke:#495057}}</style>",
        f'<text class="ink" x="{left}" y="22" font-size="15" font-weight="600">Output tokens per second</text>',
        f'<text class="soft" x="{left}" y="39" font-size="12">{escape(result["machine"]["processor"])}, '
        f'{result["machine"]["cores"]} cores</text>',
    ]
    for index in range(round(ceiling / step) + 1):
        value = index * step
        out.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        out.append(f'<text class="soft" x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,.0f}</text>')
    for level in levels:
        out.append(
            f'<text class="soft" x="{x(level):.1f}" y="{height - bottom + 20}" text-anchor="middle">{level}</text>')
    middle = (left + width - right) / 2
    out.append(f'<text class="soft" x="{middle}" y="{height - 10}" text-anchor="middle">requests at once</text>')
    # Names that would lie on one another are moved apart.
    places, last = {}, math.inf
    for name, line in sorted(series, key=lambda one: statistics.median(one[1][-1][1])):
        last = min(y(statistics.median(line[-1][1])) + 4, last - 16)
        places[name] = last
    for (name, line), color in zip(series, COLORS):
        medians = [(x(level), y(statistics.median(values))) for level, values in line]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in medians)
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2.5"/>')
        for (level, values), (px, py) in zip(line, medians):
            out.append(
                f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{y(min(values)):.1f}" y2="{y(max(values)):.1f}" '
                f'stroke="{color}" stroke-width="1.5"/><circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{color}"/>')
        out.append(f'<text x="{medians[-1][0] + 12:.1f}" y="{places[name]:.1f}" fill="{color}" '
                   f'font-weight="600">{escape(name)}</text>')
    return "\n".join(out + ["</svg>", ""])
