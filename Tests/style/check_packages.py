"""Checks the packages that `make fuzz` and `make test-slow` build: their targets name every module that is imported.

They share sources with the main package, so a new import there breaks them, and they are built too seldom to say so.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORT = re.compile(r"^(?:package |public |internal |private )?import (?:struct |enum |class |func )?(\w+)", re.M)


def manifest(folder: Path) -> dict:
    command = ["swift", "package", "dump-package", "--package-path", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def sources(target: dict) -> list[Path]:
    """The Swift files of a target; its folders are links to those of the main package."""
    folder = ROOT / (target.get("path") or f"{'Tests' if target['type'] == 'test' else 'Sources'}/{target['name']}")
    excluded = {folder / name for name in target.get("exclude", [])}
    found = []
    for place in [folder / name for name in target.get("sources") or ["."]]:
        found += [place] if place.is_file() else sorted(place.rglob("*.swift"))
    return [file for file in found if file.suffix == ".swift" and file not in excluded]


def dependencies(target: dict) -> set[str]:
    return {dependency["byName"][0] for dependency in target["dependencies"] if "byName" in dependency}


def complaints(folder: Path, modules: set[str]) -> list[str]:
    found = []
    for target in manifest(folder)["targets"]:
        known = dependencies(target) | {target["name"]}
        for file in sources(target):
            for module in IMPORT.findall(file.read_text()):
                if module in modules - known:
                    found.append(f"{folder.relative_to(ROOT)}: {target['name']} lacks {module}, which "
                                 f"{file.relative_to(ROOT)} imports")
    return found


modules = {folder.name for folder in (ROOT / "Sources").iterdir()} | {"CPUKernels", "CUDAKernels", "Models"}
problems = [problem for name in ["Fuzz", "CUDASanitizer"] for problem in complaints(ROOT / "Tests" / name, modules)]
for problem in problems:
    print(problem)
print("packages: " + (f"{len(problems)} problems" if problems else "nothing to report"))
sys.exit(bool(problems))
