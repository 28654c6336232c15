"""Requests made from the server's own description of itself: none may end in a defect, and every answer is of a kind
that the description has. Seeded, so that a failure comes again."""

import functools

import hypothesis
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

EXAMPLES = 30
# A generation of the full context would take minutes and find nothing.
MOST_TOKENS = 4


@functools.cache
def schema_of(url):
    return schemathesis.openapi.from_url(url + "/openapi.json")


def cheap(case):
    if isinstance(case.body, dict):
        for name in ("max_tokens", "max_completion_tokens"):
            value = case.body.get(name)
            if name == "max_tokens" and value is None or isinstance(value, int) and value > MOST_TOKENS:
                case.body[name] = MOST_TOKENS
        if isinstance(case.body.get("n"), int) and case.body["n"] > 4:
            case.body["n"] = 4
    return case


def check(server, path, method):
    operation = schema_of(server.url)[path][method]
    statuses = []

    @hypothesis.seed(20261121)
    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(case=operation.as_strategy())
    def property(case):
        response = cheap(case).call(timeout=60)
        statuses.append(response.status_code)
        assert response.status_code < 500, (case.as_curl_command(), response.text)
        # A schema does not know how large the vocabulary is, nor which fields exclude each other.
        case.validate_response(response, excluded_checks=[positive_data_acceptance])

    property()
    return statuses


def test_completions(server):
    assert set(check(server, "/v1/completions", "POST")) <= {200, 400, 404}


def test_chat(server):
    assert set(check(server, "/v1/chat/completions", "POST")) <= {200, 400, 404}


def test_tokenize(server):
    assert 200 in check(server, "/tokenize", "POST")


def test_detokenize(server):
    assert set(check(server, "/detokenize", "POST")) <= {200, 400, 404}


def test_everything_that_is_read(server):
    for path in ["/v1/models", "/health", "/ready", "/live", "/ping", "/version", "/metrics", "/openapi.json"]:
        assert set(check(server, path, "GET")) == {200}, path
    assert set(check(server, "/v1/models/{model}", "GET")) <= {200, 404}
