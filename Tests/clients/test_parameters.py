"""Every sampling and request parameter, seen from outside: real binary, real model."""

import json
import random
import urllib.error
import urllib.request

import pytest

PROMPT = "Once upon a time, in a small village by the sea,"
STOPS = [". ", "\n", "the", "and the", " a", "!", "👋", "é", "日", "😀 "]
PROMPTS = [
    "Repeat: 👋🏽 😀 🎉 👨‍👩‍👧 🇩🇪 👋🏽 😀 🎉",
    "日本語の文章を書いてください。今日は",
    "Grüße aus Köln! Äpfel, Öl, Übermut: naïve café",
    "List of emoji: 😀 😁 😂 🤣 😃 😄 😅 😆 😉 😊",
    "The quick brown fox",
    "한국어 문장을 계속하세요: 안녕하세요",
]


@pytest.fixture
def post(server):
    def send(path, headers=(), **body):
        request = urllib.request.Request(
            server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json", **dict(headers)}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return send


@pytest.fixture
def complete(post):
    def send(**body):
        body = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0, **body}
        status, answer = post("/v1/completions", **body)
        assert status == 200, answer
        return answer

    return send


def tokens(post, text, **more):
    return post("/tokenize", prompt=text, **more)[1]["tokens"]


def choice(answer):
    return answer["choices"][0]


def token_ids(answer):
    return choice(answer)["token_ids"]


def test_allowed_tokens_are_the_only_ones(complete):
    assert set(token_ids(complete(allowed_token_ids=[28, 30, 260], return_token_ids=True))) <= {28, 30, 260}


def test_a_bias_draws_and_repels(complete):
    assert set(token_ids(complete(logit_bias={"28": 100}, return_token_ids=True))) == {28}
    plain = token_ids(complete(return_token_ids=True))
    banned = token_ids(complete(logit_bias={str(plain[0]): -1000}, return_token_ids=True))
    assert plain[0] not in banned


def test_bad_words_are_not_generated(complete):
    plain = choice(complete())["text"]
    words = [word for word in plain.split() if word.isalpha()][:3]
    text = choice(complete(bad_words=words))["text"]
    assert not set(words) & set(text.split())
    pair = " ".join(plain.split()[:2])
    assert pair in plain
    assert not choice(complete(bad_words=[pair]))["text"].lstrip().startswith(pair)


def test_penalties_make_answers_more_varied(complete):
    def variety(**body):
        ids = token_ids(complete(prompt="one one one one one", max_tokens=60, return_token_ids=True, **body))
        return len(set(ids))

    plain = variety()
    assert variety(presence_penalty=2) > plain
    assert variety(frequency_penalty=2) > plain
    assert variety(repetition_penalty=1.5) > plain
    assert variety(presence_penalty=0, frequency_penalty=0, repetition_penalty=1) == plain


def test_min_tokens_holds_back_every_end(complete, post):
    first = token_ids(complete(return_token_ids=True))
    stopped = complete(stop_token_ids=[first[3]], return_token_ids=True)
    assert choice(stopped)["stop_reason"] == first[3] and choice(stopped)["finish_reason"] == "stop"
    assert stopped["usage"]["completion_tokens"] == first.index(first[3]) + 1
    longer = complete(stop_token_ids=[first[3]], min_tokens=10, return_token_ids=True)
    assert first[3] not in token_ids(longer)[:10]
    assert longer["usage"]["completion_tokens"] >= 10
    chat = {"messages": [{"role": "user", "content": "Say only: OK"}], "temperature": 0, "max_tokens": 80}
    assert post("/v1/chat/completions", **chat, min_tokens=80)[1]["usage"]["completion_tokens"] == 80
    # Stop strings wait too.
    text = choice(complete(stop=[" "], min_tokens=8))["text"]
    assert " " in text


def test_the_stop_can_stay_in_the_text(complete):
    text = choice(complete())["text"]
    stop = text[8:12]
    cut, kept = choice(complete(stop=stop)), choice(complete(stop=stop, include_stop_str_in_output=True))
    assert cut["stop_reason"] == kept["stop_reason"] == stop
    assert kept["text"] == cut["text"] + stop == text[: text.index(stop) + 4]


def test_special_tokens_can_be_shown(complete):
    settings = {"prompt": [504], "allowed_token_ids": [1, 28], "logit_bias": {"1": 100}, "max_tokens": 3}
    assert choice(complete(**settings))["text"] == ""
    assert choice(complete(**settings, skip_special_tokens=False))["text"] == "<|im_start|>" * 3


