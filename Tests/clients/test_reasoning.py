"""Answers that begin with reasoning, from the real model: its template is replaced by ones that open a <think>."""

import json
import os
import pathlib

import chat_templates
import conftest
import jsonschema
import openai
import pytest

QUESTION = [{"role": "user", "content": "What is two plus three?"}]
# A small model goes on as the text before it goes: it thinks a line and closes what it thought.
EXAMPLES = "".join(
    f"Question: {question}\n<think>\n{thought}\n</think>\n{answer}\n\n"
    for question, thought, answer in (
        ("What is one plus one?", "One and one make two.", "It is 2."),
        ("What is two plus two?", "Two and two make four.", "It is 4."),
        ("What is four plus one?", "Four and one make five.", "It is 5."),
    )
)
OPEN = EXAMPLES + "Question: {{ messages[-1].content }}\n<think>\n"
# It may think, and is not made to.
POSSIBLE = EXAMPLES + "Question: {{ messages[-1].content }}\n"
SCHEMA = {
    "type": "object",
    "properties": {"result": {"type": "integer", "minimum": 0, "maximum": 99}, "sure": {"type": "boolean"}},
    "required": ["result", "sure"],
    "additionalProperties": False,
}


def serve(tmp_path_factory, template):
    folder = tmp_path_factory.mktemp("reasoning")
    model = folder / "model.gguf"
    chat_templates.with_template(pathlib.Path(os.environ["APUS_TEST_MODEL"]), model, template)
    return conftest.running_server(folder / "log.txt", model=str(model))


@pytest.fixture(scope="module", params=[OPEN, POSSIBLE], ids=["open", "possible"])
def client(request, tmp_path_factory):
    if "APUS_URL" in os.environ:
        pytest.skip("needs a model of its own")
    with serve(tmp_path_factory, request.param) as server:
        with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=120) as client:
            yield client


def ask(client, **fields):
    fields = {"max_tokens": 80, "temperature": 0, "stop": "\n\n"} | fields
    extra = {name: fields.pop(name) for name in ("thinking_token_budget", "include_reasoning") if name in fields}
    return client.chat.completions.create(
        model=conftest.MODEL_NAME, messages=QUESTION, extra_body=extra, **fields
    )


def whole(client, **fields):
    choice = ask(client, **fields).choices[0]
    message = choice.message.model_dump()
    assert message.get("reasoning") == message.get("reasoning_content")
    return message.get("reasoning"), message["content"], choice.finish_reason


def streamed(client, **fields):
    """The same from a stream; nothing of the reasoning may come once the content has begun."""
    reasoning, content, finish_reason = "", "", None
    for chunk in ask(client, stream=True, **fields):
        for choice in chunk.choices:
            delta = choice.delta.model_dump()
            assert delta.get("reasoning") == delta.get("reasoning_content")
            if delta.get("reasoning"):
                assert not content, "reasoning after content"
                reasoning += delta["reasoning"]
            content += delta.get("content") or ""
            finish_reason = choice.finish_reason or finish_reason
    return reasoning or None, content or None, finish_reason


def both(client, **fields):
    answer = whole(client, **fields)
    assert answer == streamed(client, **fields)
    return answer


def test_what_the_model_thinks_is_not_content(client):
    reasoning, content, finish_reason = both(client)
    assert reasoning and "think" not in reasoning
    assert content and "think" not in content and not content.startswith("\n")
    assert finish_reason == "stop"


def test_reasoning_can_be_left_out(client):
    _, content, _ = whole(client)
    assert both(client, include_reasoning=False)[:2] == (None, content)


def test_an_answer_that_ends_in_thought_has_no_content(client):
    reasoning, content, finish_reason = both(client, max_tokens=6)
    assert reasoning and not content and finish_reason == "length"


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_schema_begins_after_the_reasoning(client, temperature):
    for seed in range(4):
        # Nothing but the budget makes a model that is drawn from at random close its thought in time.
        reasoning, content, finish_reason = both(
            client,
            temperature=temperature,
            seed=seed,
            stop=None,
            max_tokens=120,
            thinking_token_budget=24,
            response_format={"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}},
        )
        assert finish_reason == "stop"
        jsonschema.validate(json.loads(content), SCHEMA)
        assert reasoning is None or "</think>" not in reasoning


def test_a_choice_begins_after_the_reasoning(client):
    def answer(**fields):
        extra = {"structured_outputs": {"choice": ["odd", "even"]}} | fields
        choice = client.chat.completions.create(
            model=conftest.MODEL_NAME, messages=QUESTION, max_tokens=80, temperature=0, extra_body=extra
        ).choices[0]
        return choice.message.model_dump()

    message = answer()
    assert message["content"] in ("odd", "even") and message["reasoning"]
    assert answer(thinking_token_budget=3)["content"] in ("odd", "even")


@pytest.mark.parametrize("budget", [0, 1, 4])
def test_a_budget_ends_the_reasoning(client, budget):
    free, _, _ = whole(client)
    reasoning, content, _ = both(client, thinking_token_budget=budget)
    assert content
    assert (reasoning or "") == "" if budget == 0 else len(reasoning) < len(free)
    # What was thought until then is what would have been thought.
    assert free.startswith(reasoning or "")


def test_a_budget_that_is_not_met_changes_nothing(client):
    assert both(client, thinking_token_budget=70) == both(client)
