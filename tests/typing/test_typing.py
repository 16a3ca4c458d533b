"""Both checkers agree with ``cases.py``: errors on the lines marked ``# E`` and nowhere else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("cases.py")
SOURCE = CASES.read_text().splitlines()


def marked(*marks: str) -> set[int]:
    return {number for number, line in enumerate(SOURCE, 1) if line.endswith(marks)}


def run(folder: Path, *command: str) -> str:
    """What the checker prints. It runs in an empty folder, so that no configuration of ours has a say."""
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=240, check=False, cwd=folder
    )
    assert done.returncode == 1, done.stdout + done.stderr  # 1 is "found errors", and errors there are
    return done.stdout


def mypy(folder: Path) -> set[int]:
    output = run(folder, "mypy", "--strict", "--config-file=", "--show-absolute-path", str(CASES))
    places = re.findall(r"^(.*?):(\d+): error:", output, re.MULTILINE)
    assert {path for path, _ in places} == {str(CASES)}
    return {int(number) for _, number in places}


def pyright(folder: Path) -> set[int]:
    found = json.loads(run(folder, "pyright", "--pythonpath", sys.executable, "--outputjson", str(CASES)))
    return {item["range"]["start"]["line"] + 1 for item in found["generalDiagnostics"] if item["severity"] == "error"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_checkers_agree_with_the_cases(checker, tmp_path):
    pytest.importorskip(checker.__name__)
    errors, expected = checker(tmp_path), marked("# E", f"# E {checker.__name__}")
    missed = {number: SOURCE[number - 1].strip() for number in sorted(expected - errors)}
    wrong = {number: SOURCE[number - 1].strip() for number in sorted(errors - expected)}
    assert (missed, wrong) == ({}, {})


def test_there_are_enough_cases():
    stated = sum("assert_type(" in line for line in SOURCE)
    assert stated >= 40
    assert len(marked("# E")) >= 40
