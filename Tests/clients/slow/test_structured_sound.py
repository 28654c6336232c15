"""Every schema of Tests/Fixtures/schemas, twenty draws each from a small model at temperature 1: what finished is valid."""

import concurrent.futures
import importlib.util
import json
import pathlib
import time

import openai
import pytest

FIXTURES = pathlib.Path(__file__).parents[2] / "Fixtures" / "schemas"
CASES = json.loads((FIXTURES / "schemas.json").read_text())
SEEDS = 20


def load_validators():
    """The validators that the fixture's own script uses."""
    specification = importlib.util.spec_from_file_location("check_walks", FIXTURES / "check_walks.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.validators()


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=300) as client:
        yield client


def test_every_answer_that_finished_is_valid(client):
    model = client.models.list().data[0].id
    validators = load_validators()

    def draw(job):
        case, seed = job
        choice = client.chat.completions.create(
            model=model, temperature=1, seed=seed, max_tokens=250,
            messages=[{"role": "user", "content": "Write JSON."}],
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": case["schema"]}},
        ).choices[0]
        if choice.finish_reason != "stop":
            return None
        value = json.loads(choice.message.content)
        errors = [error.message for error in validators[case["name"]].iter_errors(value)]
        return (case["name"], seed, choice.message.content, errors)

    jobs = [(case, seed) for case in CASES for seed in range(SEEDS)]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = [answer for answer in pool.map(draw, jobs) if answer]
    assert not [answer for answer in answers if answer[3]]
    # A schema that no answer ever finished would prove nothing.
    assert len(answers) > len(jobs) * 0.6
    assert len({answer[0] for answer in answers}) > len(CASES) * 0.9


def test_a_schema_costs_a_tenth_at_most(client):
    """Sixteen at once, with a schema and without, in turns; the best of three each."""
    model = client.models.list().data[0].id
    schema = {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}},
                                         "required": ["name"], "additionalProperties": False}, "minItems": 500}

    def rate(fields):
        def one(seed):
            return client.chat.completions.create(
                model=model, max_tokens=128, temperature=1, seed=seed,
                messages=[{"role": "user", "content": "List names."}], **fields,
            ).usage.completion_tokens

        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            tokens = sum(pool.map(one, range(32)))
        return tokens / (time.monotonic() - start)

    free = {"extra_body": {"ignore_eos": True}}
    formed = {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}
    rate(formed)
    pairs = [(rate(free), rate(formed)) for _ in range(3)]
    print("tokens a second, without and with:", pairs)
    assert max(with_form for _, with_form in pairs) >= 0.9 * max(without for without, _ in pairs)
