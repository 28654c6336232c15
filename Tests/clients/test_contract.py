"""The wire contract, line by line: what clients of vLLM and OpenAI rely on, asked of the real binary as bytes.

Each case names the section of the contract that it is about. The first table is of requests that are refused; the
functions below it are about what is answered.
"""

import base64
import gzip
import json
import re
import struct

import pytest
from wire import CHAT, COMPLETIONS, HELLO, JSON, Wire

BAD, SCHEMA, MISSING = "BadRequestError", "Bad Request", "NotFoundError"
BOUNDED = {"type": "function", "function": {"name": "f", "parameters": {
    "type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"], "additionalProperties": False}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def wire(server):
    return Wire(server)


@pytest.fixture(scope="module")
def model(wire):
    return wire.get("/v1/models").json["data"][0]["id"]


def completion(**fields):
    return ("POST", COMPLETIONS, {"prompt": "x", "max_tokens": 2, **fields})


def chat(**fields):
    return ("POST", CHAT, {"messages": HELLO, "max_tokens": 2, **fields})


# (section, what is asked, status, type, param, a part of the message)
REFUSALS = [
    # 1: transport.
    ("1 content type missing", ("POST", COMPLETIONS, b'{"prompt":"x"}', {}), 400, SCHEMA, None, "Unsupported Media Type"),
    (
        "1 content type of a form",
        ("POST", COMPLETIONS, b"prompt=x", {"Content-Type": "application/x-www-form-urlencoded"}),
        400, SCHEMA, None, "Unsupported Media Type",
    ),
    (
        "1 content type of text",
        ("POST", CHAT, b'{"messages":[]}', {"Content-Type": "text/plain"}), 400, SCHEMA, None, "Unsupported Media Type",
    ),
    (
        "1 content type that only begins right",
        ("POST", COMPLETIONS, b'{"prompt":"x"}', {"Content-Type": "application/jsonx"}), 400, SCHEMA, None, "Unsupported",
    ),
    ("1 GET on a POST route", ("GET", COMPLETIONS, None), 405, "MethodNotAllowedError", None, "POST"),
    ("1 PUT on a POST route", ("PUT", CHAT, {}), 405, "MethodNotAllowedError", None, "POST"),
    ("1 DELETE of a model", ("DELETE", "/v1/models", None), 405, "MethodNotAllowedError", None, "GET"),
    ("1 POST on a GET route", ("POST", "/v1/models", {}), 405, "MethodNotAllowedError", None, "GET"),
    ("1 POST to /health", ("POST", "/health", {}), 405, "MethodNotAllowedError", None, "GET"),
    ("1 unknown path", ("GET", "/nothing", None), 404, MISSING, None, "/nothing"),
    ("1 unknown path below /v1", ("POST", "/v1/engines", {}), 404, MISSING, None, "/v1/engines"),
    ("1 path with a slash at its end", ("POST", COMPLETIONS + "/", {"prompt": "x"}), 404, MISSING, None, ""),
    ("1 path in capitals", ("POST", "/V1/Completions", {"prompt": "x"}), 404, MISSING, None, ""),
    # 2: errors.
    ("2 malformed JSON", ("POST", COMPLETIONS, b'{"prompt": "x"'), 400, SCHEMA, None, "validation error"),
    ("2 body of nothing", ("POST", COMPLETIONS, b""), 400, SCHEMA, None, "JSON"),
    ("2 body of spaces", ("POST", COMPLETIONS, b"   "), 400, SCHEMA, None, "JSON"),
    ("2 body that is a list", ("POST", COMPLETIONS, []), 400, SCHEMA, None, "object"),
    ("2 body that is a string", ("POST", CHAT, b'"x"'), 400, SCHEMA, None, "object"),
    ("2 body that is null", ("POST", CHAT, b"null"), 400, SCHEMA, None, "object"),
    ("2 body that is a number", ("POST", CHAT, b"1"), 400, SCHEMA, None, "object"),
    ("2 two bodies in one", ("POST", COMPLETIONS, b'{"prompt":"x"}{"prompt":"y"}'), 400, SCHEMA, None, "JSON"),
    ("2 JSON with a comment", ("POST", COMPLETIONS, b'{"prompt":"x"/**/}'), 400, SCHEMA, None, "JSON"),
    ("2 unknown model", completion(model="nope"), 404, MISSING, "model", "The model `nope` does not exist."),
    ("2 unknown model of a chat", chat(model="nope"), 404, MISSING, "model", "The model `nope` does not exist."),
    ("2 model of a wrong type", completion(model=5), 400, SCHEMA, "model", "string"),
    ("2 model that is empty", completion(model=""), 404, MISSING, "model", "does not exist"),
    (
        "2 context too long", completion(prompt=[5] * 9000), 400, BAD, "input_tokens",
        "This model's maximum context length is 8192 tokens. However, ",
    ),
    (
        "2 context too long, in text", completion(prompt="word " * 12000), 400, BAD, "input_tokens",
        "maximum context length",
    ),
    (
        "2 context too long, in a chat", chat(messages=[{"role": "user", "content": "word " * 12000}]), 400, BAD,
        "input_tokens", "reduce the length of the input",
    ),
    ("2 prompt that fills the context", completion(prompt=[5] * 8192), 400, BAD, "input_tokens", "maximum context"),
    ("2 wrong type of a field", completion(max_tokens="5"), 400, SCHEMA, "max_tokens", "integer"),
    ("2 wrong type, a fraction", completion(max_tokens=1.5), 400, SCHEMA, "max_tokens", "integer"),
    ("2 wrong type, a boolean for a number", completion(temperature=True), 400, SCHEMA, "temperature", "number"),
    ("2 wrong type, a number for a boolean", completion(stream=1), 400, SCHEMA, "stream", "boolean"),
    ("2 wrong type, a string for a boolean", completion(stream="true"), 400, SCHEMA, "stream", "boolean"),
    # 3: /v1/completions.
    ("3 no prompt", ("POST", COMPLETIONS, {"max_tokens": 1}), 400, SCHEMA, "prompt", "prompt"),
    ("3 null prompt", completion(prompt=None), 400, SCHEMA, "prompt", "prompt"),
    ("3 empty prompt", completion(prompt=""), 400, BAD, "prompt", "empty"),
    ("3 empty list", completion(prompt=[]), 400, BAD, "prompt", "empty"),
    ("3 list with an empty string", completion(prompt=["x", ""]), 400, BAD, "prompt.1", "empty"),
    ("3 list with an empty list", completion(prompt=[[1], []]), 400, BAD, "prompt.1", "empty"),
    ("3 prompt of a wrong type", completion(prompt={"text": "x"}), 400, SCHEMA, "prompt", "string"),
    ("3 negative token id", completion(prompt=[5, -1]), 400, BAD, "prompt", "token id"),
    ("3 token id beyond the vocabulary", completion(prompt=[10**6]), 400, BAD, "prompt", "token id"),
    ("3 more than 1024 prompts", completion(prompt=["x"] * 1025), 400, BAD, "prompt", "1024"),
    ("3 max_tokens of 0", completion(max_tokens=0), 400, BAD, "max_tokens", "at least 1"),
    ("3 max_tokens of -1", completion(max_tokens=-1), 400, BAD, "max_tokens", "at least 1"),
    ("3 min_tokens above max_tokens", completion(min_tokens=3), 400, BAD, "min_tokens", "max_tokens"),
    ("3 temperature below 0", completion(temperature=-0.1), 400, BAD, "temperature", "0 to 2"),
    ("3 temperature above 2", completion(temperature=2.01), 400, BAD, "temperature", "0 to 2"),
    ("3 top_p of 0", completion(top_p=0), 400, BAD, "top_p", "0 excluded"),
    ("3 top_p above 1", completion(top_p=1.01), 400, BAD, "top_p", "1"),
    ("3 top_k below -1", completion(top_k=-2), 400, BAD, "top_k", "-1"),
    ("3 min_p above 1", completion(min_p=1.1), 400, BAD, "min_p", "1"),
    ("3 presence_penalty above 2", completion(presence_penalty=2.1), 400, BAD, "presence_penalty", "-2 to 2"),
    ("3 frequency_penalty below -2", completion(frequency_penalty=-2.1), 400, BAD, "frequency_penalty", "-2 to 2"),
    ("3 repetition_penalty of 0", completion(repetition_penalty=0), 400, BAD, "repetition_penalty", "above 0"),
    ("3 n of 0", completion(n=0), 400, BAD, "n", "1"),
    ("3 n above the limit", completion(n=16385, temperature=1), 400, BAD, "n", "16384"),
    ("3 n with greedy", completion(n=2, temperature=0), 400, BAD, "n", "temperature"),
    ("3 logprobs above 20", completion(logprobs=21), 400, BAD, "logprobs", "20"),
    ("3 logprobs below -1", completion(logprobs=-2), 400, BAD, "logprobs", ""),
    ("3 logprobs true", completion(logprobs=True), 400, SCHEMA, "logprobs", "integer"),
    ("3 prompt_logprobs with stream", completion(prompt_logprobs=1, stream=True), 400, BAD, "prompt_logprobs", "stream"),
    ("3 empty stop string", completion(stop=""), 400, BAD, "stop", "1 to"),
    ("3 empty stop string in a list", completion(stop=["a", ""]), 400, BAD, "stop", "1 to"),
    ("3 stop of a wrong type", completion(stop=5), 400, SCHEMA, "stop", "string"),
    ("3 stop token beyond the vocabulary", completion(stop_token_ids=[10**6]), 400, BAD, "stop_token_ids", "token id"),
    ("3 bias of a token beyond it", completion(logit_bias={"1000000": 1}), 400, BAD, "logit_bias", "token id"),
    ("3 bias of no token", completion(logit_bias={"x": 1}), 400, BAD, "logit_bias", "token id"),
    ("3 no allowed tokens", completion(allowed_token_ids=[]), 400, BAD, "allowed_token_ids", "at least 1"),
    ("3 empty bad word", completion(bad_words=[""]), 400, BAD, "bad_words", "1 to"),
    ("3 stream_options without stream", completion(stream_options={"include_usage": True}), 400, BAD, "stream_options", "stream"),
    ("3 suffix", completion(suffix="end"), 400, BAD, "suffix", "suffix"),
    ("3 beam search", completion(use_beam_search=True), 400, BAD, "use_beam_search", "not support"),
    ("3 priority under first come", completion(priority=1), 400, BAD, "priority", "policy"),
    ("3 empty cache_salt", completion(cache_salt=""), 400, BAD, "cache_salt", "1 to 128"),
    ("3 request_id of 129 characters", completion(request_id="x" * 129), 400, BAD, "request_id", "1 to 128"),
    ("3 truncation below -1", completion(truncate_prompt_tokens=-2), 400, BAD, "truncate_prompt_tokens", "-1"),
    ("3 truncation beyond the context", completion(truncate_prompt_tokens=8193), 400, BAD, "truncate_prompt_tokens", "at most"),
    ("3 time-out header that is no number", ("POST", COMPLETIONS, {"prompt": "x"}, JSON | {"x-request-timeout-ms": "soon"}), 400, BAD, "x-request-timeout-ms", "integer"),
    # 4: /v1/chat/completions.
    ("4 no messages", ("POST", CHAT, {}), 400, SCHEMA, "messages", "messages"),
    ("4 empty messages", chat(messages=[]), 400, BAD, "messages", "1 to"),
    ("4 messages that are a string", chat(messages="x"), 400, SCHEMA, "messages", "list"),
    ("4 message without a role", chat(messages=[{"content": "x"}]), 400, SCHEMA, "messages.0.role", "one of"),
    ("4 unknown role", chat(messages=[{"role": "king", "content": "x"}]), 400, BAD, "messages.0.role", "one of"),
    ("4 content of a wrong type", chat(messages=[{"role": "user", "content": 5}]), 400, SCHEMA, "messages.0.content", "string"),
    (
        "4 image part", chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        400, BAD, "messages.0.content.0.type", "text",
    ),
    ("4 empty tools", chat(tools=[]), 400, BAD, "tools", "1 to"),
    ("4 tool_choice without tools", chat(tool_choice="auto"), 400, BAD, "tool_choice", "tools"),
    ("4 tool_choice of an unknown function", chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}), 400, BAD, "tool_choice.function.name", ""),
    ("4 json_schema without a schema", chat(response_format={"type": "json_schema"}), 400, SCHEMA, "response_format.json_schema", "schema"),
    ("4 unknown response format", chat(response_format={"type": "yaml"}), 400, BAD, "response_format.type", "json_schema"),
    ("4 top_logprobs without logprobs", chat(top_logprobs=2), 400, BAD, "top_logprobs", "logprobs"),
    ("4 top_logprobs above 20", chat(logprobs=True, top_logprobs=21), 400, BAD, "top_logprobs", "20"),
    ("4 both ways to end a prompt", chat(continue_final_message=True, add_generation_prompt=True), 400, BAD, "continue_final_message", "add_generation_prompt"),
    ("4 template of the request's own", chat(chat_template="{{ x }}"), 400, BAD, "chat_template", "not support"),
    ("4 max_completion_tokens of 0", chat(max_completion_tokens=0), 400, BAD, "max_completion_tokens", "at least 1"),
    # 5: other endpoints.
    ("5 unknown model's card", ("GET", "/v1/models/nope", None), 404, MISSING, "model", "does not exist"),
    ("5 tokenize nothing", ("POST", "/tokenize", {}), 400, SCHEMA, "prompt", "prompt"),
    ("5 detokenize a negative id", ("POST", "/detokenize", {"tokens": [-1]}), 400, BAD, "tokens", "token id"),
    ("5 detokenize an id beyond the vocabulary", ("POST", "/detokenize", {"tokens": [10**6]}), 400, BAD, "tokens", "token id"),
    ("5 detokenize nothing", ("POST", "/detokenize", {}), 400, SCHEMA, "tokens", "token id"),
    ("5 embed nothing", ("POST", "/v1/embeddings", {}), 400, SCHEMA, "input", "string"),
    ("5 embed an empty text", ("POST", "/v1/embeddings", {"input": ""}), 400, BAD, "input", "empty"),
    ("5 embed an empty list", ("POST", "/v1/embeddings", {"input": []}), 400, BAD, "input", "empty"),
    ("5 embed too long a text", ("POST", "/v1/embeddings", {"input": [5] * 8193}), 400, BAD, "input_tokens", "maximum context length"),
    ("5 embed in no dimensions", ("POST", "/v1/embeddings", {"input": "x", "dimensions": 0}), 400, BAD, "dimensions", "1"),
    ("5 embed in too many", ("POST", "/v1/embeddings", {"input": "x", "dimensions": 577}), 400, BAD, "dimensions", "576"),
    ("5 embed in another encoding", ("POST", "/v1/embeddings", {"input": "x", "encoding_format": "hex"}), 400, BAD, "encoding_format", "float"),
    ("5 embed with an unknown model", ("POST", "/v1/embeddings", {"input": "x", "model": "nope"}), 404, MISSING, "model", "does not exist"),
    ("5 rerank nothing", ("POST", "/v1/rerank", {"query": "x"}), 400, SCHEMA, "documents", "string"),
    ("5 profile where it is off", ("POST", "/start_profile", None, {}), 404, MISSING, None, "--profile-dir"),
]


