"""Iterators over actors: what each method gives, in which order; failures; several at a time."""

import os
import subprocess
import sys
import time
from collections import Counter

import pytest
from tests import sessions

import ray
from ray.testing import eventually
from ray.util.iter import LocalIterator, ParallelIteratorWorker, from_actors, from_items, from_iterators, from_range
from ray.util.sync import Barrier

kept_session = sessions.kept()


def test_items_are_shared_out_and_gathered_in_turn(ray_session):
    it = from_items([1, 2, 3, 4, 5])
    assert repr(it) == "ParallelIterator[from_items[int, 5, shards=2]]"
    assert list(it.gather_sync()) == [1, 2, 3, 4, 5]
    assert [list(shard) for shard in it.shards()] == [[1, 3, 5], [2, 4]]
    assert it.num_shards() == 2
    assert list(from_items([]).gather_sync()) == []


def test_ranges(ray_session):
    it = from_range(5, num_shards=2)
    assert list(it.gather_sync()) == [0, 2, 1, 3, 4]
    assert [list(it.get_shard(index)) for index in (0, 1)] == [[0, 1], [2, 3, 4]]
    assert sorted(from_range(100, 3).gather_sync(batch_ms=5)) == list(range(100))


def test_iterables_and_functions_that_make_them(ray_session):
    def generate():
        yield from (1, 2, 3)

    it = from_iterators([generate, "ab", range(1)])
    assert repr(it) == "ParallelIterator[from_iterators[shards=3]]"
    assert list(it.gather_sync()) == [1, "a", 0, 2, "b", 3]
    assert list(it.gather_sync()) == [1, "a", 0, 2, "b", 3]  # anew


def test_repeat(ray_session):
    assert from_range(3, 1, repeat=True).take(8) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert from_items([], 1, repeat=True).take(3) == []


def test_actors_of_the_user(ray_session):
    @ray.remote
    class Source(ParallelIteratorWorker):
        def __init__(self, n):
            super().__init__(range(n))

        def extra(self):
            return "still here"

    actors = [Source.remote(2), Source.remote(3)]
    assert list(from_actors(actors).for_each(str).gather_sync()) == ["0", "0", "1", "1", "2"]
    assert ray.get(actors[0].extra.remote()) == "still here"


def test_transforms(ray_session):
    it = from_range(4, 1)
    assert list(it.for_each(lambda x: x * 2).gather_sync()) == [0, 2, 4, 6]
    assert list(it.filter(lambda x: x % 2).gather_sync()) == [1, 3]
    assert list(it.batch(3).gather_sync()) == [[0, 1, 2], [3]]
    assert list(it.batch(3).flatten().gather_sync()) == [0, 1, 2, 3]
    assert list(it.combine(lambda x: [x] * x).gather_sync()) == [1, 2, 2, 3, 3, 3]
    assert list(it.transform(lambda items: (x + 1 for x in items)).gather_sync()) == [1, 2, 3, 4]
    shuffled = list(from_range(50, 1).local_shuffle(10, seed=7).gather_sync())
    assert sorted(shuffled) == list(range(50)) != shuffled
    assert shuffled == list(from_range(50, 1).local_shuffle(10, seed=7).gather_sync())


def test_transforms_run_in_the_actors(start):
    start(num_cpus=2)
    pids = set(from_range(8, 2).for_each(lambda x: os.getpid()).gather_sync())
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_calls_side_by_side(start):
    start(num_cpus=4)
    barrier = Barrier(4)

    def together(x):
        barrier.wait(timeout=20)
        return x

    assert list(from_range(8, 1).for_each(together, max_concurrency=4).gather_sync()) == list(range(8))
    sized = from_range(2, 1).for_each(
        lambda x: ray.get_runtime_context().resources["CPU"], max_concurrency=0, resources={"num_cpus": 2}
    )
    assert list(sized.gather_sync()) == [2, 2]


def test_lists_across_shards(ray_session):
    assert list(from_iterators([[1, 2, 3], [4]]).batch_across_shards()) == [[1, 4], [2], [3]]


def test_as_they_come(ray_session):
    assert sorted(from_range(100, 4).gather_async(batch_ms=2, num_async=3)) == list(range(100))


def test_a_slow_shard_holds_up_no_other(start):
    start(num_cpus=2)

    def slow():
        time.sleep(20)
        yield "late"

    assert from_iterators([slow, range(5)]).gather_async().take(5) == list(range(5))


