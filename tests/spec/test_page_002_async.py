"""The page "AsyncIO / Concurrency for Actors": its parts with futures and asyncio, as printed."""

import ast
import asyncio
import concurrent.futures
import inspect
import textwrap
import time

import pytest
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import BlockingCallError

pytest.importorskip("ray_async")


def in_ipython(source, **names):
    """Run a snippet in "ipython or a shell that supports top level await"; returns its names."""
    code = compile(textwrap.dedent(source), "<snippet>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def cell():
        result = eval(code, names)
        if inspect.isawaitable(result):
            await result

    asyncio.run(cell())
    return names


def seen(capfd, *words):
    """How often the actors have printed each word, once nothing more comes."""
    time.sleep(0.5)
    lines = "".join(capfd.readouterr()).splitlines()
    return [sum(line.endswith(word) and not line.startswith("[ray]") for line in lines) for word in words]


def test_asyncio_for_actors(capfd):
    try:
        in_ipython("""
            import ray
            import asyncio
            ray.init()

            @ray.remote
            class AsyncActor:
                # multiple invocation of this method can be running in
                # the event loop at the same time
                async def run_concurrent(self):
                    print("started")
                    await asyncio.sleep(2) # concurrent workload here
                    print("finished")

            actor = AsyncActor.remote()

            # regular ray.get
            ray.get([actor.run_concurrent.remote() for _ in range(4)])

            # async ray.get
            await actor.run_concurrent.remote()
        """)
        assert seen(capfd, "started", "finished") == [5, 5]
    finally:
        ray.shutdown()


def test_refs_as_asyncio_futures(ray_session):
    in_ipython(
        """
        @ray.remote
        def some_task():
            return 1

        ray.get(some_task.remote())
        ray.wait([some_task.remote()])
        """,
        ray=ray,
    )
    names = in_ipython(
        """
        @ray.remote
        def some_task():
            return 1

        await some_task.remote()
        await asyncio.wait([some_task.remote()])
        got = await some_task.remote(), await asyncio.wait([some_task.remote()])
        """,
        ray=ray,
        asyncio=asyncio,
    )
    value, (done, pending) = names["got"]
    assert value == 1
    assert [await_result(ref) for ref in done] == [1]
    assert pending == set()


def await_result(ref):
    async def main():
        return await ref

    return asyncio.run(main())


def test_the_future_object(ray_session):
    @ray.remote
    def some_task():
        return 1

    ref = some_task.remote()

    async def main():
        fut: asyncio.Future = asyncio.wrap_future(ref.future())
        return await fut

    assert asyncio.run(main()) == 1


def test_refs_as_concurrent_futures(ray_session):
    @ray.remote
    def fun():
        return 1

    refs = [fun.remote() for _ in range(4)]
    futs = [ref.future() for ref in refs]
    for fut in concurrent.futures.as_completed(futs):
        assert fut.done()
        print(fut.result())
    assert [fut.result() for fut in futs] == [1] * 4


def test_defining_an_async_actor(capfd):
    with ray.init(num_cpus=1):

        @ray.remote
        class AsyncActor:
            async def run_task(self):
                print("started")
                await asyncio.sleep(1)  # Network, I/O task here
                print("ended")

        actor = AsyncActor.remote()
        started = Stopwatch()
        # All 50 tasks should start at once. After 1 second they should all finish.
        # they should finish at the same time
        ray.get([actor.run_task.remote() for _ in range(50)])
        assert started.elapsed_s() >= 1
        assert started.undisturbed_s() < 10  # 50 s one after the other
        assert seen(capfd, "started", "ended") == [50, 50]


@pytest.mark.parametrize("call", ["get", "wait"])
def test_blocking_calls_are_not_allowed(call):
    """ "running blocking ray.get or ray.wait inside async actor method is not allowed" """
    with ray.init(num_cpus=1):

        @ray.remote
        class AsyncActor:
            async def get(self, refs):
                return ray.get(refs)

            async def wait(self, refs):
                return ray.wait(refs)

        actor = AsyncActor.remote()
        with pytest.raises(BlockingCallError, match="await"):
            ray.get(getattr(actor, call).remote([ray.put(1)]))


def test_setting_concurrency_in_async_actors(capfd):
    with ray.init(num_cpus=1):

        @ray.remote
        class AsyncActor:
            async def run_task(self):
                print("started")
                await asyncio.sleep(1)  # Network, I/O task here
                print("ended")

        actor = AsyncActor.options(max_concurrency=10).remote()

        started = Stopwatch()
        # Only 10 tasks will be running concurrently. Once 10 finish, the next 10 should run.
        ray.get([actor.run_task.remote() for _ in range(50)])
        assert started.elapsed_s() >= 5
        assert started.undisturbed_s() < 15
        assert seen(capfd, "started", "ended") == [50, 50]


def test_at_least_one_async_method_makes_an_async_actor():
    """ "There will be only one thread in AsyncActor!" """
    with ray.init(num_cpus=1):

        @ray.remote
        class Mixed:
            async def task_1(self):
                return threads()

            def task_2(self):
                return threads()

        def threads():
            import threading

            return threading.get_ident()

        a = Mixed.options(max_concurrency=2).remote()
        assert len(set(ray.get([a.task_1.remote(), a.task_2.remote(), a.task_2.remote()]))) == 1
