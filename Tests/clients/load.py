"""A load generator that costs little, for it shares the machine with the server: raw HTTP/1.1 over kept connections,
one `asyncio.Protocol` each, and no parsing beyond what is measured.

Loads are open loops: requests are sent when their time has come, whether or not earlier ones were answered, and times
are counted from then.
"""

import asyncio
import dataclasses
import json
import math
import random
import re
import time

EVENT = b"data: {"
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
RETRY_AFTER = re.compile(rb"\r\nretry-after: (\d+)", re.IGNORECASE)


@dataclasses.dataclass(slots=True)
class Result:
    """What came of one request; times in seconds on the monotonic clock."""

    due: float
    sent: float = 0
    status: int = 0
    first: float = 0
    last: float = 0
    # [events] When the bytes of each came.
    times: list = dataclasses.field(default_factory=list)
    retry_after: int | None = None
    body: bytes = b""
    error: str = ""
    tag: str = ""

    @property
    def time_to_first_token(self):
        return self.first - self.due

    @property
    def total(self):
        return self.last - self.due

    @property
    def gaps(self):
        """Times between the tokens of a stream."""
        return [after - before for before, after in zip(self.times, self.times[1:])]


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self):
        self.result = self.done = self.transport = None
        self.is_open = False
        self.keeps_body = False

    def connection_made(self, transport):
        self.transport = transport
        self.is_open = True

    def send(self, data, result, keeps_body=False):
        self.result, self.keeps_body = result, keeps_body
        self.head = b""
        self.remaining = None
        self.done = asyncio.get_running_loop().create_future()
        result.sent = time.monotonic()
        self.transport.write(data)
        return self.done

    def data_received(self, data):
        now = time.monotonic()
        result = self.result
        if result is None:
            return
        if self.head is not None:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self.head[: end + 2], self.head[end + 4 :]
            result.status = int(head[9:12])
            length = LENGTH.search(head)
            # None is a chunked body, whose events are whole chunks here.
            self.remaining = int(length.group(1)) if length else None
            if retry := RETRY_AFTER.search(head):
                result.retry_after = int(retry.group(1))
            self.head = None
        if not data and self.remaining != 0:
            return
        if not result.first:
            result.first = now
        result.last = now
        if self.keeps_body:
            result.body += data
        if self.remaining is None:
            result.times.extend([now] * data.count(EVENT))
            if data.endswith(b"\r\n0\r\n\r\n") or data == b"0\r\n\r\n":
                self.finish()
        else:
            self.remaining -= len(data)
            if self.remaining <= 0:
                self.finish()

    def finish(self):
        self.result = None
        if self.done and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error):
        self.is_open = False
        if self.result is not None:
            self.result.error = self.result.error or f"closed: {error}"
            self.finish()


class Client:
    """Sends requests to one server; connections are used again."""

    def __init__(self, server, key=None):
        self.host, self.port = server.host_and_port
        self.key = key
        self.idle = []

    def encode(self, path, body=None, headers=""):
        """A request as bytes."""
        if self.key:
            headers += f"Authorization: Bearer {self.key}\r\n"
        if body is None:
            return f"GET {path} HTTP/1.1\r\nHost: load\r\n{headers}\r\n".encode()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: load\r\nContent-Type: application/json\r\n{headers}"
        return head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data

    async def connection(self):
        while self.idle:
            connection = self.idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, self.host, self.port))[1]

    async def request(self, data, due=None, keeps_body=False, tag=""):
        """Sends `data` and waits for the end of its answer."""
        result = Result(due=time.monotonic() if due is None else due, tag=tag)
        try:
            connection = await self.connection()
        except OSError as error:
            result.error = f"connect: {error}"
            return result
        try:
            await connection.send(data, result, keeps_body)
        except asyncio.CancelledError:
            connection.transport.abort()
            raise
        if connection.is_open:
            self.idle.append(connection)
        return result

    async def get(self, path):
        return await self.request(self.encode(path), keeps_body=True)

    async def metrics(self):
        """[series] Every sample of /metrics."""
        text = (await self.get("/metrics")).body.decode()
        return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.MULTILINE)}

    def close(self):
        for connection in self.idle:
            connection.transport.close()
        self.idle = []


async def open_loop(client, rate, seconds, make, seed=1, tag=""):
    """Sends `make(rng)` as a Poisson process of `rate` a second; all results, once the last has come."""
    rng = random.Random(seed)
    tasks = []
    start = time.monotonic()
    due = start
    while (due := due + rng.expovariate(rate)) < start + seconds:
        data = make(rng)
        if (pause := due - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        tasks.append(asyncio.create_task(client.request(data, due=due, tag=tag)))
        if pause <= 0:
            # Behind: the answers that came must still be read.
            await asyncio.sleep(0)
    return await asyncio.gather(*tasks)


async def closed_loop(client, count, seconds, make, seed=1, tag=""):
    """Keeps `count` requests going for a while; the results of those that were accepted and ended in time."""
    end = time.monotonic() + seconds
    results = []

    async def run(rng):
        while time.monotonic() < end:
            result = await client.request(make(rng), tag=tag)
            if result.status != 200:
                # Refused: come back soon.
                await asyncio.sleep(0.05)
            elif result.last <= end:
                results.append(result)

    await asyncio.gather(*(run(random.Random(seed * 1000 + index)) for index in range(count)))
    return results


class Probe:
    """Asks for health and metrics all the time, one connection each; use as a context."""

    def __init__(self, server, paths=("/health", "/metrics"), interval=0.05):
        self.server, self.paths, self.interval = server, paths, interval
        self.results = {path: [] for path in paths}

    async def ask(self, path):
        client = Client(self.server)
        data = client.encode(path)
        try:
            while True:
                began = time.monotonic()
                self.results[path].append(await client.request(data))
                await asyncio.sleep(max(0, began + self.interval - time.monotonic()))
        finally:
            client.close()

    async def __aenter__(self):
        self.tasks = [asyncio.create_task(self.ask(path)) for path in self.paths]
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def percentile(self, path, share):
        return percentile([result.total for result in self.results[path]], share)

    @property
    def failures(self):
        return [result for results in self.results.values() for result in results if result.status != 200]


def percentile(values, share):
    """The value below which `share` of them are; the nearest one, and never one between two."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))] if ordered else float("nan")


def milliseconds(values, *shares):
    """Percentiles for people."""
    return ", ".join(f"p{round(share * 100)} {percentile(values, share) * 1e3:.1f}" for share in shares) + " ms"


def words(rng, count):
    """Text of about `count` tokens that no cache has seen."""
    return " ".join(rng.choice(WORDS) for _ in range(count))


# One token each with a space in front, or nearly.
WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea body information"
).split()