def test_union_and_selection(ray_session):
    one, other = from_range(2, 1).for_each(str), from_range(2, 1)
    assert list(one.union(other).gather_sync()) == ["0", 0, "1", 1]
    assert list(one.union(other).select_shards([1]).gather_sync()) == [0, 1]
    with pytest.raises(ValueError, match="no shard 5"):
        one.select_shards([5])


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 1), (1, 4)])
def test_repartition(ray_session, before, after):
    it = from_range(30, before).for_each(lambda x: x + 1).repartition(after, batch_ms=1)
    assert it.num_shards() == after
    for _ in range(2):
        assert sorted(it.for_each(lambda x: -x).gather_sync()) == list(range(-30, 0))
    counts = [len(list(shard)) for shard in from_range(24, before).repartition(after).select_shards([0]).shards()]
    assert counts == [24 // after]


def test_no_item_is_lost_or_twice_where_parts_end_at_different_times(ray_session):
    it = from_items(range(7), 3).repartition(2)
    assert Counter(it.gather_async()) == Counter(range(7))


def test_shards_are_sent_to_tasks(ray_session):
    @ray.remote
    def total(shard):
        return sum(shard)

    it = from_range(10, 2)
    assert ray.get([total.remote(shard) for shard in it.shards()]) == [10, 35]


def test_several_at_a_time(ray_session):
    it = from_range(6, 2)
    one, other = iter(it.gather_sync()), iter(it.gather_sync())
    assert [next(one), next(one), next(other), next(one)] == [0, 3, 0, 1]
    assert list(other) == [3, 1, 4, 2, 5]


def test_local_iterators(ray_session, capsys):
    it = from_range(4, 1).gather_sync()
    assert (next(it), next(it)) == (0, 1)
    assert it.take(2) == [0, 1]
    assert list(it.for_each(lambda x: x * 2).filter(lambda x: x > 2).batch(1).flatten()) == [4, 6]
    assert list(it.combine(lambda x: [x, x]).transform(lambda items: (x for x in items if x > 2))) == [3, 3]
    assert sorted(it.shuffle(3, seed=1)) == [0, 1, 2, 3]
    assert list(it.union(LocalIterator(lambda: iter("ab")))) == [0, "a", 1, "b", 2, 3]
    one, other = it.duplicate(2)
    assert (list(one), list(other)) == ([0, 1, 2, 3], [0, 1, 2, 3])
    it.show(2)
    assert capsys.readouterr().out == "0\n1\n"


def test_a_failure_is_raised_after_the_items_before_it(ray_session):
    items = iter(from_range(4, 1).for_each(lambda x: 6 // (2 - x)).gather_sync())
    assert [next(items), next(items)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(items)
    with pytest.raises(StopIteration):
        next(items)


def test_a_function_that_raises_stop_iteration_ends_no_items(ray_session):
    def stop_at_1(x):
        return next(iter(())) if x == 1 else [x]

    items = from_range(3, 1)
    for made in (items.for_each(stop_at_1), items.filter(stop_at_1), items.combine(stop_at_1)):
        with pytest.raises(RuntimeError, match="StopIteration"):
            list(made.gather_sync())
        with pytest.raises(RuntimeError, match="StopIteration"):
            list(made.gather_async())


def test_an_actor_that_dies(start):
    start(num_cpus=2)
    with pytest.raises(ray.exceptions.RayActorError):
        list(from_range(4, 2).for_each(lambda x: os._exit(1) if x == 3 else x).gather_async())


def test_wrong_use(ray_session):
    it = from_range(2)
    with pytest.raises(TypeError, match="gather_sync"):
        iter(it)
    for call in (
        lambda: it.batch(0),
        lambda: it.take(-1),
        lambda: it.get_shard(2),
        lambda: from_range(2, 0),
        lambda: it.gather_async(num_async=0),
        lambda: it.repartition(0),
        lambda: it.local_shuffle(0),
        lambda: it.gather_sync().duplicate(1),
    ):
        with pytest.raises(ValueError):
            call()
    for call in (
        lambda: it.for_each(3),
        lambda: it.union([1]),
        lambda: from_iterators([5]),
        lambda: from_actors([1]),
        lambda: it.gather_sync().union([1]),
    ):
        with pytest.raises(TypeError):
            call()


PROGRAM = """
import ray
from ray.util.iter import from_range

ray.init(num_cpus=2)
print(sum(from_range(10).gather_sync()), sum(from_range(10).repartition(3).gather_async()))
"""


def test_nothing_is_under_way_at_the_end(tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.stdout == "45 45\n", done.stderr
    assert "not finished" not in done.stderr


def test_an_iteration_is_forgotten_when_it_is_left(ray_session):
    @ray.remote
    class Source(ParallelIteratorWorker):
        def under_way(self):
            return len(self._iterations)

    actor = Source.remote(range(10))
    it = from_actors([actor])
    for num_async in (1, 3):
        assert list(it.gather_async(num_async=num_async)) == list(range(10))
        assert it.gather_async(num_async=num_async).take(2) == [0, 1]
    assert it.take(2) == [0, 1]
    eventually(lambda: not ray.get(actor.under_way.remote()), why="it is kept")
