"""``PlasmaFutureGroup``, member by member."""

import asyncio
import functools
import gc
import time

import pytest

from ray_async import groups
from ray_async.groups import PlasmaFutureGroup

pytestmark = pytest.mark.usefixtures("quiet")


async def gives(value, seconds=0.0):
    await asyncio.sleep(seconds)
    return value


async def raises(error, seconds=0.0):
    await asyncio.sleep(seconds)
    raise error


def run(main):
    return asyncio.run(asyncio.wait_for(main(), 20), debug=True)


def group_of(*children, **options):
    group = PlasmaFutureGroup(asyncio.get_running_loop(), **options)
    group.extend(children)
    return group


def test_append_takes_futures_coroutines_and_nothing_of_other_loops():
    async def main():
        loop = asyncio.get_running_loop()
        future, group = loop.create_future(), group_of()
        future.set_result("future")
        group.append(future)
        group.append(gives("coroutine"))
        assert group.children[0] is future
        assert group.nchildren == 2
        with pytest.raises(TypeError, match="expected an object ref, a coroutine or a future, not 3"):
            group.append(3)
        other = asyncio.new_event_loop()
        with pytest.raises(ValueError, match="futures are tied to different event loops"):
            group.append(other.create_future())
        other.close()
        assert group.nchildren == 2
        assert group.nfinished == 0  # what was done counts on the next turn
        await asyncio.sleep(0)
        assert group.nfinished == 1
        assert await group == ["future", "coroutine"]

    run(main)


@pytest.mark.parametrize(("keep", "children", "results"), [(True, 3, [1, 1, 2]), (False, 2, [1, 2])])
def test_duplicates(keep, children, results):
    async def main():
        future = asyncio.ensure_future(gives(1))
        group = group_of(future, future, gives(2), keep_duplicated=keep)
        assert group.nchildren == children
        assert await group == results
        assert group.nfinished == children

    run(main)


def test_pop_takes_the_first_and_leaves_it_going():
    async def main():
        first, second, third = (asyncio.ensure_future(gives(i, 0.01)) for i in range(3))
        group = group_of(first, second, third)
        assert group.pop() is first
        assert group.pop(-1) is third
        assert group.children == [second]
        assert await group == [1]
        assert await first == 0
        assert group.nfinished == 1
        with pytest.raises(IndexError):
            group_of().pop()

    run(main)


def test_pop_of_duplicates():
    async def main():
        future = asyncio.ensure_future(gives(1, 0.01))
        group = group_of(future, future, future)
        assert group.pop() is future
        assert group.pop() is future
        assert group.children == [future]
        assert await group == [1]
        group.pop()
        assert group.nchildren == 0

    run(main)


def test_clear():
    async def main():
        group = group_of(*(gives(i, 0.01) for i in range(5)))
        waiting = asyncio.ensure_future(group.wait())
        await asyncio.sleep(0)
        group.clear()
        assert (group.children, group.nchildren) == ([], 0)
        assert await waiting == ([], [])

    run(main)


def test_an_empty_group_does_not_hang():
    async def main():
        assert await group_of() == []
        assert await group_of().wait() == ([], [])
        assert await asyncio.wait_for(group_of(), 1) == []
        assert await asyncio.gather(group_of(), group_of()) == [[], []]
        group = group_of()
        await asyncio.sleep(0.01)
        assert not group.done()  # children may come
        group.append(gives(1))
        assert await group == [1]
        assert group_of().cancel() is False

    run(main)


@pytest.mark.parametrize("returns", [0, 1, 2, 3])
def test_halt_on_some(returns):
    async def main():
        group = group_of(gives("slow", 0.2), gives("now"), gives("soon", 0.05))
        group.set_halt_condition(functools.partial(group.halt_on_some_finished, n=returns))
        wanted = [[None] * 3, [None, "now", None], [None, "now", "soon"], ["slow", "now", "soon"]]
        assert await group == wanted[returns]
        assert group.nfinished == returns

    run(main)


def test_halt_on_any_and_late_conditions():
    async def main():
        group = group_of(gives("slow", 20), gives("now"))
        await asyncio.sleep(0.02)
        assert not group.done()
        group.set_halt_condition(group.halt_on_any_finished)  # holds already
        assert await group == [None, "now"]
        done, (pending,) = group.flush_results()
        assert [future.result() for future in done] == ["now"]
        pending.cancel()
        await asyncio.sleep(0)
        assert group.result() == [None, "now"]

    run(main)


def test_a_condition_that_never_holds_ends_with_the_last_child():
    async def main():
        group = group_of(gives(1), gives(2))
        group.set_halt_condition(lambda: False)
        assert await group == [1, 2]
        group = group_of(gives(1), gives(2, 0.05))
        group.set_halt_condition(functools.partial(group.halt_on_some_finished, n=5))
        assert await group == [1, 2]

    run(main)


