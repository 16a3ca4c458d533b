"""The comparison of pools runs as a user runs it, over a part of the files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("joblib")
PROGRAM = Path(__file__).parents[2] / "examples" / "dropin.py"
NAMES = [
    "one process", "ProcessPoolExecutor", "RayExecutor", "multiprocessing.Pool", "ray.util.multiprocessing.Pool",
    "joblib, loky", "joblib, ray", "ray.map",
]  # fmt: skip


@pytest.mark.timeout(90)
def test_all_ways_find_the_same() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--limit", "100"], capture_output=True, text=True, timeout=80, check=False
    )
    assert done.returncode == 0, done.stderr
    first, *lines, last = done.stdout.splitlines()
    assert re.fullmatch(r"100 files, \d+ workers", first)
    assert [re.fullmatch(r" *(\S.*?) +[\d.]+ s", line)[1] for line in lines] == NAMES  # type: ignore[index]
    assert last == "all hashes are equal"


def test_a_wrong_limit_is_refused() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), "--limit", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--limit is at least 1" in done.stderr
