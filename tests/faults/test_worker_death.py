"""A worker ends, in any way there is: each caller that waits is told how, and the next task runs."""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests import victims
from tests.faults.deaths import (
    Doomed,
    abort,
    answer,
    become_a_short_program,
    become_another_program,
    close_everything,
    die_noting_when,
    exit_at_once,
    from_a_thread,
    import_what_exits,
    kill_itself,
    overflow,
    read_null,
    run,
    say_much_then_die,
)  # fmt: skip

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError
from ray.testing import eventually


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_task_that_kills_its_worker_in_a_loop(start, rounds, tmp_path, capsys):
    start(num_cpus=2)
    note = tmp_path / "died"
    delays = []
    for number in range(rounds(100, 10_000)):
        ref = run.options(name=f"round-{number}").remote(die_noting_when, note)
        with pytest.raises(WorkerCrashedError) as caught:
            ray.get(ref, timeout=10)
        delays.append((time.monotonic() - float(note.read_text())) * 1000)
        text = str(caught.value)
        assert "signal 9 (SIGKILL)" in text
        assert f"pid {caught.value.pid}" in text
        assert caught.value.pid not in {0, os.getpid()}
        assert "run" in caught.value.task or f"round-{number}" in caught.value.task
        if number % 10 == 0:
            assert ray.get(answer.remote(), timeout=10) == 42
    cuts = statistics.quantiles(delays, n=100)
    figures = f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, max {max(delays):.1f} ms"
    with capsys.disabled():
        print(f"\ndeath to error, {len(delays)} rounds: {figures}")
    assert cuts[49] < 1000  # the target is 30 ms; this only tells apart a broken path from a busy machine


@pytest.mark.slow
def test_two_tasks_kill_their_workers_at_the_same_time(start, rounds, tmp_path):
    start(num_cpus=2)
    for _ in range(rounds(12, 1000)):
        refs = [run.remote(os.kill, 0, 0), *(run.remote(die_noting_when, tmp_path / str(i)) for i in range(4))]
        ready, rest = ray.wait(refs, num_returns=5, timeout=timedelta(seconds=10))
        assert not rest
        assert ray.get(refs[0]) is None
        for ref in refs[1:]:
            with pytest.raises(WorkerCrashedError, match=r"signal 9 \(SIGKILL\)"):
                ray.get(ref)
        del ready, refs, ref


# --- ways to end ------------------------------------------------------------------------------------------------------


STACK = "most recent call first"
WAYS = [
    ("exit 0", exit_at_once, 0, {"exit_code": 0}, ["exit code 0"]),
    ("exit 7", exit_at_once, 7, {"exit_code": 7}, ["exit code 7"]),
    ("abort", abort, None, {"signal": signal.SIGABRT}, ["SIGABRT", STACK, "Aborted"]),
    ("segfault", read_null, None, {"signal": signal.SIGSEGV}, ["SIGSEGV", STACK, "read_null", "Segmentation fault"]),
    ("segfault in a thread", from_a_thread, None, {"signal": signal.SIGSEGV}, ["SIGSEGV", STACK]),
    ("SIGTERM", kill_itself, signal.SIGTERM, {"signal": signal.SIGTERM}, ["signal 15 (SIGTERM)"]),
    ("SIGBUS", kill_itself, signal.SIGBUS, {"signal": signal.SIGBUS}, ["SIGBUS", STACK, "kill_itself"]),
    ("closed descriptors", close_everything, None, {}, ["descriptor|SIGABRT"]),  # ZeroMQ aborts
    ("exec", become_another_program, None, {"signal": signal.SIGKILL}, ["exec"]),
    ("exec, and exit", become_a_short_program, None, {"exit_code": 9}, ["exit code 9"]),
    ("last words", say_much_then_die, 50, {"signal": signal.SIGKILL}, ["line 49", "line 40", "very last"]),
]


@pytest.mark.parametrize(("way", "argument", "facts", "texts"), [w[1:] for w in WAYS], ids=[w[0] for w in WAYS])
def test_error_says_how_the_process_ended(start, way, argument, facts, texts):
    """That of a task, and that of an actor."""
    start(num_cpus=1)
    actor = Doomed.remote()
    with pytest.raises(WorkerCrashedError) as of_task:
        ray.get(run.remote(way, argument), timeout=10)
    with pytest.raises(RayActorError) as of_actor:
        ray.get(actor.end.remote(way, argument), timeout=10)
    for error in (of_task.value, of_actor.value):
        for name, value in facts.items():
            assert getattr(error, name) == value, str(error)
        for text in [*texts, f"pid {error.pid}"]:
            assert any(wording in str(error) for wording in text.split("|"))
    assert "that ran run died" in str(of_task.value)
    assert "The actor Doomed" in str(of_actor.value)
    assert "end()" in str(of_actor.value)
    with pytest.raises(RayActorError):
        ray.get(actor.end.remote(way, argument), timeout=10)
    assert ray.get(answer.remote(), timeout=10) == 42


def test_stack_overflow(start):
    start(num_cpus=1)
    limit = resource.getrlimit(resource.RLIMIT_STACK)[0]
    assert limit == resource.RLIM_INFINITY or limit >= 64 * 1024
    with pytest.raises((WorkerCrashedError, RayTaskError)) as caught:
        ray.get(run.remote(overflow, None), timeout=30)
    if isinstance(caught.value, WorkerCrashedError):
        assert caught.value.signal == signal.SIGSEGV
        assert "in deeper" in caught.value.stderr_tail  # the end of a stack that is longer than what is shown
    else:  # interpreters that count what C code uses
        assert isinstance(caught.value, RecursionError)
    assert ray.get(answer.remote(), timeout=10) == 42