def test_a_condition_that_raises_is_the_error_of_the_group():
    async def main():
        group = group_of(gives(1))
        group.set_halt_condition(lambda: {}["mine"])
        with pytest.raises(KeyError, match="mine"):
            await group

    run(main)


def test_the_first_failure_is_that_of_the_group():
    async def main():
        group = group_of(gives(1, 20), raises(KeyError("first"), 0.01), raises(ValueError("second"), 0.02))
        with pytest.raises(KeyError, match="first"):
            await group
        assert group.nfinished == 0
        await asyncio.sleep(0.05)  # the second is not reported as forgotten
        done, (pending,) = group.flush_results()
        assert len(done) == 2
        assert not pending.done()
        pending.cancel()

    run(main)


def test_failures_among_the_results():
    async def main():
        cancelled = asyncio.ensure_future(gives(1, 20))
        group = group_of(raises(KeyError("x")), gives(2), cancelled, return_exceptions=True)
        asyncio.get_running_loop().call_later(0.01, cancelled.cancel)
        first, second, third = await group
        assert isinstance(first, KeyError)
        assert second == 2
        assert isinstance(third, asyncio.CancelledError)
        assert group.nfinished == 3

    run(main)


def test_a_cancelled_child():
    async def main():
        child = asyncio.ensure_future(gives(1, 20))
        group = group_of(child, gives(2))
        asyncio.get_running_loop().call_later(0.01, child.cancel)
        with pytest.raises(asyncio.CancelledError):
            await group
        assert not group.cancelled()
        assert isinstance(group.exception(), asyncio.CancelledError)

    run(main)


@pytest.mark.parametrize("return_exceptions", [True, False])
def test_cancel_is_for_all(return_exceptions):
    async def main():
        group = group_of(gives(1, 20), gives(2, 20), return_exceptions=return_exceptions)
        assert group.cancel() is True
        with pytest.raises(asyncio.CancelledError):
            await group
        assert all(child.cancelled() for child in group.children)
        assert group.cancel() is False

    run(main)


@pytest.mark.parametrize("return_exceptions", [True, False])
def test_whoever_awaits_can_be_cancelled(return_exceptions):
    async def main():
        group = group_of(gives(1, 20), gives(2, 20), return_exceptions=return_exceptions)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(group, 0.02)

    run(main)


def test_flush_results_at_any_time():
    async def main():
        group = group_of(gives("slow", 0.1), gives("now"))
        assert group.flush_results() == ([], group.children)
        await asyncio.sleep(0.01)
        assert group.flush_results() == ([group.children[1]], [group.children[0]])
        await group
        assert group.flush_results() == (group.children, [])

    run(main)


def test_wait():
    async def main():
        group = group_of(gives("slow", 0.2), raises(KeyError("x"), 0.01), return_exceptions=True)
        slow, failing = group.children
        assert await group.wait(0) == ([], [slow, failing])
        started = time.monotonic()
        assert await group.wait(0.1) == ([failing], [slow])
        assert time.monotonic() - started >= 0.09
        assert await group.wait() == ([slow, failing], [])
        assert await group.wait() == ([slow, failing], [])
        assert isinstance(failing.exception(), KeyError)
        for wrong in (-1, -0.1, float("nan")):
            with pytest.raises(ValueError, match="must not be negative"):
                await group.wait(wrong)

    run(main)


def test_wait_raises_no_childs_error():
    async def main():
        group = group_of(gives(1, 20), raises(KeyError("x")))
        (failed,), (pending,) = await group.wait(10)  # ends with the failure
        assert isinstance(failed.exception(), KeyError)
        group.return_exceptions = True
        pending.cancel()
        await asyncio.sleep(0)
        del group
        gc.collect()

    run(main)


def test_dropped_groups_say_nothing():
    async def main():
        group = group_of(gives(1, 20))
        await group.wait(0.01)
        return group

    run(main)
    gc.collect()


def test_many_children():
    async def main():
        group = group_of(*(gives(i, i % 10 / 1000) for i in range(1000)))
        assert await group == list(range(1000))
        group.clear()

    run(main)


def test_gather_and_wait_of_the_module():
    async def main():
        loop = asyncio.get_running_loop()
        assert await groups.gather(gives(1), gives(2), loop=loop) == [1, 2]
        with pytest.raises(KeyError):
            await groups.gather(gives(1), raises(KeyError("x")), loop=loop)
        error, value = await groups.gather(raises(KeyError("x")), gives(1), loop=loop, return_exceptions=True)
        assert isinstance(error, KeyError)
        assert value == 1
        done, pending = await groups.wait(gives(1), gives(2, 20), num_returns=1)
        assert [future.result() for future in done] == [1]
        assert len(pending) == 1
        done, pending = await groups.wait(*pending, timeout=0.01, loop=loop, return_exceptions=True)
        assert (done, len(pending)) == ([], 1)
        pending[0].cancel()
        assert len((await groups.wait(gives(1), gives(2)))[0]) == 2

    run(main)
