"""docs/benchmarks/peers.py: what it plans, writes and draws, and one short sitting with the real binary alone."""

import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import pytest

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "docs/benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import peers  # noqa: E402
import peers_report  # noqa: E402


def run(rate):
    return {
        "output_rate": rate, "total_rate": 2 * rate, "decode": rate, "ttft_median": 1e4 / rate, "itl_p99": 1e3 / rate,
        "resident_peak": 500, "others": 0.01, "missing_tokens": 0}


def result(apus, other):
    return {
        "date": "2026-01-01", "commit": "abc", "command": "make bench-peers", "minutes": 5, "problems": [],
        "machine": {"processor": "A <CPU>", "instructions": ["avx2"], "cores": 2, "memory_gib": 8},
        "absent": ["OpenVINO: not here."], "peers": ["Apus", "llama.cpp"], "workloads": peers.WORKLOADS,
        "commands": {"Apus": "apus serve m", "llama.cpp": "llama-server"},
        "starts": {"Apus": 0.25, "llama.cpp": 1.5},
        "runs": {
            "Apus": {name: [run(rate) for rate in apus] for name in peers.WORKLOADS},
            "llama.cpp": {name: [run(rate) for rate in other] for name in ("single", "c16")}},
    }


def row(text, heading):
    return next(line for line in text.splitlines() if line.startswith(f"| {heading}"))


def test_a_lead_is_claimed_only_when_no_runs_overlap():
    ahead = peers_report.markdown(result([300, 310, 290], [100, 120, 110]))
    assert row(ahead, "c16, output").endswith("| 300 (290–310) | 110 (100–120) | 2.73 × |")
    assert row(ahead, "c16, inter").endswith("| 2.73 × |")
    close = peers_report.markdown(result([300, 310, 290], [280, 292, 285]))
    assert row(close, "c16, output").endswith("1.05 ×, runs overlap |")
    behind = peers_report.markdown(result([100], [200]))
    assert row(behind, "c16, output").endswith("| 0.50 × |")
    assert row(ahead, "c32, output").endswith("| – | – |")
    assert row(ahead, "start to first token, s").endswith("| 0.25 | 1.50 | 6.00 × |")
    assert "Absent: OpenVINO: not here." in ahead


def test_others_who_computed_meanwhile_are_named():
    disturbed = result([300], [100])
    disturbed["runs"]["Apus"]["c8"][0]["others"] = 0.7
    assert "during: Apus c8 (0.70)." in peers_report.markdown(disturbed)


def test_the_plot_is_a_picture_with_a_line_for_each_peer():
    root = xml.etree.ElementTree.fromstring(peers_report.plot(result([300, 310], [100])))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert [len(line.get("points").split()) for line in lines] == [4, 2]
    assert any("A <CPU>" in (text.text or "") for text in root.iter("{http://www.w3.org/2000/svg}text"))
    empty = result([300], [100])
    empty["runs"] = {}
    assert peers_report.plot(empty) is None


def test_the_dearest_workloads_give_up_runs_when_the_time_is_short():
    costs = {("a", "c8"): 10, ("b", "c8"): 1, ("c", "c8"): 5}
    assert peers.planned(costs, 3, 100) == {key: 2 for key in costs}
    assert peers.planned(costs, 3, 20) == {("a", "c8"): 1, ("b", "c8"): 2, ("c", "c8"): 1}
    assert set(peers.planned(costs, 3, 0).values()) == {0}


@pytest.mark.skipif("APUS_BINARY" not in os.environ, reason="needs the binary and a model")
def test_a_sitting_with_apus_alone_writes_what_it_measured(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("APUS_")}
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "peers.py", "--apus", os.environ["APUS_BINARY"], "--model",
         os.environ["APUS_TEST_MODEL"], "--out", tmp_path, "--repeats", "1", "--workloads", "single,prefix",
         "--peers", "apus"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert set(found["runs"]["Apus"]) == {"single", "prefix"}
    single = found["runs"]["Apus"]["single"][0]
    assert single["missing_tokens"] == 0 and single["output_rate"] > 1 and single["resident_peak"] > 50
    assert found["starts"]["Apus"] < 60
    assert "single, decode tok/s" in (tmp_path / "peers.md").read_text()
