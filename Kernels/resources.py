"""What each kernel takes of a multiprocessor, as ptxas reports it, and what is not accepted.

A kernel that spills reads and writes slow memory in its inner loop; a register more can halve the warps that fit. Both
are silent, so they are a table under review.
"""

import re
import subprocess

ARCHITECTURES = ["sm_80", "sm_90a"]
FIELDS = ["registers", "spill_stores", "spill_loads", "stack", "shared"]

# Kernels that may spill or have a stack frame, each with its reason and the most bytes of stack it may take.
ALLOWED = {
    "linear_int4_64": ("the count of rounds, two a launch, on Ampere", 8),
}

# Kernels that stream weights are bound by bytes in flight: these they load, and copy to shared memory, 16 at a time.
# Their narrower loads are of the output that they add to.
SKINNY = re.compile(r"(expert_)?linear_(?!hopper)\w+_(8|16|32|64)")
WIDE_LOAD = re.compile(r"\bLDG\.E(\.\w+)*\.128\b|\bLDGSTS\.E(\.\w+)*\.128\b")
NARROW_COPY = re.compile(r"\bLDGSTS\b(?!\S*\.128\b)")
LOCAL = re.compile(r"\b(LDL|STL)\b")

# Kernels for compute capability 9.0 alone have to be what their names say: products of warpgroups, copies in bulk and, of
# activations, by tensor map. What each must have, and an instruction that none may.
HOPPER = re.compile(r"\w+_hopper_(\w+_)?\d+")
HOPPER_WORDS = {
    "products of a warpgroup": re.compile(r"\b(HGMMA\.64x\d+x16\.F32\.BF16|QGMMA\.64x\d+x32\.F32\.E4M3\.E4M3)\b"),
    "bulk copies": re.compile(r"\bUBLKCP\b"),
    "waits for the kernels in front": re.compile(r"\bACQBULK\b"),
}
TENSOR_COPY = re.compile(r"\bUTMALDG\.2D\b")
OLD_PRODUCT = re.compile(r"\bHMMA\b")
# A fence that waits for the thread's stores, where a stage is given back: so many instructions from the last product on.
PRODUCT, MEMORY_FENCE, AFTER_PRODUCT = re.compile(r"\b[HQ]GMMA\b"), re.compile(r"\bMEMBAR\b"), 16


def parse(text):
    """[kernel: [architecture: [field: bytes or registers]]] from the output of `ptxas -v`."""
    kernels, current = {}, None
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            current = dict.fromkeys(FIELDS, 0)
            kernels.setdefault(found[1].removeprefix("apus_"), {})[found[2]] = current
        elif current is None:
            continue
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            # A function that was not inlined has a line of its own.
            for field, value in zip(["stack", "spill_stores", "spill_loads"], found.groups()):
                current[field] = max(current[field], int(value))
        elif found := re.search(r"Used (\d+) registers", line):
            current["registers"] = int(found[1])
            shared = re.search(r"(\d+) bytes smem", line)
            current["shared"] = int(shared[1]) if shared else 0
            current = None
    return kernels


