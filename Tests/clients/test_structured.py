"""Answers in a form that was asked for, from a model that is far too small to keep to one by itself."""

import concurrent.futures
import enum
import json
import re

import jsonschema
import openai
import pydantic
import pytest

MESSAGES = [{"role": "user", "content": "Describe a person, a fruit and a city."}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


def ask(client, model, **fields):
    fields = {"max_tokens": 400, "temperature": 1, "seed": 1} | fields
    return client.chat.completions.create(model=model, messages=MESSAGES, **fields).choices[0]


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 24},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "married": {"type": "boolean"},
        "eyes": {"enum": ["brown", "blue", "green"]},
        "born": {"type": "string", "format": "date"},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/pet"}, "maxItems": 2},
    },
    "required": ["name", "age", "eyes", "born"],
    "additionalProperties": False,
    "$defs": {
        "pet": {
            "type": "object",
            "properties": {"kind": {"const": "cat"}, "weight": {"type": "number", "minimum": 1, "maximum": 9.5}},
            "required": ["kind", "weight"],
            "additionalProperties": False,
        }
    },
}


def test_a_schema_is_kept_whatever_is_drawn(client, model):
    def check(seed):
        choice = ask(client, model, seed=seed, response_format=schema_format(PERSON))
        assert choice.finish_reason in ("stop", "length")
        if choice.finish_reason == "stop":
            jsonschema.validate(
                json.loads(choice.message.content), PERSON, format_checker=jsonschema.FormatChecker()
            )
        return choice.finish_reason == "stop"

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        finished = sum(pool.map(check, range(16)))
    assert finished >= 12


def test_any_object_regex_choice_and_grammar(client, model):
    choice = ask(client, model, response_format={"type": "json_object"}, max_tokens=200, temperature=0)
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)
    for outputs, pattern in (
        ({"regex": r"[A-Z][a-z]{2,8} \d{4}-\d{2}"}, r"[A-Z][a-z]{2,8} \d{4}-\d{2}"),
        ({"choice": ["positive", "negative", "neutral 🙂"]}, "positive|negative|neutral 🙂"),
        ({"grammar": 'root ::= "yes" | "no" (" " [a-z]+ "!")?'}, r"yes|no( [a-z]+!)?"),
        ({"json": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}}, r"\[\s*-?\d+,\s*-?\d+\s*\]"),
    ):
        for seed in range(3):
            choice = ask(client, model, seed=seed, extra_body={"structured_outputs": outputs})
            if choice.finish_reason == "stop":
                assert re.fullmatch(pattern, choice.message.content), (outputs, choice.message.content)


def test_completions_have_forms_too(client, model):
    answer = client.completions.create(
        model=model, prompt="The colour of grass is", max_tokens=20, temperature=1, n=3, seed=3, logprobs=2,
        extra_body={"structured_outputs": {"choice": ["green", "blue"]}},
    )
    assert {choice.text for choice in answer.choices} <= {"green", "blue"}
    assert all(choice.finish_reason == "stop" and choice.logprobs.tokens for choice in answer.choices)


def test_forms_are_known_by_their_older_names(client, model):
    for name, value, pattern in (
        ("guided_regex", r"[A-F]{3}-\d{2,4}", r"[A-F]{3}-\d{2,4}"),
        ("guided_choice", ["yes", "no"], "yes|no"),
        ("guided_grammar", 'root ::= "left" | "right"', "left|right"),
        ("guided_json", {"type": "array", "items": {"type": "boolean"}, "maxItems": 1}, r"\[\s*(true|false)?\s*\]"),
    ):
        choice = ask(client, model, extra_body={name: value})
        assert re.fullmatch(pattern, choice.message.content), (name, choice.message.content)


def test_a_streamed_answer_is_the_same_text(client, model):
    whole = ask(client, model, response_format=schema_format(PERSON)).message.content
    chunks = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=400, temperature=1, seed=1,
        response_format=schema_format(PERSON), stream=True,
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole


