"""The shared matrix runs as a user runs it, with a smaller matrix, over each store that shares."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from tests.quick import first_of

pytest.importorskip("numpy")
PROGRAM = Path(__file__).parents[2] / "examples" / "shared_matrix.py"
STORES = sorted({entry.name for entry in entry_points(group="ray.store")} & {"plasma", "shm"})


@pytest.mark.timeout(90)
@pytest.mark.parametrize("store", first_of(STORES))
def test_one_copy_for_all(store: str) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--megabytes", "128", "--workers", "3"],
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
        env={**os.environ, "RAY_STORE": store},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one copy, read-only everywhere, and all results right" in done.stdout
    grown = re.search(r"grew by [\d,]+ MiB, (\d\.\d+) times the matrix", done.stdout)
    assert grown
    assert float(grown[1]) < 1.6
    assert f"store {store}, 1 object, 128.0 MiB" in done.stdout
    assert re.search(
        r"128\.0 MiB +sealed +driver \d+ +actor Reader \d+, actor Reader \d+, actor Reader \d+, driver", done.stdout
    )


@pytest.mark.timeout(60)
def test_without_a_shared_store_it_says_that_there_are_copies() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--megabytes", "100", "--workers", "2"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "RAY_STORE": "heap"},
    )
    assert done.returncode == 1
    assert "FAILED" in done.stderr
