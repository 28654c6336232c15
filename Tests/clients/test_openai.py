"""OpenAI's own client, unchanged: what it reads must be where it looks for it."""

import asyncio

import openai
import pytest

MESSAGES = [{"role": "user", "content": "Name one colour."}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


def test_models_are_listed_and_retrieved(client, model):
    card = client.models.retrieve(model)
    assert (card.id, card.object, card.owned_by) == (model, "model", "apus")
    assert card.created > 0
    assert card.model_extra["root"]
    assert card.model_extra["max_model_len"] > 0


def test_chat_answers(client, model):
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8, temperature=0)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 0
    assert 1 <= answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id in answer.id


def test_chat_stream_joins_to_the_whole_answer(client, model):
    settings = dict(model=model, messages=MESSAGES, max_tokens=24, temperature=0)
    whole = client.chat.completions.create(**settings)
    chunks = list(
        client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True})
    )
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    deltas = [chunk.choices[0] for chunk in chunks[:-1]]
    assert "".join(choice.delta.content or "" for choice in deltas) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in deltas if choice.finish_reason] == [whole.choices[0].finish_reason]


def test_completion_stream_has_a_chunk_for_each_token(client, model):
    settings = dict(model=model, prompt="One, two, three,", max_tokens=12, temperature=0)
    whole = client.completions.create(**settings)
    chunks = list(client.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert len(chunks) - 1 == whole.usage.completion_tokens
    assert chunks[-1].usage == whole.usage


def test_prompts_in_every_shape(client, model):
    tokens = client.completions.create(model=model, prompt=[504, 3575], max_tokens=1)
    assert tokens.usage.prompt_tokens == 2
    batch = client.completions.create(model=model, prompt=["One", "Two"], n=2, max_tokens=2, seed=1)
    assert [choice.index for choice in batch.choices] == [0, 1, 2, 3]
    lists = client.completions.create(model=model, prompt=[[504], [504, 3575]], max_tokens=1)
    assert lists.usage.prompt_tokens == 3


def test_seeded_sampling_repeats(client, model):
    settings = dict(model=model, prompt="Once upon a time", max_tokens=16, temperature=1, seed=42)
    texts = {client.completions.create(**settings).choices[0].text for _ in range(3)}
    assert len(texts) == 1


def test_stop_string_is_cut(client, model):
    answer = client.completions.create(
        model=model, prompt="1, 2, 3, 4, 5,", max_tokens=32, temperature=0, stop=[","]
    )
    assert "," not in answer.choices[0].text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].model_extra["stop_reason"] == ","


def test_logprobs(client, model):
    chat = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=3, temperature=0, logprobs=True, top_logprobs=2
    )
    for token in chat.choices[0].logprobs.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 2
        assert token.top_logprobs[0].logprob == token.logprob
    completion = client.completions.create(model=model, prompt="The sky is", max_tokens=3, temperature=0, logprobs=1)
    lists = completion.choices[0].logprobs
    assert len(lists.tokens) == len(lists.token_logprobs) == len(lists.top_logprobs) == 3
    assert lists.text_offset[0] == 0


def test_ignore_eos_runs_to_the_limit(client, model):
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=100, temperature=0, extra_body={"ignore_eos": True}
    )
    assert answer.usage.completion_tokens == 100
    assert answer.choices[0].finish_reason == "length"


def test_the_async_client_runs_many_at_once(server, model):
    async def run():
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none", timeout=120) as client:

            async def one(index):
                stream = await client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": f"Say {index}."}], max_tokens=8, stream=True
                )
                return [chunk async for chunk in stream]

            return await asyncio.gather(*(one(index) for index in range(16)))

    for chunks in asyncio.run(run()):
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_a_client_that_closes_a_stream_early_is_served_again(client, model):
    for _ in range(3):
        stream = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=500, stream=True)
        next(iter(stream))
        stream.close()
    assert client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=1).choices


@pytest.mark.parametrize(
    "settings, parameter",
    [
        ({"temperature": 3}, "temperature"),
        ({"n": 20000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_refusals_name_the_field(client, model, settings, parameter):
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model=model, messages=MESSAGES, **settings)
    assert refusal.value.param == parameter
    assert int(refusal.value.code) == 400
    assert parameter in refusal.value.message


def test_errors_have_their_classes(client, model):
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nothing", messages=MESSAGES)
    assert "does not exist" in missing.value.message
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.completions.create(model=model, prompt="word " * 100_000)


def test_tokenize_and_detokenize_are_inverse(client):
    text = "Grüße, 世界 👋🏽 <|im_end|>"
    tokens = client.post("http://" + client.base_url.netloc.decode() + "/tokenize", body={"prompt": text}, cast_to=object)
    back = client.post(
        "http://" + client.base_url.netloc.decode() + "/detokenize", body={"tokens": tokens["tokens"]}, cast_to=object
    )
    assert back["prompt"] == text
    assert tokens["count"] == len(tokens["tokens"])
