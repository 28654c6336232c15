"""What the server promises under load, on the real binary and the real model (docs/scheduling.md has the figures).

Thresholds are ratios to what the same run measured before, or the server's own settings, so that they hold on any
machine that is otherwise idle. Run with `-s` to see the figures.

APUS_LOAD_SCALE  shortens the long runs: 0.1 is a tenth
"""

import asyncio
import contextlib
import os
import time

import load
import mixture
import pytest
import repetition
from conftest import running_server

SCALE = float(os.environ.get("APUS_LOAD_SCALE", "1"))
# Seconds to the first token that an operator might ask for; the server refuses who would wait longer.
TARGET = 1.0


@contextlib.contextmanager
def serving(tmp_path, *settings):
    with running_server(tmp_path / "log.txt", *settings) as server:
        yield server


def completion(client, prompt=128, output=64, **fields):
    """Makes streams of equal size whose prompts have nothing in common."""
    body = {"max_tokens": output, "ignore_eos": True, "stream": True, **fields}
    return lambda rng: client.encode("/v1/completions", {"prompt": load.words(rng, prompt), **body})


def first_tokens(results):
    return [result.time_to_first_token for result in results]


def goodput(results, start, end):
    """Tokens a second that went to requests whose first token was in time."""
    good = [result for result in results if result.status == 200 and result.time_to_first_token <= 2 * TARGET]
    return sum(start <= moment <= end for result in good for moment in result.times) / (end - start)


def test_ten_times_the_load_it_can_bear(tmp_path):
    """Those that are accepted are served in time, the others know at once, and nothing is lost by saying no."""

    async def run(server):
        client = load.Client(server)
        make = completion(client)
        began = time.monotonic()
        full = await load.closed_loop(client, 64, 12, make)
        capacity = sum(result.last > began + 4 for result in full) / 8
        print(f"\ncapacity {capacity:.1f} requests/s")

        calm = await load.open_loop(client, capacity / 2, 10, make, seed=2)
        start = time.monotonic()
        once = await load.open_loop(client, capacity, 20 * max(SCALE, 0.5), make, seed=3)
        usual = goodput(once, start + 5, max(result.due for result in once))
        print(f"half: first token {load.milliseconds(first_tokens(calm), 0.5, 0.99)}")
        print(f"1 x: goodput {usual:.0f} tokens/s, first token {load.milliseconds(first_tokens(once), 0.5, 0.99)}")

        seconds = max(15, 60 * SCALE)
        start = time.monotonic()
        async with load.Probe(server) as probe:
            crowd = asyncio.create_task(load.open_loop(client, 10 * capacity, seconds, make, seed=4))
            await asyncio.sleep(start + seconds - time.monotonic())
            after = await load.open_loop(client, capacity / 2, 10, make, seed=5)
            crowd = await crowd
        accepted = [result for result in crowd if result.status == 200]
        refused = [result for result in crowd if result.status == 503]
        ten = goodput(crowd, start + 5, start + seconds)
        late = [result.sent - result.due for result in crowd]
        recovered = [result for result in after if result.due > start + seconds + 5]
        print(f"10 x: {len(crowd)} requests, {len(accepted)} accepted, goodput {ten:.0f} tokens/s, {ten / usual:.0%}")
        print(f"first token {load.milliseconds(first_tokens(accepted), 0.5, 0.9, 0.99)}, target {TARGET} s")
        print(f"refused within {load.milliseconds([result.total for result in refused], 0.5, 0.99)}")
        print(f"generator late by {load.milliseconds(late, 0.5, 0.99)}")
        for path in probe.paths:
            print(f"{path} {load.milliseconds([result.total for result in probe.results[path]], 0.5, 0.99)}")
        print(f"after 5 s: first token {load.milliseconds(first_tokens(recovered), 0.5, 0.99)}")

        assert len(accepted) + len(refused) == len(crowd), [result for result in crowd if result.error][:3]
        assert load.percentile(first_tokens(accepted), 0.99) <= 2 * TARGET
        assert load.percentile([result.total for result in refused], 0.99) < 0.05
        assert all(1 <= result.retry_after <= 30 for result in refused)
        assert len({result.retry_after for result in refused}) > 1, "they come back together"
        assert ten >= 0.9 * usual
        assert not probe.failures
        for path in probe.paths:
            assert probe.percentile(path, 0.99) < 0.02, path
        assert all(result.status == 200 for result in recovered)
        assert load.percentile(first_tokens(recovered), 0.99) <= 2 * load.percentile(first_tokens(calm), 0.99)

    with serving(tmp_path, "--ttft-slo", f"{TARGET}s") as server:
        asyncio.run(run(server))


