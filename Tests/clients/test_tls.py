"""HTTPS of the real binary: who can connect, what the connection's rules are worth over it, and new certificates."""

import json
import os
import signal
import socket
import ssl
import subprocess
import time

import httpx
import openai
import pytest
from cryptography import x509

from certificates import Authority
from conftest import MODEL_NAME, running_server


def trusting(authority, chain=None):
    context = ssl.create_default_context(cafile=authority.path)
    if chain:
        context.load_cert_chain(*chain)
    return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(tmp_path_factory, authority):
    folder = tmp_path_factory.mktemp("secure")
    _, certificate, key = authority.issue("server")
    settings = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--request-header-timeout", "1"]
    with running_server(folder / "log.txt", *settings, tls=trusting(authority)) as server:
        yield server


def wrapped(server, context):
    connection = socket.create_connection(server.host_and_port, timeout=10)
    return context.wrap_socket(connection, server_hostname="127.0.0.1")


def received(connection):
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except (ConnectionError, ssl.SSLError):
        pass
    return data


def serial(server):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with wrapped(server, context) as connection:
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True)).serial_number


def wait_for(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_client_gets_the_same_answers_over_https(secure):
    assert secure.url in secure.log()
    with openai.OpenAI(
        base_url=secure.base_url, api_key="none", max_retries=0, http_client=httpx.Client(verify=secure.tls)
    ) as client:
        options = {"model": MODEL_NAME, "prompt": "The sea", "max_tokens": 24, "temperature": 0}
        whole = client.completions.create(**options).choices[0].text
        assert "".join(chunk.choices[0].text for chunk in client.completions.create(**options, stream=True)) == whole


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_of_today_is_spoken(secure, authority, version):
    context = trusting(authority)
    context.minimum_version = context.maximum_version = version
    with wrapped(secure, context) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_of_yesterday_is_not(secure, authority):
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        wrapped(secure, context)


def test_plain_http_gets_no_answer_and_does_no_harm(secure):
    with socket.create_connection(secure.host_and_port, timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not received(connection).startswith(b"HTTP")
    secure.get("/health")


def test_a_handshake_that_stalls_is_closed(secure):
    for beginning in [b"", b"\x16\x03\x01"]:
        with socket.create_connection(secure.host_and_port, timeout=10) as connection:
            connection.sendall(beginning)
            began = time.monotonic()
            received(connection)
            assert 0.5 < time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\nHo", 408),
    ],
)
def test_the_rules_of_the_connection_hold(secure, authority, request_bytes, status):
    with wrapped(secure, trusting(authority)) as connection:
        connection.sendall(request_bytes)
        answer = received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()) and b"connection: close" in head.lower()
    assert json.loads(body)["error"]["code"] == status


def test_a_client_that_leaves_ends_its_request(secure, authority):
    connection = wrapped(secure, trusting(authority))
    body = json.dumps({"model": MODEL_NAME, "prompt": "x", "max_tokens": 4000, "ignore_eos": True, "stream": True})
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    connection.recv(1000)
    # The head of a stream comes before its first step.
    wait_for(lambda: secure.metric("num_requests_running") == 1)
    connection.close()
    wait_for(lambda: secure.metric("num_requests_running") == 0)


def test_only_clients_of_the_authority_get_in(tmp_path, authority):
    _, certificate, key = authority.issue("mutual")
    _, *shown = authority.issue("client")
    _, *forged = Authority(tmp_path, "other authority").issue("client")
    settings = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--ssl-ca-certs", str(authority.path)]
    with running_server(tmp_path / "log.txt", *settings, tls=trusting(authority, shown)) as server:
        server.get("/v1/models")
        for context in [trusting(authority), trusting(authority, forged)]:
            with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
                # With TLS 1.3 a client learns of its refusal only when it reads.
                with wrapped(server, context) as connection:
                    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    assert received(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("word", "admits_nobody_in_particular", "admits_forged"),
    [("optional", True, False), ("1", True, False), ("none", True, True), ("required", False, False)],
)
def test_certificates_are_asked_for_as_the_operator_says(
    tmp_path, authority, word, admits_nobody_in_particular, admits_forged
):
    _, certificate, key = authority.issue("asked")
    _, *shown = authority.issue("client")
    _, *forged = Authority(tmp_path, "other authority").issue("client")
    settings = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--ssl-ca-certs", str(authority.path)]
    settings += ["--ssl-cert-reqs", word]
    with running_server(tmp_path / "log.txt", *settings, tls=trusting(authority, shown)) as server:

        def admits(chain):
            try:
                with wrapped(server, trusting(authority, chain)) as connection:
                    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    return received(connection).startswith(b"HTTP/1.1 200")
            except (ssl.SSLError, ConnectionError):
                return False

        assert (admits(shown), admits(None), admits(forged)) == (True, admits_nobody_in_particular, admits_forged)


