"""Starts the real binary on the real model once, for all client tests.

APUS_URL       an already running server to use instead
APUS_BINARY    the server's binary
APUS_TEST_MODEL  the GGUF file to serve
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import pytest

MODEL_NAME = "smollm2-135m-instruct"
STARTUP_SECONDS = 60
# What `make test-slow` adds needs packages that `make test` does not install.
collect_ignore_glob = [] if os.environ.get("APUS_TEST_SLOW") else ["slow/*"]


@dataclasses.dataclass
class Server:
    """A running server and, where this process started it, its log."""

    url: str
    log_path: pathlib.Path | None = None
    process: subprocess.Popen | None = None
    # What a client of HTTPS trusts, and perhaps shows.
    tls: ssl.SSLContext | None = None

    @property
    def base_url(self):
        return self.url + "/v1"

    @property
    def host_and_port(self):
        host, port = self.url.split("://")[1].split(":")
        return host, int(port)

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10, context=self.tls) as response:
            return response.read().decode()

    def metric(self, name):
        """The value of an engine metric."""
        match = re.search(rf"^vllm:{name}\{{[^}}]*\}} (\S+)$", self.get("/metrics"), re.MULTILINE)
        assert match, f"/metrics has no {name}"
        return float(match.group(1))

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path else ""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_ready(server, process, socket_path=None):
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server exited with {process.returncode}:\n{server.log()}")
        try:
            # On a socket a start-up that listens is one that is ready.
            if socket_path is None:
                server.get("/ready")
            else:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(socket_path))
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"the server was not ready within {STARTUP_SECONDS} s:\n{server.log()}")


@contextlib.contextmanager
def running_server(log_path, *settings, model=None, environment=None, socket_path=None, tls=None):
    """The binary on the model, or another `model`, with `settings`, ready; drained at the end."""
    binary, model = os.environ.get("APUS_BINARY"), model or os.environ.get("APUS_TEST_MODEL")
    if not binary or not model:
        pytest.fail("set APUS_BINARY and APUS_TEST_MODEL (as `make test-clients` does), or APUS_URL")
    port = free_port()
    server = Server(f"{'https' if tls else 'http'}://127.0.0.1:{port}", log_path, tls=tls)
    arguments = ["serve", model, "--port", str(port), "--served-model-name", MODEL_NAME, *settings]
    # The server takes every APUS_ variable for a setting of its own, and refuses those it does not know.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("APUS_")}
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [binary, *arguments], stdout=log, stderr=log, env=inherited | (environment or {})
        )
    server.process = process
    try:
        wait_until_ready(server, process, socket_path)
        yield server
        process.terminate()
        assert process.wait(timeout=30) == 0, f"the server did not drain:\n{server.log()}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if url := os.environ.get("APUS_URL"):
        yield Server(url.rstrip("/"))
        return
    with running_server(tmp_path_factory.mktemp("server") / "log.txt") as server:
        yield server
