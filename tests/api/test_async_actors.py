"""Actors with ``async def`` methods: one event loop, many calls at a time."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import (
    BlockingCallError,
    PluginNotInstalledError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    TaskTimeoutError,
)
from ray.testing import inside

pytest.importorskip("ray_async")

LIMIT_S = 20


@ray.remote
def echo(x, seconds=0.0):
    time.sleep(seconds)
    return x


@ray.remote
class Async:
    def __init__(self):
        self.thread = threading.get_ident()
        self.opened = asyncio.Event()
        self.started = []
        self.inside = self.most = 0

    async def run(self, x, seconds=0.0):
        self.started.append(x)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.inside -= 1
        return x

    async def passes(self):
        await self.opened.wait()
        return "passed"

    async def opens(self):
        self.opened.set()

    def facts(self):
        return {
            "here": threading.get_ident() == self.thread,
            "running": asyncio.get_event_loop().is_running(),
            "started": self.started,
            "most": self.most,
            "pid": os.getpid(),
        }


def get(refs, timeout=LIMIT_S):
    return ray.get(refs, timeout=timeout)


def test_without_the_package_they_are_refused(start):
    start(num_cpus=1)
    inside.forget_executor("asyncio")
    with pytest.raises(PluginNotInstalledError, match=r"pip install .*async"):
        Async.remote()


# --- the loop -----------------------------------------------------------------------------------


def test_calls_interleave(start):
    start(num_cpus=1)
    actor = Async.remote()
    get(actor.run.remote(0))
    started = Stopwatch()
    assert get([actor.run.remote(i, 0.5) for i in range(50)]) == [*range(50)]
    assert started.undisturbed_s() < 5  # 25 s one after the other
    assert get(actor.facts.remote())["most"] == 50


def test_one_thread_for_everything(ray_session):
    actor = Async.remote()
    facts = get([actor.facts.remote() for _ in range(3)])
    assert all(fact["here"] and fact["running"] for fact in facts)


def test_what_the_constructor_makes_belongs_to_the_loop(start):
    start(num_cpus=1)
    actor = Async.remote()
    waiting = [actor.passes.remote() for _ in range(10)]
    assert ray.wait(waiting, timeout=50)[0] == []
    get(actor.opens.remote())
    assert get(waiting) == ["passed"] * 10


def test_calls_start_in_the_order_of_submission(start):
    start(num_cpus=1)
    actor = Async.remote()
    get([actor.run.remote(i, 0.01 if i % 3 else 0) for i in range(500)])
    assert get(actor.facts.remote())["started"] == [*range(500)]


def test_a_thousand_at_a_time_by_default(start):
    start(num_cpus=1)
    actor = Async.remote()
    get([actor.run.remote(i, 1.0) for i in range(1100)])
    assert get(actor.facts.remote())["most"] == 1000


@pytest.mark.parametrize("limit", [1, 3])
def test_max_concurrency(start, limit):
    start(num_cpus=1)
    actor = Async.options(max_concurrency=limit).remote()
    get([actor.run.remote(i, 0.01) for i in range(20)])
    facts = get(actor.facts.remote())
    assert facts["most"] == limit
    assert facts["started"] == [*range(20)]


def test_what_makes_an_actor_async(ray_session):
    class Base:
        async def inherited(self):
            return asyncio.get_running_loop().is_running()

    @ray.remote
    class Heir(Base):
        def own(self):
            return asyncio.get_running_loop().is_running()

    @ray.remote
    class Static:
        @staticmethod
        async def m(x):
            return x

        @classmethod
        async def c(cls, x):
            return cls.__name__, x

    @ray.remote
    class Plain:
        def m(self):
            return asyncio._get_running_loop()

    heir, static, plain = Heir.remote(), Static.remote(), Plain.remote()
    assert get([heir.inherited.remote(), heir.own.remote()]) == [True, True]
    assert get([static.m.remote(1), static.c.remote(2)]) == [1, ("Static", 2)]
    assert get(plain.m.remote()) is None


def test_concurrency_groups(start):
    start(num_cpus=1)

    @ray.remote(concurrency_groups={"io": 2, "one": 1}, max_concurrency=3)
    class Grouped:
        def __init__(self):
            self.inside = {"io": 0, "one": 0, None: 0}
            self.most = dict(self.inside)

        async def within(self, group):
            self.inside[group] += 1
            self.most[group] = max(self.most[group], self.inside[group])
            await asyncio.sleep(0.02)
            self.inside[group] -= 1

        @ray.method(concurrency_group="io")
        async def io(self):
            await self.within("io")

        @ray.method(concurrency_group="one")
        async def one(self):
            await self.within("one")

        async def rest(self):
            await self.within(None)

        async def peaks(self):
            return self.most

    actor = Grouped.remote()
    get([call.remote() for _ in range(6) for call in (actor.io, actor.one, actor.rest)])
    assert get(actor.peaks.remote()) == {"io": 2, "one": 1, None: 3}


# --- values and errors --------------------------------------------------------------------------


def test_values_and_refs(ray_session):
    @ray.remote
    class Values:
        def made(self):
            return echo.remote("ref")  # stays a ref, though it can be awaited

        async def awaited(self, refs):
            return await refs[0], await asyncio.gather(*refs)

        @ray.method(num_returns=2)
        async def pair(self):
            return 1, 2

        @ray.method(num_returns=0)
        async def none(self):
            return 3

        async def large(self, data):
            return data + data

    actor = Values.remote()
    inner = get(actor.made.remote())
    assert get(inner) == "ref"
    assert get(actor.awaited.remote([echo.remote(i, 0.02) for i in range(3)])) == (0, [0, 1, 2])
    assert get(actor.pair.remote()) == [1, 2]
    assert actor.none.remote() is None
    assert get(actor.large.remote(echo.remote(b"x" * 300_000))) == b"x" * 600_000


def test_errors(ray_session, mode):
    @ray.remote
    class Fails:
        async def raises(self, error):
            await asyncio.sleep(0)
            raise error

        async def fine(self):
            return 1

    actor = Fails.remote()
    with pytest.raises(KeyError) as caught:
        get(actor.raises.remote(KeyError("k")))
    assert isinstance(caught.value, RayTaskError)
    for error in (asyncio.CancelledError("own"), KeyboardInterrupt(), GeneratorExit()):
        if mode == "local_mode" and isinstance(error, KeyboardInterrupt):
            continue  # it is the user's own there
        with pytest.raises(RayTaskError, match=type(error).__name__) as caught:
            get(actor.raises.remote(error))
        assert not isinstance(caught.value, asyncio.CancelledError)
    assert get(actor.fine.remote()) == 1


def test_stop_iteration_of_a_plain_method_is_what_it_raised(ray_session):
    """``next`` of what is empty; a coroutine could not raise it."""

    @ray.remote
    class Mixed:
        def __init__(self, empty=False):
            if empty:
                next(iter([]))

        async def coroutine(self):
            raise StopIteration

        def plain(self):
            return next(iter([]))

        def says(self):
            raise StopIteration("said")

        def stops(self):
            raise StopAsyncIteration

    actor = Mixed.remote()
    for ref, kind in [
        (actor.plain.remote(), StopIteration),
        (actor.says.remote(), StopIteration),
        (actor.stops.remote(), StopAsyncIteration),
        (actor.coroutine.remote(), RuntimeError),
        (Mixed.remote(True).plain.remote(), StopIteration),
    ]:
        with pytest.raises(RayError) as caught:
            get(ref)
        assert type(caught.value.cause) is kind
    with pytest.raises(RayTaskError, match="said"):
        get(actor.says.remote())


def test_one_that_ends_its_own_task_harms_no_other(start):
    """``sys.exit`` in a task of the user's own that nobody awaits would end the loop."""
    start(num_cpus=1)

    @ray.remote
    class Exits:
        async def waits(self):
            await asyncio.sleep(0.2)
            return "fine"

        async def exits(self):
            async def leave():
                raise SystemExit(3)

            await asyncio.wait([asyncio.create_task(leave())])

        async def cancels_all(self):
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    actor = Exits.remote()
    other = actor.waits.remote()
    get(actor.exits.remote())
    assert get(other) == "fine"
    refs = [actor.waits.remote(), actor.cancels_all.remote(), *(actor.waits.remote() for _ in range(300))]
    outcomes = []
    for ref in refs:
        try:
            outcomes.append(get(ref))
        except RayTaskError as error:
            assert error.cause_type.endswith("CancelledError")  # noqa: PT017 - some ends are no errors
    assert outcomes.count("fine") >= 1
    assert get(actor.waits.remote()) == "fine"


