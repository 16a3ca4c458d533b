"""Orderly ends: they lose nothing that was submitted, and none of them takes longer than it may."""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import os
import sys
import threading
import time

import psutil
import pytest
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import RayActorError
from ray.testing import eventually

LIMIT_S = 30.0
#: An end may take 3 s; the rest is for a busy machine.
SOON_S = 15.0


@ray.remote
def norm(value):
    return value


def get(refs):
    return ray.get(refs, timeout=LIMIT_S)


def ended(ref, said):
    with pytest.raises(RayActorError, match=said) as caught:
        get(ref)
    return caught.value


# --- what an ending process has submitted -------------------------------------------------------------------------


def test_a_retired_worker_serves_what_it_has_submitted(start):
    start(num_cpus=2, num_gpus=1)
    for options in ({"max_calls": 1}, {"num_gpus": 1}, {"max_calls": 2}):

        @ray.remote(**options)
        def nest(value):
            return norm.remote(value)

        @ray.remote(**options)
        def nest_list(value):
            return [norm.remote(value), norm.remote(norm.remote(value + 1))]

        for value in range(2):
            assert get(get(nest.remote(value))) == value
            assert get(get(nest_list.remote(value))) == [value, value + 1]


@ray.remote
def note(folder, name):
    time.sleep(0.01)
    (folder / str(name)).write_text("")


def submit_notes(folder, number):
    """Tasks of two scheduling classes: not all can have a worker by the time that this one ends."""
    for name in range(number):
        note.options(num_cpus=1 + name % 2).remote(folder, name)


@ray.remote
class Leaver:
    """Submits tasks whose refs nobody holds, and ends."""

    def submit(self, folder, number, *, leave=False):
        submit_notes(folder, number)
        if leave:
            ray.exit_actor()


def test_subtasks_that_nobody_holds_run_all_the_same(start, tmp_path):
    start(num_cpus=2)

    @ray.remote(max_calls=1)
    def spread(folder):
        submit_notes(folder, 10)

    for end in ("max_calls", "exit_actor", "terminate", "last handle"):
        folder = tmp_path / end
        folder.mkdir()
        if end == "max_calls":
            get(spread.remote(folder))
        else:
            actor = Leaver.remote()
            done = actor.submit.remote(folder, 10, leave=end == "exit_actor")
            ray.wait([done], timeout=LIMIT_S * 1000)
            if end == "terminate":
                ray.wait([actor.__ray_terminate__.remote()], timeout=LIMIT_S * 1000)
            del actor, done
        eventually(lambda folder=folder: len(list(folder.iterdir())) == 10, LIMIT_S)


@pytest.mark.slow
def test_subtasks_of_an_actor_that_ends_with_its_creator_run_all_the_same(start, tmp_path):
    start(num_cpus=2)

    @ray.remote(max_calls=1)
    def create():
        get(Leaver.remote().submit.remote(tmp_path, 10))

    get(create.remote())
    eventually(lambda: len(list(tmp_path.iterdir())) == 10, LIMIT_S)


def test_subtasks_are_retried_after_the_end_of_their_submitter(start, tmp_path):
    start(num_cpus=1, log_to_driver=False)

    @ray.remote(max_retries=5)
    def die():
        attempts = len(list(tmp_path.iterdir()))
        (tmp_path / str(attempts)).write_text("")
        if attempts < 3:
            os._exit(1)

    @ray.remote(max_calls=1)
    def submit():
        die.remote()

    get(submit.remote())
    eventually(lambda: len(list(tmp_path.iterdir())) == 4, LIMIT_S)


