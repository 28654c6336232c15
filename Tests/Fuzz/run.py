"""Runs the fuzzer on each target, one after another, until RUNS inputs were tried; `make fuzz` calls it.

What breaks a target is kept under the work folder's `findings` and fails the run. A time-out counts only if it
repeats: libFuzzer measures the clock on the wall, and the machine may have been busy.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SECONDS, MEGABYTES, BYTES = 2, 512, 2048


def command(fuzzer: Path, *arguments: str) -> list[str]:
    limits = [f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", f"-max_len={BYTES}"]
    return [str(fuzzer), *limits, *arguments]


def run(arguments: list[str], target: str, log: Path) -> int:
    # Swift's own symbolizer would hold the pipe of a process that is ending.
    environment = os.environ | {"APUS_FUZZ_TARGET": target, "SWIFT_BACKTRACE": "enable=no"}
    with log.open("w") as file:
        return subprocess.run(arguments, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode


def executed(log: Path) -> int:
    text = log.read_text("utf-8", "replace")
    counts = re.findall(r"^#(\d+)\t|^Done (\d+) runs|number_of_executed_units: (\d+)", text, re.M)
    return max((int(number) for match in counts for number in match if number), default=0)


def repeats(fuzzer: Path, target: str, finding: Path, log: Path) -> bool:
    is_about_time = finding.name.startswith(("timeout-", "slow-unit-"))
    return not is_about_time or run(command(fuzzer, str(finding)), target, log) != 0


def fuzz(fuzzer: Path, target: str, runs: int, work: Path) -> list[Path]:
    """Tries `runs` inputs; returns what broke the target."""
    found, findings, log = work / "corpus" / target, work / "findings", work / f"{target}.log"
    found.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    dictionary = HERE / "Dictionaries" / f"{target}.txt"
    words = [f"-dict={dictionary}"] if dictionary.exists() else []
    done, begin = 0, time.monotonic()
    while done < runs:
        before = set(findings.iterdir())
        places = [f"-artifact_prefix={findings}/", str(found), str(HERE / "Corpus" / target)]
        status = run(command(fuzzer, f"-runs={runs - done}", "-print_final_stats=1", *words, *places), target, log)
        done += max(1, executed(log))
        broken = set(findings.iterdir()) - before
        kept = [path for path in broken if repeats(fuzzer, target, path, work / "repeat.log")]
        for path in broken.difference(kept):
            path.unlink()
        if kept or (status != 0 and not broken):
            print(f"{target}: broken after {done} inputs; see {log}", flush=True)
            return kept or [log]
        if status == 0:
            break
    seconds = time.monotonic() - begin
    print(f"{target}: {done} inputs in {seconds:.0f} s ({done / max(seconds, 0.1):.0f} a second)", flush=True)
    return []


def main() -> int:
    fuzzer, work, runs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    targets = sys.argv[4:] or sorted(path.name for path in (HERE / "Corpus").iterdir())
    broken = [path for target in targets for path in fuzz(fuzzer, target, runs, work)]
    for path in broken:
        print(f"found: {path}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
