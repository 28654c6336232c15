"""Embeddings by OpenAI's own client, and what a busy server must not change about them."""

import asyncio
import json
import threading

import openai
import pytest
from conftest import MODEL_NAME, running_server
from wire import Wire

TEXTS = [
    "The cat sat on the mat.",
    "A kitten rests on a rug.",
    "Quarterly revenue fell by two percent.",
    "日本語の文章です。👋🏽",
    "word " * 300,
    "The cat sat on the mat, and then it sat on the other mat, and the mat was flat.",
]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def vectors(client):
    return [entry.embedding for entry in client.embeddings.create(model=MODEL_NAME, input=TEXTS).data]


def test_a_text_becomes_a_vector_of_length_1(client):
    answer = client.embeddings.create(model=MODEL_NAME, input="The cat sat on the mat.")
    assert (answer.object, answer.model, answer.data[0].object, answer.data[0].index) == (
        "list", MODEL_NAME, "embedding", 0,
    )
    vector = answer.data[0].embedding
    assert len(vector) == 576 and sum(x * x for x in vector) == pytest.approx(1, abs=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_floats_are_what_the_client_unpacks_from_base64(client, vectors):
    # The SDK asks for base64 unless it is told otherwise.
    floats = client.embeddings.create(model=MODEL_NAME, input=TEXTS, encoding_format="float")
    for entry, vector in zip(floats.data, vectors):
        assert entry.embedding == pytest.approx(vector, abs=1e-7)


def test_dimensions_and_extra_fields(client, vectors):
    answer = client.embeddings.create(model=MODEL_NAME, input=TEXTS[0], dimensions=64, user="somebody")
    length = sum(x * x for x in vectors[0][:64]) ** 0.5
    assert answer.data[0].embedding == pytest.approx([x / length for x in vectors[0][:64]], abs=1e-6)
    plain = client.embeddings.create(model=MODEL_NAME, input=TEXTS[0], extra_body={"use_activation": False})
    length = sum(x * x for x in plain.data[0].embedding) ** 0.5
    assert length > 2 and [x / length for x in plain.data[0].embedding] == pytest.approx(vectors[0], abs=1e-6)


def test_errors_are_the_clients_own(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=MODEL_NAME, input=["x", ""])
    assert refused.value.param == "input.1"
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.embeddings.create(model=MODEL_NAME, input="word " * 12000)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nope", input="x")
    cut = client.embeddings.create(model=MODEL_NAME, input="word " * 12000, extra_body={"truncate_prompt_tokens": -1})
    assert cut.usage.prompt_tokens == 8192


def test_a_batch_is_each_text_alone_while_others_are_served(client, server, vectors):
    async def all_at_once():
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0) as asynchronous:
            texts = asyncio.gather(*(asynchronous.embeddings.create(model=MODEL_NAME, input=text) for text in TEXTS * 3))
            answers = asyncio.gather(*(
                asynchronous.completions.create(model=MODEL_NAME, prompt="Once", max_tokens=40) for _ in range(4)))
            batch = asynchronous.embeddings.create(model=MODEL_NAME, input=TEXTS * 30)
            return await asyncio.gather(texts, answers, batch)

    alone, answers, batch = asyncio.run(all_at_once())
    assert [answer.data[0].embedding for answer in alone] == vectors * 3
    assert all(answer.choices[0].text for answer in answers)
    assert [entry.embedding for entry in batch.data] == vectors * 30
    assert [entry.index for entry in batch.data] == list(range(180))


def test_meaning_shows_a_little(vectors):
    def likeness(one, other):
        return sum(a * b for a, b in zip(vectors[one], vectors[other]))

    assert likeness(0, 1) > likeness(0, 2)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_small_cache_and_small_steps_change_no_bit(tmp_path, pooling):
    settings = ["--pooling", pooling]
    small = ["--max-num-batched-tokens", "24", "--max-num-seqs", "6", "--num-gpu-blocks-override", "48",
             "--max-model-len", "768"]
    bodies = []
    for name, more in [("large", []), ("small", small)]:
        with running_server(tmp_path / f"{name}.txt", *settings, *more) as server:
            wire = Wire(server)
            stop = threading.Event()

            def generate():
                while not stop.is_set():
                    wire.complete(TEXTS[0] * 4, max_tokens=60, ignore_eos=True)

            threads = [threading.Thread(target=generate) for _ in range(3 if more else 0)]
            for thread in threads:
                thread.start()
            try:
                answers = [wire.post("/v1/embeddings", input=TEXTS, encoding_format="base64") for _ in range(2)]
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            assert all(answer.status == 200 for answer in answers), answers[0].body[:500]
            bodies += [[entry["embedding"] for entry in answer.json["data"]] for answer in answers]
    assert bodies[1:] == bodies[:1] * 3


def test_a_trace_shows_each_step(tmp_path):
    with running_server(tmp_path / "log.txt", "--profile-dir", str(tmp_path / "traces")) as server:
        wire = Wire(server)
        assert wire.send("POST", "/stop_profile", headers={}).status == 409
        # vLLM's bench sends the body of the request that it is about to measure.
        assert wire.post("/start_profile", prompt="x", model=MODEL_NAME).status == 200
        assert wire.send("POST", "/start_profile", headers={}).error["code"] == 409
        wire.complete(max_tokens=8, ignore_eos=True)
        wire.post("/v1/embeddings", input="A text.")
        stopped = wire.send("POST", "/stop_profile", headers={}).json
        assert stopped["steps"] >= 9 and stopped["missed"] == 0
        trace = json.loads((tmp_path / "traces" / stopped["file"]).read_text())
        steps = [event for event in trace["traceEvents"] if event["name"] == "execute"]
        assert len(steps) == stopped["steps"]
        assert sum(step["args"]["samples"] for step in steps) == 9
        assert all(step["ph"] == "X" and step["dur"] >= 0 and step["args"]["tokens"] > 0 for step in steps)
        limited = [wire.post("/start_profile", max_iterations=2).status, wire.complete(max_tokens=8).status]
        assert limited == [200, 200]
        assert wire.send("POST", "/stop_profile", headers={}).json["steps"] == 2
