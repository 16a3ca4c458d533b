"""``progress`` draws a bar on a terminal and nothing elsewhere; plain tqdm in tasks is drawn by the driver."""

import re
import subprocess
import sys
import time
import types

import pytest
from tests import sessions
from tests.terminal import on_terminal

import ray
from ray.util import progress
from ray.util.progress_bar import _Bar

kept_session = sessions.kept()


def shown(rows):
    """Without prefixes, and without what the session says of itself."""
    return [re.sub(r"^\((\w+) pid=\d+\) ", "", row) for row in rows if row and not row.startswith("[ray]")]


@ray.remote
def after(seconds, value=None):
    time.sleep(seconds)
    return value


@ray.remote
def fail():
    raise KeyError(1)


def test_references_as_they_become_ready(ray_session):
    refs = [after.remote(0, 0), fail.remote(), after.remote(0, 2)]
    found = list(progress(refs))
    assert sorted(refs.index(ref) for ref in found) == [0, 1, 2]
    assert len(progress(refs)) == 3
    assert list(progress([])) == []


def test_the_first_to_be_ready_comes_first(start):
    start(num_cpus=2)
    slow, quick = after.remote(5), after.remote(0)
    items = iter(progress([slow, quick]))
    assert next(items) == quick
    items.close()


def test_waiting_for_all(ray_session):
    refs = [after.remote(0, i) for i in range(5)]
    assert ray.get(progress(refs, "five").wait()) == list(range(5))


def test_nothing_is_drawn_where_there_is_no_terminal(ray_session, capsys):
    progress([after.remote(0)]).wait()
    assert capsys.readouterr().err == ""


def test_a_limit_of_time(start):
    start(num_cpus=1)
    ref = after.remote(30)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        progress([ref], timeout=0.3).wait()
    assert 0.25 < time.monotonic() - began < 10
    ray.cancel(ref)


def test_wrong_arguments(ray_session):
    for wrong in (after.remote(0), 5, [1]):
        with pytest.raises(TypeError):
            progress(wrong)
    with pytest.raises(ValueError, match="timeout"):
        progress([], timeout=-1)


class Notebook(list):
    """Stands for stderr of a notebook's kernel."""

    def write(self, text):
        self.append(text)

    def flush(self):
        pass


def test_in_a_notebook(ray_session, monkeypatch):
    stream = type("OutStream", (Notebook,), {"__module__": "ipykernel.iostream"})()
    refs = [after.remote(0) for _ in range(3)]
    monkeypatch.setattr(sys, "stderr", stream)
    progress(refs, "work").wait()
    monkeypatch.undo()
    text = "".join(stream)
    assert text.startswith("\rwork:   0% |")
    assert "\rwork: 100% |████" in text
    assert text.endswith("\n")


def test_the_text_fits_into_the_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", types.SimpleNamespace(isatty=lambda: False))
    bar = _Bar("a long description", 1234)
    for columns in (0, 5, 20, 40, 80, 200):
        for done in (0, 1, 600, 1234):
            assert len(bar._text(done, 12.5, columns)) <= columns
    drawn = "█" * 20 + " " * 20
    assert bar._text(617, 3700.0, 200).startswith(f"a long description:  50% |{drawn}| 617/1,234 [1:01:40<")


BAR = """
import sys, time
from pathlib import Path
import ray
from ray.util import progress

folder = Path(sys.argv[1])
ray.init(num_cpus=2)

@ray.remote
def wait_for(name):
    end = time.monotonic() + 50
    while not (folder / name).exists():
        assert time.monotonic() < end, name
        time.sleep(0.01)
    print("a line of", name)

ray.get(progress([wait_for.remote("a"), wait_for.remote("b")], "files").wait())
print("the end")
ray.shutdown()
"""


def test_a_bar_on_a_terminal(tmp_path):
    with on_terminal(BAR, tmp_path) as program:
        program.until(lambda rows: any(row.startswith("files:   0% |  ") for row in rows), "the bar")
        (tmp_path / "a").touch()
        program.until(
            lambda rows: shown(rows)[0] == "a line of a" and shown(rows)[1].startswith("files:  50% |██"),
            "half of it, below the line",
        )
        (tmp_path / "b").touch()
        rows = shown(program.finish())
        assert sorted(row[:11] for row in rows) == ["a line of a", "a line of b", "files: 100%", "the end"]


TQDM = """
import sys, time
from pathlib import Path
import ray

folder = Path(sys.argv[1])
ray.init(num_cpus=2)

@ray.remote
def work(name):
    from tqdm import tqdm

    for step in tqdm(range(4), desc=name, mininterval=0):
        end = time.monotonic() + 50
        while not (folder / f"{name}{step}").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        if step == 1:
            tqdm.write(f"half of {name}")

ray.get([work.remote("one"), work.remote("two")])
ray.shutdown()
"""


def test_tqdm_in_several_tasks(tmp_path):
    pytest.importorskip("tqdm")

    def bars(rows):
        return sorted(row.split("|")[0] for row in shown(rows) if "%|" in row)

    with on_terminal(TQDM, tmp_path) as program:
        program.until(lambda rows: bars(rows) == ["one:   0%", "two:   0%"], "both bars")
        (tmp_path / "one0").touch()
        program.until(lambda rows: bars(rows) == ["one:  25%", "two:   0%"], "one goes on")
        (tmp_path / "one1").touch()
        program.until(lambda rows: "half of one" in shown(rows) and "one:  50%" in bars(rows), "its line")
        for step in range(4):
            (tmp_path / f"two{step}").touch()
        program.until(lambda rows: bars(rows) == ["one:  50%", "two: 100%"], "the other has ended")
        (tmp_path / "one2").touch()
        (tmp_path / "one3").touch()
        rows = program.finish()
        assert bars(rows) == ["one: 100%", "two: 100%"]
        assert {"half of one", "half of two"} <= set(shown(rows))


def test_nothing_of_a_bar_where_stderr_is_a_pipe(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).touch()
    done = subprocess.run([sys.executable, "-c", BAR, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "files" not in done.stderr + done.stdout