def test_new_certificates_are_taken_and_bad_ones_are_not(tmp_path, authority):
    first, certificate, key = authority.issue("renewed")
    settings = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    with running_server(tmp_path / "log.txt", *settings, tls=trusting(authority)) as server:
        with wrapped(server, trusting(authority)) as old:
            assert serial(server) == first
            second, *_ = authority.issue("renewed")
            time.sleep(0.2)
            assert serial(server) == first
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: serial(server) == second)
            good = certificate.read_bytes()
            for bad in [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", authority.path.read_bytes()]:
                certificate.write_bytes(bad)
                count = server.log().count("The certificate in use stays")
                server.process.send_signal(signal.SIGHUP)
                wait_for(lambda: server.log().count("The certificate in use stays") > count)
                assert serial(server) == second
            certificate.unlink()
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: f"{certificate} cannot be read" in server.log())
            certificate.write_bytes(good)
            server.process.send_signal(signal.SIGHUP)
            server.get("/health")
            # Who was connected before all of this still is.
            old.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert received(old).startswith(b"HTTP/1.1 200 OK\r\n")


def test_new_certificates_are_found_without_a_signal(tmp_path, authority):
    first, certificate, key = authority.issue("watched")
    # One file may hold both.
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    settings = ["--ssl-certfile", str(certificate), "--enable-ssl-refresh"]
    with running_server(tmp_path / "log.txt", *settings, tls=trusting(authority)) as server:
        assert serial(server) == first
        second, certificate, key = authority.issue("watched")
        certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
        wait_for(lambda: serial(server) == second)


def refusal(*settings):
    ended = subprocess.run(
        [os.environ["APUS_BINARY"], "serve", os.environ["APUS_TEST_MODEL"], *settings],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=30,
    )
    assert ended.returncode == 78, ended.stderr
    return ended.stderr


def test_files_that_are_none_are_refused_by_name(tmp_path, authority):
    _, certificate, key = authority.issue("refused")
    _, _, stranger = authority.issue("stranger")
    missing, garbage = tmp_path / "missing.pem", tmp_path / "garbage.pem"
    garbage.write_text("nothing")
    for settings, parts in [
        ((missing, key), [missing, "cannot be read"]),
        ((garbage, key), [garbage, "no PEM certificate"]),
        ((certificate, missing), [missing, "cannot be read"]),
        ((certificate, garbage), [garbage, "no PEM private key"]),
        ((certificate, certificate), [certificate, "no PEM private key"]),
        ((certificate, stranger), [stranger, certificate, "does not belong"]),
    ]:
        said = refusal("--ssl-certfile", str(settings[0]), "--ssl-keyfile", str(settings[1]))
        assert all(str(part) in said for part in parts), said
    said = refusal("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--ssl-ca-certs", str(garbage))
    assert str(garbage) in said
    assert "without ssl-certfile" in refusal("--ssl-keyfile", str(key))
    tls = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    assert "without ssl-ca-certs" in refusal(*tls, "--ssl-cert-reqs", "required")
    optional = ["--ssl-ca-certs", str(authority.path), "--ssl-cert-reqs", "optional"]
    assert "no API keys" in refusal(*tls, *optional, "--host", "0.0.0.0")


def test_a_certificate_that_has_ended_is_said(tmp_path, authority):
    _, certificate, key = authority.issue("ended", days=-1)
    checked = subprocess.run(
        [
            os.environ["APUS_BINARY"], "check", os.environ["APUS_TEST_MODEL"], "--ssl-certfile", str(certificate),
            "--ssl-keyfile", str(key),
        ],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
    )
    assert checked.returncode == 0 and "The certificate ended on" in checked.stdout
