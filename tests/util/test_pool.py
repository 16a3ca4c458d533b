"""``ray.util.multiprocessing.Pool``: what the tests of ``multiprocessing`` ask of a pool, by the same names."""

import collections
import gc
import itertools
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from concurrent.futures import BrokenExecutor

import numpy
import psutil
import pytest
from tests.signs import touch, wait_for

import ray
from ray.exceptions import RayError, TaskCancelledError, UnpicklableError
from ray.util.multiprocessing import AsyncResult, Pool, TimeoutError, cpu_count

STATE = {}


def sqr(x, wait=0.0):
    time.sleep(wait)
    return x * x


def mul(x, y):
    return x * y


def pid(_=None):
    time.sleep(0.05)
    return os.getpid()


def stop_at_3(x):
    return next(iter(())) if x == 3 else x


def stop_at_3_of(x, _):
    return stop_at_3(x)


def fail_at_3(x):
    if x == 3:
        raise KeyError(x)
    return x


def die_at_3(x):
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def load(value):
    STATE["value"] = value


def loaded(_):
    return STATE.get("value")


def refuse():
    raise OSError("no model")


def make_generator():
    return (x for x in range(3))


def nested(x):
    with Pool(2) as pool:
        return sum(pool.map(sqr, range(x)))


def say_when(total, when):
    for i in range(total):
        if i == when:
            raise SayWhenError("when")
        yield i


class SayWhenError(Exception):
    pass


class Counted:
    pass


@pytest.fixture
def pool(start):
    start(num_cpus=2)
    with Pool(2) as pool:
        yield pool


# --- results ----------------------------------------------------------------------------------------------------------


def test_apply(pool):
    assert pool.apply(sqr, (5,)) == 25
    assert pool.apply(sqr, (), {"x": 3}) == 9
    with pytest.raises(KeyError):
        pool.apply(fail_at_3, (3,))


def test_map(pool):
    assert pool.map(sqr, range(10)) == [x * x for x in range(10)]
    assert pool.map(sqr, range(100), chunksize=20) == [x * x for x in range(100)]
    assert pool.map(lambda x: x + 1, iter(range(50)), 7) == list(range(1, 51))


def test_starmap(pool):
    assert pool.starmap(mul, list(zip(range(10), range(9, -1, -1), strict=True))) == [x * (9 - x) for x in range(10)]
    assert pool.starmap_async(mul, [(x, x) for x in range(100)], chunksize=20).get() == [x * x for x in range(100)]


def test_map_async_callbacks(pool):
    calls = []
    pool.map_async(int, ["1"], callback=calls.append, error_callback=calls.append).wait()
    assert calls == [[1]]  # it was called before ``wait`` returns
    pool.map_async(int, ["a"], callback=calls.append, error_callback=calls.append).wait()
    assert isinstance(calls.pop(), ValueError)
    pool.apply_async(sqr, (3,), callback=calls.append).wait()
    assert calls == [[1], 9]


def test_async_error_callback(pool):
    errors = []
    result = pool.apply_async(fail_at_3, (3,), error_callback=errors.append)
    with pytest.raises(KeyError):
        result.get()
    assert isinstance(errors[0], KeyError)


def test_a_callback_that_raises_does_no_harm(pool, capfd):
    def raises(value):
        raise SystemExit(value)

    assert pool.apply_async(sqr, (3,), callback=raises).get(timeout=10) == 9
    calls = []
    assert pool.apply_async(sqr, (4,), callback=calls.append).get(timeout=10) == 16
    assert calls == [16]
    assert "SystemExit: 9" in capfd.readouterr().err


def test_a_callback_may_use_the_pool_and_its_own_result(pool):
    found = queue.Queue()
    made = []

    def callback(value):
        found.put((value, made[0].get(timeout=10), pool.apply(sqr, (value,))))

    holding = pool.apply_async(sqr, (2, 0.2), callback=callback)
    made.append(holding)
    assert found.get(timeout=10) == (4, 4, 16)


