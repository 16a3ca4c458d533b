"""Folders that the program has put on ``sys.path`` by a relative name: found where they are, or said where they are."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPT = """
    import os, sys
    os.chdir({cwd!r})
    import ray
    sys.path[:0] = {added!r}
    ray.init(num_cpus=1, log_to_driver=False{options})
    sys.path[:0] = {later!r}

    @ray.remote
    def f():
        import beside
        return beside.__file__

    try:
        print(ray.get(f.remote(), timeout=30))
    except ModuleNotFoundError as error:
        print(error)
    ray.shutdown()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """``main/script.py``, ``project/lib/beside.py`` and ``project/sent/part/beside.py``."""
    for folder in ("main", "project/lib", "project/sent/part"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("lib", "sent/part"):
        (tmp_path / "project" / folder / "beside.py").touch()
    return tmp_path / "project"


def said(project: Path, added: list[str], options: str = "", later: list[str] | None = None) -> str:
    script = project.parent / "main" / "script.py"
    text = SCRIPT.format(cwd=str(project), added=added, options=options, later=later or [])
    script.write_text(textwrap.dedent(text))
    ran = subprocess.run([sys.executable, str(script)], cwd="/", capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout.strip()


@pytest.mark.parametrize("options", ["", ", working_dir='sent'", ", working_dir='/'.join((os.getcwd(), 'sent'))"])
@pytest.mark.parametrize("when", ["added", "later"])
def test_one_that_is_not_sent_is_where_the_program_has_it(project: Path, options: str, when: str) -> None:
    found = said(project, options=options, **{"added": [], when: ["lib"]})  # type: ignore[arg-type]
    assert found == str(project / "lib" / "beside.py")


@pytest.mark.parametrize("when", ["added", "later"])
def test_one_that_is_sent_is_in_the_copy(project: Path, when: str) -> None:
    """Where it has another relative name."""
    found = said(project, options=", working_dir='sent'", **{"added": [], when: ["sent/part"]})  # type: ignore[arg-type]
    assert found.endswith("/part/beside.py")
    assert not found.startswith(str(project))


def test_the_whole_working_directory_is_sent(project: Path) -> None:
    found = said(project, ["lib"], ", working_dir='.'")
    assert found.endswith("/lib/beside.py")
    assert not found.startswith(str(project))


HINT = """
    import sys
    sys.path.insert(0, "lib")
    from ray.messages.jobs import AskPath
    from ray.runtime.worker.driver_path import answer_to
    print(answer_to(AskPath(1, module="beside"), {sent!r}).beside)
"""


@pytest.mark.parametrize(("sent", "folder"), [("", "lib"), ("/sent", "lib"), (".", "")])
def test_the_program_says_where_it_has_it(project: Path, sent: str, folder: str) -> None:
    """Also to workers that have no such folder; not where it was sent along, as what is missing there is left out."""
    root = str(project) if sent == "." else str(project) + sent if sent else ""
    text = textwrap.dedent(HINT).format(sent=root)
    ran = subprocess.run([sys.executable, "-c", text], cwd=project, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == (str(project / folder) if folder else "")