def test_pydantic_models_are_parsed(client, model):
    class Size(enum.Enum):
        SMALL = "small"
        LARGE = "large"

    class Part(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        size: Size

    class Machine(pydantic.BaseModel):
        title: str = pydantic.Field(max_length=20)
        parts: list[Part] = pydantic.Field(max_length=2)
        price: float | None

    answer = client.chat.completions.parse(
        model=model, messages=MESSAGES, max_tokens=400, temperature=0, response_format=Machine
    )
    assert isinstance(answer.choices[0].message.parsed, Machine)


@pytest.mark.parametrize(
    "fields, parameter, words",
    [
        ({"response_format": schema_format({"type": "object", "unevaluatedProperties": False})},
         "response_format.json_schema.schema", "unevaluatedProperties"),
        ({"response_format": schema_format({"type": "string", "minLength": 9, "maxLength": 3})},
         "response_format.json_schema.schema", "nothing can satisfy"),
        ({"response_format": schema_format({"$ref": "#"})}, "response_format.json_schema.schema", "#"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_object"),
        ({"extra_body": {"structured_outputs": {"regex": "(a+)+$("}}}, "structured_outputs.regex", "character"),
        ({"extra_body": {"structured_outputs": {"regex": "(a|b)*a(a|b){18}"}}},
         "structured_outputs.regex", "limit"),
        ({"extra_body": {"structured_outputs": {"grammar": "root ::= other"}}}, "structured_outputs.grammar", "other"),
        ({"extra_body": {"structured_outputs": {"regex": "a", "choice": ["a"]}}}, "structured_outputs", "exactly one"),
        ({"extra_body": {"structured_outputs": {}}}, "structured_outputs", "exactly one"),
    ],
)
def test_what_cannot_be_guaranteed_is_refused(client, model, fields, parameter, words):
    with pytest.raises(openai.BadRequestError) as refusal:
        ask(client, model, **fields)
    assert refusal.value.param == parameter
    assert words in refusal.value.message


KEYS = {
    "type": "object",
    "properties": {
        "customer_identification_number": {"type": "integer", "minimum": 0, "maximum": 99},
        "preferred_shipping_address_city": {"type": "string", "maxLength": 8},
        "is_subscribed_to_monthly_newsletter": {"type": "boolean"},
    },
    "required": [
        "customer_identification_number", "preferred_shipping_address_city", "is_subscribed_to_monthly_newsletter",
    ],
    "additionalProperties": False,
}


def counter(server, name):
    return float(re.search(rf"^{name}\{{[^}}]*\}} (\S+)$", server.get("/metrics"), re.MULTILINE).group(1))


@pytest.mark.parametrize("temperature", [0, 1])
def test_what_a_schema_forces_is_computed_at_once_and_stays_the_same(server, client, model, temperature):
    """The first time its tokens are guessed badly and later well: nobody may see that but in the number of steps."""
    steps, answers = [], []
    for _ in range(6):
        before = counter(server, "vllm:iteration_tokens_total_count")
        choice = ask(client, model, response_format=schema_format(KEYS), logprobs=True, temperature=temperature)
        steps.append(counter(server, "vllm:iteration_tokens_total_count") - before)
        answers.append((choice.message.content, [(token.token, token.logprob) for token in choice.logprobs.content]))
    assert answers == answers[:1] * 6
    jsonschema.validate(json.loads(answers[0][0]), KEYS)
    assert steps[-1] < 0.7 * len(answers[0][1])
    assert counter(server, "apus:jump_forward_accepted_tokens_total") > 0


def test_a_stop_string_inside_of_a_forced_key_ends_the_answer_there(client, model):
    def answer(**fields):
        return ask(client, model, response_format=schema_format(KEYS), n=2, **fields).message.content

    whole = answer()
    for _ in range(3):
        assert answer(stop="shipping_addr") == whole[: whole.index("shipping_addr")]