def test_nobody_lingers_for_what_only_its_own_threads_wait_for(start, tmp_path):
    start(num_cpus=2)

    @ray.remote
    def never():
        eventually((tmp_path / "go").exists, LIMIT_S)

    @ray.remote
    class Waits:
        def begin(self, refs):
            threading.Thread(target=ray.get, args=refs, daemon=True).start()
            return os.getpid()

        def leave(self):
            ray.exit_actor()

        def pid(self):
            return os.getpid()

    actor, ref = Waits.remote(), never.remote()
    pid = get(actor.begin.remote([ref]))
    for _ in range(20):  # its thread must not keep it from taking calls
        assert get(actor.pid.remote()) == pid
        time.sleep(0.002)
    ray.wait([actor.leave.remote()], timeout=LIMIT_S * 1000)
    eventually(lambda: not psutil.pid_exists(pid), SOON_S)
    (tmp_path / "go").write_text("")
    get(ref)


# --- ends that the user's code holds up ---------------------------------------------------------------------------


def sleep_at_exit():
    atexit.register(time.sleep, 333)


def keep_child():
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(333,)).start()


def hold_interpreter_at_exit():
    atexit.register(sum, range(10**12))


class Slow:
    def __del__(self):
        time.sleep(333)


class Stuck:
    """Its end is held up."""

    def __init__(self, way):
        self.kept = None
        if way == "destructor":
            self.kept = Slow()
        else:
            {"atexit": sleep_at_exit, "child": keep_child, "interpreter": hold_interpreter_at_exit}[way]()

    def leave(self):
        ray.exit_actor()

    def value(self):
        return 1

    def pid(self):
        return os.getpid()


class StuckOnLoop(Stuck):
    async def value(self):
        return 1

    async def block_loop(self):
        asyncio.get_running_loop().call_later(0.05, time.sleep, 333)


WAYS = ["atexit", "child", "destructor", "interpreter"]


def named(name):
    try:
        return ray.get_actor(name)
    except ValueError:
        return None


def free_again():
    return ray.available_resources() == ray.cluster_resources()


@pytest.mark.slow
def test_ends_that_are_stuck_are_over_in_time(start):
    """The names and the resources are free again, the next actor starts, and calls fail with the cause."""
    start(num_cpus=8, log_to_driver=False)
    ways = [(cls, way) for cls in (Stuck, StuckOnLoop) for way in WAYS]
    names = [f"{cls.__name__} {way}" for cls, way in ways]
    actors = [
        ray.remote(num_cpus=1)(cls).options(name=name).remote(way) for (cls, way), name in zip(ways, names, strict=True)
    ]
    assert get([actor.value.remote() for actor in actors]) == [1] * 8
    refs = [ref for actor in actors for ref in (actor.leave.remote(), actor.value.remote())]
    started = Stopwatch()
    following = ray.remote(num_cpus=8)(Stuck).remote("atexit")
    assert get(following.value.remote()) == 1
    assert started.undisturbed_s() < SOON_S
    assert not any(map(named, names))
    for ref in (*refs, *(actor.value.remote() for actor in actors)):
        ended(ref, "exit_actor")
    ray.kill(following)


@pytest.mark.slow
def test_every_kind_of_end_is_limited(start):
    start(num_cpus=4, resources={"mark": 7}, log_to_driver=False)

    @ray.remote(max_calls=1, num_cpus=0, resources={"mark": 1})
    def stuck(way):
        Stuck(way)
        return os.getpid()

    pids = get([stuck.remote("atexit"), stuck.remote("child")])
    remote = ray.remote(num_cpus=0, resources={"mark": 1})(Stuck)
    actors = [remote.options(name=f"{way}{number}").remote(way) for way in WAYS[:2] for number in range(2)]
    pids += get([actor.pid.remote() for actor in actors])
    blocked = ray.remote(num_cpus=0, resources={"mark": 1})(StuckOnLoop).options(name="loop").remote("atexit")
    get(blocked.block_loop.remote())
    del blocked
    endings = [actors[0].__ray_terminate__.remote(), actors[2].__ray_terminate__.remote()]
    del actors
    eventually(free_again, SOON_S)
    assert not any(map(named, ["atexit0", "atexit1", "child0", "child1", "loop"]))
    eventually(lambda: not any(map(psutil.pid_exists, pids)), SOON_S)
    for ref in endings:
        assert get(ref) is None


