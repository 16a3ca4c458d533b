"""``ActorPool``: results in either order, timeouts, and actors that die."""

import os
import signal
import time

import pytest
from tests.sessions import shared, unchecked

import ray
from ray.exceptions import RayActorError
from ray.util import ActorPool

session = shared(num_cpus=4)
nothing_left = unchecked()


@ray.remote(num_cpus=0)
class Worker:
    def double(self, x):
        return 2 * x

    def pause(self, seconds):
        time.sleep(seconds)
        return seconds

    def fail(self, x):
        if x == 1:
            raise KeyError(x)
        return x

    @ray.method(num_returns=2)
    def pair(self, x):
        return x, x + 1

    def die(self, x):
        if x == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return x


def double(actor, value):
    return actor.double.remote(value)


def pool_of(count):
    return ActorPool([Worker.remote() for _ in range(count)])


def test_map_yields_in_order():
    assert list(pool_of(2).map(double, range(10))) == list(range(0, 20, 2))


def test_map_unordered_yields_what_comes_first():
    pool = pool_of(2)
    assert list(pool.map_unordered(lambda actor, value: actor.pause.remote(value), [0.5, 0.0])) == [0.0, 0.5]
    assert sorted(pool.map_unordered(double, range(10))) == list(range(0, 20, 2))


def test_submit_and_get_next():
    pool = pool_of(1)
    assert pool.has_free()
    for value in range(4):
        pool.submit(double, value)
    assert pool.has_next()
    assert not pool.has_free()
    assert [pool.get_next() for _ in range(4)] == [0, 2, 4, 6]
    assert not pool.has_next()
    for get in (pool.get_next, pool.get_next_unordered):
        with pytest.raises(StopIteration, match="No more results to get"):
            get()


def test_multiple_returns():
    pool = pool_of(2)
    for value in range(4):
        pool.submit(lambda actor, value: actor.pair.remote(value), value)
    assert pool.get_next() == [0, 1]
    assert sorted(pool.get_next_unordered() for _ in range(3)) == [[1, 2], [2, 3], [3, 4]]


def test_no_order_after_get_next_unordered():
    pool = pool_of(2)
    pool.submit(lambda actor, value: actor.pause.remote(value), 0.3)
    pool.submit(double, 1)
    assert pool.get_next_unordered() == 2
    with pytest.raises(ValueError, match="not allowed to call get_next"):
        pool.get_next()
    assert pool.get_next_unordered() == 0.3


def test_timeouts():
    pool = pool_of(1)
    pool.submit(lambda actor, value: actor.pause.remote(value), 0.5)
    for get in (pool.get_next, pool.get_next_unordered):
        with pytest.raises(TimeoutError, match=r"Timed out waiting for result$"):
            get(timeout=0.05)
    assert pool.get_next(timeout=20) == 0.5
    pool.submit(lambda actor, value: actor.pause.remote(value), 0.3)
    pool.submit(double, 4)
    with pytest.raises(TimeoutError, match="has been ignored"):
        pool.get_next(timeout=0.05, ignore_if_timedout=True)
    assert pool.get_next(timeout=20) == 8


def test_map_gives_up_what_was_submitted_before():
    pool = pool_of(1)
    for value in range(3):
        pool.submit(double, value)
    assert list(pool.map(double, [5, 6])) == [10, 12]


def test_push_and_pop():
    pool = pool_of(1)
    actor = pool.pop_idle()
    assert pool.pop_idle() is None
    pool.submit(double, 3)
    pool.push(actor)
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(actor)
    assert pool.get_next() == 6
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(actor)


def test_a_failure_is_raised_in_its_turn():
    pool = pool_of(2)
    results = pool.map(lambda actor, value: actor.fail.remote(value), range(4))
    assert next(results) == 0
    with pytest.raises(KeyError):
        next(results)
    assert [pool.get_next(), pool.get_next()] == [2, 3]


def test_what_fn_raises_costs_no_actor():
    pool = pool_of(1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda actor, value: 1 / value, 0)
    assert pool.has_free()


def test_the_others_go_on_when_one_dies():
    pool = pool_of(2)
    for value in range(6):
        pool.submit(lambda actor, value: actor.die.remote(value), value)
    results = []
    for value in range(6):
        if value == 1:
            with pytest.raises(RayActorError):
                pool.get_next(timeout=30)
        else:
            results.append(pool.get_next(timeout=30))
    assert results == [0, 2, 3, 4, 5]
    assert pool.pop_idle() is not None
    assert pool.pop_idle() is None


def test_the_last_one_that_dies_takes_what_waits_with_it():
    pool = pool_of(1)
    for value in (1, 2, 3):
        pool.submit(lambda actor, value: actor.die.remote(value), value)
    for _ in range(3):
        with pytest.raises(RayActorError):
            pool.get_next(timeout=30)
    assert not pool.has_next()
    pool.submit(double, 2)
    pool.push(Worker.remote())
    assert pool.get_next(timeout=30) == 4


def test_one_that_is_started_again_stays():
    pool = ActorPool([Worker.options(max_restarts=1).remote()])
    pool.submit(lambda actor, value: actor.die.remote(value), 1)
    pool.submit(double, 2)
    with pytest.raises(RayActorError):
        pool.get_next(timeout=30)
    assert pool.get_next(timeout=30) == 4


def test_an_empty_pool_says_so():
    pool = ActorPool([])
    pool.submit(double, 1)
    with pytest.raises(ValueError, match="push"):
        pool.get_next()


def test_it_is_not_pickled():
    with pytest.raises(TypeError, match="cannot be pickled"):
        ray.put(pool_of(1))
