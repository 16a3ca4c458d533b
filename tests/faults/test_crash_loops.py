"""What dies and is run again without end is not silent: the driver says so, and so does a wait whose time is over."""

from __future__ import annotations

import os
import re
import signal

import pytest

import ray
from ray.exceptions import GetTimeoutError, WorkerCrashedError
from ray.testing import eventually

LIMIT_S = 40


@ray.remote(max_retries=-1)
def leaves():
    os._exit(7)


@ray.remote(max_retries=-1)
def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)


@ray.remote(max_restarts=-1)
class Leaves:
    def __init__(self):
        os._exit(7)

    def never(self):
        pass


KINDS = [("leaves", "exit code 7"), ("is_killed", r"signal 9 \(SIGKILL\)"), ("Leaves", "exit code 7")]


@pytest.mark.parametrize(("name", "how"), KINDS)
def test_it_is_told(start, capfd, name, how):
    start(num_cpus=2)
    actor = Leaves.remote() if name == "Leaves" else None
    ref = actor.never.remote() if actor else (leaves if name == "leaves" else is_killed).remote()
    told = ""

    def is_told():
        nonlocal told
        told += capfd.readouterr().err
        start = rf"\[ray\] {name}: it is \w+ again, as its process has died 4 times"
        return re.search(rf"{start} \(the last time: {how}", told)

    eventually(is_told, LIMIT_S, "nothing is said")
    with pytest.raises(GetTimeoutError, match=rf"{name}: it is .* died \d+ times \(the last time: {how}"):
        ray.get(ref, timeout=0.1)
    eventually(lambda: any(f"{name}: it is" in row["message"] for row in ray.error_info()), LIMIT_S, "no record")
    ray.kill(actor) if actor else ray.cancel(ref)


def test_few_deaths_are_not(start, capfd):
    start(num_cpus=2)
    with pytest.raises(WorkerCrashedError):
        ray.get(leaves.options(max_retries=3).remote(), timeout=LIMIT_S)
    assert "again" not in capfd.readouterr().err


def test_what_goes_on_in_the_end_is_not_to_blame(start, tmp_path):
    start(num_cpus=2)

    @ray.remote(max_retries=-1)
    def dies_twice():
        for name in ("one", "two"):
            if not (tmp_path / name).exists():
                (tmp_path / name).touch()
                os._exit(1)
        (tmp_path / "runs").touch()
        eventually((tmp_path / "go").exists, LIMIT_S)
        return "done"

    ref = dies_twice.remote()
    eventually((tmp_path / "runs").exists, LIMIT_S)
    with pytest.raises(GetTimeoutError, match="died 2 times"):
        ray.get(ref, timeout=0.1)
    (tmp_path / "go").touch()
    assert ray.get(ref, timeout=LIMIT_S) == "done"
