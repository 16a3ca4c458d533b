"""What nobody asked for is said at the end: tasks that had not finished, and failures."""

import subprocess
import sys
import time

import pytest

import ray

UNDONE = "{} had not finished and {} stopped; ray.get what you need\n"


@ray.remote
def slow(seconds=60):
    time.sleep(seconds)


@ray.remote
def quick(*given):
    return given


@ray.remote
def fail(text):
    raise ValueError(text)


@ray.remote
class Actor:
    def slow(self):
        time.sleep(60)

    def quick(self):
        return 1


def ended(capfd, body, **options):
    """What is on stderr after a session in which ``body`` ran."""
    with ray.init(num_cpus=2, **options):
        kept = body()
        del kept
    return capfd.readouterr().err


def undone(text):
    return [line + "\n" for line in text.splitlines() if "had not finished" in line]


def test_tasks_and_calls_are_counted(capfd):
    def body():
        dropped = quick.remote(slow.remote())  # two that run, or wait, though their refs are dropped
        del dropped
        actor = Actor.remote()
        return actor, actor.slow.remote(), actor.quick.remote(), quick.options(num_gpus=1).remote()

    assert undone(ended(capfd, body)) == ["[ray] " + UNDONE.format("5 tasks", "were")]


def test_one_is_one(capfd):
    assert undone(ended(capfd, slow.remote)) == ["[ray] " + UNDONE.format("1 task", "was")]


def test_what_is_finished_cancelled_or_to_end_anyway_does_not_count(capfd):
    def body():
        refs = [quick.remote() for _ in range(20)]
        actor = Actor.remote()
        assert ray.get(actor.quick.remote()) == 1
        actor.__ray_terminate__.remote()
        given_up = [slow.remote() for _ in range(5)]
        ray.cancel(given_up)
        return ray.get(refs)

    assert undone(ended(capfd, body)) == []


def test_failures_are_printed_at_the_end(capfd):
    def body():
        ref = fail.remote("nobody has asked")
        ray.wait([ref])
        return ref

    text = ended(capfd, body)
    assert text.count("[ray] A task failed: ValueError: nobody has asked in fail") == 1
    assert undone(text) == []


def test_in_local_mode_all_is_done(capfd):
    assert undone(ended(capfd, quick.remote, local_mode=True)) == []


PROGRAM = """
import sys, time, ray
ray.init(num_cpus=1, log_to_driver=False)
@ray.remote
def slow(): time.sleep(60)
refs = [slow.remote() for _ in range(3)]
"""


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [("sys.exit(3)", 3, ""), ("raise KeyError('mine')", 1, "KeyError: 'mine'")],
)
def test_programs_that_end(end, code, words):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + end], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == code
    assert done.stderr.endswith("[ray] " + UNDONE.format("3 tasks", "were"))
    assert words in done.stderr
    assert done.stderr.count("Traceback") == bool(words)
