"""``RayExecutor``: what the tests of ``concurrent.futures`` ask of an executor of processes, by the same names."""

import asyncio
import concurrent.futures as cf
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest
from tests.signs import touch, wait_for

import ray
from ray.testing.waiting import eventually
from ray.util import RayExecutor


def double(x):
    return 2 * x


def pause(seconds, value=None):
    time.sleep(seconds)
    return value


def fail(x):
    raise KeyError(x)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Interrupting:
    def __reduce__(self):
        raise KeyboardInterrupt


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("no way")


@pytest.fixture
def executor(start):
    start(num_cpus=2)
    with RayExecutor() as executor:
        yield executor


# --- calls ------------------------------------------------------------------------------------------------------------


def test_submit(executor):
    future = executor.submit(pow, 2, 8)
    assert future.result() == 256
    assert future.done()
    assert not future.running()
    assert future.exception() is None


def test_submit_keyword(executor):
    assert executor.submit(dict, fn=1, self=2).result() == {"fn": 1, "self": 2}


def test_many_more_than_may_run(executor):
    futures = [executor.submit(double, i) for i in range(500)]
    assert [future.result() for future in futures] == [2 * i for i in range(500)]


def test_results_are_the_same_object_each_time(executor):
    future = executor.submit(list, "abc")
    assert future.result() is future.result()


def test_a_worker_is_free_after_a_call_whose_sending_was_interrupted(start):
    start(num_cpus=2)
    with RayExecutor(1, initializer=os.getpid) as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.submit(double, Interrupting())
        assert executor.submit(double, 2).result(30) == 4


def test_calls_go_on_after_one_whose_sending_was_interrupted_on_the_thread(start, tmp_path):
    start(num_cpus=2)
    with RayExecutor(1, initializer=os.getpid) as executor:
        executor.submit(wait_for, tmp_path / "go")
        interrupted = executor.submit(double, Interrupting())
        future = executor.submit(double, 2)
        future.add_done_callback(lambda _: touch(tmp_path / "done"))
        touch(tmp_path / "go")
        eventually((tmp_path / "done").exists)
        assert future.result() == 4
        assert interrupted.done()


def test_a_callback_may_take_a_lock_under_which_others_submit(executor, tmp_path):
    """Of a call that cannot be sent, whose callback is called while calls are started."""
    lock, reached = threading.Lock(), threading.Event()

    def callback(_):
        reached.set()
        with lock:
            pass

    blockers = [executor.submit(wait_for, tmp_path / "go") for _ in range(8)]
    failing = executor.submit(double, Unpicklable())
    failing.add_done_callback(callback)
    submitting = threading.Thread(target=executor.submit, args=(double, 1), daemon=True)
    with lock:
        (tmp_path / "go").touch()
        assert reached.wait(30)
        submitting.start()
        submitting.join(10)
        stuck = submitting.is_alive()
    assert not stuck
    assert failing.exception() is not None
    assert [future.result() for future in blockers] == ["go"] * 8


def test_exception(executor):
    future = executor.submit(fail, "missing")
    with pytest.raises(KeyError):
        future.result()
    assert isinstance(future.exception(), KeyError)
    assert isinstance(future.exception(), ray.exceptions.RayTaskError)


def test_what_cannot_be_pickled_is_the_error_of_the_future(executor):
    future = executor.submit(double, Unpicklable())
    assert future.exception() is not None
    assert executor.submit(double, 1).result() == 2


def test_wrong_arguments_are_the_error_of_the_future(executor):
    assert isinstance(executor.submit(double).exception(), TypeError)


def test_closures_bound_methods_and_classes(executor):
    offset = [1]
    add = lambda x: x + offset[0]  # noqa: E731
    assert executor.submit(add, 1).result() == 2
    offset[0] = 10
    assert executor.submit(add, 1).result() == 11
    assert executor.submit([3, 1].index, 1).result() == 1
    assert executor.submit(int, "12").result() == 12


def test_refs_are_replaced_by_their_values(executor):
    assert executor.submit(double, ray.put(21)).result() == 42
    assert list(executor.map(double, [ray.put(1), 2])) == [2, 4]


def test_result_in_time(executor):
    future = executor.submit(pause, 30)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0.05)
    ray.cancel(future.ref, force=True)
    assert future.exception() is not None


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_what_has_not_started_is_cancelled(executor, tmp_path):
    busy = [executor.submit(pause, 0.3) for _ in range(4)]
    waiting = [executor.submit(touch, tmp_path / str(i)) for i in range(8)]
    assert not busy[0].cancel()
    assert busy[0].running()
    assert all(future.cancel() for future in waiting)
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(cf.CancelledError):
        waiting[0].result()
    with pytest.raises(cf.CancelledError):
        waiting[0].exception()
    assert cf.wait(busy + waiting, timeout=10).not_done == set()
    assert executor.submit(double, 1).result() == 2
    assert list(tmp_path.iterdir()) == []