@pytest.mark.parametrize("line, asked, status, kind, param, part", REFUSALS, ids=[case[0] for case in REFUSALS])
def test_refusal(wire, line, asked, status, kind, param, part):
    answer = wire.send(*asked)
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json) == {"error"} and list(answer.error) == ["message", "type", "param", "code"]
    assert (answer.error["type"], answer.error["param"], answer.error["code"]) == (kind, param, status), answer.error
    assert part in answer.error["message"]
    if kind == SCHEMA and param:
        assert answer.error["message"].startswith("1 validation error: ")
    if status == 405:
        assert part in answer.headers["Allow"]
    assert answer.headers["x-request-id"]


# Section 1: transport.


@pytest.mark.parametrize(
    "value",
    ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON",
     "application/json ; charset=utf-8", "application/json;"],
)
def test_1_content_type_of_a_request_may_have_parameters(wire, value):
    assert wire.post(COMPLETIONS, {"Content-Type": value}, prompt="x", max_tokens=1).status == 200


@pytest.mark.parametrize("path, body", [(COMPLETIONS, {"prompt": "x"}), (CHAT, {"messages": HELLO})])
def test_1_a_stream_is_an_event_stream_of_single_data_lines(wire, path, body):
    answer = wire.post(path, **body, max_tokens=4, stream=True)
    assert answer.headers["Content-Type"].split(";")[0] == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-cache" and answer.headers["Content-Encoding"] is None
    assert answer.events and b"\r" not in answer.body and b"event:" not in answer.body and b"id:" not in answer.body