def natural(name):
    """Sorts linear_8 before linear_16."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def table(records, compiler):
    lines = [
        "# What the kernels take",
        "",
        f"Written by `make kernels` with nvcc {compiler}; `make kernels-check` refuses a change that is not in here.",
        "Registers are of a thread; spills and the stack frame are bytes of a thread's local memory; shared is a "
        "block's",
        "static shared memory in bytes. Dynamic shared memory is in the `cuda_*_launch` functions.",
    ]
    for family in sorted(records):
        lines += [
            "", f"## {family}", "",
            "| kernel | " + " | ".join(
                f"{architecture} registers | spill stores | spill loads | stack | shared"
                for architecture in ARCHITECTURES) + " |",
            "|---|" + "---:|" * (len(FIELDS) * len(ARCHITECTURES)),
        ]
        for kernel in sorted(records[family], key=natural):
            cells = [
                str(records[family][kernel].get(architecture, {}).get(field, "-"))
                for architecture in ARCHITECTURES for field in FIELDS
            ]
            lines.append(f"| {kernel} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write(path, text):
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        print(f"kernels: {path.name} changed; commit it with the kernels", flush=True)


def differences(old, new):
    """One sentence a line that differs."""
    if old == new:
        return []
    before, after = set(old.splitlines()), set(new.splitlines())
    sentences = [f"RESOURCES.md has  {line}" for line in old.splitlines() if line and line not in after]
    sentences += [f"this compilation  {line}" for line in new.splitlines() if line and line not in before]
    return sentences[:40] + ["RESOURCES.md differs: run `make kernels`, look at the difference and commit it"]


def refused(records):
    """Sentences about kernels that use local memory without a reason."""
    sentences = []
    for family in sorted(records):
        for kernel in sorted(records[family], key=natural):
            reason, most = ALLOWED.get(kernel, (None, 0))
            for architecture in ARCHITECTURES:
                found = records[family][kernel].get(architecture)
                if found is None:
                    sentences.append(f"{kernel} has no code for {architecture}")
                elif max(found["stack"], found["spill_stores"], found["spill_loads"]) > most:
                    sentences.append(
                        f"{kernel} ({architecture}): {found['stack']} bytes of stack, {found['spill_stores']} stored "
                        f"and {found['spill_loads']} loaded by spills; {most} are allowed"
                        + (f" ({reason})" if reason else ""))
    return sentences


def instructions(cuobjdump, fatbin, architecture="sm_90a"):
    """[kernel: its instructions as text]."""
    result = subprocess.run(
        [cuobjdump, "-sass", "-arch", architecture, str(fatbin)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True)
    kernels, current = {}, None
    for line in result.stdout.splitlines():
        if found := re.search(r"Function : (\w+)", line):
            current = kernels.setdefault(found[1].removeprefix("apus_"), [])
        elif current is not None and (found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?);", line)):
            current.append(found[1])
    return kernels


def refused_instructions(cuobjdump, folder, say):
    """Sentences about machine code for Hopper: no local memory anywhere, 16-byte loads where weights are streamed."""
    sentences, skinny, hopper, read = [], 0, 0, 0
    for fatbin in sorted(folder.glob("*.fatbin")):
        kernels = instructions(cuobjdump, fatbin)
        if not kernels:
            sentences.append(f"{fatbin.name}: cuobjdump shows no instructions for sm_90a")
        for kernel in sorted(kernels, key=natural):
            read += 1
            local = sum(1 for text in kernels[kernel] if LOCAL.search(text))
            if local and kernel not in ALLOWED:
                sentences.append(f"{kernel} (sm_90a): {local} instructions read or write local memory")
            if HOPPER.fullmatch(kernel):
                hopper += 1
                wanted = dict(HOPPER_WORDS)
                if kernel.startswith("linear"):
                    wanted["copies by tensor map"] = TENSOR_COPY
                for words, pattern in wanted.items():
                    if not any(pattern.search(text) for text in kernels[kernel]):
                        sentences.append(f"{kernel} (sm_90a): no {words}")
                places = [i for i, text in enumerate(kernels[kernel]) if PRODUCT.search(text)]
                if any(MEMORY_FENCE.search(text) for i in places for text in kernels[kernel][i:i + AFTER_PRODUCT]):
                    sentences.append(f"{kernel} (sm_90a): waits for its stores between products")
                if any(OLD_PRODUCT.search(text) for text in kernels[kernel]):
                    sentences.append(f"{kernel} (sm_90a): multiplies with HMMA, the instruction of 8.0")
            if SKINNY.fullmatch(kernel):
                skinny += 1
                if not any(WIDE_LOAD.search(text) for text in kernels[kernel]):
                    sentences.append(f"{kernel} (sm_90a): no load of 16 bytes")
                if any(NARROW_COPY.search(text) for text in kernels[kernel]):
                    sentences.append(f"{kernel} (sm_90a): copies less than 16 bytes at a time to shared memory")
    if skinny == 0 and (folder / "linear.fatbin").exists():
        sentences.append("linear.fatbin has no kernel named like those that stream weights; nothing was checked")
    if hopper == 0 and (folder / "linear_hopper.fatbin").exists():
        sentences.append("linear_hopper.fatbin has no kernel named like those for Hopper; nothing was checked")
    say(f"read the instructions of {read} kernels, {skinny} of which stream weights and {hopper} are for Hopper alone")
    return sentences