def test_sys_exit_is_an_error_of_the_task(start):
    start(num_cpus=1)
    for code in (0, 7, "a reason"):
        with pytest.raises(RayTaskError, match="SystemExit") as caught:
            ray.get(run.remote(sys.exit, code), timeout=10)
        assert not isinstance(caught.value, SystemExit)
    assert ray.get(answer.remote(), timeout=10) == 42


@pytest.mark.parametrize("code", ["import os; os._exit(5)", "import sys; sys.exit(5)"])
def test_import_of_a_module_that_ends_the_process(start, tmp_path, code):
    start(num_cpus=1)
    (tmp_path / "module_that_ends_the_process.py").write_text(code)
    with pytest.raises((WorkerCrashedError, RayTaskError)) as caught:
        ray.get(run.remote(import_what_exits, tmp_path), timeout=10)
    if "_exit" in code:
        assert isinstance(caught.value, WorkerCrashedError)
        assert caught.value.exit_code == 5
    else:
        assert isinstance(caught.value, RayTaskError)
        assert "SystemExit: 5" in str(caught.value)
        assert "module_that_ends_the_process" in str(caught.value)
    assert ray.get(answer.remote(), timeout=10) == 42


def test_the_record_of_a_death_says_it_once(start):
    start(num_cpus=1)
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(run.remote(say_much_then_die, 2), timeout=10)
    (record,) = ray.error_info()
    assert record["type"] == "worker_died"
    assert record["message"] == f"run: ray.exceptions.WorkerCrashedError: {caught.value}"


def test_at_most_twenty_lines_of_stderr(start):
    start(num_cpus=1)
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(run.remote(say_much_then_die, 1000), timeout=10)
    lines = caught.value.stderr_tail.splitlines()
    assert lines == [
        *(f"line {n} of my last words" for n in range(981, 1000)),
        "the very last, without an end of line",
    ], lines


def test_what_a_task_started_ends_with_its_worker(start):
    """Children of a dead worker are taken along, whether or not they have left its process group."""
    start(num_cpus=1)

    def leave_children():
        mine = subprocess.Popen(["sleep", "600"])
        away = subprocess.Popen(["sleep", "600"], start_new_session=True)
        (Path(folder) / "pids").write_text(f"{mine.pid} {away.pid}")
        os.kill(os.getpid(), signal.SIGKILL)

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(WorkerCrashedError):
            ray.get(run.remote(leave_children), timeout=10)
        mine, away = map(int, (Path(folder) / "pids").read_text().split())
    eventually(lambda: not victims.alive(mine), why="the child did not end with its worker")
    ray.shutdown()
    eventually(lambda: not victims.alive(away), why="the child did not end with its session")


# --- memory -----------------------------------------------------------------------------------------------------------


def memory_cgroup():
    """Make a cgroup of version 1 or 2 below this process's own, with a limit file; None where that is not allowed."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            folder, limit = Path("/sys/fs/cgroup/memory" + path), "memory.limit_in_bytes"
        elif controllers == "" and (Path("/sys/fs/cgroup") / "cgroup.controllers").exists():
            folder, limit = Path("/sys/fs/cgroup" + path), "memory.max"
        else:
            continue
        made = folder / f"test-{os.getpid()}"
        try:
            made.mkdir()
        except OSError:
            continue
        if (made / limit).exists():
            return made, made / limit
        made.rmdir()
    return None


OUT_OF_MEMORY = """
import json, os, sys
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
import ray
ray.init(num_cpus=1)

@ray.remote(max_retries=0)
def fill():
    kept = []
    while True:
        kept.append(bytes(8_000_000) and bytearray(b"x") * 8_000_000)

@ray.remote
def fine():
    return 1

@ray.remote(max_retries=0)
def kill():
    os.kill(os.getpid(), 9)

seen = []
for task in (kill, fill, kill):
    try:
        ray.get(task.remote(), timeout=30)
    except Exception as error:
        seen.append([type(error).__name__, str(error)])
seen.append(ray.get(fine.remote(), timeout=10))
ray.shutdown()
print(json.dumps(seen))
"""


def test_kernel_out_of_memory_is_told_apart(start):
    found = memory_cgroup()
    if found is None:
        pytest.skip("no memory cgroup can be made here")
    folder, limit = found
    try:
        limit.write_text(str(400 * 1024 * 1024))
        first, second, third, value = victims.in_program(OUT_OF_MEMORY, folder / "cgroup.procs")
    finally:
        eventually(lambda: not (folder / "cgroup.procs").read_text(), why="the processes did not leave")
        folder.rmdir()
    assert first[0] == third[0] == "WorkerCrashedError"
    assert "signal 9 (SIGKILL)" in first[1]
    assert second[0] == OutOfMemoryError.__name__
    assert "memory ran out" in second[1]
    assert "fill" in second[1]
    assert value == 1


def test_a_kill_counts_as_out_of_memory_if_the_counter_moved(tmp_path, monkeypatch):
    from ray.runtime.process import supervision

    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 0\noom_kill 3\n")
    monkeypatch.setattr(supervision, "_memory_events", lambda: str(counter))
    watch = supervision.OomWatch()
    assert not watch.happened()
    counter.write_text("low 0\noom 1\noom_kill 4\n")
    assert watch.happened()
    assert not watch.happened()
    counter.unlink()
    assert not watch.happened()
