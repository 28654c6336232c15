"""Adapters by the openai client: several in one batch, loaded and unloaded while requests run."""

import json
import pathlib
import shutil
import threading
import time
import urllib.error
import urllib.request

import openai
import pytest

from conftest import MODEL_NAME, running_server

FIXTURE = pathlib.Path(__file__).parent.parent / "Fixtures" / "adapters" / "smollm2"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """A folder with the fixture, the same with the opposite sign, and what is none."""
    folder = tmp_path_factory.mktemp("adapters")
    shutil.copytree(FIXTURE, folder / "first")
    shutil.copytree(FIXTURE, folder / "second")
    config = json.loads((folder / "second" / "adapter_config.json").read_text())
    config["lora_alpha"] = -config["lora_alpha"]
    (folder / "second" / "adapter_config.json").write_text(json.dumps(config))
    shutil.copytree(FIXTURE, folder / "dora")
    config["use_dora"] = True
    (folder / "dora" / "adapter_config.json").write_text(json.dumps(config))
    (folder / "outside").symlink_to(FIXTURE)
    return folder


@pytest.fixture(scope="module")
def server(adapters, tmp_path_factory):
    with running_server(
        tmp_path_factory.mktemp("lora") / "log.txt", "--dtype", "float32", "--max-model-len", "512", "--enable-lora",
        "--lora-modules", f"first={adapters / 'first'}", "--max-loras", "2", "--max-lora-rank", "2",
        "--lora-dir", str(adapters), "--allowed-origins", "https://pages.example",
    ) as server:
        yield server


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0)


def post(server, path, **body):
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode(), response.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"], error.headers["Content-Type"]


def load(server, name, path=None, **more):
    return post(server, "/v1/load_lora_adapter", lora_name=name, lora_path=path or name, **more)


def unload(server, name):
    return post(server, "/v1/unload_lora_adapter", lora_name=name)


def complete(client, model, prompt=None, tokens=16):
    answer = client.completions.create(
        model=model, prompt=prompt or EXPECTED["prompt"], max_tokens=tokens, temperature=0,
        extra_body={"ignore_eos": True, "return_token_ids": True})
    assert answer.model == model
    return answer.choices[0].token_ids


def test_one_batch_of_adapters_and_the_model_gives_what_the_reference_gives(server, client):
    assert load(server, "second")[0] == 200
    alone = complete(client, "second")
    results, names = {}, [MODEL_NAME, "first", "second"] * 3

    def run(index, name):
        results[index] = complete(client, name)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, name in enumerate(names):
        expected = {"first": EXPECTED["greedy"], MODEL_NAME: EXPECTED["plain"], "second": alone}[name]
        assert results[index] == expected, name
    assert alone not in (EXPECTED["greedy"], EXPECTED["plain"])
    assert unload(server, "second")[0] == 200


def test_every_adapter_has_a_card_whose_parent_is_the_model(server, client):
    cards = {card.id: card for card in client.models.list()}
    assert list(cards) == [MODEL_NAME, "first"]
    assert cards[MODEL_NAME].parent is None and cards["first"].parent == MODEL_NAME
    assert client.models.retrieve("first").id == "first"


def test_every_api_takes_an_adapter_as_its_model(server, client):
    messages = [{"role": "user", "content": "Say a word."}]
    chat = client.chat.completions.create(model="first", messages=messages, max_tokens=4, temperature=0)
    plain = client.chat.completions.create(model=MODEL_NAME, messages=messages, max_tokens=4, temperature=0)
    assert chat.model == "first" and chat.choices[0].message.content != plain.choices[0].message.content
    response = client.responses.create(model="first", input="Say a word.", max_output_tokens=4, temperature=0)
    assert response.model == "first"
    status, body, _ = post(
        server, "/v1/messages", model="first", max_tokens=4, temperature=0, messages=messages)
    assert status == 200 and json.loads(body)["content"][0]["text"] == chat.choices[0].message.content
    vectors = [
        client.embeddings.create(model=name, input="A word.").data[0].embedding for name in ("first", MODEL_NAME)]
    assert vectors[0] != vectors[1] and len(vectors[0]) == len(vectors[1])
    with pytest.raises(openai.NotFoundError, match="first"):
        complete(client, "third")


