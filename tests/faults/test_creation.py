"""The first moments of an actor: it can be killed, and its name is its own, from the call that creates it on."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import ray
from ray.exceptions import RayActorError
from ray.testing import eventually

LIMIT_S = 30.0
AGES_S = [0.0, 0.0005, 0.002, 0.005, 0.01, 0.05]


def get(refs):
    return ray.get(refs, timeout=LIMIT_S)


def free_again():
    return ray.available_resources() == ray.cluster_resources()


def named(name):
    try:
        return ray.get_actor(name)
    except ValueError:
        return None


@ray.remote
class Kept:
    def __init__(self, value=None):
        self.value = value

    def get(self):
        return self.value


@ray.remote
def wait_for(path, value=7):
    end = time.monotonic() + LIMIT_S
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    if isinstance(value, Exception):
        raise value
    return value


def pause(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


# --- kills --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("no_restart", [False, True])
def test_a_kill_acts_at_any_age(start, no_restart):
    start(num_cpus=2)
    remote = Kept.options(num_cpus=1)
    for age_s in AGES_S if no_restart else AGES_S * 2:
        actor = remote.remote()
        early = actor.get.remote()
        pause(age_s)
        ray.kill(actor, no_restart=no_restart)
        for ref in (early, actor.get.remote()):
            try:
                assert get(ref) is None
            except RayActorError as error:
                assert "ray.kill() was called" in str(error)  # noqa: PT017 - it may have been quicker
        with pytest.raises(RayActorError, match=r"ray\.kill\(\) was called"):
            get(actor.get.remote())
    eventually(free_again, LIMIT_S)


def test_a_kill_with_restarts_left_acts_at_any_age(start):
    start(num_cpus=2)
    remote = Kept.options(num_cpus=1, max_restarts=1, max_task_retries=-1)
    for age_s in AGES_S:
        actor = remote.remote()
        pause(age_s)
        ray.kill(actor, no_restart=False)
        assert get(actor.get.remote()) is None
        ray.kill(actor, no_restart=False)
        with pytest.raises(RayActorError, match=r"ray\.kill\(\) was called"):
            get(actor.get.remote())


@pytest.mark.parametrize("no_restart", [False, True])
def test_a_kill_acts_while_an_actor_waits(start, tmp_path, no_restart):
    """For its arguments, or for room; by its creator or by another process."""
    start(num_cpus=2)
    go = tmp_path / "go"

    @ray.remote(num_cpus=0)
    def kill(actor):
        ray.kill(actor, no_restart=no_restart)

    wants = [Kept.options(name=f"{number}").remote(wait_for.options(num_cpus=0).remote(go)) for number in range(2)]
    holds = Kept.options(num_cpus=2).remote()
    get(holds.get.remote())
    wants += [Kept.options(name=f"{number}", num_cpus=1).remote() for number in range(2, 4)]
    ray.kill(wants[0], no_restart=no_restart)
    ray.kill(wants[2], no_restart=no_restart)
    get([kill.remote(wants[1]), kill.remote(wants[3])])
    eventually(lambda: not any(named(f"{number}") for number in range(4)), LIMIT_S)
    go.write_text("")
    for actor in wants:
        with pytest.raises(RayActorError, match=r"ray\.kill\(\) was called"):
            get(actor.get.remote())
    del holds
    eventually(free_again, LIMIT_S)


# --- names --------------------------------------------------------------------------------------------------------


def test_a_name_is_reserved_while_arguments_are_waited_for(start, tmp_path):
    start(num_cpus=2)
    go = tmp_path / "go"
    arguments = wait_for.remote(go)
    actor = Kept.options(name="mine").remote(arguments)  # returns at once
    with pytest.raises(ValueError, match="mine"):
        Kept.options(name="mine").remote()
    found = ray.get_actor("mine").get.remote()
    assert ray.wait([found], timeout=50)[0] == []
    go.write_text("")
    assert get([found, actor.get.remote()]) == [7, 7]


def test_a_name_is_free_when_the_creation_fails(start, tmp_path):
    start(num_cpus=2, log_to_driver=False)
    go = tmp_path / "go"
    failed = wait_for.remote(go, KeyError("no"))
    actor = Kept.options(name="mine").remote(failed)
    assert named("mine") is not None
    go.write_text("")
    with pytest.raises(RayActorError, match="an argument of its __init__ failed") as caught:
        get(actor.get.remote())
    assert isinstance(caught.value.__cause__, KeyError)
    assert named("mine") is None
    again = Kept.options(name="mine").remote(failed)  # it has failed by now
    with pytest.raises(RayActorError, match="an argument of its __init__ failed"):
        get(again.get.remote())
    eventually(lambda: named("mine") is None, LIMIT_S)
    last = Kept.options(name="mine").remote(8)
    assert get(last.get.remote()) == 8


def test_creating_a_named_actor_on_a_loop_waits_for_nothing_of_that_loop(start):
    start(num_cpus=2)

    @ray.remote
    class Creator:
        async def value(self):
            await asyncio.sleep(0.05)
            return 5

        async def create(self, me):
            actor = Kept.options(name="y").remote(me.value.remote())
            with pytest.raises(ValueError, match="taken"):
                Kept.options(name="y").remote()
            return await actor.get.remote()

    creator = Creator.remote()
    assert get(creator.create.remote(creator)) == 5


def test_one_of_many_gets_the_name(start, tmp_path):
    start(num_cpus=2)
    argument = wait_for.remote(tmp_path / "go")
    made, refused = [], []

    def create():
        try:
            made.append(Kept.options(name="mine").remote(argument))
        except ValueError:
            refused.append(1)

    threads = [threading.Thread(target=create) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert (len(made), len(refused)) == (1, 4)
    (tmp_path / "go").write_text("")
    assert get(made.pop().get.remote()) == 7