def test_shutdown_cancels_what_has_not_started(executor):
    futures = [executor.submit(pause, 0.2, i) for i in range(50)]
    executor.shutdown(cancel_futures=True)
    cancelled = [future for future in futures if future.cancelled()]
    assert 40 <= len(cancelled) < 50
    assert all(future.done() for future in futures)


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_as_completed(executor):
    slow, quick = executor.submit(pause, 0.5, "slow"), executor.submit(pause, 0.0, "quick")
    assert [future.result() for future in cf.as_completed([slow, quick], timeout=10)] == ["quick", "slow"]


def test_wait_for_what_is_done_waits_for_what_waits(executor):
    futures = [executor.submit(double, i) for i in range(100)]
    done, not_done = cf.wait(futures, timeout=20)
    assert len(done) == 100
    assert not not_done


def test_first_exception(executor):
    slow, failing = executor.submit(pause, 5), executor.submit(fail, 1)
    done, _ = cf.wait([slow, failing], timeout=20, return_when=cf.FIRST_EXCEPTION)
    assert done == {failing}
    ray.cancel(slow.ref, force=True)


def test_done_is_seen_without_a_wait(executor):
    future = executor.submit(double, 1)
    eventually(future.done)


def test_callbacks(executor):
    told, came = [], threading.Event()

    def tell(future):
        told.append((future.result(), threading.current_thread() is threading.main_thread()))
        came.set()

    future = executor.submit(pause, 0.1, 5)
    future.add_done_callback(tell)
    assert came.wait(10)
    future.add_done_callback(tell)
    assert told == [(5, False), (5, True)]


def test_a_callback_may_wait_for_calls(executor):
    answer = []
    executor.submit(double, 1).add_done_callback(
        lambda _: answer.extend(f.result() for f in [executor.submit(double, i) for i in range(20)])
    )
    eventually(lambda: len(answer) == 20)
    assert answer == [2 * i for i in range(20)]


def test_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        values = await asyncio.gather(*(loop.run_in_executor(executor, double, i) for i in range(30)))
        with pytest.raises(KeyError):
            await loop.run_in_executor(executor, fail, 1)
        return values

    assert asyncio.run(main()) == [2 * i for i in range(30)]