def test_a_call_that_blocks_the_loop_only_delays_the_others(start):
    start(num_cpus=1)

    @ray.remote
    class Blocks:
        async def blocks(self):
            time.sleep(0.5)  # noqa: ASYNC251 - the fault

        async def quick(self, x):
            return x

    actor = Blocks.remote()
    get(actor.quick.remote(0))
    refs = [actor.blocks.remote(), *(actor.quick.remote(i) for i in range(100))]
    assert get(refs) == [None, *range(100)]


# --- waiting inside -----------------------------------------------------------------------------


def test_blocking_calls_are_refused(start):
    start(num_cpus=2)

    @ray.remote
    class Waits:
        def __init__(self, refs):
            self.first = ray.get(refs)  # there is nothing yet that it could hold up, and nothing to await with

        def attempts(self, ref):
            return {
                "get": lambda: ray.get(ref),
                "get a list": lambda: ray.get([ref]),
                "get in time": lambda: ray.get(ref, timeout=5),
                "wait": lambda: ray.wait([ref]),
                "wait in time": lambda: ray.wait([ref], timeout=5000),
                "future": lambda: ref.future().result(),
                "future's exception": lambda: ref.future().exception(5),
            }

        async def refused(self, refs):
            texts = {}
            for name, attempt in self.attempts(refs[0]).items():
                try:
                    attempt()
                except BlockingCallError as error:
                    assert isinstance(error, RuntimeError)  # noqa: PT017
                    texts[name] = str(error)
            return texts

        def refused_in_a_plain_method(self, refs):
            with pytest.raises(BlockingCallError):
                ray.get(refs)
            return "refused"

        async def allowed(self, refs):
            ray.wait(refs, timeout=0)
            with contextlib.suppress(ray.exceptions.GetTimeoutError):
                ray.get(refs[0], timeout=0)
            return await asyncio.to_thread(ray.get, refs[0]), await refs[0], ray.get(refs[0], timeout=0)

    actor = Waits.remote([echo.remote(0, 0.1)])
    texts = get(actor.refused.remote([echo.remote(1, 0.3)]))
    assert set(texts) == {
        "get", "get a list", "get in time", "wait", "wait in time", "future", "future's exception",
    }  # fmt: skip
    assert "await ref" in texts["get"]
    assert "await asyncio.wait" in texts["wait"]
    assert get(actor.refused_in_a_plain_method.remote([echo.remote(1)])) == "refused"
    assert get(actor.allowed.remote([echo.remote(1, 0.2)])) == (1, 1, 1)


