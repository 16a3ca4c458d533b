"""The tables in the docs are what was measured, and every row of them is a line that some program has."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"
CURVES = ("bandwidth", "scaling", "selectors", "simulation")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmarks by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_the_comparison_is_what_was_measured(programs: Any) -> None:
    document = json.loads((RESULTS / "comparison.json").read_text())
    assert (RESULTS / "comparison.md").read_text() == programs("report").markdown(document)
    assert (RESULTS / "comparison.svg").read_text() == programs("chart").draw(document)


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_is_what_was_measured_and_drawn(programs: Any, name: str) -> None:
    document = json.loads((RESULTS / f"{name}.json").read_text())
    assert (RESULTS / f"{name}.md").read_text() == programs("curves").markdown(document)
    assert (RESULTS / f"{name}.svg").read_text().rstrip().endswith("</svg>")


def test_the_docs_include_every_result() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    for name in ("comparison", *CURVES):
        assert f"../benchmarks/results/{name}.md" in page
    for name in ("comparison", *CURVES):
        assert f"../benchmarks/results/{name}.svg" in page


def test_every_row_is_a_line_of_a_program_that_is_run(programs: Any) -> None:
    targets = programs("targets")
    lines: set[str] = set()
    for program in (*targets.GROUPS, *targets.ONCE):
        code = f"import {program}; print(*(line.name for line in {program}.LINES), sep='\\n')"
        done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr
        lines.update(done.stdout.split())
    rows = [row for section in targets.SECTIONS for row in section.rows]
    assert {row.line for row in rows} | {row.of for row in rows if row.of} <= lines


def document(**values: float) -> dict[str, Any]:
    """What a run leaves behind in which contestants took so long for a task; ``variant=`` names one of ours."""

    def contestant(value: float) -> dict[str, Any]:
        line = {"unit": "µs", "median": value, "rounds": [value], "samples": [value]}
        return {"versions": {}, "unavailable": "", "problems": [], "lines": {"task_sync": line}}

    names = {"ours": "ours", "ray": "ray", "zmq": "ours+zmq"}
    return {
        "date": "2026-01-01",
        "command": "python benchmarks/compare.py",
        "cores": 2,
        "system": "Linux",
        "load_at_start": 0.0,
        "note": "",
        "rounds": 1,
        "minutes": 1.0,
        "judged": "ours",
        "contestants": {names[name]: contestant(value) for name, value in values.items()},
        "peers": {"versions": {}, "unavailable": "", "problems": [], "lines": {}},
    }


def test_a_missed_target_is_marked(programs: Any) -> None:
    report = programs("report")
    assert report.misses(document(ours=99.0, ray=990.0, zmq=290.0)) == []
    text = report.markdown(document(ours=99.0, ray=990.0, zmq=290.0))
    assert "| one task, synchronous, p50 | 10 | 99 | 990 | µs |" in text
    assert "| one task, synchronous, p50 | µs | ≤ 100 | 99 ✓ |  |  | 290 (34 %) ✓ | yes |" in text
    assert report.misses(document(ours=101.0)) == ["one task, synchronous, p50"]
    assert report.misses(document(ours=99.0, zmq=310.0)) == ["one task, synchronous, p50"]


def test_a_failed_line_is_a_miss_with_its_reason(programs: Any) -> None:
    report = programs("report")
    broken = document(ours=99.0)
    broken["contestants"]["ours"]["lines"]["task_sync"] = {"failures": ["stopped after 300 s: no message"]}
    assert report.misses(broken | {"contestants": broken["contestants"] | document(ray=1.0)["contestants"]})
    assert "- ours: task_sync failed: stopped after 300 s: no message" in report.markdown(broken)


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(
        "import json, subprocess, sys, time\n"
        "print(json.dumps({'lines': ['fast', 'slow']}))\n"
        "print(json.dumps({'name': 'fast', 'unit': 's', 'value': 1.0, 'samples': [1.0]}), flush=True)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'], start_new_session=True)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(1000)\n"
    )
    # In a process of its own: it adopts orphans and ends them.
    code = (
        "import json, pathlib, contestants\n"
        f"contestants.HERE = pathlib.Path({str(tmp_path)!r})\n"
        "contestants.GRACE_S = 0.1\n"
        "contestants.adopt_orphans()\n"
        f"one = contestants.Contestant('one', {sys.executable!r})\n"
        "one.measure('stuck', [], 2)\n"
        "print(json.dumps(one.summary()['lines']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, timeout=30)
    lines = json.loads(done.stdout)
    assert lines["fast"]["median"] == 1.0
    assert lines["slow"]["failures"] == ["stopped after 2 s: no message"]
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_the_interval_of_the_gate_is_of_the_order(programs: Any) -> None:
    gate = programs("gate")
    assert gate.interval([1.0] * 6) == (1.0, 1.0)
    assert gate.interval([*range(6)]) == (0, 5), "of six, all are needed for 95 %"
    # The fourth from either end, for 15: 2 * (1 + 15 + 105 + 455) / 2**15 is 3.5 %, with one more 11.8 %.
    assert gate.interval([*range(15, 0, -1)]) == (4, 12)
    assert gate.interval([*range(1, 31)]) == (10, 21)


def test_the_gate_refuses_what_is_worse_beyond_doubt(programs: Any) -> None:
    gate = programs("gate")
    assert not gate.refused([1.02] * 15)
    assert gate.refused([1.03] * 15)
    assert gate.refused([0.5] * 3 + [1.03] * 12), "three lucky ones do not help"
    assert not gate.refused([0.5] * 4 + [1.5] * 11)


def test_the_costs_of_the_gate(programs: Any) -> None:
    gate = programs("gate")
    assert gate.cost("task_sync", {"value": 100.0}) == 100.0
    assert gate.cost("tasks_pipelined", {"value": 50_000.0}) == 20.0
    assert gate.cost("task_sync", {"value": None, "failed": "so"}) is None
    text, worse = gate.table({"task_sync": [(100.0, 110.0)] * 6, "get_small": [(2.0, 2.0)] * 6}, {})
    assert worse
    assert [line.split()[-1] for line in text.splitlines()[1:]] == ["REFUSED", "1.000"]
    assert not gate.table({"get_small": [(2.0, 2.0)] * 6}, {})[1]
    assert not gate.table({"async_actor_sync": []}, {"async_actor_sync": "needs ray-async"})[1]
    assert gate.table({"async_actor_sync": []}, {"async_actor_sync": "REFUSED: it fails"})[1]


def test_the_table_of_a_cluster(programs: Any) -> None:
    cluster = programs("cluster")

    def line(*rounds: float, unit: str = "µs", problem: str = "") -> dict[str, Any]:
        return {"unit": unit, "rounds": [*rounds], "problem": problem}

    records = {
        "far_task_sync": line(200.0, 260.0, 390.0),
        "between_task_sync": line(200.0, 200.0, 300.0),
        "here_pipelined": line(50_000.0, unit="/s"),
        "alone_pipelined": line(60_000.0, unit="/s"),
        "attach": line(unit="s", problem="failed: it is stuck"),
    }
    _, *rows = cluster.table(records)
    attach, far, here = rows
    assert attach[1:] == ["s", "failed: it is stuck", "≤ 0.3", "", "", "", "**no**"]
    assert far[1:] == ["µs", "260", "≤ 350", "200", "1.30", "≤ 1.3", "yes"]
    assert here[1:] == ["/s", "50,000", "", "60,000", "0.83", "≥ 0.95", "**no**"]
    records |= {"alone_task_sync": line(100.0, 100.0, 100.0)}
    assert cluster.table(records, "alone")[2][1:] == ["µs", "260", "≤ 350", "100", "2.60", "≤ 1.3", "**no**"]


def test_a_cluster_needs_a_redis_server(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "cluster.py")]
    environ = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environ)
    assert done.returncode == 1
    assert done.stderr == "A cluster needs redis-server or valkey-server on PATH.\n"


def test_the_lines_of_the_gate_exist(programs: Any) -> None:
    code = "import gate_lines; print(*gate_lines.LINES)"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, timeout=50)
    assert set(programs("gate").LINES) <= set(done.stdout.split()), done.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["main", "--lines", "task_sync,nosuchline"], "there is no line nosuchline; there are task_sync"),
        (["main", "--pairs", "5"], "at least 6 pairs"),
        ([], "REV"),
        (["no-such-revision"], "no-such-revision"),
    ],
)
def test_the_gate_says_what_is_wrong(wrong: list[str], said: str) -> None:
    command = [sys.executable, str(BENCHMARKS / "gate.py"), *wrong]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
