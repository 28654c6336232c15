"""README's examples, run as they are printed; only the address is the test server's."""

import pathlib
import re
import subprocess
import sys

import pytest

README = (pathlib.Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CURL = [text for language, text in BLOCKS if language == "bash" and "curl" in text]
PYTHON = [text for language, text in BLOCKS if language == "python" and "openai" in text]


def run(command, text, server):
    text = re.sub(r"http://(127\.0\.0\.1|localhost):8000", server.url, text)
    done = subprocess.run([*command, text], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "the example printed nothing"
    return done.stdout


def test_there_are_examples():
    assert CURL and PYTHON


@pytest.mark.parametrize("example", CURL)
def test_curl_examples(example, server):
    printed = run(["bash", "-ec"], example, server)
    assert '"error"' not in printed
    if '"stream": true' in example:
        assert printed.rstrip().endswith("data: [DONE]")


@pytest.mark.parametrize("example", PYTHON)
def test_python_examples(example, server):
    run([sys.executable, "-c"], example, server)
