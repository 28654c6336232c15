"""A load tester of the field, NVIDIA's aiperf, run against the server as its users do.

APUS_AIPERF    its executable; it has an environment of its own, for its pins are not ours
"""

import json
import os
import subprocess

import pytest

from conftest import MODEL_NAME

REQUESTS, TOKENS = 24, 16
# aiperf wants a tokenizer for the lengths it plans; those it reports are the server's.
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_every_request_of_a_load_test_succeeds(server, tokenizer, tmp_path, endpoint):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"text": f"Count to {n} and tell of it:"}) + "\n" for n in range(REQUESTS)))
    results = tmp_path / "results"
    ended = subprocess.run(
        [
            os.environ["APUS_AIPERF"], "profile", "--model", MODEL_NAME, "--url", server.url,
            "--endpoint-type", endpoint, "--streaming", "--input-file", str(prompts),
            "--custom-dataset-type", "single_turn", "--request-count", str(REQUESTS), "--concurrency", "4",
            "--extra-inputs", f"max_tokens:{TOKENS}", "--extra-inputs", "ignore_eos:true",
            "--use-server-token-count", "--tokenizer", str(tokenizer), "--ui", "none",
            "--output-artifact-dir", str(results),
        ],
        capture_output=True, text=True, timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads((results / "profile_export_aiperf.json").read_text())
    assert report["request_count"]["avg"] == REQUESTS and not report["error_summary"]
    lengths = report["output_sequence_length"]
    assert (lengths["min"], lengths["max"]) == (TOKENS, TOKENS)
    # One event a token: what a tester takes for the time between tokens is that.
    assert report["time_to_first_token"]["min"] > 0 and report["inter_token_latency"]["min"] > 0
    scraped = json.loads((results / "server_metrics_export.json").read_text())["metrics"]
    assert "vllm:num_requests_running" in scraped and "vllm:time_to_first_token_seconds" in scraped
