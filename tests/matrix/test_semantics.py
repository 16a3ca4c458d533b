"""What a session promises, whatever it is made of."""

import datetime
import os
import signal
import time

import pytest
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import RayActorError, RayTaskError, TaskCancelledError, WorkerCrashedError

pytestmark = pytest.mark.usefixtures("session")

LARGE = 1_000_000


@ray.remote
def echo(*values):
    return values[0] if len(values) == 1 else list(values)


@ray.remote
def nap(seconds, value=None):
    time.sleep(seconds)
    return value


@ray.remote
def total(n):
    return n if n < 2 else sum(ray.get([total.remote(n - 1), total.remote(n - 2)]))


@ray.remote
class Register:
    def __init__(self):
        self.values = []

    def add(self, value):
        self.values.append(value)
        return len(self.values)

    def all(self):
        return self.values


def test_values_of_all_sizes_come_back_equal():
    for nbytes in (0, 1, 1000, 100 * 1024, LARGE):
        value = os.urandom(nbytes)
        assert ray.get(echo.remote(value)) == value
        assert ray.get(ray.put(value)) == value
        assert ray.get(echo.remote(ray.put(value))) == value


def test_refs_are_resolved_as_arguments_and_kept_inside_them():
    ref = ray.put(b"x" * LARGE)
    assert ray.get(echo.remote(ref, 1)) == [b"x" * LARGE, 1]
    (inner,) = ray.get(echo.remote([ref]))
    assert isinstance(inner, ray.ObjectRef)
    assert ray.get(inner) == b"x" * LARGE


def test_arrays_arrive_read_only_and_equal():
    np = pytest.importorskip("numpy")
    array = np.arange(200_000, dtype=np.float64)
    ref = ray.put(array)
    for seen in (ray.get(ref), ray.get(echo.remote(ref)), ray.get(echo.remote({"in": array}))["in"]):
        assert np.array_equal(seen, array)
        with pytest.raises(ValueError, match="read-only"):
            seen[0] = 1.0
    assert ray.get(ray.remote(lambda values: float(values.sum())).remote(ref)) == float(array.sum())


def test_several_returns_have_refs_of_their_own():
    first, second = echo.options(num_returns=2).remote(1, b"x" * LARGE)
    assert (ray.get(first), len(ray.get(second))) == (1, LARGE)


def test_results_are_passed_between_workers():
    assert len(ray.get(echo.remote(echo.remote(echo.remote(b"x" * LARGE))))) == LARGE


def test_nested_tasks_finish():
    assert ray.get(total.remote(8), timeout=40) == 21


def test_wait_keeps_the_order_and_the_time(processes):
    slow, quick = nap.remote(20), nap.remote(0, "quick")
    ready, rest = ray.wait([slow, quick], timeout=datetime.timedelta(seconds=10))
    assert (ready, rest) == ([quick], [slow])
    start = Stopwatch()
    assert ray.wait([slow], timeout=datetime.timedelta(seconds=0.2)) == ([], [slow])
    assert start.undisturbed_s() < 5
    ray.cancel(slow, force=True)


def test_errors_keep_their_type():
    with pytest.raises(ZeroDivisionError) as caught:
        ray.get(ray.remote(lambda: 1 // 0).remote())
    assert isinstance(caught.value, RayTaskError)


def test_a_dead_worker_is_an_error_and_the_next_task_runs(processes):
    @ray.remote(max_retries=0)
    def end():
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerCrashedError, match="SIGKILL"):
        ray.get(end.remote(), timeout=20)
    assert ray.get(echo.remote(1), timeout=20) == 1


def test_a_running_task_is_cancelled(processes):
    ref = nap.remote(60)
    ray.wait([ref], timeout=datetime.timedelta(seconds=0.5))
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=20)


def test_an_error_in_an_argument_is_the_error_of_the_task():
    failing = ray.remote(lambda: {}["missing"]).remote()
    with pytest.raises(KeyError, match="missing"):
        ray.get(echo.remote(echo.remote(failing)))


def test_an_actor_outlives_its_errors_and_its_handles_travel():
    register = Register.remote()

    @ray.remote
    def add(handle, value):
        return ray.get(handle.add.remote(value))

    assert sorted(ray.get([add.remote(register, value) for value in range(5)], timeout=40)) == [1, 2, 3, 4, 5]
    with pytest.raises(TypeError):
        ray.get(register.all.remote("too", "many"))
    assert sorted(ray.get(register.all.remote())) == list(range(5))


def test_actor_calls_run_in_order_from_several_callers():
    register = Register.remote()

    @ray.remote
    def fill(handle, name):
        return ray.get([handle.add.remote((name, i)) for i in range(50)])[-1]

    assert max(ray.get([fill.remote(register, name) for name in "ab"], timeout=40)) == 100
    values = ray.get(register.all.remote())
    for name in "ab":
        assert [i for other, i in values if other == name] == list(range(50))


def test_named_actors_are_found_and_killed():
    register = Register.options(name="register").remote()
    assert ray.get(ray.get_actor("register").add.remote(1)) == 1
    ray.kill(register)
    with pytest.raises(RayActorError):
        ray.get(register.add.remote(2), timeout=20)
    with pytest.raises(ValueError, match="register"):
        ray.get_actor("register")
