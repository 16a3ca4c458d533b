"""The word count runs as a user runs it, in a process of its own."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "examples" / "wordcount.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.timeout(60)
def test_counts_200_files_like_a_serial_run() -> None:
    done = run("--limit", "200", "--top", "3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("200 files, ")
    top = [re.fullmatch(r" *([\d,]+)  (\w+)", line) for line in lines[1:4]]
    counts = [int(match[1].replace(",", "")) for match in top if match]
    assert len(counts) == 3
    assert counts == sorted(counts, reverse=True)
    assert re.search(r"^speed-up \d+\.\d\d on \d+ cores", done.stdout, re.MULTILINE)
    assert "chunks" not in done.stderr  # the bar is for terminals


@pytest.mark.timeout(60)
def test_one_file_makes_one_chunk() -> None:
    done = run("--limit", "1", "--top", "1")
    assert done.returncode == 0, done.stderr
    assert ", 1 chunks, " in done.stdout.splitlines()[0]


def test_no_speed_up_is_explained(monkeypatch) -> None:
    spec = importlib.util.spec_from_file_location("wordcount_example", PROGRAM)
    wordcount = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wordcount)
    monkeypatch.setattr("os.getloadavg", lambda: (7.0, 0, 0))
    assert wordcount.verdict(2.0, 1.0, 1.0, 2) == "speed-up 2.00 on 2 cores, 1.00 with the start included"
    assert wordcount.verdict(2.0, 4.0, 1.0, 2).endswith("none, as other programs keep the cores busy (load 7.0)")
    assert wordcount.verdict(0.2, 0.4, 1.0, 8).endswith("none, as there is too little to count")


def test_a_limit_below_one_is_refused() -> None:
    done = run("--limit", "0")
    assert done.returncode == 2
    assert "--limit must be at least 1" in done.stderr
