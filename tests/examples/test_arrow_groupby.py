"""The group-by runs as a user runs it, over a part of the files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
PROGRAM = Path(__file__).parents[2] / "examples" / "arrow_groupby.py"


@pytest.mark.timeout(90)
def test_the_parts_make_the_whole() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--limit", "300", "--parts", "3"],
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^300 files, [\d,]+ lines", done.stdout)
    assert re.search(
        r"^counted and grouped in \S+ s by 3 tasks, in \S+ s by one process: \S+ times as fast on \d+ cores",
        done.stdout,
        re.MULTILINE,
    )
    assert "equal to what one process finds in the whole table" in done.stdout
