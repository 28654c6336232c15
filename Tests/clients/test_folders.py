"""Folders as Hugging Face has them, quantized by the usual tools, served whole; one of them pulled from a hub."""

import hashlib
import http.server
import json
import os
import re
import subprocess
import threading
import urllib.parse

import openai
import pytest
from conftest import MODEL_NAME, running_server

import folders

PROMPTS = ["The swift flies", "ß and 漢字", [5, 80, 200, 7, 7]]
COMMIT = "5eed" * 10


def answers(server):
    """The tokens, and their log-probabilities, that the served model goes on with."""
    client = openai.OpenAI(base_url=server.base_url, api_key="unused", max_retries=0)
    found = []
    for prompt in PROMPTS:
        choice = client.completions.create(
            model=MODEL_NAME, prompt=prompt, max_tokens=24, temperature=0, logprobs=0,
            extra_body={"ignore_eos": True, "return_token_ids": True}).choices[0]
        assert choice.finish_reason == "length"
        found.append((choice.token_ids, choice.logprobs.token_logprobs))
    return found


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """What the plain forms answer in float32."""
    found = {}
    for form in ("plain-groups", "plain-rows"):
        path = tmp_path_factory.mktemp(form)
        folder = folders.write(path / "model", form)
        with running_server(path / "log.txt", "--dtype", "float32", model=str(folder)) as server:
            found[form] = answers(server)
    # A model that says one thing whatever it is asked would prove nothing.
    assert len({tuple(tokens) for tokens, _ in found["plain-groups"]}) == len(PROMPTS)
    assert found["plain-groups"] != found["plain-rows"]
    return found


@pytest.mark.parametrize("form", [form for form in folders.FORMS if not form.startswith("plain")])
def test_a_quantized_folder_answers_as_the_numbers_it_stands_for(form, references, tmp_path):
    expected = references["plain-groups" if folders.FORMS[form][1] else "plain-rows"]
    folder = folders.write(tmp_path / "model", form)
    with running_server(tmp_path / "log.txt", "--dtype", "float32", model=str(folder)) as server:
        for (tokens, logs), (expected_tokens, expected_logs) in zip(answers(server), expected):
            assert tokens == expected_tokens
            assert logs == pytest.approx(expected_logs, abs=1e-4)


@pytest.mark.parametrize("form", [form for form in folders.FORMS if not form.startswith("plain")])
def test_a_quantized_folder_is_near_its_numbers_as_it_is_served_by_default(form, references, tmp_path):
    expected = references["plain-groups" if folders.FORMS[form][1] else "plain-rows"]
    folder = folders.write(tmp_path / "model", form)
    with running_server(tmp_path / "log.txt", model=str(folder)) as server:
        # Activations are rounded here, so later tokens may part; the first's probability is near.
        for (_, logs), (_, expected_logs) in zip(answers(server), expected):
            assert logs[0] == pytest.approx(expected_logs[0], abs=0.3)


def test_rows_that_no_token_has_are_no_text(tmp_path):
    tokens = len(folders.tokenizer()["model"]["vocab"]) + len(folders.tokenizer()["added_tokens"])
    assert tokens < folders.VOCAB
    folder = folders.write(tmp_path / "model", "plain-rows")
    with running_server(tmp_path / "log.txt", "--dtype", "float32", model=str(folder)) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="unused", max_retries=0)
        choices = client.completions.create(
            model=MODEL_NAME, prompt="a", max_tokens=200, temperature=2, n=8, seed=1, logprobs=5,
            extra_body={"ignore_eos": True, "return_token_ids": True}).choices
        assert any(token >= tokens for choice in choices for token in choice.token_ids)
        assert all(choice.finish_reason == "length" and len(choice.token_ids) == 200 for choice in choices)
        # A grammar leaves no way to them.
        choices = client.chat.completions.create(
            model=MODEL_NAME, messages=[{"role": "user", "content": "hi"}], max_tokens=200, temperature=2, n=4, seed=1,
            extra_body={"structured_outputs": {"regex": "[a-z]{5,8}"}, "return_token_ids": True}).choices
        for choice in choices:
            assert re.fullmatch("[a-z]{5,8}", choice.message.content) and choice.finish_reason == "stop"


class Hub(http.server.BaseHTTPRequestHandler):
    """The routes of a hub that has one repository, acme/tiny; it wants a token."""

    folder = None
    token = "hf_0123456789"
    seen = []

    def log_message(self, *arguments):
        pass

    def send(self, content, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        self.seen.append(path)
        if self.headers.get("Authorization") != f"Bearer {self.token}":
            return self.send(b"", 401)
        if path == "/api/models/acme/tiny/revision/v1":
            return self.send(json.dumps({"sha": COMMIT, "siblings": [self.sibling(f) for f in self.files()]}).encode())
        name = path.removeprefix(f"/acme/tiny/resolve/{COMMIT}/")
        if name in [file.name for file in self.files()]:
            return self.send((self.folder / name).read_bytes())
        return self.send(b"", 404)

    def files(self):
        return sorted(self.folder.iterdir())

    @staticmethod
    def sibling(file):
        content = file.read_bytes()
        entry = {"rfilename": file.name, "size": len(content),
                 "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
        if file.suffix == ".safetensors":
            entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry


def test_a_folder_is_pulled_from_a_hub_and_served(tmp_path, references):
    Hub.folder = folders.write(tmp_path / "upstream", "awq")
    hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    name, home = "hf:acme/tiny@v1", str(tmp_path / "home")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("APUS_")} | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "no_proxy": "127.0.0.1"}
    pull = [os.environ["APUS_BINARY"], "pull", name, "--home", home]
    try:
        refused = subprocess.run(pull, env=environment, capture_output=True, text=True, timeout=60)
        assert refused.returncode != 0 and "HF_TOKEN" in refused.stderr, refused.stderr
        done = subprocess.run(
            pull, env=environment | {"HF_TOKEN": Hub.token}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert Hub.token not in done.stdout + done.stderr
    finally:
        hub.shutdown()
        hub.server_close()
    # From here on there is no hub: what was pulled is enough.
    settings = {"HF_ENDPOINT": environment["HF_ENDPOINT"], "APUS_HOME": home}
    with running_server(
            tmp_path / "log.txt", "--dtype", "float32", model=name, environment=settings) as server:
        assert [tokens for tokens, _ in answers(server)] == [tokens for tokens, _ in references["plain-groups"]]
        card = json.loads(server.get("/v1/models"))["data"][0]
        weights = hashlib.sha256((Hub.folder / "model.safetensors").read_bytes()).hexdigest()
        assert weights in json.dumps(card), card