def test_actors_that_await_each_other(start):
    start(num_cpus=2)

    @ray.remote
    class Node:
        async def down(self, others, depth):
            if not depth:
                return 1
            return sum(await asyncio.gather(*(other.down.remote(others, depth - 1) for other in others)))

    nodes = [Node.remote() for _ in range(3)]
    assert get(nodes[0].down.remote(nodes, 4)) == 81


def test_an_actor_that_holds_a_cpu_gives_it_to_what_it_awaits(start):
    start(num_cpus=1)
    actor = Async.options(num_cpus=1).remote()

    @ray.remote(num_cpus=1)
    class Holds:
        async def asks(self, x):
            return await echo.remote(x)

    del actor
    holder = Holds.remote()
    assert get([holder.asks.remote(i) for i in range(3)]) == [0, 1, 2]


def test_context(start):
    """Of the call, also where calls interleave, and where they go on in tasks and threads."""
    start(num_cpus=1)

    @ray.remote
    class Context:
        async def ids(self):
            def seen():
                return ray.get_runtime_context().task_id

            async def inner():
                await asyncio.sleep(0.01)
                return seen()

            first = seen()
            await asyncio.sleep(0.01)
            return {first, seen(), await asyncio.create_task(inner()), await asyncio.to_thread(seen)}

        async def actor_id(self):
            return ray.get_runtime_context().actor_id

    actor = Context.remote()
    refs = [actor.ids.remote() for _ in range(20)]
    found = get(refs)
    assert all(len(ids) == 1 for ids in found)
    assert len(set.union(*found)) == 20
    assert get(actor.actor_id.remote()) is not None


