"""The parts of OpenAI's client that look at more than the answer: raw responses, the streaming helper, its retries."""

import asyncio

import openai
import pytest

from conftest import MODEL_NAME

MESSAGES = [{"role": "user", "content": "Name one colour."}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_raw_responses_have_headers_and_parse(client):
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL_NAME, messages=MESSAGES, max_tokens=2, extra_headers={"X-Request-Id": "my-label"}
    )
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["x-request-id"] == "my-label"
    assert raw.request_id == "my-label"
    assert raw.parse().id == "chatcmpl-my-label"


def test_a_raw_stream_is_lines_of_events(client):
    with client.completions.with_streaming_response.create(
        model=MODEL_NAME, prompt="One,", max_tokens=3, temperature=0, stream=True
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        lines = list(raw.iter_lines())
    assert lines[-2:] == ["data: [DONE]", ""] or lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: ") for line in lines if line)


def test_the_streaming_helper_puts_the_answer_together(client):
    # The helper raises where the limit ends the answer, so something else must.
    settings = dict(model=MODEL_NAME, messages=MESSAGES, max_tokens=200, temperature=0, stop=["."])
    with client.chat.completions.stream(**settings) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    whole = client.chat.completions.create(**settings)
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason


def test_the_async_stream_ends_and_can_be_left(server):
    async def run():
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:
            settings = dict(model=MODEL_NAME, messages=MESSAGES, stream=True)
            async with await client.chat.completions.create(**settings, max_tokens=400) as stream:
                async for _ in stream:
                    break
            return [chunk async for chunk in await client.chat.completions.create(**settings, max_tokens=3)]

    assert asyncio.run(run())[-1].choices[0].finish_reason in ("stop", "length")


def test_a_refusal_is_not_tried_again(server):
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=2) as client:

        def refused():
            line = 'http_requests_total{handler="/v1/chat/completions",method="POST",status="4xx"}'
            return float(server.get("/metrics").partition(line)[2].split()[0])

        count = refused()
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=MODEL_NAME, messages=MESSAGES, temperature=9)
        assert refused() == count + 1
