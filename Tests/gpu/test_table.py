"""What the GPU machine's scripts make of what they are given, on invented numbers. Runs anywhere."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "Kernels")]
sys.dont_write_bytecode = True

import peers  # noqa: E402
import resources  # noqa: E402
import table  # noqa: E402

SHAPE = "tokens=16 rows=4096 columns=4096"
STAGES = {
    "facts": [{"date": "2000-01-01", "commit": "abc", "gpus": [{"name": "Some GPU"}], "torch": "2.0"}],
    "stages": [{"stage": "verify", "outcome": "failed (1)", "seconds": 7}],
    "verify": [
        {"case": "gate 3x5", "worst": 0.5, "bound": 1.0, "passed": True},
        {"case": "norm 2x7", "worst": 3.0, "bound": 1.0, "passed": False},
    ],
    "kernels": [
        {"name": "linear bf16", "shape": SHAPE, "microseconds": 10.0, "bytes": 20_000_000, "flops": 40_000_000},
        {"name": "gate", "shape": "tokens=16 ffn=64", "microseconds": 2.0, "bytes": 2_000_000, "flops": 0},
    ],
    "peers": [
        {"peer": "torch.matmul bf16", "kind": "linear", "shape": SHAPE, "microseconds": 15.0, "graph": False},
        {"peer": "read and reduce", "kind": "read", "shape": "", "microseconds": 1.0, "bytes": 4_000_000},
        {"peer": "device copy", "kind": "copy", "shape": "", "microseconds": 1.0, "bytes": 3_000_000},
        {"kind": "attend", "shape": "", "error": "RuntimeError: no"},
    ],
    "llama-3.1-8b": [{
        "workload": "decode-1", "output_tokens_per_second": 100.0, "tokens_per_second_per_stream": 100.0,
        "itl_p50_seconds": 0.0075, "itl_p99_seconds": 0.008, "ttft_p50_seconds": 0.02}],
}
PTXAS = """\
ptxas info    : Compiling entry function 'apus_one' for 'sm_80'
ptxas info    : Function properties for apus_one
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 8 bytes stack, 1024 bytes smem, 400 bytes cmem[0]
ptxas info    : Compiling entry function 'apus_one' for 'sm_90a'
ptxas info    : Function properties for apus_one
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers
"""


def write(folder, stages):
    for stage, found in stages.items():
        (folder / f"{stage}.jsonl").write_text("\n".join(map(json.dumps, found)) + '\n{"cut": ')


class Tables(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)

    def test_every_stage_has_its_rows(self):
        write(self.folder, STAGES)
        text = table.page(self.folder)
        self.assertIn("2 cases, 1 failed. 1 more cannot be read.", text)
        self.assertIn("The largest error, in “norm 2x7”, is 3.00 of its bound.", text)
        self.assertIn(
            "| linear bf16 | " + SHAPE + " | 10.00 | 2.00 | 50 % | 4.0 | 15.00 (with launches) | 1.50× |", text)
        self.assertIn("| gate | tokens=16 ffn=64 | 2.00 | 1.00 | 25 % | – | – | – |", text)
        # 15.009 GB in 7.5 ms are 2.0 TB/s, half of what the invented GPU reads.
        self.assertIn("| llama-3.1-8b | decode-1 | 100.0 | 100.0 | 7.50 | 8.00 | 20.0 | 50 % |", text)
        self.assertIn("| verify | failed (1) | 7 |", text)

    def test_nothing_found_makes_no_number(self):
        text = table.page(self.folder)
        for sentence in ("No case was reported.", "No kernel was measured.", "Nothing was measured end to end."):
            self.assertIn(sentence, text)

    def test_a_page_keeps_what_is_around_the_tables(self):
        write(self.folder, STAGES)
        page = self.folder / "page.md"
        page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
        command = [sys.executable, "-B", str(HERE / "table.py"), str(self.folder), "--into", str(page)]
        subprocess.run(command, check=True)
        first = page.read_text()
        subprocess.run(command, check=True)
        self.assertEqual(first, page.read_text())
        self.assertTrue(first.startswith("before\n") and first.endswith("after\n") and "old" not in first)
        page.write_text("no markers\n")
        self.assertNotEqual(subprocess.run(command, capture_output=True).returncode, 0)

    def test_the_page_of_the_h200_can_be_written_into(self):
        text = (HERE.parents[1] / "docs/benchmarks/h200.md").read_text()
        self.assertLess(text.index(table.BEGIN), text.index(table.END))


class Peers(unittest.TestCase):
    def test_each_shape_is_timed_once_and_memory_always(self):
        place = pathlib.Path(tempfile.mkstemp()[1])
        self.addCleanup(place.unlink)
        place.write_text("\n".join(
            json.dumps({"name": name, "shape": SHAPE}) for name in ("linear bf16", "linear q4_0", "gate")) + "\n{")
        kinds = [kind for kind, _ in peers.asked(place)]
        self.assertEqual(kinds, ["copy", "read", "linear"])

    def test_a_shape_is_words_with_numbers(self):
        self.assertEqual(peers.numbers("paged tokens=16 rows=4096"), {"tokens": 16, "rows": 4096})


class Resources(unittest.TestCase):
    def test_spills_are_refused_and_named(self):
        records = {"family": resources.parse(PTXAS)}
        self.assertIn("| one | 40 | 4 | 12 | 8 | 1024 | 32 | 0 | 0 | 0 | 0 |", resources.table(records, "13.0.0"))
        self.assertEqual(len(resources.refused(records)), 1)
        self.assertIn("one (sm_80): 8 bytes of stack, 4 stored and 12 loaded", resources.refused(records)[0])

    def test_a_kernel_without_code_for_an_architecture_is_refused(self):
        records = {"family": resources.parse("\n".join(PTXAS.split("\n")[:4]))}
        self.assertIn("one has no code for sm_90a", resources.refused(records))

    def test_a_difference_names_the_line(self):
        sentences = resources.differences("| one | 40 |\n", "| one | 48 |\n")
        self.assertEqual(len(sentences), 3)
        self.assertEqual(resources.differences("same\n", "same\n"), [])

    def test_wide_loads_and_local_memory_are_told_apart(self):
        for wide in ("LDG.E.EF.128.CONSTANT R4, desc[UR4][R2.64]", "@P0 LDG.E.128 R4, [R2]"):
            self.assertTrue(resources.WIDE_LOAD.search(wide), wide)
        for narrow in ("LDG.E.64 R4, [R2]", "STG.E.128 [R2], R4", "LDS.128 R4, [R2]"):
            self.assertFalse(resources.WIDE_LOAD.search(narrow), narrow)
        self.assertTrue(resources.NARROW_COPY.search("LDGSTS.E.LTC128B.64 [R3], desc[UR6][R4.64]"))
        self.assertFalse(resources.NARROW_COPY.search("LDGSTS.E.BYPASS.128 [R3], desc[UR6][R4.64]"))
        self.assertTrue(resources.LOCAL.search("@!P1 LDL.64 R2, [R1]"))
        self.assertFalse(resources.LOCAL.search("STG.E [R2], R4"))


if __name__ == "__main__":
    unittest.main()