def test_a_greedy_key_beside_three_polite_ones(tmp_path):
    """A hundred times the demand of each of the others, from one key, and they hardly notice."""
    rate = 1.0

    async def polite(clients, seconds):
        runs = (load.open_loop(client, rate, seconds, completion(client), seed=n) for n, client in enumerate(clients))
        return [result for results in await asyncio.gather(*runs) for result in results]

    async def run(server):
        clients = [load.Client(server, key=f"polite-{n}") for n in range(3)]
        greedy = load.Client(server, key="greedy")
        seconds = max(10, 40 * SCALE)
        alone = await polite(clients, seconds)
        rush = asyncio.create_task(load.open_loop(greedy, 100 * rate, seconds + 4, completion(greedy), seed=9))
        await asyncio.sleep(4)
        beside = await polite(clients, seconds)
        rush = await rush
        served = sum(result.status == 200 for result in rush)
        print(f"\nalone {load.milliseconds(first_tokens(alone), 0.5, 0.9, 0.99)} ({len(alone)} requests)")
        print(f"beside {load.milliseconds(first_tokens(beside), 0.5, 0.9, 0.99)} ({len(beside)})")
        print(f"greedy: {served} of {len(rush)} served; 429: {sum(result.status == 429 for result in rush)}")
        assert all(result.status == 200 for result in alone + beside)
        assert load.percentile(first_tokens(beside), 0.99) <= 2 * load.percentile(first_tokens(alone), 0.99)

    keys = [part for key in ("polite-0", "polite-1", "polite-2", "greedy") for part in ("--api-key", key)]
    with serving(tmp_path, "--scheduling-policy", "fair", *keys) as server:
        asyncio.run(run(server))


def test_nothing_is_left_of_ten_thousand_mixed_requests(tmp_path):
    """Every kind of request there is, good and bad, a fifth of them from clients that leave in the middle."""
    count = int(10_000 * SCALE)

    async def run(server):
        outcomes = await mixture.play(server, max(2000, count // 5), seed=1)
        await mixture.until_idle(server)
        before = mixture.footprint(server)
        began = time.monotonic()
        outcomes = await mixture.play(server, count, seed=2)
        took = time.monotonic() - began
        await mixture.until_idle(server)
        after = mixture.footprint(server)
        growth = after["resident"] / before["resident"] - 1
        print(f"\n{count} requests in {took:.0f} s: {dict(sorted(outcomes.items()))}")
        print(f"before {before}\nafter {after}\nRSS {growth:+.2%}")
        mixture.check(outcomes, count)
        assert after["descriptors"] <= before["descriptors"]
        assert growth < 0.02
        await mixture.fill_every_row(server)

    with serving(tmp_path) as server:
        asyncio.run(run(server))
        assert mixture.complaints(server) == []


def test_a_long_prompt_beside_eight_streams(tmp_path):
    """8,000 tokens are computed while eight others read along: their pauses grow, but by little."""

    async def run(server):
        result = await mixture.interrupt(server, prompt=8000, streams=8)
        print(f"\n{result}")
        assert result.worst < 5 * result.median

    with serving(tmp_path) as server:
        asyncio.run(run(server))


def test_a_shared_prefix_is_computed_once(tmp_path):
    """Sixteen requests at once with 512 tokens in common: fifteen of them find all of it."""

    async def run(server):
        client = load.Client(server)
        common = list(range(1000, 1512))
        requests = [
            client.encode("/v1/completions", {"prompt": common + [2000 + n] * 32, "max_tokens": 8, "ignore_eos": True})
            for n in range(16)
        ]
        results = await asyncio.gather(*(client.request(request) for request in requests))
        assert [result.status for result in results] == [200] * 16

    with serving(tmp_path) as server:
        asyncio.run(run(server))
        hits, queries = server.metric("prefix_cache_hits_total"), server.metric("prefix_cache_queries_total")
        print(f"\n{hits:.0f} of {15 * 512} possible hits, {queries:.0f} tokens looked up")
        assert hits == 15 * 512 and queries == 16 * 544


@pytest.mark.parametrize("task", repetition.TASKS)
def test_guessing_ahead_is_faster_and_changes_nothing(tmp_path, task):
    """One stream that repeats what it was given, with the guesses of the n-gram proposer and without."""
    with (
        running_server(tmp_path / "plain.txt") as plain,
        running_server(tmp_path / "guessing.txt", "--num-speculative-tokens", "8") as guessing,
    ):
        rounds = [[repetition.answer(server, task) for server in (plain, guessing)] for _ in range(3)]
        drafted, accepted = (
            guessing.metric(f"spec_decode_num_{name}_tokens_total") for name in ("draft", "accepted")
        )
    texts = {text for pair in rounds for text, _, _ in pair}
    ratios = sorted(pair[1][1] / pair[0][1] for pair in rounds)
    print(f"\n{task}: {rounds[1][0][2]} tokens, {rounds[1][0][1]:.0f} and {rounds[1][1][1]:.0f} tokens/s, "
          f"ratios {', '.join(f'{ratio:.2f}' for ratio in ratios)}, {accepted:.0f} of {drafted:.0f} guesses right")
    assert len(texts) == 1
    assert ratios[1] >= 1.5
