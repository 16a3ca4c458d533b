"""``ray.map`` and its like: lazy, bounded, in order or as results come; what is left is cancelled."""

import os
import signal
import time

import pytest

import ray
from ray.util import as_completed, map_unordered


def double(x):
    return 2 * x


def fail_at(x, bad):
    if x == bad:
        raise KeyError(x)
    return x


@ray.remote
class Doubler:
    def run(self, x):
        return 2 * x, os.getpid()


def test_in_order(ray_session):
    assert list(ray.map(double, range(3000))) == [2 * i for i in range(3000)]
    assert list(ray.map(pow, [2, 3], [5, 2, 9])) == [32, 9]
    assert list(ray.map(double, [])) == []


def test_remote_functions(ray_session):
    assert list(ray.map(ray.remote(double), range(10))) == [2 * i for i in range(10)]
    assert list(ray.map(ray.remote(timeout_s=10)(double), range(10))) == [2 * i for i in range(10)]


def test_starmap(ray_session):
    assert list(ray.starmap(pow, [(2, 5), (3, 2), (2, 3, 5)])) == [32, 9, 3]


def test_unordered(ray_session):
    assert sorted(map_unordered(double, range(1000))) == [2 * i for i in range(1000)]


def test_results_come_as_they_are_ready(start):
    start(num_cpus=2)
    assert next(ray.map(lambda s: time.sleep(s) or s, [5, 0], ordered=False, chunksize=1)) == 0


def test_actors(ray_session):
    actors = [Doubler.remote() for _ in range(3)]
    results = list(ray.map([actor.run for actor in actors], range(30)))
    assert [value for value, _ in results] == [2 * i for i in range(30)]
    assert next(ray.map(actors[0].run, [4]))[0] == 8


def test_refs_are_replaced_by_their_values(ray_session):
    assert list(ray.map(double, [ray.put(5), 6])) == [10, 12]


@pytest.mark.parametrize("bad", [0, 1, 57, 1999])
def test_results_before_a_failure_are_yielded(ray_session, bad):
    taken = []
    with pytest.raises(KeyError) as caught:
        taken.extend(ray.map(fail_at, range(2000), [bad] * 2000))
    assert taken == list(range(bad))
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert "fail_at" in str(caught.value)


def test_items_are_taken_as_they_are_needed(ray_session):
    taken = []
    results = ray.map(double, (taken.append(i) or i for i in range(100)), limit=3, chunksize=2)
    assert taken == []
    assert next(results) == 0
    assert taken == list(range(6))
    results.close()


def test_items_that_raise(ray_session):
    def items():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(ray.map(double, items()))


def test_what_is_left_is_cancelled(start, tmp_path):
    start(num_cpus=2)

    def work(i):
        time.sleep(0.0 if i == 0 else 30)
        (tmp_path / str(i)).touch()

    results = ray.map(work, range(100), chunksize=1)
    next(results)
    begun = time.monotonic()
    results.close()
    assert ray.get(ray.remote(double).remote(4)) == 8  # there is a free processor
    assert time.monotonic() - begun < 10
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_an_interrupt_leaves_nothing_running(start):
    start(num_cpus=2)

    def interrupt(i):
        if i == 0:  # one alone: a second one might come once the first has been handled
            os.kill(parent, signal.SIGINT)
        time.sleep(30)

    parent = os.getpid()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(ray.map(interrupt, range(10), chunksize=1))
    assert ray.get(ray.remote(double).remote(4)) == 8
    assert time.monotonic() - begun < 10


def test_progress(ray_session):
    told = []
    assert len(list(ray.map(double, range(100), chunksize=30, progress=told.append))) == 100
    assert told == [30, 60, 90, 100]


@pytest.mark.parametrize(
    "arguments", [{"limit": 0}, {"chunksize": 0}, {"chunksize": "some"}, {"ordered": 1}, {"progress": 5}]
)
def test_wrong_arguments_are_refused_at_once(ray_session, arguments):
    with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
        ray.map(double, [1], **arguments)


def test_what_cannot_be_mapped_is_refused_at_once(ray_session):
    for function, items in [(5, [1]), (double, 5), (double, ray.put(1)), (ray.remote(num_returns=2)(double), [1])]:
        with pytest.raises(TypeError, match=r"map\(\) needs"):
            ray.map(function, items)


def test_without_a_session():
    with pytest.raises(ray.exceptions.RayConnectionError):
        ray.map(double, [1])


def test_as_completed(start):
    start(num_cpus=2)
    slow = ray.remote(lambda: time.sleep(0.5) or "slow").remote()
    quick = ray.put("quick")
    assert list(as_completed([slow, quick])) == ["quick", "slow"]
    assert list(as_completed([slow, quick], yield_obj_refs=True)) == [slow, quick]
    assert list(as_completed([])) == []


def test_as_completed_in_time(start):
    start(num_cpus=1)
    slow = ray.remote(lambda: time.sleep(30)).remote()
    with pytest.raises(TimeoutError):
        list(as_completed([slow], timeout=0.1))
    ray.cancel(slow, force=True)


def test_as_completed_takes_refs_alone(ray_session):
    for wrong in (5, [5], ray.put(1)):
        with pytest.raises(TypeError):
            as_completed(wrong)
    ref = ray.put(1)
    with pytest.raises(ValueError, match="unique"):
        as_completed([ref, ref])


def test_no_advice_on_milliseconds_where_seconds_are_meant(ray_session, caplog, monkeypatch):
    monkeypatch.setattr("ray.units._hinted", False)
    assert list(as_completed([ray.put(1)], timeout=30)) == [1]
    assert list(as_completed([ray.put(1)], timeout=1e300)) == [1]
    assert "milliseconds" not in caplog.text
