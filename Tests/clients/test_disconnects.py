"""Three hundred clients that leave at random moments, in every way there is. A second later nothing is left of them."""

import asyncio
import json
import random
import re
import socket
import struct
import time

CLIENTS = 300
AT_ONCE = 100
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")


def request(rng):
    """A request that would run long, as bytes."""
    path = rng.choice(["/v1/completions", "/v1/chat/completions"])
    text = "word " * rng.randint(1, 200)
    body = {"max_tokens": 400, "ignore_eos": True, "stream": rng.random() < 0.7, "n": rng.choice([1, 1, 2])}
    if path.endswith("chat/completions"):
        body["messages"] = [{"role": "user", "content": text}]
    else:
        body["prompt"] = text
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def client(server, rng, slots):
    async with slots:
        reader, writer = await asyncio.open_connection(*server.host_and_port)
        data = request(rng)
        # Some leave in the middle of their request; the rest while it waits, during prefill, or between tokens.
        complete = rng.random() < 0.8
        writer.write(data if complete else data[: rng.randrange(len(data))])
        try:
            await asyncio.wait_for(reader.read(rng.choice([1, 4096])), rng.expovariate(1 / 0.3))
        except TimeoutError:
            pass
        way = rng.choice(["close", "reset", "half-close"])
        if way == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if way == "half-close":
            writer.write_eof()
            await asyncio.sleep(0.05)
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


def test_nothing_is_left_of_clients_that_disconnect(server):
    async def run():
        rng = random.Random(20261121)
        slots = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(client(server, random.Random(rng.random()), slots) for _ in range(CLIENTS)))

    asyncio.run(run())
    began = time.monotonic()
    while values := {name: value for name in GAUGES if (value := server.metric(name)) != 0}:
        assert time.monotonic() - began < 1, f"still busy a second after the last client left: {values}"
        time.sleep(0.02)
    errors = [line for line in server.log().splitlines() if re.search(r"\b(error|critical|fatal)\b", line, re.IGNORECASE)]
    assert errors == []
    assert server.get("/ready")