def test_named_and_passed_around(start):
    start(num_cpus=2)
    actor = Async.options(name="async").remote()
    found = ray.get_actor("async")
    started = Stopwatch()
    get([found.run.remote(i, 0.5) for i in range(10)])

    @ray.remote
    def use(handle):
        return ray.get([handle.run.remote(i, 0.5) for i in range(10)])

    assert get(use.remote(actor)) == [*range(10)]
    assert started.undisturbed_s() < 5


# --- cancelling ---------------------------------------------------------------------------------


@ray.remote
class Cancelled:
    def __init__(self):
        self.seen = []

    async def run(self, name, seconds, answer=None):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.seen.append(name)
            if answer is None:
                raise
            return answer
        return name

    async def parent(self, refs):
        child = echo.options(name="child").remote(1, 30)
        return await child

    async def what(self):
        return self.seen


def test_cancel_reaches_the_coroutine(start):
    start(num_cpus=1)
    actor = Cancelled.remote()
    running, other, stubborn = (
        actor.run.remote("a", 30),
        actor.run.remote("b", 0.5),
        actor.run.remote("c", 30, "cleaned up"),
    )
    get(actor.what.remote())
    started = Stopwatch()
    ray.cancel(running)
    ray.cancel(stubborn)
    with pytest.raises(TaskCancelledError, match=r"Cancelled\.run"):
        get(running)
    assert started.undisturbed_s() < 1
    assert get(stubborn) == "cleaned up"
    assert get(other) == "b"
    ray.cancel(other)
    assert get(other) == "b"
    assert sorted(get(actor.what.remote())) == ["a", "c"]


def test_cancel_of_a_call_that_has_not_started(start):
    start(num_cpus=1)
    actor = Cancelled.options(max_concurrency=1).remote()
    first, queued, last = actor.run.remote("a", 0.5), actor.run.remote("b", 30), actor.run.remote("c", 0)
    time.sleep(0.1)
    ray.cancel(queued)
    with pytest.raises(TaskCancelledError):
        get(queued)
    assert get([first, last]) == ["a", "c"]
    assert get(actor.what.remote()) == []


def test_cancel_goes_down_to_children(start):
    start(num_cpus=1)
    actor = Cancelled.remote()
    parent = actor.parent.remote([])
    time.sleep(0.3)
    ray.cancel(parent)
    with pytest.raises(TaskCancelledError):
        get(parent)
    assert get(echo.remote("the CPU is free"), timeout=5) == "the CPU is free"


def test_time_limit(start):
    start(num_cpus=1)
    actor = Cancelled.remote()
    with pytest.raises(TaskTimeoutError):
        get(actor.run.options(timeout_s=0.1).remote("a", 30))
    assert get(actor.run.options(timeout_s=10).remote("b", 0)) == "b"
    assert get(actor.what.remote()) == ["a"]


# --- ends ---------------------------------------------------------------------------------------


