"""Functions that the model calls: demanded ones are guaranteed by a grammar, and go through OpenAI's own loop."""

import json

import openai
import pydantic
import pytest

MESSAGES = [{"role": "user", "content": "What is the weather in Paris and in Rome?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Paris", "Rome", "Oslo"]},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"left": {"type": "integer"}, "right": {"type": "integer"}},
            "required": ["left", "right"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


def ask(client, model, messages=MESSAGES, **fields):
    fields = {"max_tokens": 300, "temperature": 1, "seed": 7, "tools": [WEATHER, ADD]} | fields
    return client.chat.completions.create(model=model, messages=messages, **fields)


def check_call(call):
    arguments = json.loads(call.function.arguments)
    if call.function.name == "get_weather":
        assert arguments.keys() == {"city", "unit"} and arguments["city"] in ("Paris", "Rome", "Oslo")
    else:
        assert call.function.name == "add" and all(isinstance(value, int) for value in arguments.values())


@pytest.mark.parametrize("seed", range(4))
def test_a_demanded_call_is_made(client, model, seed):
    choice = ask(client, model, tool_choice="required", parallel_tool_calls=False, seed=seed).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert len(choice.message.tool_calls) == 1
    assert choice.message.tool_calls[0].id and choice.message.tool_calls[0].type == "function"
    check_call(choice.message.tool_calls[0])


def test_the_named_function_is_called(client, model):
    named = {"type": "function", "function": {"name": "add"}}
    choice = ask(client, model, tool_choice=named).choices[0]
    assert choice.finish_reason == "stop"
    assert [call.function.name for call in choice.message.tool_calls] == ["add"]
    check_call(choice.message.tool_calls[0])


def test_streamed_calls_are_the_same(client, model):
    fields = {"tool_choice": "required", "parallel_tool_calls": False, "seed": 3}
    whole = ask(client, model, **fields).choices[0].message.tool_calls[0].function
    name, arguments, ids, reasons = "", "", [], []
    for chunk in ask(client, model, stream=True, **fields):
        choice = chunk.choices[0]
        reasons.append(choice.finish_reason)
        for call in choice.delta.tool_calls or []:
            assert call.index == 0
            ids += [call.id] if call.id else []
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (name, arguments) == (whole.name, whole.arguments)
    assert len(ids) == 1
    assert reasons[-1] == "tool_calls"


def test_the_loop_of_calls_and_results(client, model):
    messages = list(MESSAGES)
    answer = ask(client, model, tool_choice="required", parallel_tool_calls=False).choices[0].message
    messages.append(answer)
    call = answer.tool_calls[0]
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "21 degrees, sunny"})
    final = ask(client, model, messages, tool_choice="none", temperature=0, max_tokens=60).choices[0]
    assert final.message.content and not final.message.tool_calls
    free = ask(client, model, messages, tool_choice="auto", temperature=0, max_tokens=60).choices[0]
    assert free.finish_reason in ("stop", "length", "tool_calls")


def test_strict_functions_are_kept_to_where_the_model_is_free(client, model):
    strict = json.loads(json.dumps(WEATHER))
    strict["function"]["strict"] = True
    for seed in range(6):
        choice = ask(client, model, tools=[strict], seed=seed).choices[0]
        for call in choice.message.tool_calls or []:
            if choice.finish_reason == "tool_calls":
                check_call(call)


def test_pydantic_functions_are_parsed(client, model):
    class GetWeather(pydantic.BaseModel):
        city: str = pydantic.Field(max_length=20)
        days: int

    answer = client.chat.completions.parse(
        model=model, messages=MESSAGES, max_tokens=300, temperature=0,
        tools=[openai.pydantic_function_tool(GetWeather)], tool_choice="required", parallel_tool_calls=False,
    )
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, GetWeather)


@pytest.mark.parametrize(
    "fields, parameter",
    [
        ({"tools": []}, "tools"),
        ({"tools": openai.NOT_GIVEN, "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice.function.name"),
        ({"tools": [WEATHER, WEATHER]}, "tools.1.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "retrieval"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "object", "not": {"type": "object"}}}}],
          "tool_choice": "required"}, "tools"),
    ],
)
def test_what_makes_no_sense_is_refused(client, model, fields, parameter):
    with pytest.raises(openai.BadRequestError) as refusal:
        ask(client, model, **fields)
    assert refusal.value.param == parameter


def test_broken_arguments_in_the_history_are_refused(client, model):
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{"}}
    messages = MESSAGES + [{"role": "assistant", "content": None, "tool_calls": [call]}]
    with pytest.raises(openai.BadRequestError) as refusal:
        ask(client, model, messages)
    assert refusal.value.param == "messages.1.tool_calls.0.function.arguments"
