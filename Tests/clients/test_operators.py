"""What an operator brings along from vLLM: command lines, routers, dashboards, and signals at any time."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import MODEL_NAME, free_port, running_server
from wire import CHAT, COMPLETIONS, HELLO, JSON, Wire

TIMES = {
    "time_to_first_token_seconds": ".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560",
    "inter_token_latency_seconds": ".01 .025 .05 .075 .1 .15 .2 .3 .4 .5 .75 1 2.5 5 7.5 10 20 40 80",
    "e2e_request_latency_seconds": ".3 .5 .8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680",
    "iteration_tokens_total": "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384",
    "request_params_n": "1 2 5 10 20",
    "request_num_preemptions": "1 2 3 4 5 10 20",
}
SAME = {
    "inter_token_latency_seconds": ["request_time_per_output_token_seconds"],
    "e2e_request_latency_seconds": [
        f"request_{phase}_time_seconds" for phase in ("queue", "prefill", "decode", "inference")
    ],
}
TOKENS = [
    "request_prompt_tokens", "request_generation_tokens", "request_max_num_generation_tokens",
    "request_params_max_tokens", "request_prefill_kv_computed_tokens",
]


@pytest.fixture(scope="module")
def wire(server):
    return Wire(server)


def bounds(figures, name):
    return [float(bound) for bound in re.findall(rf'^vllm:{name}_bucket\{{[^}}]*le="([^"]+)"', figures, re.MULTILINE)]


def test_buckets_are_those_that_dashboards_are_made_for(wire):
    figures = wire.get("/metrics").body.decode()
    for name, expected in TIMES.items():
        for each in [name, *SAME.get(name, [])]:
            assert bounds(figures, each) == [*map(float, expected.split()), math.inf], each
    for name in TOKENS:
        # Up to the context, which is 8192 tokens.
        assert bounds(figures, name) == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, math.inf], name


def test_buckets_of_tokens_lose_nothing_beyond_the_context(tmp_path):
    with running_server(tmp_path / "log.txt", "--max-model-len", "64") as server:
        wire = Wire(server)
        assert wire.complete(max_tokens=1000, ignore_eos=True).choice["finish_reason"] == "length"
        figures = wire.get("/metrics").body.decode()
        assert bounds(figures, "request_params_max_tokens") == [1, 2, 5, 10, 20, 50, math.inf]
        assert re.search(r'^vllm:request_params_max_tokens_bucket\{.*le="50.0"\} 0\.0$', figures, re.MULTILINE)
        assert re.search(r'^vllm:request_params_max_tokens_bucket\{.*le="\+Inf"\} 1\.0$', figures, re.MULTILINE)


def test_the_cache_is_described(wire):
    labels = re.search(r"^vllm:cache_config_info\{([^}]*)\} 1", wire.get("/metrics").body.decode(), re.MULTILINE)[1]
    for name in ("block_size", "num_gpu_blocks", "cache_dtype", "gpu_memory_utilization", "enable_prefix_caching"):
        assert f'{name}="' in labels


def test_an_answer_tells_its_gateway_the_load(wire):
    def told(kind, **fields):
        headers = JSON | ({"endpoint-load-metrics-format": kind} if kind else {})
        return wire.post(COMPLETIONS, headers, prompt="x", max_tokens=1, **fields).headers["endpoint-load-metrics"]

    figures = json.loads(told("json").removeprefix("JSON "))["named_metrics"]
    assert set(figures) == {"kv_cache_usage_perc", "num_requests_waiting"}
    assert all(isinstance(figure, float) for figure in figures.values())
    text = r"TEXT named_metrics\.kv_cache_usage_perc=\S+, named_metrics\.num_requests_waiting=\S+"
    assert re.fullmatch(text, told("TEXT")) and re.fullmatch(text, told("TEXT", stream=True))
    chat = wire.post(CHAT, JSON | {"endpoint-load-metrics-format": "TEXT"}, messages=HELLO, max_tokens=1)
    assert chat.headers["endpoint-load-metrics"]
    assert told(None) is None and told("BIN") is None


def test_cards_say_what_older_clients_look_for(tmp_path):
    with running_server(tmp_path / "log.txt") as server:
        card = Wire(server).get("/v1/models").json["data"][0]
    model = os.path.basename(os.environ["APUS_TEST_MODEL"]).removesuffix(".gguf")
    assert (card["id"], card["root"], card["parent"]) == (MODEL_NAME, model, None)
    assert card["permission"][0]["object"] == "model_permission"
    assert card["permission"][0]["allow_sampling"] is True and card["permission"][0]["organization"] == "*"


def test_a_full_queue_is_said_in_the_words_that_clients_know(tmp_path):
    with running_server(tmp_path / "log.txt", "--max-num-seqs", "1", "--max-num-queued-reqs", "1") as server:
        wire = Wire(server)
        busy = {"prompt": "x", "max_tokens": 4000, "ignore_eos": True, "stream": True}
        clients = []
        for _ in range(2):
            client = socket.create_connection(server.host_and_port)
            body = json.dumps(busy)
            client.sendall(
                f"POST {COMPLETIONS} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            # One runs before the next one comes, and waits.
            assert client.recv(12) == b"HTTP/1.1 200"
            clients.append(client)
            time.sleep(0.3)
        refused = wire.complete()
        assert (refused.status, refused.error["type"]) == (503, "ServiceUnavailableError")
        assert "engine is currently busy" in refused.error["message"] and int(refused.headers["Retry-After"]) >= 1
        assert re.search(
            r'^vllm:admission_rejections_total\{model_name="[^"]*",reason="queue_full"\} 1\.0$',
            wire.get("/metrics").body.decode(), re.MULTILINE,
        )
        for client in clients:
            client.close()


def test_what_was_cached_is_told_where_it_is_asked_for(tmp_path):
    with running_server(tmp_path / "log.txt", "--enable-prompt-tokens-details") as server:
        wire = Wire(server)
        prompt = "word " * 100
        usages = [wire.complete(prompt).json["usage"] for _ in range(2)]
        usages.append(wire.complete(prompt, stream=True, stream_options={"include_usage": True}).events[-1]["usage"])
        cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
        assert cached[0] == 0 and cached[1] == cached[2] >= 96


def test_lists_may_stand_behind_one_flag(tmp_path):
    settings = ["--served-model-name", "one", "two", "three", "--allowed-origins", '["https://a.example"]']
    with running_server(tmp_path / "log.txt", *settings) as server:
        wire = Wire(server)
        assert [card["id"] for card in wire.get("/v1/models").json["data"]] == [MODEL_NAME, "one", "two", "three"]
        assert wire.complete(model="two").json["model"] == "two"
        answer = wire.get("/health", {"Origin": "https://a.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("delay", [0, 0.02, 0.2])
def test_a_signal_at_any_time_of_a_start_ends_it(number, delay):
    process = subprocess.Popen(
        [os.environ["APUS_BINARY"], "serve", os.environ["APUS_TEST_MODEL"], "--port", str(free_port())],
        stderr=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]},
    )
    try:
        assert "Loading" in process.stderr.readline()
        time.sleep(delay)
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(timeout=30) == 0
        assert "nothing was served yet" in said or "Drained" in said
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_requests_of_probes_can_be_left_out_of_the_log(tmp_path):
    settings = ["--log-level", "debug", "--disable-access-log-for-endpoints", "/health,/metrics"]
    with running_server(tmp_path / "log.txt", *settings) as server:
        wire = Wire(server)
        for path in ("/health", "/metrics", "/version"):
            assert wire.get(path).status == 200
    logged = re.findall(r"route=(\S+)", server.log())
    assert "/version" in logged and "/health" not in logged and "/metrics" not in logged