def test_many_threads(executor):
    results = {}

    def use(n):
        results[n] = [executor.submit(double, n * 100 + i).result() for i in range(50)]

    threads = [threading.Thread(target=use, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {n: [2 * (n * 100 + i) for i in range(50)] for n in range(6)}


# --- map --------------------------------------------------------------------------------------------------------------


def test_map(executor):
    assert list(executor.map(pow, range(10), range(10))) == [i**i for i in range(10)]
    assert list(executor.map(pow, range(1000), [1] * 1000, chunksize=3)) == list(range(1000))
    assert list(executor.map(double, [])) == []


def test_map_exception(executor):
    results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_exception_late(executor):
    results, taken = executor.map(divmod, [7] * 5000, [1] * 4321 + [0] * 679), []
    with pytest.raises(ZeroDivisionError):
        taken.extend(results)
    assert taken == [(7, 0)] * 4321


def test_map_timeout(executor):
    results = executor.map(pause, [0, 0, 3], [1, 2, 3], timeout=1)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(TimeoutError):
        next(results)


def test_map_runs_though_nobody_takes_results(start, tmp_path):
    start(num_cpus=2)
    with RayExecutor() as executor:
        executor.map(touch, [tmp_path / str(i) for i in range(100)])
    assert len(list(tmp_path.iterdir())) == 100


def test_map_of_items_that_raise(executor):
    def items():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        executor.map(double, items())


def test_map_buffersize(executor):
    taken = []
    items = (taken.append(i) or i for i in range(100))
    results = executor.map(double, items, buffersize=4)
    assert taken == [0, 1, 2, 3]
    assert next(results) == 0
    assert len(taken) == 5
    assert list(results) == [2 * i for i in range(1, 100)]
    assert list(executor.map(double, [], buffersize=2)) == []


def test_map_that_is_left_starts_no_more(executor, tmp_path):
    def work(i):
        time.sleep(0.05)
        (tmp_path / str(i)).touch()
        return i

    results = executor.map(work, range(200))
    assert next(results) == 0
    results.close()
    executor.shutdown()
    assert len(list(tmp_path.iterdir())) < 50


@pytest.mark.parametrize(
    "arguments", [{"chunksize": 0}, {"chunksize": -1}, {"buffersize": 0}, {"chunksize": "1"}, {"buffersize": 1.5}]
)
def test_map_arguments(executor, arguments):
    with pytest.raises((TypeError, ValueError)):
        executor.map(double, [1], **arguments)


# --- the executor -----------------------------------------------------------------------------------------------------


def test_run_after_shutdown(executor):
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(double, 1)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(double, [1])
    executor.shutdown()


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2"])
def test_max_workers_is_a_number(workers):
    with pytest.raises((TypeError, ValueError), match="max_workers"):
        RayExecutor(workers)
    assert not ray.is_initialized()


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="num_cpu"):
        RayExecutor(num_cpu=2)
    assert not ray.is_initialized()


def test_hang_free_shutdown_without_wait(executor):
    future = executor.submit(pause, 0.2, 7)
    executor.shutdown(wait=False)
    assert future.result() == 7


def test_an_executor_starts_and_ends_a_session():
    with RayExecutor(max_workers=1) as first:
        with RayExecutor(max_workers=1) as second:
            assert second.submit(double, 4).result() == 8
        assert first.submit(double, 5).result() == 10
    assert not ray.is_initialized()


def test_a_session_of_the_program_is_left_alone(start):
    start(num_cpus=1)
    with RayExecutor() as executor:
        executor.submit(double, 1)
    assert ray.is_initialized()


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_than_max_workers_run_at_a_time(start, tmp_path, workers):
    start(num_cpus=2)

    def count(i):
        mine = tmp_path / str(i)
        mine.touch()
        time.sleep(0.1)
        seen = len(list(tmp_path.iterdir()))
        mine.unlink()
        return seen

    with RayExecutor(workers) as executor:
        assert max(executor.map(count, range(4 * workers))) == workers


def test_inside_a_task(start):
    start(num_cpus=2)

    @ray.remote
    def outer():
        with RayExecutor() as executor:
            return [*executor.map(double, range(5)), executor.submit(double, 5).result()]

    assert ray.get(outer.remote()) == [0, 2, 4, 6, 8, 10]


AT_THE_END = """
import pathlib, sys, time
from ray.util import RayExecutor

def touch(path):
    time.sleep(0.05)
    path.touch()

if __name__ == "__main__":
    executor = RayExecutor(1)
    for i in range(20):
        executor.submit(touch, pathlib.Path(sys.argv[1]) / str(i))
"""


def test_what_was_submitted_runs_before_the_program_ends(tmp_path):
    script, made = tmp_path / "program.py", tmp_path / "made"
    script.write_text(AT_THE_END)
    made.mkdir()
    subprocess.run([sys.executable, script, made], check=True, timeout=50)
    assert len(list(made.iterdir())) == 20


def test_timeouts_of_any_size(executor):
    futures = [executor.submit(pause, 0.05, i) for i in range(20)]  # the last ones wait for a place
    for future, timeout in zip(reversed(futures), (float("inf"), 1e300, 1 << 50), strict=False):
        assert future.exception(timeout) is None
    running = executor.submit(pause, 0.5)
    for timeout in (0, -1):
        with pytest.raises(TimeoutError):
            running.result(timeout)
    for wrong in ("1", [1]):
        for wait in (running.result, running.exception):
            with pytest.raises(TypeError):
                wait(wrong)


def test_an_interrupt_ends_the_wait_for_a_call(executor):
    busy = [executor.submit(pause, 0.5) for _ in range(12)]
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        busy[-1].result()
    timer.join()
    executor.shutdown(cancel_futures=True)


@pytest.mark.parametrize("options", ["", ", initializer=os.getpid"])
@pytest.mark.parametrize("caught", [True, False])
def test_an_interrupt_ends_the_program(tmp_path, options, caught):
    waits = f"""
    with RayExecutor(1{options}) as executor:
        executor.submit(stay, path)
        executor.submit(stay, path + "2").result()"""
    waits = f"try:{waits}\nexcept KeyboardInterrupt:\n    pass" if caught else _dropped(options)
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import os, signal, sys, threading, time
        from ray.util import RayExecutor

        def stay(path):
            open(path, "w").write(str(os.getpid()))
            time.sleep(600)

        def interrupt():
            while not (os.path.exists(path) and open(path).read()):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        path = sys.argv[1]
        threading.Thread(target=interrupt).start()
        """)
        + waits
    )
    path = tmp_path / "pid"
    ran = subprocess.run([sys.executable, script, path], capture_output=True, text=True, timeout=50)
    assert ran.returncode == (0 if caught else -signal.SIGINT), ran.stderr
    assert not psutil.pid_exists(int(path.read_text()))
    assert not (tmp_path / "pid2").exists()


def _dropped(options):
    return (
        f"executor = RayExecutor(1{options})\nexecutor.submit(stay, path)\nexecutor.submit(stay, path + '2').result()\n"
    )


def test_the_session_ends_under_an_executor(start):
    start(num_cpus=1)
    with RayExecutor() as executor:
        futures = [executor.submit(pause, 30) for _ in range(10)]
        ray.shutdown()
        for future in futures:
            with pytest.raises(ray.exceptions.RayError):
                future.result(timeout=10)


def test_local_mode():
    with ray.init(local_mode=True), RayExecutor() as executor:
        futures = [executor.submit(double, i) for i in range(10)]
        assert [future.result() for future in futures] == [2 * i for i in range(10)]
        assert list(executor.map(double, range(100))) == [2 * i for i in range(100)]
        assert cf.wait(futures, timeout=10).not_done == set()
        with pytest.raises(KeyError):
            executor.submit(fail, 1).result()


def test_importing_the_utilities_loads_none_of_them():
    code = "import sys, ray, ray.util; print([name for name in sys.modules if name.startswith('ray.util.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


# --- workers that die, and are made ready -----------------------------------------------------------------------------


def test_a_worker_that_dies_breaks_its_call(executor):
    with pytest.raises(BrokenProcessPool) as caught:
        executor.submit(die).result()
    assert isinstance(caught.value, ray.exceptions.RayError)
    assert isinstance(caught.value.__cause__, ray.exceptions.WorkerCrashedError)
    assert executor.submit(double, 4).result() == 8


def prepare(value):
    global prepared
    prepared = value


def prepared_value(_=None):
    return prepared, os.getpid()


def test_initializer(start):
    start(num_cpus=2)
    with RayExecutor(2, initializer=prepare, initargs=("ready",)) as executor:
        assert executor.submit(prepared_value).result()[0] == "ready"
        assert {value for value, _ in executor.map(prepared_value, range(20))} == {"ready"}
        with pytest.raises(cf.BrokenExecutor):
            executor.submit(die).result()
        assert executor.submit(prepared_value).result()[0] == "ready"


def test_an_initializer_that_fails_breaks_the_executor(start):
    start(num_cpus=2)
    with RayExecutor(1, initializer=fail, initargs=("unprepared",)) as executor:
        futures = [executor.submit(double, i) for i in range(5)]
        for future in futures:
            with pytest.raises(BrokenProcessPool, match="unprepared"):
                future.result(timeout=20)
        with pytest.raises(BrokenProcessPool, match="initializer"):
            executor.submit(double, 1)


def test_an_argument_of_an_actor_that_failed_breaks_no_executor(start):
    @ray.remote
    class Unready:
        def __init__(self):
            raise KeyError("unready")

        def value(self):
            return 1

    start(num_cpus=2)
    with RayExecutor(1, initializer=prepare, initargs=("ready",)) as executor:
        with pytest.raises(ray.exceptions.RayError, match="unready"):
            executor.submit(double, Unready.remote().value.remote()).result(timeout=20)
        assert executor.submit(prepared_value).result(timeout=20)[0] == "ready"


def test_without_its_node_the_executor_does_not_go_on(start):
    start(num_cpus=1)
    with RayExecutor() as executor:
        running = executor.submit(pause, 600)
        eventually(lambda: running.running())
        for process in psutil.Process().children(recursive=True):
            process.kill()
        for future in (running, executor.submit(double, 1), executor.submit(double, 2)):
            with pytest.raises(BrokenProcessPool) as told:
                future.result(timeout=20)
            assert "goes on" not in str(told.value)
    ray.shutdown()


def test_max_tasks_per_child(start):
    start(num_cpus=2)
    with RayExecutor(1, max_tasks_per_child=3) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(7)]
    assert len(set(pids[:3])) == len(set(pids[3:6])) == 1
    assert len(set(pids)) == 3
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_results_outlive_a_session_of_the_executors_own():
    """As in the standard library: ``with`` waits, and results are looked at afterwards."""
    with RayExecutor() as executor:
        futures = [executor.submit(double, x) for x in range(5)]
        failed = executor.submit(fail, "missing")
        results = executor.map(double, range(100), chunksize=10)
    assert not ray.is_initialized()
    assert [future.result() for future in futures] == [0, 2, 4, 6, 8]
    assert futures[0].exception() is None
    for _ in range(2):
        with pytest.raises(KeyError):
            failed.result()
    assert isinstance(failed.exception(), KeyError)
    assert list(results) == [2 * x for x in range(100)]