def test_echo_puts_the_prompt_in_front_with_its_logprobs(complete):
    plain = complete(logprobs=2)
    echoed = complete(logprobs=2, echo=True)
    assert choice(echoed)["text"] == PROMPT + choice(plain)["text"]
    assert echoed["usage"] == plain["usage"]
    lists = choice(echoed)["logprobs"]
    assert "".join(lists["tokens"]) == choice(echoed)["text"]
    count = len(lists["tokens"])
    assert count == echoed["usage"]["total_tokens"] == len(lists["token_logprobs"]) == len(lists["top_logprobs"])
    assert lists["token_logprobs"][0] is None and lists["top_logprobs"][0] is None
    assert all(logprob <= 0 for logprob in lists["token_logprobs"][1:])
    for token, offset in zip(lists["tokens"], lists["text_offset"]):
        assert choice(echoed)["text"][offset : offset + len(token)] == token
    # The answer's own part is what it is without the echo.
    own = choice(plain)["logprobs"]["token_logprobs"]
    assert lists["token_logprobs"][-len(own) :] == pytest.approx(own, abs=1e-4)


def test_echo_without_new_tokens_scores_the_prompt(complete):
    answer = complete(max_tokens=0, echo=True, logprobs=0)
    assert choice(answer)["text"] == PROMPT and choice(answer)["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 0
    lists = choice(answer)["logprobs"]
    assert "".join(lists["tokens"]) == PROMPT
    assert lists["token_logprobs"] == choice(complete(echo=True, logprobs=0, max_tokens=1))["logprobs"][
        "token_logprobs"
    ][:-1]


def test_prompt_logprobs_agree_with_a_generation(complete):
    """Score a prompt and its greedy continuation: the continuation scores as it did when it was generated."""
    generated = complete(logprobs=1, return_token_ids=True)
    ids = choice(generated)["prompt_token_ids"] + token_ids(generated)
    scored = choice(complete(prompt=ids, max_tokens=1, prompt_logprobs=1))["prompt_logprobs"]
    assert len(scored) == len(ids) and scored[0] is None
    own = choice(generated)["logprobs"]["token_logprobs"]
    for token, entry, logprob in zip(ids[-len(own) :], scored[-len(own) :], own):
        assert entry[str(token)]["rank"] == 1
        assert entry[str(token)]["logprob"] == pytest.approx(logprob, abs=2e-2)


def test_prompt_logprobs_of_a_chat_stand_beside_its_choices(post):
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    status, answer = post("/v1/chat/completions", **chat, prompt_logprobs=0)
    assert status == 200
    assert len(answer["prompt_logprobs"]) == answer["usage"]["prompt_tokens"]
    assert all(len(entry) == 1 for entry in answer["prompt_logprobs"][1:])
    assert post("/v1/chat/completions", **chat)[1]["prompt_logprobs"] is None


def test_prompts_are_truncated(complete, post):
    ids = tokens(post, PROMPT)
    shown = {"max_tokens": 1, "return_token_ids": True}
    assert choice(complete(truncate_prompt_tokens=4, **shown))["prompt_token_ids"] == ids[-4:]
    assert choice(complete(truncate_prompt_tokens=4, truncation_side="right", **shown))["prompt_token_ids"] == ids[:4]
    assert choice(complete(truncate_prompt_tokens=1000, **shown))["prompt_token_ids"] == ids
    long = "word " * 20_000
    answer = complete(prompt=long, truncate_prompt_tokens=-1, max_tokens=2)
    assert answer["usage"]["completion_tokens"] == 2


def test_a_salt_has_a_cache_of_its_own(complete, server):
    text = " ".join(str(random.random()) for _ in range(20))

    def hits(salt):
        before = server.metric("prefix_cache_hits_total")
        complete(prompt=text, max_tokens=1, cache_salt=salt)
        return server.metric("prefix_cache_hits_total") - before

    assert hits("a") == 0 and hits("a") > 0
    assert hits("b") == 0 and hits(None) == 0
    assert hits("b") > 0


def test_token_ids_are_shown(complete, post):
    answer = complete(return_token_ids=True, return_tokens_as_token_ids=True, logprobs=1)
    assert choice(answer)["prompt_token_ids"] == tokens(post, PROMPT)
    assert choice(answer)["logprobs"]["tokens"] == [f"token_id:{token}" for token in token_ids(answer)]
    status, chat = post(
        "/v1/chat/completions", messages=[{"role": "user", "content": "Hi"}], max_tokens=4, return_token_ids=True
    )
    assert status == 200 and len(choice(chat)["token_ids"]) == chat["usage"]["completion_tokens"]
    assert len(chat["prompt_token_ids"]) == chat["usage"]["prompt_tokens"]


def test_a_final_message_is_continued(post):
    messages = [{"role": "user", "content": "Count to ten."}, {"role": "assistant", "content": "one, two, three,"}]
    settings = {"messages": messages, "max_tokens": 4, "temperature": 0, "return_token_ids": True}
    status, answer = post("/v1/chat/completions", continue_final_message=True, add_generation_prompt=False, **settings)
    assert status == 200
    text = post("/detokenize", tokens=answer["prompt_token_ids"])[1]["prompt"]
    assert text.endswith("one, two, three,")
    assert choice(answer)["message"]["content"].strip()
    echoed = post("/v1/chat/completions", continue_final_message=True, echo=True, **settings)[1]
    assert choice(echoed)["message"]["content"].startswith("one, two, three,")
    without = post("/v1/chat/completions", add_generation_prompt=False, **settings)[1]
    assert not post("/detokenize", tokens=without["prompt_token_ids"])[1]["prompt"].rstrip().endswith("assistant")


@pytest.mark.parametrize("header", ["x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms", None])
def test_a_deadline_ends_the_answer_where_it_is(post, header):
    body = {"prompt": PROMPT, "max_tokens": 1500, "ignore_eos": True}
    headers = {header: "150"} if header else {}
    status, answer = post("/v1/completions", headers, **body, **({} if header else {"timeout_ms": 150}))
    assert status == 200
    assert choice(answer)["finish_reason"] == "abort"
    assert answer["usage"]["completion_tokens"] < 1500


def test_a_bad_deadline_header_is_refused_by_name(post):
    status, answer = post("/v1/completions", {"x-request-timeout-ms": "soon"}, prompt="x")
    assert status == 400 and answer["error"]["param"] == "x-request-timeout-ms"


def test_repetition_is_detected(complete):
    settings = {"allowed_token_ids": [28], "max_tokens": 50}
    answer = complete(**settings, repetition_detection={"max_pattern_size": 4, "min_count": 6})
    assert choice(answer)["finish_reason"] == "repetition"
    assert answer["usage"]["completion_tokens"] == 6
    assert choice(complete(**settings))["finish_reason"] == "length"


def test_greedy_choices_and_priorities_are_refused(post):
    for field, body in [("n", {"n": 2, "temperature": 0}), ("priority", {"priority": 1})]:
        status, answer = post("/v1/completions", prompt="x", **body)
        assert (status, answer["error"]["param"]) == (400, field)


def test_a_request_that_allows_nothing_is_the_clients_fault(post):
    status, answer = post("/v1/completions", prompt="x", allowed_token_ids=[28], bad_words=[","])
    assert status == 400, answer
    assert "allowed_token_ids" in answer["error"]["message"]


def test_a_schema_error_says_so(post):
    status, answer = post("/v1/completions", prompt="x", max_tokens="many")
    assert status == 400
    assert answer["error"]["type"] == "Bad Request"
    assert answer["error"]["message"].startswith("1 validation error: ")
    status, answer = post("/v1/completions", prompt="x", temperature=3)
    assert (status, answer["error"]["type"]) == (400, "BadRequestError")


def streamed(server, body):
    """Texts, entries and ends of a stream, by choice."""
    request = urllib.request.Request(
        server.url + "/v1/completions", json.dumps({**body, "stream": True}).encode(), {"Content-Type": "application/json"}
    )
    joined = {}
    with urllib.request.urlopen(request, timeout=120) as response:
        assert response.status == 200
        for line in response:
            if not line.startswith(b"data: ") or line == b"data: [DONE]\n":
                continue
            for part in json.loads(line[6:])["choices"]:
                whole = joined.setdefault(part["index"], {"text": "", "token_ids": [], "tokens": []})
                whole["text"] += part["text"]
                whole["token_ids"] += part.get("token_ids") or []
                whole["tokens"] += (part["logprobs"] or {}).get("tokens", [])
                if part["finish_reason"]:
                    assert "finish_reason" not in whole
                    whole["finish_reason"], whole["stop_reason"] = part["finish_reason"], part["stop_reason"]
    return joined


def random_body(numbers):
    body = {
        "prompt": numbers.choice(PROMPTS),
        "max_tokens": numbers.randint(1, 24),
        "temperature": numbers.choice([0, 0.7, 1.3, 2]),
        "seed": numbers.randint(0, 1 << 40),
        "return_token_ids": True,
    }
    options = [
        {"stop": numbers.sample(STOPS, numbers.randint(1, 4))},
        {"include_stop_str_in_output": True},
        {"min_tokens": numbers.randint(0, body["max_tokens"])},
        {"presence_penalty": numbers.uniform(-2, 2), "frequency_penalty": numbers.uniform(-2, 2)},
        {"repetition_penalty": numbers.uniform(0.8, 1.5)},
        {"echo": True},
        {"logprobs": numbers.randint(0, 3)},
        {"bad_words": ["the", "日", "😀"]},
        {"skip_special_tokens": False},
        {"top_p": 0.9, "top_k": 50},
        {"ignore_eos": True},
        {"logit_bias": {"28": 3, "30": -3}},
    ]
    for option in numbers.sample(options, numbers.randint(0, 5)):
        body.update(option)
    if body["temperature"] > 0 and numbers.random() < 0.2:
        body["n"] = 2
    return body


@pytest.mark.parametrize("part", range(4))
def test_streams_joined_are_the_whole_answers(server, post, part):
    numbers = random.Random(part)
    for _ in range(50):
        body = random_body(numbers)
        status, answer = post("/v1/completions", **body)
        assert status == 200, (body, answer)
        pieces = streamed(server, body)
        for whole in answer["choices"]:
            piece = pieces[whole["index"]]
            for name in ("text", "token_ids", "finish_reason", "stop_reason"):
                assert piece[name] == whole[name], (name, body)
            assert piece["tokens"] == (whole["logprobs"] or {}).get("tokens", []), body
