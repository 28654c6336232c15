"""Every kind of request that clients send, in one stream of them, and what a server must look like afterwards."""

import asyncio
import collections
import dataclasses
import random
import re
import socket
import statistics
import struct
import time

import load

GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def chat(rng, **fields):
    return "/v1/chat/completions", {
        "messages": [{"role": "user", "content": load.words(rng, rng.randint(1, 40))}],
        "max_tokens": rng.randint(1, 8),
        **fields,
    }


def completion(rng, **fields):
    prompt = load.words(rng, rng.randint(1, 60))
    return "/v1/completions", {"prompt": prompt, "max_tokens": rng.randint(1, 8), **fields}


def schema(rng):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    return chat(rng, response_format=form, stream=rng.random() < 0.5)


# [kind] Its weight, the statuses that are right for it, and its path and body.
KINDS = {
    "chat": (20, [200], chat),
    "chat stream": (20, [200], lambda rng: chat(rng, stream=True, stream_options={"include_usage": True})),
    "completion": (15, [200], completion),
    "completion stream": (10, [200], lambda rng: completion(rng, stream=True)),
    "choices": (6, [200], lambda rng: completion(rng, n=rng.randint(2, 4), temperature=1, stream=rng.random() < 0.5)),
    "prompts": (3, [200], lambda rng: completion(rng, prompt=[load.words(rng, 3), load.words(rng, 9)])),
    "schema": (5, [200], schema),
    "tools": (4, [200], lambda rng: chat(rng, tools=[TOOL], tool_choice=rng.choice(["auto", "required", "none"]))),
    "log-probabilities": (4, [200], lambda rng: completion(rng, logprobs=3, echo=True)),
    "stop": (4, [200], lambda rng: chat(rng, stop=[" the", "."], temperature=0)),
    "timeout": (2, [200, 503], lambda rng: completion(rng, timeout=rng.choice([0.001, 0.1, 30]))),
    "embeddings": (1, [404, 200], lambda rng: ("/v1/embeddings", {"input": "hello"})),
    "tokens": (1, [200], lambda rng: ("/tokenize", {"prompt": load.words(rng, 50)})),
    "models": (1, [200], lambda rng: ("/v1/models", None)),
    "bad JSON": (1, [400], lambda rng: ("/v1/chat/completions", b'{"messages": [')),
    "bad type": (1, [400], lambda rng: chat(rng, max_tokens="many")),
    "bad value": (1, [400], lambda rng: completion(rng, temperature=-1)),
    "bad schema": (
        1,
        [400],
        lambda rng: chat(
            rng, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 7}}}
        ),
    ),
    "other model": (1, [404], lambda rng: chat(rng, model="gpt-9")),
    "too long": (1, [400], lambda rng: completion(rng, prompt=[1] * 9000)),
}
LEAVING = 0.2


async def leave(client, data, rng):
    """Sends a request, or part of it, and goes away at some moment, in one of the ways there are."""
    try:
        reader, writer = await asyncio.open_connection(client.host, client.port)
    except OSError:
        return "no connection"
    try:
        writer.write(data if rng.random() < 0.8 else data[: rng.randrange(len(data))])
        try:
            await asyncio.wait_for(reader.read(rng.choice([1, 300, 4096])), rng.expovariate(1 / 0.2))
        except TimeoutError:
            pass
        way = rng.choice(["close", "reset", "half-close"])
        if way == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if way == "half-close":
            writer.write_eof()
            await asyncio.sleep(0.02)
        writer.close()
        await writer.wait_closed()
    except ConnectionError:
        pass
    return "left"


async def play(server, count, seed, at_once=48):
    """Sends `count` requests, `at_once` at a time; [outcome] how many there were of each."""
    client = load.Client(server)
    outcomes = collections.Counter()
    names, weights = list(KINDS), [weight for weight, _, _ in KINDS.values()]
    numbers = iter(range(count))

    async def work():
        for number in numbers:
            rng = random.Random(seed << 32 | number)
            kind = rng.choices(names, weights)[0]
            _, expected, make = KINDS[kind]
            data = client.encode(*make(rng))
            if rng.random() < LEAVING:
                outcomes[await leave(client, data, rng)] += 1
                continue
            result = await client.request(data)
            if result.error:
                outcomes[f"{kind}: {result.error}"] += 1
            elif result.status not in expected:
                outcomes[f"{kind}: {result.status}"] += 1
            else:
                outcomes[result.status] += 1

    await asyncio.gather(*(work() for _ in range(at_once)))
    client.close()
    return collections.Counter({str(key): value for key, value in outcomes.items()})