def test_1_compression_is_never_used_even_where_it_is_offered(wire):
    answer = wire.post(COMPLETIONS, JSON | {"Accept-Encoding": "gzip, deflate, br"}, prompt="x", max_tokens=2, stream=True)
    assert answer.headers["Content-Encoding"] is None and answer.events


def test_1_a_compressed_body_is_refused_and_not_misread(wire):
    body = gzip.compress(b'{"prompt":"x","max_tokens":1}')
    answer = wire.send("POST", COMPLETIONS, body, JSON | {"Content-Encoding": "gzip"})
    assert answer.status in (400, 415) and answer.error["code"] == answer.status


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/version", "/metrics", "/load", "/ping", "/openapi.json"])
def test_1_head_is_get_without_a_body(wire, path):
    got, head = wire.get(path), wire.send("HEAD", path, headers={})
    assert (head.status, head.body) == (got.status, b"")
    if path not in ("/metrics", "/load"):
        assert head.headers["Content-Length"] == got.headers["Content-Length"]
    assert wire.send("HEAD", COMPLETIONS, headers={}).status == 405


def test_1_options_without_allowed_origins_allows_none(wire):
    headers = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
    answer = wire.send("OPTIONS", COMPLETIONS, headers=headers)
    assert answer.status == 405 and answer.headers["Access-Control-Allow-Origin"] is None


def test_1_the_request_id_is_echoed_and_is_the_base_of_the_answers(wire):
    for path, prefix, body in [(COMPLETIONS, "cmpl-", {"prompt": "x"}), (CHAT, "chatcmpl-", {"messages": HELLO})]:
        answer = wire.post(path, JSON | {"X-Request-Id": "abc-123"}, **body, max_tokens=1)
        assert (answer.headers["x-request-id"], answer.json["id"]) == ("abc-123", prefix + "abc-123")
        own = wire.post(path, **body, max_tokens=1)
        assert own.json["id"] == prefix + own.headers["x-request-id"] and len(own.json["id"]) > 20
        named = {"request_id": 'a "name"\n', "max_tokens": 1}
        assert wire.post(path, JSON, **body, **named).json["id"] == prefix + named["request_id"]
        assert wire.post(path, JSON | {"X-Request-Id": "abc"}, **body, **named).json["id"] == prefix + "abc"
    assert wire.get("/health", {"X-Request-Id": "abc"}).headers["x-request-id"] == "abc"


def test_1_a_request_id_is_bounded_and_cannot_break_a_header(wire):
    for value in ["x" * 5000, "a b", "ü", "a\tb"]:
        answer = wire.send("POST", COMPLETIONS, {"prompt": "x", "max_tokens": 1}, JSON | {"X-Request-Id": value.encode()})
        assert answer.status == 200
        assert len(answer.headers["x-request-id"]) <= 128 and answer.json["id"] == "cmpl-" + answer.headers["x-request-id"]


def test_1_a_query_string_does_not_change_the_route(wire):
    assert wire.post(COMPLETIONS + "?api-version=1&x", prompt="x", max_tokens=1).status == 200
    assert wire.get("/health?verbose=1").status == 200