@pytest.mark.slow
def test_an_end_that_is_stuck_loses_nothing_that_others_need(start):
    """What the process owns can be had, and what it has submitted runs, until nobody holds it any more."""
    start(num_cpus=2, log_to_driver=False)

    @ray.remote(num_cpus=1)
    class Owner(Stuck):
        def submit(self):
            return [norm.options(num_cpus=1 + value % 2).remote(value) for value in range(6)], ray.put("mine")

        def pid(self):
            return os.getpid()

    owner = Owner.options(name="owner").remote("atexit")
    refs, mine = get(owner.submit.remote())
    pid = get(owner.pid.remote())
    ray.wait([owner.leave.remote()], timeout=LIMIT_S * 1000)
    eventually(lambda: named("owner") is None, SOON_S)
    eventually(free_again, SOON_S)
    assert psutil.pid_exists(pid)
    assert get(mine) == "mine"
    assert get(refs) == list(range(6))
    del refs, mine
    eventually(lambda: not psutil.pid_exists(pid), SOON_S)


# --- exit_actor and sys.exit --------------------------------------------------------------------------------------


class Exits:
    """Ends itself in many ways."""

    def ends(self, code):
        sys.exit(*code)

    def value(self):
        return os.getpid()

    @ray.method(num_returns=2)
    def two(self):
        ray.exit_actor()

    def leaves(self):
        ray.exit_actor()

    @ray.method(num_returns="streaming")
    def streams(self):
        yield 1
        sys.exit(0)


class ExitsOnLoop:
    async def ends(self, code):
        await asyncio.sleep(0)
        sys.exit(*code)

    async def value(self):
        return os.getpid()

    async def leaves(self):
        async with asyncio.TaskGroup() as group:
            group.create_task(self.leaves_in_task())
            group.create_task(asyncio.sleep(60))

    async def leaves_in_task(self):
        await asyncio.sleep(0.01)
        ray.exit_actor()

    async def ends_in_task(self, code):
        async with asyncio.TaskGroup() as group:
            group.create_task(self.ends(code))
            group.create_task(asyncio.sleep(60))

    async def leaves_in_thread(self):
        await asyncio.to_thread(ray.exit_actor)

    async def leaves_in_gather(self):
        await asyncio.gather(self.leaves_in_task(), asyncio.sleep(60))

    @ray.method(in_thread=True)
    def leaves_beside_the_loop(self):
        ray.exit_actor()


def test_sys_exit_without_a_failure_is_an_end_by_plan(ray_session, capfd):
    """Not restarted, and nothing is printed."""
    for cls in (Exits, ExitsOnLoop):
        for code, said in [((), r"sys.exit\(\) was called"), ((0,), r"sys.exit\(0\) was called")]:
            actor = ray.remote(max_restarts=-1, max_task_retries=-1)(cls).remote()
            assert ended(actor.ends.remote(code), said).exit_code == 0
            ended(actor.value.remote(), said)
            ray.remote(cls).remote().ends.remote(code)  # nobody asks how it ends
    time.sleep(0.5)  # failures are printed after a while
    assert "ended it" not in capfd.readouterr().err
    assert not [record for record in ray.error_info() if "ended it" in record["message"]]


@pytest.mark.parametrize("cls", [Exits, ExitsOnLoop])
def test_sys_exit_with_a_failure_is_a_death(ray_session, mode, cls):
    codes = [((3,), 3), (("no disk",), 1), ((True,), 1), ((257,), 1)]
    for code, expected in codes if mode == "local_mode" else codes[:2]:
        actor = ray.remote(cls).remote()
        error = ended(actor.ends.remote(code), r"exit code .*sys.exit\(.*\) was called")
        assert error.exit_code == expected
        ended(actor.value.remote(), "sys.exit")
    actor = ray.remote(max_restarts=1)(cls).remote()
    before = get(actor.value.remote())
    ended(actor.ends.remote((3,)), "sys.exit")
    assert (get(actor.value.remote()) == before) == (mode == "local_mode")
    ended(actor.ends.remote((3,)), "sys.exit")
    ended(actor.value.remote(), "sys.exit")