@ray.remote
class Ends:
    def __init__(self, path):
        import atexit

        self.path = path
        atexit.register(self.write, "atexit")
        self.left = asyncio.get_running_loop().create_task(self.background())

    def write(self, word):
        with open(self.path, "a") as file:
            file.write(word + "\n")

    async def background(self):
        try:
            await asyncio.sleep(60)
        finally:
            self.write("background")

    async def waits(self, seconds):
        try:
            await asyncio.sleep(seconds)
        finally:
            self.write("waits")
        return seconds

    async def exits(self):
        await asyncio.sleep(0.01)
        ray.actor.exit_actor()


def words(path, number):
    """What was written, once there are so many."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        found = path.read_text().split() if path.exists() else []
        if len(found) >= number:
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def test_exit_actor(start, tmp_path):
    start(num_cpus=1)
    actor = Ends.remote(str(tmp_path / "words"))
    waiting, leaving = [actor.waits.remote(60) for _ in range(3)], actor.exits.remote()
    started = Stopwatch()
    with pytest.raises(RayActorError, match="exit_actor"):
        get(leaving)
    for ref in waiting:
        with pytest.raises(RayActorError, match=r"exit_actor.*The call to waits\(\) was interrupted\."):
            get(ref)
    with pytest.raises(RayActorError, match=r"exit_actor.*The call to waits\(\) did not start\."):
        get(actor.waits.remote(0))
    found = words(tmp_path / "words", 5)
    assert started.undisturbed_s() < 3
    assert found == ["waits"] * 3 + ["background", "atexit"]


@pytest.mark.parametrize("way", ["later", "soon", "signal", "of a future", "nested"])
def test_sys_exit_in_a_callback_of_the_loop(start, way):
    """It ends the loop, as in any program, and the actor with it; in a task it is kept for what awaits the task."""
    start(num_cpus=1)

    @ray.remote
    class Leaves:
        async def echo(self, value):
            return value

        async def waits(self):
            await asyncio.sleep(60)

        async def leave(self):
            loop = asyncio.get_running_loop()
            if way == "later":
                loop.call_later(0.05, sys.exit, 3)
            elif way == "soon":
                loop.call_soon(lambda: sys.exit(3))
            elif way == "nested":
                loop.call_later(0.05, lambda: list(map(sys.exit, [3])))
            elif way == "of a future":
                asyncio.ensure_future(asyncio.sleep(0.05)).add_done_callback(lambda future: sys.exit(3))
            else:
                loop.add_signal_handler(signal.SIGUSR1, sys.exit, 3)
                loop.call_later(0.05, os.kill, os.getpid(), signal.SIGUSR1)

        async def task(self):
            async def leaves():
                sys.exit(3)

            self.kept = asyncio.ensure_future(leaves())

    actor = Leaves.remote()
    get(actor.task.remote())
    assert get(actor.echo.remote(1)) == 1
    waits, left = actor.waits.remote(), actor.leave.remote()
    with contextlib.suppress(RayActorError):  # it may come before the answer
        get(left)
    with pytest.raises(RayActorError, match=r"a callback of its event loop called sys\.exit\(3\)"):
        get(waits)


def test_exit_actor_beside_a_call_that_does_not_end(start, tmp_path):
    start(num_cpus=1)

    @ray.remote
    class Deaf:
        async def deaf(self):
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)

        async def exits(self):
            ray.actor.exit_actor()

    actor = Deaf.remote()
    deaf = actor.deaf.remote()
    for ref in (actor.exits.remote(), deaf):
        with pytest.raises(RayActorError):
            get(ref)


@pytest.mark.parametrize("end", ["terminate", "last handle"])
def test_terminate_waits_for_what_is_pending(start, tmp_path, end):
    start(num_cpus=1)
    actor = Ends.options(max_concurrency=50).remote(str(tmp_path / "words"))
    refs = [actor.waits.remote(0.2) for _ in range(100)]
    if end == "terminate":
        ending = actor.__ray_terminate__.remote()
        assert get(refs) == [0.2] * 100
        get(ending)
    del actor
    assert get(refs) == [0.2] * 100
    started = Stopwatch()
    assert words(tmp_path / "words", 102)[100:] == ["background", "atexit"]
    assert started.undisturbed_s() < 2


def test_constructor_fails(ray_session):
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError("no")

        async def m(self):
            return 1

    broken = Broken.remote()
    with pytest.raises((RayActorError, RayTaskError), match="no"):
        get(broken.m.remote())


# --- options of the executor --------------------------------------------------------------------


@ray.remote
class Where:
    async def loop(self):
        return type(asyncio.get_running_loop()).__module__.split(".")[0]

    def thread(self, seconds=0.0):
        time.sleep(seconds)
        return threading.current_thread() is threading.main_thread(), ray.get_runtime_context().task_id

    def gets(self, refs):
        return ray.get(refs)


@pytest.fixture
def configured(tmp_path, monkeypatch, start):
    def configure(text):
        (tmp_path / "ray.toml").write_text(f"[options.executor.asyncio]\n{text}\n")
        monkeypatch.chdir(tmp_path)
        start(num_cpus=2)

    return configure


def test_uvloop(configured):
    pytest.importorskip("uvloop")
    configured('loop = "uvloop"')
    where = Where.remote()
    assert get([where.loop.remote(), where.thread.remote()])[0] == "uvloop"


def test_sync_methods_in_threads(configured):
    configured('sync_methods = "threads"')
    where = Where.remote()
    assert get(where.loop.remote()) == "asyncio"
    started = Stopwatch()
    facts = get([where.thread.remote(0.4) for _ in range(10)])
    assert started.undisturbed_s() < 3
    assert {main for main, _ in facts} == {False}
    assert len({task for _, task in facts}) == 10
    assert get(where.gets.remote([echo.remote(i, 0.1) for i in range(3)])) == [0, 1, 2]


def test_async_generators_run_on_the_loop_beside_methods_in_threads(configured):
    configured('sync_methods = "threads"')

    @ray.remote
    class Streams:
        async def numbers(self, count):
            for i in range(count):
                await asyncio.sleep(0)
                yield i

        @ray.method(num_returns="streaming")
        def plain(self, count):
            yield from range(count)

    streams = Streams.remote()
    assert [get(ref) for ref in streams.numbers.remote(5)] == [0, 1, 2, 3, 4]
    assert [get(ref) for ref in streams.plain.remote(5)] == [0, 1, 2, 3, 4]


def test_one_method_in_a_thread(ray_session, mode):
    @ray.remote
    class Mixed:
        def __init__(self):
            self.loop_thread = threading.get_ident()

        async def on_loop(self):
            return threading.get_ident() == self.loop_thread

        def held_up(self):
            return threading.get_ident() == self.loop_thread

        @ray.method(in_thread=True)
        def blocks(self, refs, seconds=0.0):
            time.sleep(seconds)
            return asyncio._get_running_loop() is None, get(refs), ray.get_runtime_context().task_id

        @ray.method(in_thread=True, num_returns="streaming")
        def streams(self, count):
            yield from range(count)

        @ray.method(in_thread=True)
        @staticmethod
        def fails():
            raise KeyError("k")

    mixed = Mixed.remote()
    get(mixed.on_loop.remote())
    slow = [mixed.blocks.remote([echo.remote(i, 0.05)], 1.0) for i in range(2 if mode == "local_mode" else 10)]
    assert get([mixed.on_loop.remote(), mixed.held_up.remote()]) == [True, True]
    assert mode == "local_mode" or not ray.wait(slow, timeout=0)[0]
    facts = get(slow)
    assert [fact[:2] for fact in facts] == [(True, [i]) for i in range(len(slow))]
    assert len({task for _, _, task in facts}) == len(slow)
    assert [get(ref) for ref in mixed.streams.remote(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        get(mixed.fails.remote())


def test_in_thread_is_for_plain_methods():
    async def coroutine(self): ...

    async def generator(self):
        yield

    for function in (coroutine, generator):
        with pytest.raises(ValueError, match="is an 'async def'"):
            ray.method(in_thread=True)(function)
    with pytest.raises(TypeError, match="in_thread must be True or False"):
        ray.method(in_thread=1)
    with pytest.raises(ValueError, match="in_thread"):
        ray.remote(in_thread=True)


def test_options_are_checked(configured):
    with pytest.raises(ray.exceptions.PluginOptionsError, match="loop"):
        configured('loop = "trio"')


def test_nothing_of_ours_blocks_the_loop(start):
    """A detector of blocking calls watches the actor's loop while it submits, awaits, streams and answers.

    Large values are left out: the loop asks the node's store for their room, and copies them at once.
    """
    pytest.importorskip("blockbuster")
    start(num_cpus=2)

    @ray.remote
    class Watched:
        def __init__(self):
            import blockbuster

            self.error = blockbuster.BlockingError
            self.detector = blockbuster.BlockBuster()
            self.detector.activate()

        async def works(self, other):
            values = await asyncio.gather(*[echo.remote(i, 0.001) for i in range(20)])
            assert await asyncio.wrap_future(echo.remote(1, 0.01).future()) == 1
            assert len((await asyncio.wait([echo.remote(1, 0.02), ray.put(2)]))[0]) == 2
            assert await other.run.remote(b"x" * 5_000) == b"x" * 5_000
            values += [await ref async for ref in other_numbers(5)]
            return values

        async def numbers(self, number):
            for i in range(number):
                yield i

        async def detects(self):
            with pytest.raises(self.error):
                time.sleep(0.01)  # noqa: ASYNC251
            return True

        def ends(self):
            self.detector.deactivate()

    other_numbers = ray.remote(num_returns="streaming")(lambda number: iter(range(number))).remote
    watched = Watched.remote()
    assert get(watched.works.remote(Async.remote())) == [*range(20), *range(5)]
    assert get(list(watched.numbers.remote(5))) == [*range(5)]
    assert get(watched.detects.remote())
    get(watched.ends.remote())


DEBUGGED = """
import asyncio, sys, time
import ray