def test_1_a_chunked_body_is_read(wire):
    body = b'{"prompt":"x","max_tokens":1}'
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:5], body[5:6], body[6:]))
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert wire.raw(head, pieces, "0\r\n\r\n").choice["index"] == 0


def test_1_expect_100_continue_is_served(wire):
    body = b'{"prompt":"x","max_tokens":1}'
    head = (
        f"POST {COMPLETIONS} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
        f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    # Both a client that waits for the word and one that sends on at once must be answered.
    assert wire.raw(head, body).status == 200


def test_1_a_connection_is_kept_for_the_next_request(wire):
    import http.client

    connection = http.client.HTTPConnection(*wire.server.host_and_port, timeout=30)
    for path, body in [(COMPLETIONS, '{"prompt":"x","max_tokens":1}'), ("/nothing", "{}"), (COMPLETIONS, "{"), ("/tokenize", '{"prompt":"x"}')]:
        connection.request("POST", path, body, JSON)
        response = connection.getresponse()
        response.read()
        assert response.headers["Connection"] in (None, "keep-alive")
    connection.close()


def test_1_http_1_0_is_answered_and_closed(wire):
    answer = wire.raw("GET /health HTTP/1.0\r\n\r\n")
    assert answer.status == 200 and answer.body == b""


def test_1_percent_encoded_paths_are_not_other_names_of_a_route(wire):
    assert wire.post("/v1/%63ompletions", prompt="x", max_tokens=1).status == 404


def test_1_line_separators_are_escaped_in_streams(wire):
    separators = "\u2028\u2029\u0085"
    answer = wire.complete("a" + separators, stream=True, echo=True)
    assert not any(separator.encode() in answer.body for separator in separators)
    assert "".join(event["choices"][0]["text"] for event in answer.events).startswith("a" + separators)


# Section 2: errors.


def test_2_too_large_a_body_is_413(wire):
    answer = wire.send("POST", COMPLETIONS, b'{"prompt":"' + b"x" * (3 << 20) + b'"}')
    assert (answer.status, answer.error["code"], answer.error["type"]) == (413, 413, "RequestEntityTooLargeError")


def test_2_an_error_never_echoes_megabytes(wire):
    answer = wire.complete(max_tokens="9" * 1_000_000)
    assert answer.status == 400 and len(answer.body) < 2000


def test_2_validation_comes_before_the_head_of_a_stream(wire):
    for answer in (
        wire.complete(stream=True, temperature=9),
        wire.complete([5] * 9000, stream=True),
        wire.complete(stream=True, model="nope"),
        wire.chat(stream=True, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}}),
        wire.complete(stream=True, structured_outputs={"regex": "("}),
    ):
        assert answer.status in (400, 404) and answer.headers["Content-Type"] == "application/json", answer.body


def test_2_max_tokens_beyond_the_room_is_clipped(wire):
    prompt = [5] * 8185
    answer = wire.complete(prompt, max_tokens=100_000, ignore_eos=True)
    assert answer.json["usage"] == {
        "prompt_tokens": 8185, "completion_tokens": 7, "total_tokens": 8192, "prompt_tokens_details": None,
    }
    assert answer.choice["finish_reason"] == "length"


def test_2_unknown_fields_are_ignored_and_null_is_the_default(wire):
    plain = wire.complete().text
    assert wire.complete(user="u", store=True, metadata={"a": "b"}, service_tier="auto", best_of=1, nonsense=[1]).text == plain
    names = ["max_completion_tokens", "stop", "logprobs", "seed", "logit_bias", "stream", "stream_options", "suffix", "echo", "n",
             "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "stop_token_ids",
             "ignore_eos", "user", "response_format", "structured_outputs", "bad_words", "allowed_token_ids", "model",
             "prompt_logprobs", "min_tokens", "truncate_prompt_tokens", "cache_salt", "request_id", "priority", "timeout_ms"]
    assert wire.complete(**dict.fromkeys(names)).text == plain
    chat_names = ["tools", "tool_choice", "response_format", "reasoning_effort", "documents", "chat_template_kwargs",
                  "parallel_tool_calls", "top_logprobs", "logprobs", "modalities", "audio", "prediction", "functions"]
    assert wire.chat(**dict.fromkeys(chat_names)).status == 200


def test_2_max_tokens_null_is_16_for_completions(wire):
    assert wire.complete(max_tokens=None, ignore_eos=True).json["usage"]["completion_tokens"] == 16


# Section 3: /v1/completions.


def test_3_the_shape_of_an_answer(wire, model):
    answer = wire.complete().json
    assert {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier", "kv_transfer_params"} <= set(answer)
    assert (answer["object"], answer["model"], answer["service_tier"], answer["kv_transfer_params"]) == ("text_completion", model, None, None)
    assert isinstance(answer["created"], int) and answer["created"] > 1_700_000_000
    choice = answer["choices"][0]
    assert {"index", "text", "logprobs", "finish_reason", "stop_reason"} <= set(choice)
    assert (choice["index"], choice["logprobs"], choice["finish_reason"], choice["stop_reason"]) == (0, None, "length", None)
    assert [choice.get(name) for name in ("token_ids", "prompt_token_ids", "prompt_logprobs")] == [None] * 3
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_3_the_shapes_of_prompt_agree(wire):
    ids = wire.tokens("Once upon a time")
    text = wire.complete().text
    assert [choice["text"] for choice in wire.complete(["Once upon a time"] * 2).choices] == [text] * 2
    assert wire.complete(ids).text == text
    assert [choice["text"] for choice in wire.complete([ids, ids]).choices] == [text] * 2


def test_3_the_index_of_a_choice_is_prompt_times_n_plus_i(wire):
    answer = wire.complete(["One, two,", "Red, green,"], n=3, temperature=1, seed=7)
    assert [choice["index"] for choice in answer.choices] == list(range(6))
    again = wire.complete(["Red, green,"], n=3, temperature=1, seed=7)
    assert [choice["text"] for choice in again.choices] == [choice["text"] for choice in answer.choices[3:]]


def test_3_usage_counts_each_prompt_once_and_all_choices(wire):
    prompt = len(wire.tokens("One, two,"))
    usage = wire.complete("One, two,", n=3, temperature=1, max_tokens=5, ignore_eos=True).json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, 15)
    echoed = wire.complete("One, two,", echo=True, max_tokens=5, ignore_eos=True).json["usage"]
    assert (echoed["prompt_tokens"], echoed["completion_tokens"]) == (prompt, 5)
    both = wire.complete(["One, two,", "One, two,"], max_tokens=5, ignore_eos=True).json["usage"]
    assert both["prompt_tokens"] == 2 * prompt