def test_map_unpicklable(pool):
    with pytest.raises(UnpicklableError, match="lock"):
        pool.map(sqr, [threading.Lock()])
    with pytest.raises(UnpicklableError, match="lock"):
        pool.apply_async(sqr, (threading.Lock(),)).get()
    lock = threading.Lock()
    with pytest.raises(UnpicklableError, match="lock"):
        pool.map(lambda x: lock, [1])
    assert pool.map(sqr, [2]) == [4]


def test_unpicklable_result(pool):
    with pytest.raises(UnpicklableError, match="generator"):
        pool.apply(make_generator)


def test_map_chunksize(pool):
    assert pool.map_async(sqr, [], chunksize=1).get(timeout=10) == []
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="chunksize"):
            pool.map(sqr, range(3), wrong)
        with pytest.raises(ValueError, match="chunksize"):
            pool.imap(sqr, range(3), wrong)


def test_chunks_are_as_many_as_those_of_the_original(pool):
    pids = collections.Counter(pool.map(pid, range(8)))  # chunks of one for 2 processes
    assert sum(pids.values()) == 8
    assert len(pids) == 2


def test_map_handle_iterable_exception(pool):
    with pytest.raises(SayWhenError):
        pool.map(sqr, say_when(10, 3))
    with pytest.raises(SayWhenError):
        pool.map(sqr, say_when(10, 0), 1)

    class Sized:
        def __len__(self):
            return 10

        def __iter__(self):
            return say_when(10, 5)

    with pytest.raises(SayWhenError):
        pool.map(sqr, Sized(), 1)
    assert pool.map(sqr, [2]) == [4]


def test_async(pool):
    result = pool.apply_async(sqr, (7, 0.3))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    assert result.get() == 49
    assert result.ready()
    assert result.successful()
    assert AsyncResult[int]


def test_async_timeout(pool, tmp_path):
    result = pool.apply_async(wait_for, (tmp_path / "go",))
    start = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        result.get(timeout=0.2)
    assert time.monotonic() - start >= 0.19
    assert TimeoutError is multiprocessing.TimeoutError
    assert isinstance(caught.value, RayError)
    result.wait(0.01)
    touch(tmp_path / "go")
    assert result.get(timeout=10) == "go"


def test_traceback(pool):
    with pytest.raises(KeyError) as caught:
        pool.apply(fail_at_3, (3,))
    assert "raise KeyError(x)" in str(caught.value)


def test_a_call_that_raises_stop_iteration_ends_no_results(pool):
    items = [1, 3, 4]
    spread = [(1, 0), (3, 0), (4, 0)]
    for results in (
        lambda: pool.map(stop_at_3, items, chunksize=3),
        lambda: pool.starmap(stop_at_3_of, spread, chunksize=3),
        lambda: list(pool.imap(stop_at_3, items, chunksize=3)),
        lambda: list(pool.imap_unordered(stop_at_3, items, chunksize=3)),
    ):
        with pytest.raises(RayError, match="StopIteration"):
            results()


def test_map_no_failfast(pool, tmp_path):
    """The result is ready, and raises, once all chunks have ended."""
    result = pool.map_async(lambda path: fail_at_3(3) if path is None else wait_for(path), [None, tmp_path / "go"], 1)
    result.wait(0.3)
    assert not result.ready()
    touch(tmp_path / "go")
    with pytest.raises(KeyError):
        result.get(timeout=10)


# --- imap -------------------------------------------------------------------------------------------------------------


def test_imap(pool):
    assert list(pool.imap(sqr, range(10))) == [x * x for x in range(10)]
    results = pool.imap(sqr, iter(range(1000)), chunksize=100)
    assert [next(results) for _ in range(1000)] == [x * x for x in range(1000)]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(results)


