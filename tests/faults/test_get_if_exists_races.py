"""Names of actors whose last handle has just gone: a process that finds an actor by its name finds one that goes on."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests import sessions

import ray
from ray.exceptions import RayActorError

LIMIT_S = 40.0
ROUNDS = 20

session = sessions.shared(num_cpus=4, log_to_driver=False)
nothing_left = sessions.unchecked()


@ray.remote(num_cpus=0)
class Named:
    def m(self) -> int:
        return 1

    def leave(self, way: str) -> None:
        if way == "exit_actor":
            ray.exit_actor()
        sys.exit(0)


def get(ref: Any) -> Any:
    return ray.get(ref, timeout=LIMIT_S)


def found(name: str) -> Any:
    return Named.options(name=name, get_if_exists=True).remote()


def test_one_after_the_other() -> None:
    for _ in range(ROUNDS):
        actor = found("n")
        assert get(actor.m.remote()) == 1
        del actor


def test_calls_that_go_on_keep_it() -> None:
    for _ in range(ROUNDS):
        ref = found("calls").m.remote()
        other = found("calls").m.remote()
        assert get([ref, other]) == [1, 1]
        del ref, other


def test_get_actor_says_that_there_is_none() -> None:
    for _ in range(ROUNDS):
        actor = Named.options(name="gone").remote()
        get(actor.m.remote())
        assert get(ray.get_actor("gone").m.remote()) == 1
        del actor
        with pytest.raises(ValueError, match="gone"):
            ray.get_actor("gone")


def test_the_name_is_free_for_another_one() -> None:
    for _ in range(ROUNDS // 2):
        actor = Named.options(name="again").remote()
        assert get(actor.m.remote()) == 1
        del actor


def end(actor: Any, way: str) -> None:
    if way == "terminate":
        get(actor.__ray_terminate__.remote())
    elif way == "kill":
        ray.kill(actor)
    else:
        with pytest.raises(RayActorError):
            get(actor.leave.remote(way))


@pytest.mark.parametrize("way", ["terminate", "kill", "exit_actor", "sys.exit"])
def test_after_an_end_that_was_asked_for(way: str) -> None:
    for _ in range(ROUNDS // 4):
        actor = found("ended")
        assert get(actor.m.remote()) == 1
        end(actor, way)
        with pytest.raises(ValueError, match="ended"):
            ray.get_actor("ended")
        again = found("ended")
        assert again != actor
        assert get(again.m.remote()) == 1
        del actor
        assert get(again.m.remote()) == 1
        del again


@ray.remote(num_cpus=0)
def looks(name: str, begun: Path, stop: Path, create: bool) -> tuple[int, int]:
    """How often another process has found the actor, and how often not."""
    hits = misses = 0
    until = time.monotonic() + LIMIT_S
    while not stop.exists() and time.monotonic() < until:
        begun.touch()
        try:
            actor = found(name) if create else ray.get_actor(name)
        except ValueError:
            misses += 1
            continue
        assert ray.get(actor.m.remote(), timeout=LIMIT_S) == 1
        hits += 1
        del actor
    return hits, misses


@pytest.mark.parametrize("create", [False, True], ids=["get_actor", "get_if_exists"])
def test_from_several_processes(create: bool, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    begun = [tmp_path / "first", tmp_path / "second"]
    others = [looks.remote("shared", file, stop, create) for file in begun]
    until = time.monotonic() + LIMIT_S
    while not all(file.exists() for file in begun) and time.monotonic() < until:
        time.sleep(0.005)
    for _ in range(ROUNDS):
        actor = found("shared")
        assert get(actor.m.remote()) == 1
        del actor
    stop.touch()
    for hits, misses in get(others):
        assert hits + misses
        assert not (create and misses)