def test_3_the_end_token_counts_and_is_not_shown(wire):
    answer = wire.complete(logit_bias={"2": 100}, return_token_ids=True)
    assert answer.choice["token_ids"] == [2] and answer.json["usage"]["completion_tokens"] == 1
    assert (answer.text, answer.choice["finish_reason"], answer.choice["stop_reason"]) == ("", "stop", None)


def test_3_a_stop_string_is_named_and_cut(wire):
    text = wire.complete(max_tokens=24).text
    stop = text[7:11]
    answer = wire.complete(max_tokens=24, stop=[stop, "never there"])
    assert answer.text == text[: text.index(stop)]
    assert (answer.choice["finish_reason"], answer.choice["stop_reason"]) == ("stop", stop)
    kept = wire.complete(max_tokens=24, stop=stop, include_stop_str_in_output=True)
    assert kept.text == text[: text.index(stop) + len(stop)]


def test_3_a_stop_token_is_named(wire):
    ids = wire.complete(return_token_ids=True, ignore_eos=True).choice["token_ids"]
    answer = wire.complete(stop_token_ids=[ids[3]], return_token_ids=True)
    first = ids.index(ids[3])
    assert (answer.choice["finish_reason"], answer.choice["stop_reason"]) == ("stop", ids[3])
    assert answer.choice["token_ids"] == ids[: first + 1]


def test_3_min_tokens_holds_the_end_back(wire):
    assert wire.complete(min_tokens=5, logit_bias={"2": 50}).json["usage"]["completion_tokens"] > 5


def test_3_logprobs_are_four_arrays(wire):
    logprobs = wire.complete(logprobs=3).choice["logprobs"]
    assert {len(logprobs[name]) for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")} == {8}
    for token, value, top in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]):
        assert isinstance(token, str) and value <= 0 and 3 <= len(top) <= 4 and top[token] == value


def test_3_logprobs_of_0_are_the_sampled_tokens_only(wire):
    logprobs = wire.complete(logprobs=0).choice["logprobs"]
    assert all(list(top) == [token] for token, top in zip(logprobs["tokens"], logprobs["top_logprobs"]))


def test_3_echo_with_logprobs_scores_the_prompt(wire):
    prompt = "Once upon a time"
    ids = wire.tokens(prompt)
    answer = wire.complete(prompt, echo=True, logprobs=1, max_tokens=2, ignore_eos=True)
    logprobs = answer.choice["logprobs"]
    assert answer.text.startswith(prompt) and len(logprobs["tokens"]) == len(ids) + 2
    assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
    assert all(value <= 0 for value in logprobs["token_logprobs"][1:])
    assert "".join(logprobs["tokens"]) == answer.text
    offsets = [sum(len(token) for token in logprobs["tokens"][:index]) for index in range(len(logprobs["tokens"]))]
    assert logprobs["text_offset"] == offsets


def test_3_echo_with_no_new_tokens_scores_only(wire):
    answer = wire.complete("The sky is blue", echo=True, max_tokens=0, logprobs=0)
    assert (answer.text, answer.choice["finish_reason"]) == ("The sky is blue", "length")
    assert answer.json["usage"]["completion_tokens"] == 0


def test_3_prompt_logprobs_are_a_list_of_maps(wire):
    ids = wire.tokens("The sky is blue")
    choice = wire.complete("The sky is blue", prompt_logprobs=2).choice
    assert len(choice["prompt_logprobs"]) == len(ids) and choice["prompt_logprobs"][0] is None
    for token, entry in zip(ids[1:], choice["prompt_logprobs"][1:]):
        assert 2 <= len(entry) <= 3
        assert set(entry[str(token)]) == {"logprob", "rank", "decoded_token"} and entry[str(token)]["rank"] >= 1


def test_3_tokens_may_be_shown_as_ids(wire):
    choice = wire.complete(logprobs=1, return_tokens_as_token_ids=True, return_token_ids=True).choice
    assert choice["logprobs"]["tokens"] == [f"token_id:{token}" for token in choice["token_ids"]]
    assert choice["prompt_token_ids"] == wire.tokens("Once upon a time")


def test_3_logprobs_of_named_tokens(wire):
    plain = wire.complete(logprobs=5, return_token_ids=True, return_tokens_as_token_ids=True).choice
    best = [[int(name.split(":")[1]) for name in top] for top in plain["logprobs"]["top_logprobs"]]
    wanted = [best[0][1], 5, best[0][2]]
    named = wire.complete(logprobs=1, logprob_token_ids=wanted, return_tokens_as_token_ids=True).choice["logprobs"]
    assert named["token_logprobs"] == plain["logprobs"]["token_logprobs"]
    for top, all_top in zip(named["top_logprobs"], plain["logprobs"]["top_logprobs"]):
        assert {f"token_id:{token}" for token in wanted} <= set(top) and len(top) <= 4
        for name in set(top) & set(all_top):
            assert top[name] == pytest.approx(all_top[name], abs=1e-4)
    content = wire.chat(logprobs=True, logprob_token_ids=wanted, stream=True).events[1]["choices"][0]["logprobs"]["content"]
    assert len(content[0]["top_logprobs"]) == 3
    alone = wire.complete(logprob_token_ids=[5])
    assert (alone.status, alone.error["param"]) == (400, "logprob_token_ids")


def test_3_events_may_have_several_tokens(wire):
    whole = wire.complete(max_tokens=20, ignore_eos=True)
    answer = wire.complete(max_tokens=20, ignore_eos=True, stream=True, stream_interval=8, logprobs=0)
    texts, reasons, count = stream_of(answer)
    assert (texts, reasons) == ({0: whole.text}, {0: "length"})
    sizes = [len(event["choices"][0]["logprobs"]["tokens"]) for event in answer.events]
    assert sizes == [1, 8, 8, 3]
    assert wire.complete(stream=True, stream_interval=0).error["param"] == "stream_interval"


def test_3_impossible_logprobs_are_numbers(wire):
    logprobs = wire.complete(logprobs=5, allowed_token_ids=[28]).choice["logprobs"]
    assert all(-10_000 <= value <= 0 for top in logprobs["top_logprobs"] for value in top.values())
    assert b"Infinity" not in wire.complete(logprobs=5, allowed_token_ids=[28]).body


def stream_of(answer):
    """The choices' texts, reasons and numbers of events of a stream."""
    texts, reasons, count = {}, {}, {}
    for event in answer.events:
        for choice in event["choices"]:
            index = choice["index"]
            assert index not in reasons, "something follows a finish reason"
            texts[index] = texts.get(index, "") + choice["text"]
            count[index] = count.get(index, 0) + 1
            if choice["finish_reason"] is not None:
                reasons[index] = choice["finish_reason"]
    return texts, reasons, count