@ray.remote
def echo(x, seconds=0.0):
    time.sleep(seconds)
    return x

@ray.remote
class Counts:
    def __init__(self):
        self.last = asyncio.Event()

    async def debugs(self):
        return asyncio.get_running_loop().get_debug()

    async def awaits(self, x):
        return sum(await asyncio.gather(*[echo.remote(x, 0.001) for _ in range(10)]))

    async def waits(self):
        await self.last.wait()

    async def fails(self):
        raise KeyError("k")

    async def yields(self):
        for i in range(5):
            yield await echo.remote(i)

    @ray.method(in_thread=True)
    def gets(self, refs):
        return sum(ray.get(refs))

    async def ends(self):
        self.last.set()

with ray.init(num_cpus=2):
    actor = Counts.remote()
    assert ray.get(actor.debugs.remote())
    waiting, cancelled = actor.waits.remote(), actor.waits.remote()
    assert ray.get([actor.awaits.remote(i) for i in range(10)]) == [i * 10 for i in range(10)]
    assert [ray.get(ref) for ref in actor.yields.remote()] == [*range(5)]
    assert ray.get(actor.gets.remote([ray.put(1), ray.put(2)])) == 3
    ray.cancel(cancelled)
    for ref in (actor.fails.remote(), cancelled):
        try:
            ray.get(ref)
        except (KeyError, ray.exceptions.TaskCancelledError):
            continue
        raise AssertionError("it did not fail")
    ray.get([actor.ends.remote(), waiting])
    ray.get(actor.__ray_terminate__.remote())
"""


def test_debug_mode_has_nothing_to_say(start, tmp_path):
    """What the worker writes is shown by the driver."""
    script = tmp_path / "program.py"
    script.write_text(DEBUGGED)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(script)],
        env={**os.environ, "PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith("[ray] session ")]
    said = [line for line in lines if "Executing <" not in line]  # a machine at work
    assert (done.returncode, said) == (0, [])
