"""Pieces joined are the whole: streams against answers, and requests in pieces against requests at once."""

import concurrent.futures
import http.client
import json
import random
import re
import socket
import time

import pytest

REQUESTS = 200
SPLITS = 40
PROMPTS = [
    "The three primary colours are",
    "日本語で挨拶してください。こんにちは、",
    "你好，请用中文写一首短诗：",
    "한국어로 인사해 주세요:",
    "Emoji only: 🙂🎉👩‍👩‍👧‍👦🇯🇵🙃🎈",
    "Ελληνικά και кириллица и العربية:",
    'JSON: {"key": "value\\n", "list": [1, 2, 3], "text": "',
    "def add(a, b):\n    return",
    "naïve café — “quotes” … and ½ of ∑ of é́",
    "\t\ttabs and\r\nline ends\u2028and others\u0085:",
]


def post(server, path, body):
    """The bytes of an answer."""
    connection = http.client.HTTPConnection(*server.host_and_port, timeout=120)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        data = response.read()
        assert response.status == 200, data
        return data
    finally:
        connection.close()


def whole(server, path, body):
    """Of each choice of an answer the text and why it ended, and the usage."""
    answer = json.loads(post(server, path, body))
    choices = {}
    for choice in answer["choices"]:
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        choices[choice["index"]] = (text, choice["finish_reason"], choice["stop_reason"])
    return choices, answer["usage"]


def streamed(server, path, body):
    """The same of a stream, from its pieces."""
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    events = post(server, path, body).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    texts, ends, usage = {}, {}, None
    for event in events[:-2]:
        if event.startswith(":"):
            continue
        assert event.startswith("data: ") and "\n" not in event
        chunk = json.loads(event.removeprefix("data: "))
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            piece = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
            texts[choice["index"]] = texts.get(choice["index"], "") + piece
            if choice["finish_reason"]:
                assert choice["index"] not in ends, "a choice ended twice"
                ends[choice["index"]] = (choice["finish_reason"], choice["stop_reason"])
    return {index: (text, *ends[index]) for index, text in texts.items()}, usage


def random_request(source):
    """A path and a body."""
    body = {"max_tokens": source.randint(1, 28)}
    if source.random() < 0.5:
        body["temperature"] = 0
    else:
        # Hot enough that tokens which are parts of characters come up.
        body |= {"temperature": source.choice([0.7, 1.5, 2.0]), "seed": source.randrange(2**31)}
        body["n"] = source.choice([1, 1, 1, 3])
    if source.random() < 0.3:
        body["ignore_eos"] = True
    prompt = source.choice(PROMPTS)
    if source.random() < 0.5:
        return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": prompt}]}
    if source.random() < 0.2:
        body["echo"] = True
    return "/v1/completions", body | {"prompt": prompt}


def stop_strings(source, choices):
    """Up to four strings that an answer has in it, cut without regard for tokens, or that it only begins with."""
    texts = [text for text, _, _ in choices.values() if len(text) > 1]
    strings = []
    for _ in range(source.randint(1, 4) if texts else 0):
        text = source.choice(texts)
        start = source.randrange(len(text))
        strings.append(text[start : start + source.randint(1, 9)] + source.choice(["", "", "§"]))
    return strings


def check_stream(server, seed):
    source = random.Random(seed)
    path, body = random_request(source)
    answer, usage = whole(server, path, body)
    assert streamed(server, path, body) == (answer, usage), body
    strings = [] if body.get("echo") else stop_strings(source, answer)
    if strings:
        body = body | {"stop": strings, "include_stop_str_in_output": source.random() < 0.3}
        answer, _ = whole(server, path, body)
        # A stream may have more tokens behind it when its text ends than an answer has; the text is the same.
        assert streamed(server, path, body)[0] == answer, body
        for text, _, reason in answer.values():
            if reason in strings and not body["include_stop_str_in_output"]:
                assert not any(string in text for string in strings), body
    return len(strings)


def test_streams_join_to_the_whole_answer(server):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda seed: check_stream(server, seed), range(REQUESTS)))
    assert sum(count > 0 for count in counts) > REQUESTS / 3


def exchange(server, request, cuts):
    """Sends `request` in pieces; returns the answer without what differs from one to the next."""
    with socket.create_connection(server.host_and_port, timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in zip([0, *cuts], [*cuts, len(request)]):
            connection.sendall(request[start:end])
            time.sleep(0.002)
        answer = b""
        while data := connection.recv(1 << 16):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = b"".join(chunks(body))
    # The time of day; the label is the client's.
    return re.sub(rb"\r\ndate: [^\r]*", b"", head, flags=re.IGNORECASE), re.sub(rb'"created":\d+', b"", body)


def chunks(body):
    """What the chunks of a body hold."""
    while True:
        length, _, body = body.partition(b"\r\n")
        count = int(length, 16)
        if count == 0:
            assert body == b"\r\n"
            return
        yield body[:count]
        assert body[count : count + 2] == b"\r\n"
        body = body[count + 2 :]


def check_split(server, seed):
    source = random.Random(f"split {seed}")
    path, body = random_request(source)
    data = json.dumps(body | {"stream": source.random() < 0.5}, ensure_ascii=False).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n"
    head += f"x-request-id: split-{seed}\r\n"
    if source.random() < 0.5:
        request = (head + f"content-length: {len(data)}\r\n\r\n").encode() + data
    else:
        middle = source.randrange(1, len(data))
        request = (head + "transfer-encoding: chunked\r\n\r\n").encode()
        for piece in (data[:middle], data[middle:]):
            request += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        request += b"0\r\n\r\n"
    cuts = sorted(source.sample(range(1, len(request)), source.choice([1, 3, 20])))
    assert b" 200 " in (at_once := exchange(server, request, []))[0]
    if body.get("n", 1) > 1 and b"data: " in at_once[1]:
        # Choices take turns as they come, in each request in its own order.
        at_once, in_pieces = (
            (head, sorted(body.split(b"\n\n"))) for head, body in (at_once, exchange(server, request, cuts))
        )
        assert in_pieces == at_once
    else:
        assert exchange(server, request, cuts) == at_once


def test_a_request_in_pieces_is_the_request_at_once(server):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: check_split(server, seed), range(SPLITS)))


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_request_byte_by_byte_is_the_request_at_once(server, path):
    body = {"max_tokens": 4, "temperature": 0}
    body |= {"prompt": "é"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "é"}]}
    data = json.dumps(body, ensure_ascii=False).encode()
    request = (
        f"POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n"
        f"x-request-id: bytes\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode() + data
    assert exchange(server, request, range(1, len(request))) == exchange(server, request, [])
