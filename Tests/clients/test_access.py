"""Keys, sockets and origins of the real binary: who gets in, and that no key comes out."""

import hashlib
import http.client
import os
import socket
import stat
import subprocess
import urllib.error
import urllib.request

import openai
import pytest

from conftest import MODEL_NAME, running_server

KEYS = ["sk-canary-alpha-0123456789", "sk-canary-beta-0123456789", "sk-canary-gamma-0123456789"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    digest = hashlib.sha256(KEYS[1].encode()).hexdigest()
    keys = folder / "keys"
    keys.write_text(f"# two\nsha256:{digest}\n{KEYS[2]}\n")
    with running_server(
        folder / "log.txt", "--api-key-file", str(keys), "--log-level", "trace", environment={"APUS_API_KEY": KEYS[0]}
    ) as server:
        yield server
    assert "canary" not in server.log()


def test_each_key_opens_the_server_and_no_other_does(guarded):
    for key in KEYS:
        with openai.OpenAI(base_url=guarded.base_url, api_key=key, max_retries=0) as client:
            assert client.completions.create(model=MODEL_NAME, prompt="x", max_tokens=1).choices
    for key in ["none", KEYS[0] + "x", KEYS[0][:-1], hashlib.sha256(KEYS[1].encode()).hexdigest()]:
        with openai.OpenAI(base_url=guarded.base_url, api_key=key, max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as refusal:
                client.models.list()
            assert refusal.value.type == "authentication_error"
            assert "canary" not in str(refusal.value)


def test_probes_and_figures_need_none(guarded):
    for path in ["/health", "/ready", "/live", "/ping", "/metrics"]:
        guarded.get(path)
    for path in ["/version", "/v1/models", "/nothing", "/tokenize"]:
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(guarded.url + path)
        assert refusal.value.code == 401


def test_configuration_is_shown_without_keys():
    environment = {"APUS_API_KEY": KEYS[0], "PATH": os.environ["PATH"]}
    shown = subprocess.run(
        [os.environ["APUS_BINARY"], "serve", "--api-key", KEYS[1], "--print-config"],
        env=environment, capture_output=True, text=True,
    )
    assert shown.returncode == 0
    assert "canary" not in shown.stdout + shown.stderr and "(hidden)" in shown.stdout


@pytest.mark.parametrize("content", ["", "# none\n", "sha256:12\n", "sk-canary-\x01\n"])
def test_a_key_file_that_is_none_is_refused(content, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(content)
    refused = subprocess.run(
        [os.environ["APUS_BINARY"], "serve", os.environ["APUS_TEST_MODEL"], "--api-key-file", str(keys)],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
    )
    assert refused.returncode == 78
    assert str(keys) in refused.stderr and "canary" not in refused.stderr


def test_an_open_address_needs_a_decision():
    refused = subprocess.run(
        [os.environ["APUS_BINARY"], "serve", os.environ["APUS_TEST_MODEL"], "--host", "0.0.0.0"],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
    )
    assert refused.returncode == 78
    assert "--allow-unauthenticated" in refused.stderr and "--api-key-file" in refused.stderr


def test_what_is_unwise_is_said(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("short-canary\n")
    keys.chmod(0o644)
    with running_server(tmp_path / "log.txt", "--api-key-file", str(keys), "--api-key", KEYS[0]) as server:
        log = server.log()
    assert f"{keys} (api-key-file) has the permissions 644" in log
    assert "1 of 2 API keys have fewer than 16 characters" in log
    assert "--api-key shows the keys" in log
    assert "canary" not in log
    keys.write_text(KEYS[1] + "\n")
    keys.chmod(0o600)
    with running_server(tmp_path / "log.txt", "--api-key-file", str(keys)) as server:
        assert "warning" not in server.log().lower()


def test_a_page_of_another_name_is_refused(server, tmp_path):
    def status(running, **headers):
        request = urllib.request.Request(running.url + "/v1/models", headers=headers)
        try:
            return urllib.request.urlopen(request).status
        except urllib.error.HTTPError as error:
            return error.code

    rebound = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}
    assert status(server) == 200 and status(server, **rebound) == 403
    assert status(server, Host="evil.example:8000") == 200
    settings = ["--allowed-hosts", "api.example", "--allowed-origins", "https://page.example"]
    with running_server(tmp_path / "log.txt", *settings) as named:
        assert status(named) == 403 and status(named, Host="api.example") == 200
        assert status(named, Host="api.example", Origin="https://page.example") == 200
        assert status(named, Host="evil.example", Origin="https://page.example") == 403


def test_connections_beyond_the_most_wait_their_turn(tmp_path):
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running_server(tmp_path / "log.txt", "--max-connections", "2") as server:
        first, second, third = (socket.create_connection(server.host_and_port, timeout=10) for _ in range(3))
        for connection in [first, second]:
            connection.sendall(request)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        third.sendall(request)
        third.settimeout(1)
        with pytest.raises(TimeoutError):
            third.recv(1000)
        first.close()
        third.settimeout(10)
        assert third.recv(1000).startswith(b"HTTP/1.1 200")
        second.close()
        third.close()


class SocketConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


@pytest.mark.parametrize("mode", ["0600", "0660"])
def test_a_unix_socket_serves_its_owner_and_goes_away(mode, tmp_path):
    path = tmp_path / "apus.sock"
    with running_server(tmp_path / "log.txt", "--uds", str(path), "--uds-mode", mode, socket_path=path) as server:
        assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
        assert stat.S_ISSOCK(path.stat().st_mode)
        connection = SocketConnection(path)
        connection.request("GET", "/v1/models")
        assert connection.getresponse().status == 200
        connection.close()
        assert f"unix:{path}" in server.log()
    assert not path.exists()


def start(*settings):
    return subprocess.Popen(
        [os.environ["APUS_BINARY"], "serve", os.environ["APUS_TEST_MODEL"], *settings],
        env={"PATH": os.environ["PATH"]}, stderr=subprocess.PIPE, text=True,
    )


def refusal(*settings):
    with start(*settings) as refused:
        said = refused.stderr.read()
        assert refused.wait(timeout=30) == 78, said
    return said


def test_a_socket_in_use_is_left_to_who_has_it(tmp_path):
    path = tmp_path / "apus.sock"
    with running_server(tmp_path / "log.txt", "--uds", str(path), socket_path=path):
        assert "another process listens on it" in refusal("--uds", str(path))
        connection = SocketConnection(path)
        connection.request("GET", "/version")
        assert connection.getresponse().status == 200
        connection.close()
    assert not path.exists()


def test_a_socket_of_a_server_that_is_gone_is_replaced(tmp_path):
    path = tmp_path / "apus.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    assert path.exists()
    with running_server(tmp_path / "log.txt", "--uds", str(path), socket_path=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_at_the_place_of_the_socket_stays(tmp_path):
    path = tmp_path / "precious"
    path.write_text("text")
    assert "--uds" in refusal("--uds", str(path))
    assert path.read_text() == "text"


def test_a_port_in_use_is_said(server):
    assert "another process listens on it. Choose another --port" in refusal("--port", str(server.host_and_port[1]))
