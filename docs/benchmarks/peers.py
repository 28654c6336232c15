#!/usr/bin/env python3
"""Apus beside whatever peers this machine has, in one sitting: `make bench-peers`.

All servers are started once. For every workload each of them runs in turn while the others are stopped (SIGSTOP), and
the whole is repeated, each time beginning with another one. Writes results.json (everything), peers.md (tables with
machine, commit and commands) and throughput.svg into --out.

A peer is found by a variable or on the PATH, and an absent one is said to be absent:
  LLAMA_SERVER  llama.cpp's server; LLAMA_MODEL its model, by default Apus's
  VLLM          a Python with vllm, or the vllm command; VLLM_MODEL a folder of weights
  OPENVINO      a Python with openvino-genai; OPENVINO_MODEL a folder that optimum-cli exported
Only the standard library is needed.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

from peers_report import markdown, percentile, plot

HERE = pathlib.Path(__file__).resolve().parent
WORKLOADS = {
    "single": {"shared": 0, "prompt": 128, "output": 128, "concurrency": 1, "requests": 4},
    "c8": {"shared": 0, "prompt": 128, "output": 128, "concurrency": 8, "requests": 24},
    "c16": {"shared": 0, "prompt": 128, "output": 128, "concurrency": 16, "requests": 32},
    "c32": {"shared": 0, "prompt": 128, "output": 128, "concurrency": 32, "requests": 64},
    "prefill": {"shared": 0, "prompt": 1024, "output": 16, "concurrency": 4, "requests": 8},
    "prefix": {"shared": 512, "prompt": 32, "output": 64, "concurrency": 8, "requests": 16},
}
WARM_UP = {"shared": 0, "prompt": 128, "output": 8, "concurrency": 16, "requests": 16}
START_SECONDS = 400


def say(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


# Processes


def inherited():
    """This environment without Apus's settings: a measured server has those of its command line."""
    return {name: value for name, value in os.environ.items() if not name.startswith("APUS_")}


def processes():
    """{process: (group, resident bytes, processor seconds)}."""
    tick, page, found = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE"), {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            fields = pathlib.Path(entry.path, "stat").read_text().rsplit(")", 1)[1].split()
            seconds = (int(fields[11]) + int(fields[12])) / tick
            found[int(entry.name)] = (int(fields[2]), int(fields[21]) * page, seconds)
    return found