def test_3_a_stream_is_the_whole_answer_in_pieces(wire, model):
    whole = wire.complete(max_tokens=24, ignore_eos=True)
    answer = wire.complete(max_tokens=24, ignore_eos=True, stream=True)
    events = answer.events
    assert {event["object"] for event in events} == {"text_completion"}
    assert len({(event["id"], event["created"], event["model"]) for event in events}) == 1
    assert all({"index", "text", "logprobs", "finish_reason", "stop_reason"} <= set(event["choices"][0]) for event in events)
    texts, reasons, count = stream_of(answer)
    assert (texts, reasons, count) == ({0: whole.text}, {0: "length"}, {0: 24})
    assert events[-1]["choices"][0]["text"], "the reason comes with the last text: clients count events"


def test_3_streams_of_many_choices_interleave_one_in_each_event(wire):
    fields = dict(prompt=["One, two,", "Red, green,"], n=2, temperature=1, seed=3, max_tokens=12, ignore_eos=True)
    whole = wire.complete(**fields)
    answer = wire.complete(**fields, stream=True)
    assert all(len(event["choices"]) == 1 for event in answer.events)
    texts, reasons, _ = stream_of(answer)
    assert texts == {choice["index"]: choice["text"] for choice in whole.choices}
    assert reasons == dict.fromkeys(range(4), "length")


def test_3_usage_comes_last_and_without_choices(wire):
    answer = wire.complete(stream=True, stream_options={"include_usage": True}, ignore_eos=True)
    *chunks, last = answer.events
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 8
    assert all(chunk.get("usage") is None and chunk["choices"] for chunk in chunks)
    assert all(event.get("usage") is None for event in wire.complete(stream=True).events)
    assert wire.complete(stream=True, stream_options={}).status == 200


def test_3_continuous_usage_rises_to_the_total(wire):
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = wire.complete(stream=True, stream_options=options, ignore_eos=True).events
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts == sorted(counts) and counts[0] >= 1 and counts[-1] == 8 and len(counts) == 9
    assert len({event["usage"]["prompt_tokens"] for event in events}) == 1


def test_3_an_echo_is_in_the_first_piece_of_a_stream(wire):
    events = wire.complete("The sky", echo=True, stream=True, logprobs=0).events
    assert events[0]["choices"][0]["text"].startswith("The sky")
    assert sum(len(event["choices"][0]["logprobs"]["tokens"]) for event in events) == len(wire.tokens("The sky")) + 8


@pytest.mark.parametrize("prompt", ["Emoji: 👋🏽 😀 🎉 ", "日本語で: ", "한국어: 안녕 "])
def test_3_characters_are_never_split(wire, prompt):
    whole = wire.complete(prompt, max_tokens=40, temperature=1, seed=11)
    answer = wire.complete(prompt, max_tokens=40, temperature=1, seed=11, stream=True)
    assert stream_of(answer)[0] == {0: whole.text}


def test_3_stop_strings_are_held_back_in_streams(wire):
    text = wire.complete(max_tokens=24).text
    stop = text[9:14]
    answer = wire.complete(max_tokens=24, stop=stop, stream=True)
    texts, reasons, _ = stream_of(answer)
    assert (texts, reasons) == ({0: text[: text.index(stop)]}, {0: "stop"})
    assert answer.events[-1]["choices"][0]["stop_reason"] == stop


def test_3_special_tokens_are_left_out_unless_asked_for(wire):
    bias = {"allowed_token_ids": [1], "max_tokens": 3}
    assert wire.complete(**bias).text == "" and wire.complete(**bias, skip_special_tokens=False).text == "<|im_start|>" * 3


def test_3_a_deadline_ends_an_answer_where_it_is(wire):
    answer = wire.complete(max_tokens=4000, ignore_eos=True, timeout_ms=300)
    assert answer.choice["finish_reason"] == "abort" and 0 < answer.json["usage"]["completion_tokens"] < 4000


def test_3_repetition_is_a_reason_to_end(wire):
    answer = wire.complete(allowed_token_ids=[28], max_tokens=50, repetition_detection={"max_pattern_size": 2, "min_count": 4})
    assert answer.choice["finish_reason"] == "repetition" and answer.json["usage"]["completion_tokens"] < 10


def test_3_truncation_keeps_the_end(wire):
    ids = wire.tokens("one two three four five six")
    for side, kept in [("left", ids[-3:]), ("right", ids[:3])]:
        choice = wire.complete("one two three four five six", truncate_prompt_tokens=3, truncation_side=side, return_token_ids=True).choice
        assert choice["prompt_token_ids"] == kept


# Section 4: /v1/chat/completions.


def test_4_the_shape_of_an_answer(wire, model):
    answer = wire.chat().json
    assert (answer["object"], answer["model"]) == ("chat.completion", model) and answer["id"].startswith("chatcmpl-")
    assert {"created", "usage", "system_fingerprint", "service_tier", "prompt_logprobs", "kv_transfer_params"} <= set(answer)
    choice = answer["choices"][0]
    assert {"index", "message", "logprobs", "finish_reason", "stop_reason"} <= set(choice)
    message = choice["message"]
    assert message["role"] == "assistant" and isinstance(message["content"], str) and message["content"]
    assert [message.get(name) for name in ("refusal", "annotations", "audio", "function_call")] == [None] * 4
    assert not message.get("tool_calls") and (choice["finish_reason"], choice["stop_reason"]) == ("length", None)


def test_4_content_may_be_parts_and_roles_are_five(wire):
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}]
    plain = wire.post("/tokenize", messages=[{"role": "user", "content": "Hello"}]).json["tokens"]
    assert len(wire.post("/tokenize", messages=parts).json["tokens"]) >= len(plain) - 1
    messages = [
        {"role": "system", "content": "Be brief.", "name": "s"}, {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "u"}, {"role": "assistant", "content": "Hi!"},
        {"role": "tool", "content": "42", "tool_call_id": "call_1"}, {"role": "user", "content": "Bye"},
    ]
    assert wire.chat(messages).status == 200


def test_4_both_names_of_max_tokens_and_the_newer_wins(wire):
    def count(**fields):
        return wire.post(CHAT, messages=HELLO, temperature=0, ignore_eos=True, **fields).json["usage"]["completion_tokens"]

    assert (count(max_tokens=3), count(max_completion_tokens=4), count(max_tokens=3, max_completion_tokens=5)) == (3, 4, 5)


def test_4_logprobs_have_bytes_and_exactly_k_alternatives(wire):
    for count in (0, 2):
        content = wire.chat(logprobs=True, top_logprobs=count).choice["logprobs"]["content"]
        assert len(content) == 8
        for entry in content:
            assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"} and len(entry["top_logprobs"]) == count
            assert bytes(entry["bytes"]).decode(errors="replace") == entry["token"] or "\ufffd" in entry["token"]
            assert all(set(top) == {"token", "logprob", "bytes"} for top in entry["top_logprobs"])
    assert wire.chat(logprobs=True).choice["logprobs"]["content"][0]["top_logprobs"] == []
    assert wire.chat(logprobs=False).choice["logprobs"] is None


