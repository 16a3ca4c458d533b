"""What nox runs: each session that is pytest is a command that pytest takes, over what is there."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.quick import first_of

ROOT = Path(__file__).resolve().parents[2]


class Session:
    """Stands in for ``nox.Session``: remembers what it is to run."""

    posargs: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def run(self, *command: str, **_: Any) -> None:
        self.commands.append(list(command))


@pytest.fixture(scope="module")
def noxfile() -> Any:
    """The noxfile, loaded once, as its sessions are registered with nox."""
    pytest.importorskip("nox", reason="of the development environment")
    where = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    assert where is not None
    assert where.loader is not None
    module = importlib.util.module_from_spec(where)
    where.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", first_of(["tests", "soak", "slow", "contracts", "spec", "matrix", "faults", "packaging"], 2)
)
def test_pytest_takes_what_a_session_runs(noxfile: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noxfile, "dev", lambda session: sys.executable)
    monkeypatch.setattr(noxfile, "write_asserts", lambda python: None)
    session = Session()
    getattr(noxfile, name)(session)
    compiles, command = session.commands
    assert compiles[:3] == [sys.executable, "-m", "compileall"]
    assert all(Path(folder).is_dir() for folder in compiles[4:])
    assert command[:3] == [sys.executable, "-m", "pytest"]
    for folder in ("tests", "packages"):
        for argument in command[3:]:
            assert not argument.startswith(f"{folder}/") or (ROOT / argument).exists(), argument
    # With --help it reads its arguments and runs nothing.
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