def test_a_prefix_is_not_shared_between_the_model_and_an_adapter(server, client):
    prompt = list(range(100, 180))

    def cached(model):
        before = server.metric("prefix_cache_hits_total")
        complete(client, model, prompt, tokens=2)
        return server.metric("prefix_cache_hits_total") - before

    assert cached(MODEL_NAME) == 0 and cached("first") == 0
    assert cached(MODEL_NAME) == 64 and cached("first") == 64
    assert load(server, "first", load_inplace=True)[0] == 200
    assert cached("first") == 0 and cached(MODEL_NAME) == 64


def test_what_is_wrong_with_loading_is_said(server):
    status, text, kind = load(server, "second")
    assert (status, text, kind) == (200, "The adapter 'second' is loaded.", "text/plain; charset=utf-8")
    for answer, part in [
        (load(server, "second"), "loaded already"),
        (load(server, MODEL_NAME), "name of the model"),
        (load(server, "third", "second"), "may be (2"),
        (post(server, "/v1/load_lora_adapter", lora_name="third"), "lora_path"),
        (post(server, "/v1/unload_lora_adapter"), "lora_name"),
    ]:
        assert answer[0] == 400 and answer[1]["type"] == "InvalidUserInput" and part in answer[1]["message"], answer
    assert unload(server, "second")[:2] == (200, "The adapter 'second' is unloaded.")
    status, error, _ = unload(server, "second")
    assert status == 404 and error["type"] == "NotFoundError"


@pytest.mark.parametrize("path", ["../first", "/etc", "outside", "first/../../x", ".", "", "dora", "absent"])
def test_only_adapters_in_the_folder_are_loaded_and_no_path_is_told(server, adapters, path):
    status, error, _ = load(server, "other", path) if path else post(
        server, "/v1/load_lora_adapter", lora_name="other", lora_path="")
    assert status == 400 and error["type"] == "InvalidUserInput"
    assert str(adapters) not in error["message"] and str(FIXTURE) not in error["message"]
    if path == "dora":
        assert "dora/adapter_config.json" in error["message"] and "use_dora is true" in error["message"]


def test_adapters_come_and_go_under_load(server, client):
    """Every request gets the tokens of the adapter that it began with, or is told that there is none."""
    results, ends = [], time.monotonic() + 6

    def run(name, expected):
        while time.monotonic() < ends:
            try:
                results.append((name, complete(client, name, tokens=16) == expected))
            except openai.NotFoundError:
                results.append((name, None))

    threads = [
        threading.Thread(target=run, args=pair)
        for pair in [("first", EXPECTED["greedy"]), (MODEL_NAME, EXPECTED["plain"]), ("moving", EXPECTED["greedy"])] * 2]
    for thread in threads:
        thread.start()
    changes = 0
    while time.monotonic() < ends:
        # A place may still be used by requests of the adapter before.
        changes += load(server, "moving", "first")[0] == 200
        time.sleep(0.2)
        changes += load(server, "moving", "first", load_inplace=True)[0] == 200
        time.sleep(0.2)
        assert unload(server, "moving")[0] in (200, 404)
    for thread in threads:
        thread.join()
    assert changes > 2
    assert all(outcome is not False for _, outcome in results)
    assert all(outcome for name, outcome in results if name != "moving")
    assert {"first", MODEL_NAME, "moving"} == {name for name, outcome in results if outcome}


def test_metrics_name_the_adapters_in_use(server, client):
    def line():
        found = [text for text in server.get("/metrics").splitlines() if text.startswith("vllm:lora_requests_info{")]
        assert len(found) == 1
        return found[0]

    assert 'max_lora="2",running_lora_adapters="",waiting_lora_adapters=""' in line()
    stream = client.completions.create(
        model="first", prompt=EXPECTED["prompt"], max_tokens=300, temperature=0, stream=True,
        extra_body={"ignore_eos": True})
    next(iter(stream))
    assert 'running_lora_adapters="first"' in line()
    assert abs(float(line().split()[-1]) - time.time()) < 10
    stream.close()


def test_loading_is_off_unless_a_folder_is_named(tmp_path, adapters):
    with running_server(
        tmp_path / "log.txt", "--enable-lora", "--lora-modules", f"first={adapters / 'first'}", "--max-lora-rank", "2",
    ) as server:
        for answer in [load(server, "second"), unload(server, "first")]:
            assert answer[0] == 404 and answer[1]["type"] == "NotFoundError" and "--lora-dir" in answer[1]["message"]
        assert '"first"' in server.get("/v1/models")
