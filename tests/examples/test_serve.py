"""The web service runs as a user runs it, for a short time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("ray_async")

PROGRAM = Path(__file__).parents[2] / "examples" / "serve.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=55, check=False
    )


@pytest.mark.timeout(60)
def test_answers_every_request_while_many_refs_are_pending() -> None:
    done = run("--rate", "50", "--seconds", "1", "--pending", "10000")
    assert done.returncode == 0, done.stderr
    times = r": 50 requests, p50 (\d+\.\d) ms p99 (\d+\.\d) ms max (\d+\.\d) ms"
    for name in ("nothing else pending", "10,000 refs pending"):
        found = re.search(f"^{name}{times}$", done.stdout, re.MULTILINE)
        assert found, done.stdout
        p50, p99, most = map(float, found.groups())
        assert 0 < p50 <= p99 <= most < 5000
    assert re.search(r"^then all 10,000 came in \d+\.\d\d s$", done.stdout, re.MULTILINE)


def test_refuses_what_it_cannot_do() -> None:
    done = run("--rate", "0")
    assert done.returncode == 2
    assert "must be positive" in done.stderr
