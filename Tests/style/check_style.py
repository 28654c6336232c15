#!/usr/bin/env python3
"""The house style as a test: what docs/STYLE.md refuses, file by file. Prints every finding; exits 1 if there is one."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Which module may import which (docs/ARCHITECTURE.md, "Layers"). Standard and third-party modules are listed too, so
# that a new dependency is a decision and not an accident.
SYSTEM = {"Dispatch", "Foundation", "FoundationEssentials", "Glibc", "Darwin", "Musl", "Synchronization"}
ALLOWED = {
    "JSON": set(),
    "Tensors": {"Synchronization"},  # the ranks of a group are threads
    "Scheduling": set(),
    "Tokenization": {"JSON"},
    "Grammars": {"JSON"} | SYSTEM,
    "Checkpoints": {"JSON", "Tensors"} | SYSTEM,
    "CPUBackend": {"Tensors", "CPUKernels"} | SYSTEM,
    "CUDABackend": {"Tensors", "CUDADriver", "CUDAKernels"} | SYSTEM,
    "Conformance": {"Tensors"} | SYSTEM,
    "Models": {"Checkpoints", "Tensors"} | SYSTEM,
    "Execution": {"Scheduling", "Models", "Tensors"} | SYSTEM,
    "Serving": {
        "Execution", "Grammars", "JSON", "Scheduling", "Tokenization", "Hummingbird", "HTTPTypes", "Logging", "NIOCore",
        "NIOPosix", "NIOHTTP1", "NIOHTTPTypes", "NIOHTTPTypesHTTP1", "NIOSSL", "NIOTLS", "HummingbirdCore",
        "ServiceLifecycle",
    } | SYSTEM,
}

REFUSED = [
    (r"\btry!", "try! is a trap; throw a typed error"),
    (r"\btry\?", "try? drops an error; handle it or let it pass"),
    (r"\bfatalError\(", "fatalError is a trap; throw, or use a precondition no input can reach"),
    (r"\bas!", "as! is a trap; use as? and throw"),
    (r"catch\s*\{\s*\}", "an empty catch drops an error"),
    (r"\bTODO\b|\bFIXME\b|\bXXX\b", "unfinished work belongs in the tracker"),
    (r"extension String\s*:\s*(Error|LocalizedError)", "a string is not an error"),
    (r"\b(class|struct|enum|actor|protocol)\s+\w*(Manager|Helper|Util|Utils|Impl)\b", "name what it is"),
]
# Allowed only with a reason on the line above.
WITH_REASON = [r"@unchecked Sendable", r"nonisolated\(unsafe\)"]
UNSAFE_MODULES = {"CUDABackend", "Conformance", "CPUBackend", "Checkpoints", "Tensors"}
MAX_LINES = 500
MAX_COLUMNS = 120


def module_of(path):
    parts = path.relative_to(ROOT).parts
    if parts[0] == "Sources":
        return parts[1]
    return {"Models": "Models", "Kernels": "Kernels"}.get(parts[0])


def code_of(line):
    """The line without its trailing comment (good enough for the patterns above)."""
    return re.sub(r'\s*//.*$', "", line) if '"' not in line else line


def check_swift(path, report):
    lines = path.read_text().split("\n")
    module = module_of(path)
    if not lines[0].startswith("//"):
        report(path, 1, "a file opens with what it is and its one idea")
    if len(lines) > MAX_LINES:
        report(path, len(lines), f"{len(lines)} lines; {MAX_LINES} is the limit and 400 the habit")
    for number, line in enumerate(lines, 1):
        code = code_of(line)
        if len(line) > MAX_COLUMNS and "http" not in line:
            report(path, number, f"{len(line)} columns; {MAX_COLUMNS} is the limit")
        for pattern, reason in REFUSED:
            if re.search(pattern, code) and not code.lstrip().startswith("//"):
                report(path, number, reason)
        for pattern in WITH_REASON:
            if re.search(pattern, code) and "//" not in lines[number - 2]:
                report(path, number, "say why on the line above")
        imported = re.match(r"\s*(?:@\w+\s+|package\s+|internal\s+)*import\s+(?:struct\s+|func\s+)?(\w+)", line)
        if imported and module in ALLOWED and imported[1] not in ALLOWED[module]:
            report(path, number, f"{module} may not import {imported[1]}")
        if module and module in ALLOWED and module not in UNSAFE_MODULES and re.search(r"(?<!\.)\bunsafe [\w(]", code):
            if not code.lstrip().startswith("//") and '"' not in code:
                report(path, number, f"{module} works without unsafe memory")


def check_any(path, report):
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return
    for number, line in enumerate(text.split("\n"), 1):
        if re.search(r"/(work|root|home/\w+)/", line) and "home/nonroot" not in line:
            report(path, number, "a path of somebody's machine")


def main():
    findings = []

    def report(path, line, text):
        findings.append(f"{path.relative_to(ROOT)}:{line}: {text}")

    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
        capture_output=True).stdout.decode().split("\0")
    for name in filter(None, names):
        path = ROOT / name
        if not path.is_file() or path == pathlib.Path(__file__).resolve():
            continue
        if path.suffix == ".swift" and not name.startswith("Tests/"):
            check_swift(path, report)
        if path.suffix in {".swift", ".c", ".h", ".md", ".py", ".json", ".yaml", ".yml"} and "Fixtures" not in name:
            check_any(path, report)
    print("\n".join(findings) or "style: nothing to report")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
