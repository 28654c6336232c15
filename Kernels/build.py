#!/usr/bin/env python3
"""Compiles Kernels/*.cu to .build/kernels/*.fatbin and keeps RESOURCES.md, what each kernel takes of a multiprocessor.

nvcc comes from $NVCC, the PATH, or a virtual environment that is made here. A family is compiled when a byte of what
it includes, a flag or the compiler changed; contents decide, not times. Nothing else of the project needs any of this.

    build.py            compile, rewrite RESOURCES.md
    build.py --check    compile, compare with RESOURCES.md as git has it, refuse spills, read the instructions
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import resources

KERNELS = pathlib.Path(__file__).resolve().parent
ROOT = KERNELS.parent
RELEASE = "13.0"
JOBS = 2
FLAGS = ["-O3", "-std=c++17", "--fmad=false", "-IKernels", "-Xptxas=-v"]
# Machine code for Ampere and Hopper; everything later compiles the PTX when it is loaded.
TARGETS = [
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90a,code=sm_90a",
    "-gencode=arch=compute_80,code=compute_80",
]


class Failure(Exception):
    """What went wrong, in a sentence for whoever ran this."""


def say(text):
    print(f"kernels: {text}", flush=True)


# The compiler


def find_nvcc(environment):
    """The path of nvcc; installs it when there is none."""
    named = os.environ.get("NVCC")
    if named:
        found = shutil.which(named)
        if not found:
            raise Failure(f"NVCC is {named}, and there is no such program")
        return found
    return shutil.which("nvcc") or installed_nvcc(environment)


def installed_nvcc(environment):
    wanted = (KERNELS / "toolchain.txt").read_text()
    stamp = environment / "toolchain.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"making {environment.name}/, a virtual environment for nvcc")
        shutil.rmtree(environment, ignore_errors=True)
        attempt([sys.executable, "-m", "venv", str(environment)], "a virtual environment could not be made")
        say(f"installing nvcc {RELEASE} from wheels (110 MB)")
        attempt(
            [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "--no-deps", "--requirement", str(KERNELS / "toolchain.txt")],
            "nvcc could not be installed")
        stamp.write_text(wanted)
    for path in sorted(environment.glob("lib/python3*/site-packages/nvidia/cu*/bin/nvcc")):
        return str(path)
    raise Failure(f"{environment} has no nvcc; remove it and try again")


def attempt(command, sentence):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        raise Failure(f"{sentence}:\n{result.stdout.strip()}\nSet NVCC to an nvcc {RELEASE} to do without.")


def version(nvcc):
    result = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = re.search(r"\bV(\d+\.\d+\.\d+)", result.stdout)
    if result.returncode != 0 or not found:
        raise Failure(f"{nvcc} --version does not say a version:\n{result.stdout.strip()}")
    return found[1]


# The families


def sources(path, seen=None):
    """`path` and every file it includes from here, in a fixed order."""
    seen = {} if seen is None else seen
    if path in seen or not path.is_file():
        return seen
    seen[path] = path.read_bytes()
    for included in re.findall(r'^\s*#\s*include\s*"([^"]+)"', seen[path].decode(), re.MULTILINE):
        for folder in (path.parent, KERNELS):
            sources((folder / included).resolve(), seen)
    return seen


def key_of(family, compiler):
    digest = hashlib.sha256(json.dumps([compiler, FLAGS, TARGETS]).encode())
    for path, contents in sources(family).items():
        digest.update(f"{path.relative_to(KERNELS)} {len(contents)}\n".encode())
        digest.update(contents)
    return digest.hexdigest()


def compile_family(family, key, nvcc, folder):
    """Compiles one family; returns its record, which is also kept beside the fatbin."""
    fatbin = folder / f"{family.stem}.fatbin"
    # Written aside and renamed: whoever starts a server meanwhile finds the old file or the new one.
    partial = folder / f"{family.stem}.partial"
    start = time.monotonic()
    command = [nvcc, "-fatbin", *FLAGS, *TARGETS, str(family.relative_to(ROOT)), "-o", str(partial)]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.monotonic() - start
    if result.returncode != 0:
        # What an earlier version of this source became must not run.
        for left in (partial, fatbin, folder / f"{family.stem}.json"):
            left.unlink(missing_ok=True)
        return family, None, f"{family.name} failed after {seconds:.1f} s:\n{result.stdout.strip()}"
    record = {"key": key, "kernels": resources.parse(result.stdout)}
    partial.replace(fatbin)
    (folder / f"{family.stem}.json").write_text(json.dumps(record))
    size = fatbin.stat().st_size / 1024
    warnings = "\n".join(line for line in result.stdout.splitlines() if re.search(r"\bwarning\b", line))
    line = f"{family.stem:<12} {seconds:5.1f} s  {size:6.0f} KiB  {len(record['kernels'])} kernels"
    return family, record, line + ("\n" + warnings if warnings else "")


def kept(family, key, folder):
    """The record of an earlier compilation of the same bytes, or None."""
    record = folder / f"{family.stem}.json"
    if not record.exists() or not (folder / f"{family.stem}.fatbin").exists():
        return None
    try:
        contents = json.loads(record.read_text())
    except ValueError:
        return None
    return contents if contents.get("key") == key else None


def build(nvcc, compiler, folder):
    """Compiles what changed; returns what each kernel takes, by family."""
    families = sorted(KERNELS.glob("*.cu"))
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.fatbin"):
        # A family that is gone must not be loaded.
        if left.stem not in {family.stem for family in families}:
            left.unlink()
    records, waiting, failed = {}, [], []
    for family in families:
        key = key_of(family, compiler)
        record = kept(family, key, folder)
        if record:
            records[family.stem] = record["kernels"]
        else:
            waiting.append((family, key))
    # Largest first, so that the last to finish is a small one.
    waiting.sort(key=lambda pair: -len(b"".join(sources(pair[0]).values())))
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        jobs = [pool.submit(compile_family, family, key, nvcc, folder) for family, key in waiting]
        for job in concurrent.futures.as_completed(jobs):
            family, record, line = job.result()
            say(line)
            if record is None:
                failed.append(family.name)
            else:
                records[family.stem] = record["kernels"]
    if failed:
        raise Failure(f"{', '.join(sorted(failed))} did not compile; the messages are above")
    unchanged = len(families) - len(waiting)
    say(f"{len(families)} families in {folder}" + (f", {unchanged} unchanged" if unchanged else ""))
    return records


# The table


def committed(table):
    """The table as git has it (staged or committed); the file itself where there is no git."""
    result = subprocess.run(
        ["git", "show", f":{table.relative_to(ROOT)}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True) if shutil.which("git") else None
    if result and result.returncode == 0:
        return result.stdout
    return table.read_text() if table.exists() else ""


def check(records, nvcc, compiler, folder):
    table = KERNELS / "RESOURCES.md"
    problems = resources.refused(records)
    if compiler.startswith(RELEASE + "."):
        problems += resources.differences(committed(table), resources.table(records, compiler))
    else:
        say(f"nvcc is {compiler}; RESOURCES.md belongs to {RELEASE} and was not compared")
    tool = shutil.which("cuobjdump", path=f"{pathlib.Path(nvcc).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if tool:
        problems += resources.refused_instructions(tool, folder, say)
    else:
        say("there is no cuobjdump; the instructions were not read")
    if problems:
        raise Failure("\n  ".join(["these are not as they should be:", *problems]))
    say("no kernel spills, and RESOURCES.md is true")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with RESOURCES.md instead of writing it")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / ".build/kernels", help="folder of the fatbins")
    parser.add_argument("--environment", type=pathlib.Path, default=ROOT / ".cuda", help="where nvcc is installed")
    options = parser.parse_args()
    try:
        nvcc = find_nvcc(options.environment)
        compiler = version(nvcc)
        say(f"nvcc {compiler} ({nvcc})")
        records = build(nvcc, compiler, options.output)
        if options.check:
            check(records, nvcc, compiler, options.output)
        elif compiler.startswith(RELEASE + "."):
            resources.write(KERNELS / "RESOURCES.md", resources.table(records, compiler))
        else:
            say(f"RESOURCES.md belongs to nvcc {RELEASE} and was left alone")
    except Failure as failure:
        sys.exit(f"kernels: {failure}")


if __name__ == "__main__":
    main()
