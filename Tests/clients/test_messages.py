"""/v1/messages, with Anthropic's own client against the real model."""

import json

import anthropic
import jsonschema
import openai
import pytest

# The client has no argument for what the API still has.
GREEDY = {"temperature": 0}
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def client(server):
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def model(client):
    return "smollm2-135m-instruct"


def test_a_message_is_what_a_chat_answers(client, model, server):
    message = client.messages.create(
        model=model, max_tokens=40, system="You are terse.", messages=QUESTION, extra_body=GREEDY)
    with openai.OpenAI(base_url=server.base_url, api_key="none") as other:
        chat = other.chat.completions.create(
            model=model, max_tokens=40, temperature=0,
            messages=[{"role": "system", "content": "You are terse."}, *QUESTION])
    assert message.content[0].text == chat.choices[0].message.content
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens == chat.usage.prompt_tokens
    assert message.usage.output_tokens == chat.usage.completion_tokens


def test_a_stream_adds_up_to_the_message(client, model):
    settings = dict(model=model, max_tokens=30, messages=QUESTION, extra_body=GREEDY)
    whole = client.messages.create(**settings)
    with client.messages.stream(**settings) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_stops_and_limits_say_why(client, model):
    cut = client.messages.create(model=model, max_tokens=3, messages=QUESTION, extra_body=GREEDY)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 3)
    stopped = client.messages.create(
        model=model, max_tokens=40, messages=QUESTION, stop_sequences=["France"], extra_body=GREEDY)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "France")
    assert "France" not in stopped.content[0].text


def test_the_answer_goes_on_with_a_prefill(client, model):
    message = client.messages.create(
        model=model, max_tokens=8, messages=[*QUESTION, {"role": "assistant", "content": "The capital"}],
        extra_body=GREEDY)
    assert message.content[0].text.startswith(" of France")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_tool_is_called_with_valid_input(client, model, streamed, choice):
    settings = dict(
        model=model, max_tokens=200, tools=[WEATHER], tool_choice=choice, extra_body={"seed": 4},
        messages=[{"role": "user", "content": "How is the weather in Oslo?"}])
    if streamed:
        with client.messages.stream(**settings) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**settings)
    calls = [block for block in message.content if block.type == "tool_use"]
    assert calls and message.stop_reason == "tool_use"
    for call in calls:
        assert call.name == "weather"
        jsonschema.validate(call.input, WEATHER["input_schema"])
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"} for call in calls]
    answer = client.messages.create(
        model=model, max_tokens=20, tools=[WEATHER], extra_body=GREEDY,
        messages=[
            *settings["messages"],
            {"role": "assistant", "content": [block.model_dump() for block in message.content]},
            {"role": "user", "content": results},
        ])
    assert answer.stop_reason in ("end_turn", "max_tokens", "tool_use")


def test_a_form_is_kept(client, model):
    schema = {
        "type": "object",
        "properties": {"capital": {"enum": ["Paris", "Lyon"]}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    message = client.messages.create(
        model=model, max_tokens=60, messages=QUESTION,
        output_config={"format": {"type": "json_schema", "schema": schema}})
    jsonschema.validate(json.loads(message.content[0].text), schema)


def test_tokens_are_counted_as_they_are_used(client, model):
    count = client.messages.count_tokens(model=model, messages=QUESTION, system="Be brief.")
    message = client.messages.create(model=model, max_tokens=1, messages=QUESTION, system="Be brief.")
    assert count.input_tokens == message.usage.input_tokens + message.usage.cache_read_input_tokens


def test_refusals_are_typed(client, model):
    with pytest.raises(anthropic.BadRequestError) as refusal:
        client.messages.create(model=model, max_tokens=5, messages=[{"role": "user", "content": [{"type": "image"}]}])
    assert refusal.value.body["error"]["type"] == "invalid_request_error"
    assert "messages.0.content.0.type" in refusal.value.message
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="another", max_tokens=5, messages=QUESTION)