def check(outcomes, count):
    """Every request ended as its kind should."""
    wrong = {name: number for name, number in outcomes.items() if not re.fullmatch(r"\d+|left", name)}
    assert not wrong, wrong
    assert sum(outcomes.values()) == count
    assert LEAVING * 0.8 < outcomes["left"] / count < LEAVING * 1.2


async def until_idle(server, seconds=2):
    """Waits until nothing runs, waits or holds a block."""
    began = time.monotonic()
    while values := {name: value for name in GAUGES if (value := server.metric(name)) != 0}:
        assert time.monotonic() - began < seconds, f"still busy {seconds} s after the last client left: {values}"
        await asyncio.sleep(0.05)
    # Connections that were kept are closed by now, and the server has noticed.
    await asyncio.sleep(0.5)


def footprint(server):
    text = server.get("/metrics")

    def value(name):
        return float(re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE).group(1))

    return {
        "resident": value("process_resident_memory_bytes"),
        "descriptors": value("process_open_fds"),
        "blocks": value("apus:kv_blocks_used"),
        "connections": value("apus:http_connections"),
    }


async def fill_every_row(server, rows=64):
    """No row is lost: as many sequences run at once as may."""
    client = load.Client(server)
    body = {"prompt": "x", "max_tokens": 1000, "ignore_eos": True, "n": rows, "temperature": 1}
    data = client.encode("/v1/completions", body)
    task = asyncio.create_task(client.request(data))
    most, began = 0, time.monotonic()
    while most < rows and time.monotonic() - began < 20:
        await asyncio.sleep(0.05)
        most = max(most, server.metric("num_requests_running"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert most == rows
    await until_idle(server)


def complaints(server):
    """What the server's log says of errors."""
    return [line for line in server.log().splitlines() if re.search(r"\b(error|critical|fatal)\b", line, re.IGNORECASE)]


@dataclasses.dataclass
class Interruption:
    """What streams noticed of a long prompt; times in seconds."""

    # Gaps between tokens: the middle one of all, and of those before and while the prompt was computed; and the worst.
    median: float
    median_before: float
    median_during: float
    worst: float
    # To the first token of the prompt.
    prompt: float

    def __str__(self):
        return (
            f"gaps: median {self.median * 1e3:.1f} ms (before {self.median_before * 1e3:.1f}, during "
            f"{self.median_during * 1e3:.1f}), worst {self.worst * 1e3:.1f} ms = {self.worst / self.median:.2f} x; "
            f"the prompt took {self.prompt:.2f} s"
        )


async def interrupt(server, prompt, streams, output=600):
    """Sends a prompt of `prompt` tokens while `streams` streams generate."""
    client = load.Client(server)
    rng = random.Random(7)
    body = {"max_tokens": output, "ignore_eos": True, "stream": True, "temperature": 1}
    earlier = server.metric("generation_tokens_total")
    tasks = [
        asyncio.create_task(client.request(client.encode("/v1/completions", {"prompt": load.words(rng, 16), **body})))
        for _ in range(streams)
    ]
    while server.metric("generation_tokens_total") < earlier + streams * output / 8:
        await asyncio.sleep(0.05)
    tokens = [rng.randrange(1000, 40_000) for _ in range(prompt)]
    long = await client.request(client.encode("/v1/completions", {"prompt": tokens, "max_tokens": 1, "stream": True}))
    assert long.status == 200
    results = await asyncio.gather(*tasks)
    assert all(result.status == 200 and len(result.times) >= output for result in results)
    assert all(result.last > long.first for result in results), "the streams ended before the prompt was computed"
    before, during, every = [], [], []
    for result in results:
        for start, end in zip(result.times, result.times[1:]):
            every.append(end - start)
            if end < long.sent:
                before.append(end - start)
            elif start < long.first:
                during.append(end - start)
    return Interruption(
        median=statistics.median(every), median_before=statistics.median(before),
        median_during=statistics.median(during), worst=max(during), prompt=long.time_to_first_token,
    )
