"""A failure that the program has asked for, or has got as the cause of another one, is not printed."""

import asyncio
import gc
import time

import pytest

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.experimental import collections
from ray.testing import eventually

TOLD = "[ray] A task failed: "


@ray.remote
def bad(text="caught"):
    raise ValueError(text)


@ray.remote
def bad_when(path):
    while not path.exists():
        time.sleep(0.01)
    raise ValueError("late")


@ray.remote(num_returns=2)
def bad_pair():
    raise ValueError("of two")


@ray.remote
def passes(*values):
    return values


@ray.remote
def looks(refs):
    try:
        ray.get(refs)
    except ValueError:
        return "caught there"


@ray.remote
class Actor:
    def __init__(self, value=None):
        if value == "raise":
            raise ValueError("in __init__")

    def method(self, *values):
        return values


def get_list():
    ray.get([bad.remote("one"), bad.remote("two"), bad.remote("three")])


def get_nested():
    collections.get([[bad.remote("one"), bad.remote("two")], [bad.remote("three")] * 2])


def get_of_what_has_failed():
    refs = [bad.remote("one"), bad.remote("two")]
    ray.wait(refs, num_returns=2)
    ray.get(refs)


def get_of_dependent():
    ray.get(passes.remote(bad.remote()))


def get_at_the_end_of_a_chain():
    ray.get(passes.remote(passes.remote(bad.remote())))


def get_of_dependents():
    failed = bad.remote()
    ray.get([passes.remote(failed), passes.remote(failed)])


def get_of_a_call_with_it():
    ray.get(Actor.remote().method.remote(bad.remote()))


def get_of_a_call_to_an_actor_made_with_it():
    ray.get(Actor.remote(bad.remote()).method.remote())


def get_of_a_call_to_an_actor_made_with_what_passed_it_on():
    ray.get(Actor.remote(passes.remote(bad.remote())).method.remote())


def get_of_a_call_to_an_actor_whose_init_raises():
    ray.get(Actor.remote("raise").method.remote())


def get_of_one_of_two():
    ray.get(bad_pair.remote()[1])


def get_by_another_task():
    assert ray.get(looks.remote([bad.remote()])) == "caught there"
    raise ValueError


ASKING = [
    get_list,
    get_nested,
    get_of_what_has_failed,
    get_of_dependent,
    get_at_the_end_of_a_chain,
    get_of_dependents,
    get_of_a_call_with_it,
    get_of_a_call_to_an_actor_made_with_it,
    get_of_a_call_to_an_actor_made_with_what_passed_it_on,
    get_of_a_call_to_an_actor_whose_init_raises,
    get_of_one_of_two,
    get_by_another_task,
]


async def gather():
    await asyncio.gather(bad.remote("one"), bad.remote("two"))


async def group():
    try:
        async with asyncio.TaskGroup() as tasks:
            for text in ("one", "two"):
                tasks.create_task(bad.remote(text).as_coroutine())
    except* ValueError as errors:
        raise errors.exceptions[0] from None


def printed(capfd, body, **options):
    """What is printed of failures in a session in which ``body`` ran."""
    with ray.init(num_cpus=3, **options):
        kept = body()
        del kept
    text = capfd.readouterr().err
    return [line.removeprefix(TOLD) for line in text.splitlines() if line.startswith(TOLD)]


@pytest.mark.parametrize("local_mode", [False, True], ids=["processes", "local_mode"])
def test_what_is_asked_for_is_not_printed(capfd, local_mode):
    def body():
        for ask in ASKING:
            with pytest.raises(ValueError):
                ask()
        for ask in (gather, group):
            with pytest.raises(ValueError):
                asyncio.run(ask())

    assert printed(capfd, body, local_mode=local_mode) == []


def test_what_fails_after_the_get_of_its_list_has_raised_is_not_printed(capfd, tmp_path):
    def body():
        ref = bad_when.remote(tmp_path / "now")
        for _ in range(3):
            with pytest.raises(ValueError):
                ray.get([bad.remote(), ref])

        async def awaits():
            with pytest.raises(ValueError):
                await asyncio.gather(bad.remote(), other)

        other = bad_when.remote(tmp_path / "now")
        asyncio.run(awaits())
        (tmp_path / "now").touch()
        assert len(ray.wait([ref, other], num_returns=2, timeout=30_000)[0]) == 2

    assert printed(capfd, body) == []


def test_what_fails_when_the_refs_that_were_asked_for_are_gone_is_not_printed(capfd, tmp_path):
    def body():
        with pytest.raises(ValueError, match="caught"):
            ray.get([bad.remote(), bad_when.remote(tmp_path / "now")])
        gc.collect()
        (tmp_path / "now").touch()
        eventually(lambda: any("late" in row["message"] for row in ray.error_info()), 30, "it has failed")

    assert printed(capfd, body) == []


def test_what_nobody_asks_for_is_printed(capfd, tmp_path):
    def body():
        ref = bad_when.remote(tmp_path / "now")
        with pytest.raises(GetTimeoutError):
            ray.get([ref], timeout=0)
        failed = bad.remote("asked for itself")
        dependent = passes.remote(failed)
        ray.wait([dependent])
        with pytest.raises(ValueError):
            ray.get(failed)
        (tmp_path / "now").touch()
        ray.wait([ref])
        return ref, dependent

    told = printed(capfd, body)
    assert sorted(line.rpartition(" in ")[0] for line in told) == ["ValueError: asked for itself", "ValueError: late"]


def test_what_is_passed_on_is_printed_once(capfd):
    def body():
        end = passes.remote(passes.remote(bad.remote("passed on")))
        ray.wait([end])
        return end

    assert printed(capfd, body) == ["ValueError: passed on in bad"]


@pytest.mark.parametrize("local_mode", [False, True], ids=["processes", "local_mode"])
def test_an_actor_that_nobody_calls_is_told_of_once(capfd, local_mode):
    def body():
        actors = Actor.remote("raise"), Actor.remote(bad.remote("given"))
        end = time.monotonic() + 30
        while time.monotonic() < end and len(ray.error_info()) < 3:
            time.sleep(0.01)
        return actors

    told = printed(capfd, body, local_mode=local_mode)
    assert sorted(line.rpartition(" in ")[0] for line in told) == ["ValueError: given", "ValueError: in __init__"]


@pytest.mark.parametrize("local_mode", [False, True], ids=["processes", "local_mode"])
def test_a_dead_actor_still_tells_who_calls(capfd, local_mode):
    def body():
        actor = Actor.remote("raise")
        for _ in range(2):
            with pytest.raises(RayActorError):
                ray.get([actor.method.remote(), actor.method.remote()])

    assert printed(capfd, body, local_mode=local_mode) == []