def test_4_a_stream_begins_with_the_role_and_ends_with_a_reason(wire):
    answer = wire.chat(stream=True, stream_options={"include_usage": True}, ignore_eos=True)
    first, *middle, last, usage = answer.events
    assert {event["object"] for event in answer.events} == {"chat.completion.chunk"}
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "finish_reason" in first["choices"][0] and first["choices"][0]["finish_reason"] is None
    assert all(event["choices"][0]["finish_reason"] is None and list(event["choices"][0]["delta"]) == ["content"] for event in middle)
    assert last["choices"][0]["delta"] == {} and last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 8
    whole = wire.chat(ignore_eos=True)
    assert "".join(event["choices"][0]["delta"]["content"] for event in middle) == whole.choice["message"]["content"]
    assert len({(event["id"], event["created"]) for event in answer.events}) == 1


def test_4_each_choice_of_a_stream_has_its_own_beginning_and_end(wire):
    events = wire.chat(stream=True, n=3, temperature=1, ignore_eos=True).events
    choices = [event["choices"][0] for event in events]
    assert sorted(c["index"] for c in choices if c["delta"].get("role")) == [0, 1, 2]
    assert sorted(c["index"] for c in choices if c["finish_reason"]) == [0, 1, 2]
    for index in range(3):
        own = [choice for choice in choices if choice["index"] == index]
        assert own[0]["delta"].get("role") == "assistant" and own[-1]["finish_reason"] == "length"


def test_4_a_named_function_is_called_and_ends_in_stop(wire):
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {
        "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}}}
    fields = dict(tools=[tool], tool_choice={"type": "function", "function": {"name": "look_up"}}, max_tokens=60)
    message = wire.chat(**fields).choice
    call = message["message"]["tool_calls"][0]
    assert message["finish_reason"] == "stop" and call["type"] == "function" and call["function"]["name"] == "look_up"
    assert isinstance(json.loads(call["function"]["arguments"])["n"], int) and message["message"]["content"] is None
    deltas = [event["choices"][0]["delta"] for event in wire.chat(**fields, stream=True).events if event["choices"]]
    pieces = [delta["tool_calls"][0] for delta in deltas if delta.get("tool_calls")]
    assert {"index", "id", "type", "function"} <= set(pieces[0]) and pieces[0]["function"]["arguments"] == ""
    assert all("id" not in piece and piece["index"] == 0 for piece in pieces[1:])
    joined = "".join(piece["function"]["arguments"] for piece in pieces)
    assert json.loads(joined) == json.loads(call["function"]["arguments"])


def test_4_required_ends_in_tool_calls(wire):
    choice = wire.chat(tools=[BOUNDED], tool_choice="required", parallel_tool_calls=False, max_tokens=100).choice
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["tool_calls"][0]["id"]


@pytest.mark.parametrize("wanted", [
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {
        "type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}}}},
    {"structured_outputs": {"choice": ["{}", "[]"]}},
])
def test_4_the_form_of_an_answer_is_kept(wire, wanted):
    json.loads(wire.chat(**wanted, max_tokens=200).choice["message"]["content"])
    assert wire.chat(response_format={"type": "text"}).status == 200


def test_4_the_assistant_may_be_continued(wire):
    messages = [*HELLO, {"role": "assistant", "content": "The answer is"}]
    answer = wire.chat(messages, continue_final_message=True, add_generation_prompt=False, echo=True)
    assert answer.choice["message"]["content"].startswith("The answer is")


# Section 5: other endpoints.


def test_5_model_cards(wire, model):
    listed = wire.get("/v1/models").json
    assert listed["object"] == "list"
    card = listed["data"][0]
    assert {"id", "object", "created", "owned_by", "root", "parent", "max_model_len", "permission"} <= set(card)
    assert (card["id"], card["object"], card["parent"], card["max_model_len"]) == (model, "model", None, 8192)
    assert isinstance(card["created"], int) and card["root"]
    assert wire.get(f"/v1/models/{model}").json == card
    assert wire.get("/v1/models/" + "".join(f"%{byte:02x}" for byte in model.encode())).json == card


def test_5_probes(wire):
    for path in ("/health", "/ping", "/live", "/health/live"):
        answer = wire.get(path)
        assert (answer.status, answer.body) == (200, b"")
    assert wire.send("POST", "/ping", headers={}).status == 200
    for path in ("/ready", "/health/ready"):
        assert wire.get(path).json == {"status": "ready"}
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", wire.get("/version").json["version"])
    assert wire.get("/load").json == {"server_load": 0}


def test_5_tokenize_and_back(wire):
    answer = wire.post("/tokenize", prompt="Hello, 世界", return_token_strs=True).json
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"]) and answer["max_model_len"] == 8192
    assert wire.post("/detokenize", tokens=answer["tokens"]).json == {"prompt": "Hello, 世界"}
    assert wire.post("/detokenize", tokens=[]).json == {"prompt": ""}
    chat_tokens = wire.post("/tokenize", messages=HELLO).json["tokens"]
    used = wire.chat(return_token_ids=True).json
    assert used.get("prompt_token_ids", used["choices"][0].get("prompt_token_ids")) == chat_tokens
    assert wire.post("/tokenize", prompt="x", model="nope").status == 404


def test_5_tokens_of_a_conversation_are_those_that_are_read(wire):
    begun = [*HELLO, {"role": "assistant", "content": "Well"}]
    for fields in (
        dict(messages=HELLO, tools=[BOUNDED]), dict(messages=HELLO, add_generation_prompt=False),
        dict(messages=begun, continue_final_message=True), dict(messages=HELLO, chat_template_kwargs={"x": 1}),
    ):
        counted = wire.post("/tokenize", **fields).json["tokens"]
        assert counted == wire.post(CHAT + "/render", **fields).json["token_ids"]


def test_5_embeddings_are_lists_or_base64(wire, model):
    answer = wire.post("/v1/embeddings", model=model, input=["One text.", "Another."], user="u").json
    assert (answer["object"], answer["model"]) == ("list", model) and answer["id"].startswith("embd-")
    assert [(entry["object"], entry["index"], len(entry["embedding"])) for entry in answer["data"]] == [
        ("embedding", 0, 576), ("embedding", 1, 576)]
    count = len(wire.tokens("One text.")) + len(wire.tokens("Another."))
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]) == (count, count)
    packed = wire.post("/v1/embeddings", input=["One text.", "Another."], encoding_format="base64").json
    for one, other in zip(answer["data"], packed["data"]):
        numbers = struct.unpack("<576f", base64.b64decode(other["embedding"]))
        assert list(numbers) == pytest.approx(one["embedding"], abs=1e-7)
        assert sum(number * number for number in numbers) == pytest.approx(1, abs=1e-5)