def busy_seconds():
    """Processor seconds of the whole machine that were not idle."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:7])) / os.sysconf("SC_CLK_TCK")


class Group:
    """A server and all its processes; they are a process group of their own."""

    def __init__(self, command, log, environment=None, pipes=False):
        self.command = command
        self.log = log
        pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe if pipes else file, stderr=file, start_new_session=True,
                env={**inherited(), **(environment or {})}, text=pipes)

    def members(self):
        return [values for values in processes().values() if values[0] == self.process.pid]

    def resident(self):
        return sum(values[1] for values in self.members())

    def seconds(self):
        return sum(values[2] for values in self.members())

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def check(self):
        if self.process.poll() is not None:
            lines = pathlib.Path(self.log).read_text(errors="replace").splitlines()[-3:]
            raise RuntimeError(f"it ended with {self.process.returncode}: {' | '.join(lines)}")

    def stop(self):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=20)
        self.signal(signal.SIGKILL)
        self.process.wait()


class Watch(threading.Thread):
    """The most resident memory while a workload runs."""

    def __init__(self, group):
        super().__init__(daemon=True)
        self.group, self.peak, self.ended = group, 0, threading.Event()

    def run(self):
        while not self.ended.is_set():
            self.peak = max(self.peak, self.group.resident())
            self.ended.wait(0.5)


# Peers


class Server:
    """A peer behind HTTP, measured with `apus bench serve`."""

    def __init__(self, name, command, client, environment=None):
        self.name, self.client, self.environment = name, client, environment
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.command = [word.replace("{port}", str(self.port)) for word in command]

    def start(self, folder):
        """Seconds to the first token."""
        begin = time.monotonic()
        self.group = Group(self.command, folder / f"{self.name}.log", self.environment)
        body = json.dumps({"model": "m", "prompt": [1500, 1501, 1502], "max_tokens": 1, "temperature": 0})
        while True:
            self.group.check()
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
                if connection.getresponse().status == 200:
                    return time.monotonic() - begin
            if time.monotonic() - begin > START_SECONDS:
                raise RuntimeError(f"no token within {START_SECONDS} s")
            time.sleep(0.01)

    def run(self, workload, seed):
        command = [
            self.client, "bench", "serve", "--json", "--model", "m", "--base-url", f"http://127.0.0.1:{self.port}",
            "--num-prompts", str(workload["requests"]), "--max-concurrency", str(workload["concurrency"]),
            "--random-id-range", "1000:48000", "--seed", str(seed), "--ignore-eos", "--metric-percentiles", "50,99",
            "--request-timeout", "300", "--output-len", str(workload["output"]),
        ]
        if workload["shared"]:
            command += [
                "--dataset-name", "prefix_repetition", "--prefix-repetition-num-prefixes", "1",
                "--prefix-repetition-prefix-len", str(workload["shared"]),
                "--prefix-repetition-suffix-len", str(workload["prompt"])]
        else:
            command += ["--random-input-len", str(workload["prompt"])]
        done = subprocess.run(command, capture_output=True, text=True, env=inherited())
        if done.returncode:
            raise RuntimeError(" | ".join(done.stderr.strip().splitlines()[-3:]))
        found = json.loads(done.stdout)
        if found["failed"]:
            raise RuntimeError(f"{found['failed']} requests failed: {found['error_counts']}")
        expected = workload["requests"] * workload["output"]
        return {
            "duration": found["duration"], "output_rate": found["output_throughput"],
            "total_rate": found["total_token_throughput"], "decode": 1000 / found["mean_tpot_ms"],
            "ttft_median": found["median_ttft_ms"], "ttft_p99": found["p99_ttft_ms"],
            "itl_median": found["median_itl_ms"], "itl_p99": found["p99_itl_ms"],
            "client_seconds": found["client_cpu_seconds"],
            "missing_tokens": expected - found["total_output_tokens"], "command": command,
        }


class OpenVINO:
    """OpenVINO GenAI, in its own process and without HTTP."""

    def __init__(self, python, model, threads):
        self.name = "OpenVINO"
        self.command = [python, str(HERE / "openvino_peer.py"), model, str(threads)]

    def start(self, folder):
        begin = time.monotonic()
        self.group = Group(self.command, folder / "OpenVINO.log", pipes=True)
        self.answer()
        return time.monotonic() - begin

    def answer(self):
        while True:
            line = self.group.process.stdout.readline()
            if not line:
                self.group.process.wait()
                self.group.check()
            if line.startswith("{"):
                return json.loads(line)

    def run(self, workload, seed):
        self.group.process.stdin.write(json.dumps({**workload, "seed": seed}) + "\n")
        self.group.process.stdin.flush()
        found = self.answer()
        times = {name: sorted(found[name]) for name in ("ttft", "itl", "tpot")}
        rate = found["output_tokens"] / found["duration"]
        return {
            "duration": found["duration"], "output_rate": rate,
            "total_rate": rate + found["input_tokens"] / found["duration"],
            "decode": 1 / statistics.mean(times["tpot"]),
            "ttft_median": 1000 * percentile(times["ttft"], 50), "ttft_p99": 1000 * percentile(times["ttft"], 99),
            "itl_median": 1000 * percentile(times["itl"], 50), "itl_p99": 1000 * percentile(times["itl"], 99),
            "client_seconds": 0, "missing_tokens": found["short"], "command": self.command,
        }


def found_peers(options):
    """(peers, sentences about absent ones)."""
    peers, absent, threads = [], [], str(options.threads)
    serve = [options.apus, "serve", options.model, "--host", "127.0.0.1", "--port", "{port}",
             "--served-model-name", "m", *options.apus_options.split()]
    peers.append(Server("Apus", serve, options.apus))

    llama = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    if llama:
        # A slot for every request of the largest workload, with room for the longest one.
        peers.append(Server("llama.cpp", [
            llama, "--host", "127.0.0.1", "--port", "{port}", "-m", os.environ.get("LLAMA_MODEL") or options.model,
            "-a", "m", "-t", threads, "-tb", threads, "-np", "32", "-c", "40960", "--no-webui"], options.apus))
    else:
        absent.append("llama.cpp: no llama-server on the PATH, and LLAMA_SERVER is not set.")

    vllm, weights = os.environ.get("VLLM") or shutil.which("vllm"), os.environ.get("VLLM_MODEL")
    if vllm and weights:
        start = [vllm, "serve", weights] if pathlib.Path(vllm).name == "vllm" else [
            vllm, "-m", "vllm.entrypoints.openai.api_server", "--model", weights]
        peers.append(Server("vLLM", start + [
            "--served-model-name", "m", "--host", "127.0.0.1", "--port", "{port}", "--dtype", "bfloat16",
            "--max-model-len", "4096", "--max-num-seqs", "64", "--enable-prefix-caching"], options.apus, {
                "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
                "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "4")}))
    else:
        absent.append("vLLM: " + ("VLLM_MODEL is not set." if vllm else "VLLM is not set and not on the PATH."))

    python, exported = os.environ.get("OPENVINO"), os.environ.get("OPENVINO_MODEL")
    if python and exported:
        peers.append(OpenVINO(python, exported, options.threads))
    else:
        absent.append("OpenVINO: OPENVINO (a Python with openvino-genai) and OPENVINO_MODEL are not both set.")
    if options.peers:
        wanted = {name.lower() for name in options.peers.split(",")}
        absent += [f"{peer.name}: not asked for." for peer in peers if peer.name.lower() not in wanted]
        peers = [peer for peer in peers if peer.name.lower() in wanted]
    return peers, absent


# Measuring


def measure(peer, workload, seed):
    """One run of a workload, with what it used."""
    peer.group.check()
    peer.group.signal(signal.SIGCONT)
    watch = Watch(peer.group)
    watch.start()
    busy, used, begin = busy_seconds(), peer.group.seconds(), time.monotonic()
    try:
        found = peer.run(workload, seed)
    finally:
        wall, used, busy = time.monotonic() - begin, peer.group.seconds() - used, busy_seconds() - busy
        watch.ended.set()
        watch.join()
        peer.group.signal(signal.SIGSTOP)
    found.update(
        resident_peak=watch.peak / 2**20, server_seconds=used, wall=wall,
        # What somebody else computed meanwhile, in processors.
        others=max(0, busy - used - found["client_seconds"]) / wall)
    return found


def planned(costs, repeats, seconds):
    """How often each (peer, workload) runs after the first time, so that all fit into `seconds`: the dearest give up a
    run first, and those that have most left."""
    plan = {key: repeats - 1 for key in costs}
    while sum(costs[key] * count for key, count in plan.items()) > seconds and any(plan.values()):
        dearest = max((key for key in plan if plan[key]), key=lambda key: (plan[key], costs[key]))
        plan[dearest] -= 1
    return plan


def sitting(peers, options, folder):
    """Starts every peer, runs everything, stops every peer."""
    began = time.monotonic()
    starts, runs, problems = {}, {}, []
    names = [name for name in WORKLOADS if not options.workloads or name in options.workloads.split(",")]
    try:
        for peer in list(peers):
            try:
                say(f"{peer.name}: starting")
                peer.group = None
                starts[peer.name] = peer.start(folder)
                say(f"{peer.name}: first token after {starts[peer.name]:.2f} s")
                measure(peer, WARM_UP, 0)
            except (RuntimeError, OSError, ValueError, KeyError) as error:
                problems.append(f"{peer.name}: {error}")
                say(problems[-1])
                peers.remove(peer)
                if peer.group:
                    peer.group.stop()
        plan = None
        for repeat in range(options.repeats):
            if repeat == 1:
                costs = {key: found[0]["wall"] for key, found in runs.items()}
                plan = planned(costs, options.repeats, options.minutes * 60 - (time.monotonic() - began))
            for name in names:
                turn = repeat % max(1, len(peers))
                for peer in peers[turn:] + peers[:turn]:
                    key = (peer.name, name)
                    if repeat and plan.get(key, 0) < repeat:
                        continue
                    try:
                        # Prompts of its own for every workload and repeat: none is found in a prefix cache.
                        found = measure(peer, WORKLOADS[name], 100 * (repeat + 1) + names.index(name))
                    except (RuntimeError, OSError, ValueError, KeyError, ZeroDivisionError) as error:
                        problems.append(f"{peer.name}, {name}: {error}")
                        say(problems[-1])
                        continue
                    runs.setdefault(key, []).append(found)
                    say(f"{peer.name} {name} {repeat + 1}: {found['output_rate']:.0f} output tok/s, "
                        f"{found['total_rate']:.0f} total, TTFT {found['ttft_median']:.0f} ms, "
                        f"ITL p99 {found['itl_p99']:.1f} ms"
                        + (f" (others used {found['others']:.2f} processors)" if found["others"] > 0.1 else ""))
    finally:
        for peer in peers:
            if getattr(peer, "group", None):
                peer.group.stop()
    return starts, runs, problems, time.monotonic() - began


# What is written


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    known = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": fields.get("model name", platform.processor()), "cores": cores,
        "instructions": [flag for flag in known if flag in flags], "memory_gib": round(pages / 2**30, 1),
        "system": platform.platform(),
    }


def commit():
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def write(result, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "peers.md").write_text(markdown(result))
    picture = plot(result)
    if picture:
        (folder / "throughput.svg").write_text(picture)
    say(f"written: {folder}/results.json, peers.md" + (", throughput.svg" if picture else ""))


def without_folders(command):
    """A command as the page shows it: what matters of a path is its last part."""
    return " ".join(pathlib.Path(word).name if word.startswith("/") else word for word in command)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", default=str(HERE.parents[1] / ".build/release/apus"), help="Apus's binary")
    parser.add_argument("--model", help="a GGUF file, for Apus and llama.cpp")
    parser.add_argument("--apus-options", default="", help="further options of `apus serve`")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(".build/peers"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=12, help="the slowest runs are repeated less to keep to them")
    parser.add_argument("--threads", type=int, default=machine()["cores"], help="of the peers that have to be told")
    parser.add_argument("--workloads", help=f"some of {','.join(WORKLOADS)}")
    parser.add_argument("--peers", help="some of those found, such as apus,vllm")
    parser.add_argument("--from", dest="source", type=pathlib.Path, help="write the tables of a results.json again")
    options = parser.parse_args()
    if options.source:
        return write(json.loads(options.source.read_text()), options.out)
    if not options.model or not pathlib.Path(options.model).is_file():
        sys.exit(f"peers: --model must be a GGUF file; it is {options.model!r}")
    # Servers that are stopped by a signal would stay, so that being told to end has to end them too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("peers: told to end"))
    peers, absent = found_peers(options)
    for sentence in absent:
        say(sentence)
    options.out.mkdir(parents=True, exist_ok=True)
    names = [peer.name for peer in peers]
    commands = {peer.name: without_folders(peer.command) for peer in peers}
    starts, runs, problems, seconds = sitting(peers, options, options.out)
    grouped = {}
    for (name, workload), found in runs.items():
        for run in found:
            run["command"] = without_folders(run["command"])
        grouped.setdefault(name, {})[workload] = found
    write({
        "date": datetime.date.today().isoformat(), "machine": machine(), "commit": commit(),
        "command": "make bench-peers", "minutes": seconds / 60, "peers": names, "commands": commands,
        "absent": absent, "problems": problems, "starts": starts, "workloads": WORKLOADS, "runs": grouped,
    }, options.out)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
