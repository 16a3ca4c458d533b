"""Chunks: cut lazily, sized by what calls take, run with what came before a failure kept."""

import itertools

import pytest

from ray.util.chunking import AIM_S, GROWTH, MOST_ITEMS, ChunkSize, chunk_size, cut, flat, results_of, runner


def test_chunks_are_taken_when_they_are_asked_for():
    taken = []
    source = (taken.append(item) or item for item in range(10))
    chunks = cut(source, chunk_size(4))
    assert next(chunks) == (0, 1, 2, 3)
    assert taken == [0, 1, 2, 3]
    assert list(chunks) == [(4, 5, 6, 7), (8, 9)]


def test_no_items_are_no_chunks():
    assert list(cut([], chunk_size("auto"))) == []


def test_the_size_of_each_chunk_is_asked_for_anew():
    size = ChunkSize()
    chunks = cut(itertools.count(), size)
    assert next(chunks) == (0,)
    size.learn(1, AIM_S / 3)
    assert next(chunks) == (1, 2, 3)


def test_a_fixed_size_learns_nothing():
    size = chunk_size(7)
    size.learn(7, 0.0)
    assert size.current == 7


def test_the_automatic_size_aims_at_a_time():
    size = chunk_size("auto")
    for _ in range(20):
        size.learn(size.current, size.current * 0.0001)
    assert size.current == round(AIM_S / 0.0001)


def test_slow_calls_make_chunks_small_at_once():
    size = ChunkSize()
    for _ in range(20):
        size.learn(size.current, 0.0)
    assert size.current == MOST_ITEMS
    size.learn(MOST_ITEMS, 1.0 * MOST_ITEMS)
    assert size.current == 1


def test_quick_calls_make_chunks_grow_step_by_step():
    size = ChunkSize()
    size.learn(1, 1e-7)
    assert size.current == GROWTH
    size.learn(GROWTH, 1e-7)
    assert size.current == GROWTH**2


def test_the_least_size_holds():
    size = ChunkSize(least=64)
    size.learn(64, 1000.0)
    assert size.current == 64


@pytest.mark.parametrize("given", [0, -1, 1.5, True, "some"])
def test_what_is_no_size_is_refused(given):
    with pytest.raises((TypeError, ValueError), match=r"^chunksize must be "):
        chunk_size(given)


def test_a_chunk_runs_items_in_order():
    outcome = runner(str, "str")(1, 5, 6, 7)
    assert outcome.results == ["5", "6", "7"]
    assert outcome.seconds >= 0
    assert list(results_of(outcome)) == ["5", "6", "7"]


@pytest.mark.parametrize("calls", [[(1, 2), (3, 4)], [(1, 2)], [(1,), (1, 2), (1, 2, 3)]])
def test_a_chunk_runs_calls_of_several_arguments(calls):
    assert runner(lambda *args: args, "f")(*flat(calls)).results == calls


def test_calls_without_arguments_are_run_as_often():
    assert runner(lambda: 5, "f")(*flat([(), ()])).results == [5, 5]


def test_the_first_failure_is_raised():
    with pytest.raises(ZeroDivisionError):
        runner(lambda x: 1 // x, "f")(1, 0, 1)


def test_an_interrupt_is_raised_wherever_it_comes():
    def interrupted(x):
        if x:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        runner(interrupted, "f")(1, 0, 1)