def test_calls_that_end_the_process_are_retried_where_that_is_allowed(start, tmp_path):
    start(num_cpus=1, log_to_driver=False)

    @ray.remote(max_restarts=2, max_task_retries=2)
    class Third:
        def ends(self):
            (tmp_path / str(os.getpid())).write_text("")
            if len(list(tmp_path.iterdir())) < 3:
                sys.exit(3)
            return "third time"

    assert get(Third.remote().ends.remote()) == "third time"


def test_functions_of_atexit_run_at_every_exit(start, tmp_path):
    start(num_cpus=1, log_to_driver=False)
    for number, code in enumerate([(), (3,)]):

        @ray.remote
        class Registers(Exits):
            def __init__(self, path):
                atexit.register(path.write_text, "done")

        path = tmp_path / str(number)
        ended(Registers.remote(path).ends.remote(code), "sys.exit")
        eventually(path.exists, LIMIT_S)


def test_exits_of_tasks_of_a_call_end_the_actor(start):
    start(num_cpus=2)
    for way in ("leaves", "leaves_in_thread", "leaves_in_gather", "leaves_beside_the_loop", "ends_in_task"):
        actor = ray.remote(ExitsOnLoop).remote()
        said = "sys.exit" if way == "ends_in_task" else "exit_actor"
        ended(getattr(actor, way).remote(*[()] * (way == "ends_in_task")), said)
        ended(actor.value.remote(), said)


def test_the_call_that_ends_its_actor_raises(ray_session):
    remote = ray.remote(Exits)
    error = ended(remote.remote().leaves.remote(), r"leaves\(\) ended it")
    assert error.exit_code == 0
    for ref in remote.remote().two.remote():
        ended(ref, "exit_actor")
    stream = remote.remote().streams.remote()
    assert get(next(stream)) == 1
    with pytest.raises(RayActorError, match=r"sys\.exit"):
        get(next(stream))


def test_a_constructor_that_exits(start):
    start(num_cpus=1, log_to_driver=False)

    @ray.remote(max_restarts=3)
    class Never:
        def __init__(self, way):
            way()

        def value(self):
            return 1

    ended(Never.remote(sys.exit).value.remote(), "SystemExit")
    ended(Never.remote(ray.exit_actor).value.remote(), "exit_actor")


# --- loops that the user's code stops -----------------------------------------------------------------------------


class Stops:
    async def stops(self, how):
        loop = asyncio.get_running_loop()
        if how == "stop":
            loop.stop()
        else:
            await asyncio.to_thread(loop.call_soon_threadsafe, loop.stop)
        await asyncio.sleep(60)

    async def waits(self):
        await asyncio.sleep(60)

    async def value(self, folder=None):
        if folder is not None:
            (folder / str(os.getpid())).write_text("")
            if len(list(folder.iterdir())) < 2:
                asyncio.get_running_loop().stop()
                await asyncio.sleep(60)
        return os.getpid()


def test_a_loop_that_was_stopped_is_the_death_of_its_actor(start):
    start(num_cpus=2, log_to_driver=False)
    for how in ("stop", "from a thread"):
        actor = ray.remote(Stops).remote()
        waiting = [actor.waits.remote() for _ in range(3)]
        for ref in (actor.stops.remote(how), *waiting):
            assert ended(ref, "its event loop was stopped").exit_code == 1
        ended(actor.value.remote(), "its event loop was stopped")


def test_calls_on_a_loop_that_was_stopped_are_retried_where_that_is_allowed(start, tmp_path):
    start(num_cpus=1, log_to_driver=False)
    actor = ray.remote(max_restarts=1, max_task_retries=1)(Stops).remote()
    before = get(actor.value.remote())
    assert get(actor.value.remote(tmp_path)) != before
