"""The examples of the README and of the first pages run as they are printed, and print what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "docs/index.md", "packages/ray-core/README.md", "packages/ray-async/README.md"]


def program_of(page: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", PAGES)
def test_examples_print_what_their_comments_say(page: str, tmp_path: Path) -> None:
    program = program_of(page)
    expected = [
        match[1].split(":")[0].strip()
        for line in program.splitlines()
        if (match := re.search(r"print\(.*\)  # (.+)$", line))
    ]
    assert expected
    script = tmp_path / "example.py"
    script.write_text(program)
    result = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == expected
