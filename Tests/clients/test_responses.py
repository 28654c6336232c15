"""/v1/responses, with OpenAI's own client against the real model."""

import json

import jsonschema
import openai
import pydantic
import pytest

QUESTION = "What is the capital of France? Answer in one sentence."
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


def test_a_response_is_what_a_chat_answers(client, model):
    response = client.responses.create(
        model=model, instructions="You are terse.", input=QUESTION, max_output_tokens=40, temperature=0)
    chat = client.chat.completions.create(
        model=model, max_tokens=40, temperature=0,
        messages=[{"role": "system", "content": "You are terse."}, {"role": "user", "content": QUESTION}])
    assert response.output_text == chat.choices[0].message.content
    assert (response.status, response.instructions) == ("completed", "You are terse.")
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    assert response.usage.output_tokens == chat.usage.completion_tokens


def test_a_stream_adds_up_to_the_response(client, model):
    settings = dict(model=model, input=QUESTION, max_output_tokens=30, temperature=0)
    whole = client.responses.create(**settings)
    with client.responses.stream(**settings) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == list(range(len(events)))
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == final.output_text == whole.output_text and len(pieces) > 1
    assert final.usage == whole.usage


def test_a_limit_is_an_incomplete_response(client, model):
    response = client.responses.create(model=model, input=QUESTION, max_output_tokens=2, temperature=0)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("streamed", [False, True])
def test_functions_are_called_and_answered(client, model, streamed):
    settings = dict(
        model=model, input="How is the weather in Oslo?", tools=[WEATHER], tool_choice="required",
        max_output_tokens=200, temperature=1, extra_body={"seed": 3})
    if streamed:
        with client.responses.stream(**settings) as stream:
            response = stream.get_final_response()
    else:
        response = client.responses.create(**settings)
    calls = [item for item in response.output if item.type == "function_call"]
    assert calls
    for call in calls:
        assert call.name == "weather"
        jsonschema.validate(json.loads(call.arguments), WEATHER["parameters"])
    answer = client.responses.create(
        model=model, tools=[WEATHER], max_output_tokens=20, temperature=0,
        input=[
            {"role": "user", "content": settings["input"]},
            *[
                {"type": "function_call", "call_id": c.call_id, "name": c.name, "arguments": c.arguments}
                for c in calls
            ],
            *[{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls],
        ])
    assert answer.output


def test_pydantic_models_are_parsed(client, model):
    class City(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        inhabitants: int

    response = client.responses.parse(
        model=model, input=QUESTION, text_format=City, max_output_tokens=200, temperature=1)
    assert isinstance(response.output_parsed, City)


def test_logprobs_stand_beside_the_text(client, model):
    response = client.responses.create(
        model=model, input=QUESTION, max_output_tokens=4, temperature=0, top_logprobs=2,
        include=["message.output_text.logprobs"])
    logprobs = response.output[0].content[0].logprobs
    assert "".join(entry.token for entry in logprobs) == response.output_text
    assert all(len(entry.top_logprobs) == 2 for entry in logprobs)


def test_what_needs_a_memory_is_refused_by_name(client, model):
    for fields, name in (
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ):
        with pytest.raises(openai.BadRequestError) as refusal:
            client.responses.create(model=model, input=QUESTION, **fields)
        assert refusal.value.param == name
