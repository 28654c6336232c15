#!/usr/bin/env python3
"""One JSON object about the machine: the GPU, its clocks, the driver and the tools.

    facts.py COMMIT_FILE VERSION_FILE
"""

import datetime
import json
import pathlib
import re
import subprocess
import sys

ASKED = [
    "name", "uuid", "driver_version", "memory.total", "memory.free", "clocks.max.sm", "clocks.max.mem", "power.limit",
    "temperature.gpu", "mig.mode.current", "compute_mode",
]


def output(*command):
    """What a program prints, or nothing where it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=15, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def first_line(path):
    try:
        return pathlib.Path(path).read_text().strip().split("\n")[0]
    except OSError:
        return ""


def main():
    rows = output("nvidia-smi", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader").splitlines()
    release = re.search(r"\bV(\d+\.\d+\.\d+)", output("nvcc", "--version"))
    print(json.dumps({
        "date": datetime.date.today().isoformat(),
        "commit": first_line(sys.argv[1]),
        "apus": first_line(sys.argv[2]),
        "gpus": [dict(zip(ASKED, (cell.strip() for cell in row.split(",")))) for row in rows],
        # Without the serial numbers; MIG instances are listed here and nowhere else.
        "devices": [line.strip() for line in output("nvidia-smi", "-L").splitlines()],
        "nvcc": release[1] if release else "",
        "torch": output(sys.executable, "-c", "import torch; print(torch.__version__)"),
    }))
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
