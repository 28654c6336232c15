"""Refuses hot loops of the CPU kernels whose sums do not stay in registers.

A tile that is one row too high still computes the right numbers, at half the speed. The compiler says so in the
assembly it writes: "Spill" or "Reload" beside a vector's move. Looked at are the innermost loops that multiply.
"""

import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent
FAMILIES = ["linear.c", "linear_bf16.c", "attention.c"]
HOT = re.compile(r"^(tile|score|weigh)_\w+_(avx2|avx512|avx512_bf16)$")

# Tiles that may, and how often: AVX2 has 16 registers, which tiles of four tokens or six rows exceed.
ALLOWED = {
    "tile_q4_0_2_avx2": 6,
    "tile_q4_0_4_avx2": 39,
    "tile_q4_1_2_avx2": 2,
    "tile_q4_1_4_avx2": 33,
    "tile_q8_0_4_avx2": 16,
    "score_wide_bf16_6_avx2": 2,
    "weigh_wide_bf16_6_avx2": 2,
    # Formats in planes put a code together from several registers. A block's 64 products hide the few moves of AVX-512;
    # what AVX2 loses with codes of 8 bits is in docs/benchmarks/formats.md.
    "tile_int4_4_avx2": 16,
    "tile_int4_4_avx512": 4,
    "tile_int8_1_avx2": 40,
    "tile_int8_2_avx2": 136,
    "tile_int8_4_avx2": 312,
    "tile_iq4_xs_1_avx2": 40,
    "tile_iq4_xs_2_avx2": 127,
    "tile_iq4_xs_4_avx2": 299,
    "tile_mxfp4_2_avx2": 4,
    "tile_mxfp4_4_avx2": 40,
    "tile_mxfp4_4_avx512": 12,
    "tile_q2_k_2_avx2": 17,
    "tile_q2_k_4_avx2": 63,
    "tile_q2_k_4_avx512": 22,
    "tile_q4_k_4_avx2": 22,
    "tile_q4_k_4_avx512": 6,
    "tile_q5_0_2_avx2": 4,
    "tile_q5_0_4_avx2": 40,
    "tile_q5_0_4_avx512": 12,
    "tile_q5_1_2_avx2": 8,
    "tile_q5_1_4_avx2": 48,
    "tile_q5_1_4_avx512": 10,
    "tile_q5_k_2_avx2": 10,
    "tile_q5_k_4_avx2": 43,
    "tile_q5_k_4_avx512": 15,
    "tile_q6_k_2_avx2": 6,
    "tile_q6_k_4_avx2": 91,
    "tile_q6_k_4_avx512": 13,
}

LABEL = re.compile(r"^(\.LBB\w+):")
JUMP = re.compile(r"^\s+j\w+\s+(\.LBB\w+)")
PRODUCT = re.compile(r"^\s+v(pdpbusd|pmaddubsw|dpbf16ps|fmadd)")
MOVE = re.compile(r"^\s+v\S+.*[xyz]mm\d+.*-byte (?:Folded )?(?:Spill|Reload)")


def functions(assembly):
    """Name and lines of each function."""
    name, lines = None, []
    for line in assembly.splitlines():
        if found := re.match(r"^(\w+):\s+#\s*@", line):
            name, lines = found[1], []
        elif line.startswith(".Lfunc_end") and name:
            yield name, lines
            name = None
        elif name:
            lines.append(line)


def innermost_loops(lines):
    """The lines from a label to the last jump back to it, where no other such loop begins within."""
    places = {found[1]: i for i, line in enumerate(lines) if (found := LABEL.match(line))}
    loops = {}
    for i, line in enumerate(lines):
        if (found := JUMP.match(line)) and places.get(found[1], i) < i:
            loops[places[found[1]]] = i
    for begin, end in loops.items():
        if not any(begin < other and loops[other] <= end for other in loops):
            yield lines[begin:end]


def spills(assembly):
    """[function: moves between registers and the stack in its innermost loops], and how many functions were read."""
    found, count = {}, 0
    for name, lines in functions(assembly):
        if not HOT.match(name):
            continue
        count += 1
        loops = [loop for loop in innermost_loops(lines) if any(PRODUCT.match(line) for line in loop)]
        moves = sum(bool(MOVE.match(line)) for loop in loops for line in loop)
        if moves:
            found[name] = moves
    return found, count


def main():
    if platform.machine() not in ("x86_64", "AMD64"):
        print("spills: nothing to see on this machine")
        return 0
    refused = 0
    for family in FAMILIES:
        command = ["clang", "-O3", "-ffp-contract=off", "-I", ROOT / "include", "-S", "-o", "-", ROOT / "cpu" / family]
        found, count = spills(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        if count == 0:
            print(f"{family}: no hot functions found")
            refused += 1
        for name, moves in sorted(found.items()):
            if moves > ALLOWED.get(name, 0):
                print(f"{family}: {name} moves {moves} vectors to or from the stack in its innermost loops")
                refused += 1
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