def test_5_embeddings_take_all_shapes_of_a_prompt(wire):
    ids = wire.tokens("One text.")
    expected = wire.post("/v1/embeddings", input="One text.").json["data"][0]["embedding"]
    for shape in (["One text."], ids, [ids]):
        assert wire.post("/v1/embeddings", input=shape).json["data"][0]["embedding"] == expected
    short = wire.post("/v1/embeddings", input="One text.", dimensions=8).json["data"][0]["embedding"]
    length = sum(number * number for number in expected[:8]) ** 0.5
    assert short == pytest.approx([number / length for number in expected[:8]], abs=1e-6)
    cut = wire.post("/v1/embeddings", input="A long text. One text.", truncate_prompt_tokens=len(ids)).json
    assert cut["usage"]["prompt_tokens"] == len(ids)


def test_5_scores_and_ranks_are_cosines(wire):
    texts = ["A cat sleeps.", "The cat is asleep.", "Shares fell by two percent."]
    vectors = [entry["embedding"] for entry in wire.post("/v1/embeddings", input=texts).json["data"]]
    cosines = [sum(a * b for a, b in zip(vectors[0], vector)) for vector in vectors[1:]]
    score = wire.post("/v1/score", text_1=texts[0], text_2=texts[1:]).json
    assert score["object"] == "list"
    assert [entry["score"] for entry in score["data"]] == pytest.approx(cosines, abs=1e-5)
    ranked = wire.post("/v1/rerank", query=texts[0], documents=texts[1:], top_n=1).json["results"]
    best = max(range(2), key=lambda index: cosines[index])
    assert len(ranked) == 1 and ranked[0]["index"] == best and ranked[0]["document"] == {"text": texts[1:][best]}
    assert ranked[0]["relevance_score"] == pytest.approx(cosines[best], abs=1e-5)


def test_5_render_is_what_would_be_read(wire):
    rendered = wire.post(COMPLETIONS + "/render", prompt=["One text.", "Another."], max_tokens=3).json
    assert [entry["token_ids"] for entry in rendered] == [wire.tokens("One text."), wire.tokens("Another.")]
    assert rendered[0]["prompt"] == "One text." and rendered[0]["sampling_params"]["max_tokens"] == 3
    rendered = wire.post(CHAT + "/render", messages=HELLO).json
    assert rendered["token_ids"] == wire.post("/tokenize", messages=HELLO).json["tokens"]
    assert rendered["request_id"].startswith("chatcmpl-")


def test_5_messages_speak_in_the_shape_of_their_client(wire, model):
    answer = wire.post("/v1/messages", model=model, max_tokens=4, messages=HELLO).json
    assert (answer["type"], answer["role"], answer["content"][0]["type"]) == ("message", "assistant", "text")
    refused = wire.post("/v1/messages", model="nope", max_tokens=4, messages=HELLO)
    assert refused.json["type"] == "error" and refused.error["type"] == "not_found_error"
    stream = wire.post("/v1/messages", model=model, max_tokens=4, messages=HELLO, stream=True).body.decode()
    assert re.findall(r"^event: (\w+)$", stream, re.MULTILINE)[:2] == ["message_start", "content_block_start"]


# Section 6: what single clients send.


@pytest.mark.parametrize("line, path, body", [
    ("vllm bench", COMPLETIONS, {"prompt": "x", "temperature": 0.0, "repetition_penalty": 1.0, "max_tokens": 4, "logprobs": None,
        "stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}),
    ("vllm bench chat", CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "max_completion_tokens": 4,
        "stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}),
    ("guidellm", COMPLETIONS, {"prompt": "x", "max_tokens": 4, "stop": None, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
    ("aiperf", CHAT, {"messages": HELLO, "max_completion_tokens": 4, "min_tokens": 4, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True}}),
], ids=lambda value: value if isinstance(value, str) and "/" not in value else "")
def test_6_load_testers_count_one_token_in_each_event(wire, line, path, body):
    events = wire.post(path, **body).events
    assert events[-1]["choices"] == [] and events[-1]["usage"]["completion_tokens"] == 4
    if path == COMPLETIONS:
        assert len(events) == 5 and all(event["choices"][0]["text"] is not None for event in events[:-1])
    else:
        assert sum(bool(event["choices"] and event["choices"][0]["delta"].get("content")) for event in events) <= 4


# Sections 7 and 8: metrics.


def test_7_every_series_is_there_from_the_start(wire):
    text = wire.get("/metrics").body.decode()
    assert wire.get("/metrics").headers["Content-Type"].startswith("text/plain; version=0.0.4")
    gauges = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "cache_config_info"]
    counters = ["prompt_tokens_total", "generation_tokens_total", "prefix_cache_queries_total", "prefix_cache_hits_total",
                "num_preemptions_total", "request_success_total"]
    histograms = ["time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds",
                  "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
                  "request_decode_time_seconds", "request_inference_time_seconds", "request_prompt_tokens",
                  "request_generation_tokens", "request_max_num_generation_tokens", "request_params_max_tokens",
                  "iteration_tokens_total", "request_params_n"]
    for name in gauges + counters:
        assert re.search(rf'^vllm:{name}\{{[^}}]*model_name="', text, re.MULTILINE), name
    for name in histograms:
        assert re.search(rf'^vllm:{name}_bucket\{{[^}}]*le="\+Inf"', text, re.MULTILINE), name
        assert re.search(rf"^vllm:{name}_sum", text, re.MULTILINE) and re.search(rf"^vllm:{name}_count", text, re.MULTILINE)
    for reason in ("stop", "length", "abort", "error", "repetition"):
        assert f'finished_reason="{reason}"' in text


def test_7_a_read_prompt_is_counted_without_generated_tokens(wire, server):
    names = ["prompt_tokens_total", "generation_tokens_total", "e2e_request_latency_seconds_count"]
    before = [server.metric(name) for name in names]
    count = len(wire.tokens("A text to count."))
    assert wire.post("/v1/embeddings", input="A text to count.").status == 200
    assert [server.metric(name) - old for name, old in zip(names, before)] == [count, 0, 1]


def test_8_gauges_go_back_to_zero(wire, server):
    wire.complete()
    assert [server.metric(name) for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")] == [0, 0, 0]
    info = re.search(r"^vllm:cache_config_info\{([^}]*)\} 1", wire.get("/metrics").body.decode(), re.MULTILINE)
    assert 'block_size="16"' in info[1] and "num_gpu_blocks=" in info[1]