def test_imap_handle_iterable_exception(pool):
    results = pool.imap(sqr, say_when(10, 3), 1)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(SayWhenError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    results = pool.imap(sqr, say_when(20, 7), 2)
    assert [next(results) for _ in range(6)] == [x * x for x in range(6)]
    with pytest.raises(SayWhenError):
        next(results)
    with pytest.raises(SayWhenError):
        next(pool.imap(sqr, say_when(10, 0), 4))


def test_imap_unordered(pool):
    assert sorted(pool.imap_unordered(sqr, range(100))) == [x * x for x in range(100)]
    assert sorted(pool.imap_unordered(sqr, iter(range(1000)), chunksize=53)) == [x * x for x in range(1000)]


def test_imap_unordered_handle_iterable_exception(pool):
    results = pool.imap_unordered(sqr, say_when(10, 3), 1)
    assert sorted(next(results) for _ in range(3)) == [0, 1, 4]
    with pytest.raises(SayWhenError):
        next(results)


def test_imap_unordered_gives_what_is_there(pool, tmp_path):
    results = pool.imap_unordered(lambda path: wait_for(path) if path else "quick", [tmp_path / "go", None])
    assert results.next(timeout=10) == "quick"
    with pytest.raises(TimeoutError):
        results.next(timeout=0.05)
    touch(tmp_path / "go")
    assert results.next(timeout=10) == "go"


def test_imap_goes_on_after_a_call_that_fails(pool):
    results = pool.imap(fail_at_3, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)
    assert list(results) == [4, 5]


@pytest.mark.parametrize("ordered", [True, False])
def test_imap_reads_as_results_are_taken(pool, ordered):
    read = []
    results = (pool.imap if ordered else pool.imap_unordered)(sqr, (read.append(x) or x for x in itertools.count()))
    for _ in range(20):
        next(results)
    time.sleep(0.2)
    assert 20 <= len(read) <= 20 + 8 + 2
    del results
    pool.terminate()


def test_imap_may_be_fed_by_its_results(pool):
    items = queue.Queue()
    items.put(2)
    results = pool.imap(sqr, iter(items.get, None))
    assert results.next(timeout=10) == 4  # while the iterable waits
    items.put(5)
    assert results.next(timeout=10) == 25
    assert pool.apply(sqr, (6,)) == 36
    items.put(None)
    assert list(results) == []


def test_imap_that_nobody_reads_is_run_by_join(start, tmp_path):
    start(num_cpus=2)
    pool = Pool(2)
    results = pool.imap(touch, (tmp_path / str(x) for x in range(50)))
    pool.imap_unordered(touch, (tmp_path / f"{x}-dropped" for x in range(50)))
    pool.close()
    pool.join()
    assert len(list(tmp_path.iterdir())) == 100
    assert len(list(results)) == 50


def test_empty_iterable(pool):
    assert pool.map(sqr, []) == []
    assert list(pool.imap(sqr, [])) == []
    assert list(pool.imap_unordered(sqr, iter(()))) == []
    assert pool.map_async(sqr, []).get() == []


# --- making and ending ------------------------------------------------------------------------------------------------


def test_make_pool(start):
    with pytest.raises(ValueError, match="at least 1"):
        Pool(-1)
    with pytest.raises(ValueError, match="at least 1"):
        Pool(0)
    with pytest.raises(TypeError, match="processes"):
        Pool("2")
    with pytest.raises(TypeError, match="initializer must be a callable"):
        Pool(1, initializer=1)
    with pytest.raises(ValueError, match="num_cpu"):
        Pool(1, ray_remote_args={"num_cpu": 1})
    assert not ray.is_initialized()
    start(num_cpus=2)
    with Pool() as pool:
        assert repr(pool) == "<ray.util.multiprocessing.pool.Pool state=RUN pool_size=2>"
        with pytest.raises(NotImplementedError):
            pickle.dumps(pool)
    assert cpu_count() == 2


def test_pool_maxtasksperchild_invalid():
    for wrong in (0, -1, 0.5, "12"):
        with pytest.raises(ValueError, match="maxtasksperchild"):
            Pool(1, maxtasksperchild=wrong)


def test_enter(pool):
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map(sqr, [1])
    with pytest.raises(ValueError, match="Pool not running"):
        pool.imap(sqr, [1])


def test_context(start):
    start(num_cpus=2)
    with Pool(2) as pool:
        result = pool.map_async(sqr, range(20))
        assert result.get() == [x * x for x in range(20)]
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map_async(sqr, range(20))
    assert result.get()[-1] == 361


@pytest.mark.parametrize("initializer", [None, load])
def test_terminate(start, tmp_path, initializer):
    start(num_cpus=2)
    pool = Pool(2, initializer, (1,) if initializer else ())
    running = [pool.apply_async(wait_for, (tmp_path / "never",)) for _ in range(2)]
    pool.apply_async(touch, (tmp_path / "not started",))
    waiting = pool.map_async(sqr, range(100), 1)
    time.sleep(0.3)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    began = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - began < 5
    for result in running:
        with pytest.raises(BrokenExecutor if initializer else TaskCancelledError):
            result.get()
    with pytest.raises(TaskCancelledError):
        waiting.get()
    assert not (tmp_path / "not started").exists()


def test_release_task_refs(pool):
    items = [Counted() for _ in range(10)]
    seen = [weakref.ref(item) for item in items]
    pool.map(type, items)
    del items
    gc.collect()
    assert [ref() for ref in seen] == [None] * 10


def test_resource_warning(start):
    start(num_cpus=1)
    pools = [Pool(1)]
    with pytest.warns(ResourceWarning, match="unclosed running pool"):
        pools.clear()


def test_close_and_join(start):
    start(num_cpus=2)
    pool = Pool(2)
    results = [pool.apply_async(sqr, (x, 0.02)) for x in range(10)]
    pool.close()
    pool.join()
    assert all(result.ready() for result in results)
    assert [result.get(timeout=0) for result in results] == [x * x for x in range(10)]
    pool.terminate()


def test_results_outlive_a_session_of_the_pools_own():
    pool = Pool(2)
    assert ray.is_initialized()
    good, bad = pool.map_async(sqr, range(5)), pool.apply_async(fail_at_3, (3,))
    array = pool.apply_async(numpy.ones, (1 << 18,))
    lazy = pool.imap(sqr, iter(range(100)))
    pool.close()
    pool.join()
    assert not ray.is_initialized()
    assert good.get() == [0, 1, 4, 9, 16]
    assert array.get().sum() == 1 << 18
    assert sum(lazy) == sum(x * x for x in range(100))
    with pytest.raises(KeyError):
        bad.get()


def test_two_pools_share_a_session_of_their_own():
    with Pool(1) as one:
        with Pool(2) as two:
            assert two.map(sqr, [1]) == [1]
        assert one.map(sqr, [2]) == [4]
    assert not ray.is_initialized()


def test_a_session_that_ends_first(start):
    start(num_cpus=1)
    pool = Pool(1)
    result = pool.apply_async(time.sleep, (60,))
    lazy = pool.imap(sqr, itertools.count())
    ray.shutdown()
    with pytest.raises(RayError):
        result.get()
    pool.terminate()
    with pytest.raises(RayError):
        list(lazy)


# --- processes --------------------------------------------------------------------------------------------------------


def test_pool_initializer(start):
    start(num_cpus=1)
    with Pool(3, load, ["model"]) as pool:  # more than there are processors
        assert pool.map(loaded, range(30)) == ["model"] * 30
        assert len(set(pool.map(pid, range(12), 1))) == 3


def test_an_initializer_of_a_script_binds_its_globals(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        from functools import partial
        from ray.util.multiprocessing import Pool

        def load(value):
            global model
            model = value

        def helper():
            return model

        def use(x):
            return helper() * x

        def add(y, x):
            return model + x + y

        if __name__ == "__main__":
            with Pool(2, load, (10,)) as pool:
                print(pool.map(use, range(4)), pool.apply(use, (5,)), pool.map(partial(add, 1), [1]))
                print(list(pool.imap(use, range(2))))
        """)
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50)
    assert ran.stdout == "[0, 10, 20, 30] 50 [12]\n[0, 10]\n", ran.stderr


def test_an_initializer_that_raises_fails_the_calls(start):
    start(num_cpus=2)
    with Pool(2, refuse) as pool:
        with pytest.raises(BrokenExecutor, match="no model"):
            pool.apply(sqr, (1,))
        with pytest.raises((BrokenExecutor, ValueError)):
            pool.map(sqr, range(10))


def test_pool_worker_lifetime(start):
    start(num_cpus=2)
    with Pool(2, maxtasksperchild=5) as pool:
        pids = collections.Counter(pool.map(pid, range(20), chunksize=1))
        assert max(pids.values()) == 5
        assert len(pids) >= 4


@pytest.mark.parametrize("initializer", [None, load])
def test_a_process_that_dies_fails_its_calls_alone(start, initializer):
    start(num_cpus=2)
    with Pool(2, initializer, (1,) if initializer else ()) as pool:
        with pytest.raises(BrokenExecutor, match="SIGKILL"):
            pool.map(die_at_3, range(6), 1)
        results = pool.imap(die_at_3, range(6))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(BrokenExecutor):
            next(results)
        assert list(results) == [4, 5]
        assert pool.map(loaded, [1]) == [1 if initializer else None]


def test_as_many_run_at_a_time_as_there_are_processes(start, tmp_path):
    """Calls that wait for each other."""
    start(num_cpus=1)
    with Pool(3) as pool:
        results = pool.map_async(
            lambda i: (touch(tmp_path / str(i)), [wait_for(tmp_path / str(j)) for j in range(3)])[1], range(3), 1
        )
        assert results.get(timeout=20) == [["0", "1", "2"]] * 3


def test_fewer_than_there_are_processors(start):
    start(num_cpus=4)
    with Pool(1) as pool:
        began = time.monotonic()
        pool.map(time.sleep, [0.1] * 4, 1)
        assert time.monotonic() - began >= 0.4


def test_a_pool_in_a_task(start):
    start(num_cpus=2)
    assert ray.get(ray.remote(nested).remote(4)) == 14
    with Pool(2) as pool:
        assert pool.map(nested, [2, 3]) == [1, 5]


def test_large_arrays_arrive_in_place(pool):
    array = numpy.ones(1 << 20)
    assert pool.map(lambda a: (a.sum(), a.flags.writeable), [array, array], 1) == [(1 << 20, False)] * 2


def test_options_for_the_calls(start):
    start(num_cpus=2, resources={"disk": 1})
    with Pool(2, ray_remote_args={"resources": {"disk": 1}}) as pool:
        assert pool.apply(lambda: ray.get_runtime_context().resources["disk"]) == 1


def test_what_pools_run_ends_with_the_program(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\nfrom ray.util.multiprocessing import Pool\n"
        "def stay():\n    print(os.getpid(), flush=True)\n    time.sleep(600)\n"
        "pool = Pool(1)\npool.apply_async(stay)\ntime.sleep(0.5)\npool.imap(stay, iter(int, 1))\n"
    )
    began = time.monotonic()
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stderr
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "waits",
    [
        "pool.map(stay, [path])",
        "next(pool.imap(stay, iter([path])))",
        "next(pool.imap_unordered(stay, [path]))",
        "pool.apply_async(stay, [path], callback=print).get()",
        "pool.apply_async(stay, [path]); pool.imap(stay, iter(threading.Event().wait, 0)); pool.close(); pool.join()",
        "pool.apply_async(touch, [path], callback=lambda _: time.sleep(600)).get()",
    ],
)
def test_interrupt_in_map(tmp_path, waits):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import os, signal, sys, threading, time
        from ray.util.multiprocessing import Pool

        def stay(path):
            open(path, "w").write(str(os.getpid()))
            time.sleep(600)

        def touch(path):
            open(path, "w").write(str(os.getpid()))

        def interrupt(path):
            while not os.path.exists(path):
                time.sleep(0.01)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)

        path = sys.argv[1]
        threading.Thread(target=interrupt, args=(path,)).start()
        try:
            with Pool(1) as pool:
                WAITS
        except KeyboardInterrupt:
            print("interrupted")
            sys.stdout.flush()
        """).replace("WAITS", waits)
    )
    path = tmp_path / "pid"
    ran = subprocess.run([sys.executable, script, path], capture_output=True, text=True, timeout=50)
    assert ran.stdout == "interrupted\n", ran.stderr
    assert not psutil.pid_exists(int(path.read_text()))


def test_other_names_of_multiprocessing_say_so():
    import ray.util.multiprocessing as module

    with pytest.raises(AttributeError, match="Import Queue from multiprocessing"):
        module.Queue  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Quue'"):
        module.Quue  # noqa: B018
