"""The page "The Ray API": each snippet that can run, as printed.

What the page shows in comments is asserted after it. Sleeps are as printed; nothing else is changed.
"""

import time

import pytest
from tests import sessions
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import RayConnectionError

kept_session = sessions.kept()
mode = sessions.one_after_the_other()


def test_starting(mode, monkeypatch):
    """As printed, but for the mode, which the test chooses."""
    original = ray.init
    monkeypatch.setattr(ray, "init", lambda *args, **more: original(*args, **more, local_mode=mode == "local_mode"))

    ray.init()

    assert ray.cluster_resources()["CPU"] >= 1
    ray.shutdown()

    ray.init(num_cpus=20, num_gpus=2)

    assert ray.cluster_resources()["CPU"] == 20
    assert ray.cluster_resources()["GPU"] == 2
    ray.shutdown()


def test_connecting_to_a_cluster():
    with pytest.raises(RayConnectionError, match=r"No cluster answers at 12\.345\.67\.89:6379"):
        ray.init(redis_address="12.345.67.89:6379")

    # "In this case, you cannot specify num_cpus or num_gpus"
    for options in ({"num_cpus": 1}, {"num_gpus": 1}):
        with pytest.raises(ValueError, match="must not be provided"):
            ray.init(redis_address="12.345.67.89:6379", **options)


def test_remote_functions(ray_session):
    @ray.remote
    def f(x):
        return x + 1

    x_id = f.remote(0)
    assert ray.get(x_id) == 1

    y_id = f.remote(x_id)
    assert ray.get(y_id) == 2


def test_several_return_values(ray_session):
    @ray.remote(num_return_vals=2)
    def f():
        return 1, 2

    x_id, y_id = f.remote()
    assert ray.get(x_id) == 1
    assert ray.get(y_id) == 2


def test_getting_values(ray_session):
    @ray.remote
    def f():
        return {'key1': ['value']}  # fmt: skip

    # Get one object ID.
    assert ray.get(f.remote()) == {"key1": ["value"]}

    # Get a list of object IDs.
    assert ray.get([f.remote() for _ in range(2)]) == [{"key1": ["value"]}, {"key1": ["value"]}]


def test_numpy_arrays(ray_session):
    """ "If you want to mutate a numpy array (...), you will have to first copy it." """
    import numpy as np

    @ray.remote
    def f():
        return np.zeros(1000)

    array = ray.get(f.remote())
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    array = array.copy()
    array[0] = 1


def test_putting_objects(ray_session):
    x_id = ray.put(1)
    assert ray.get(x_id) == 1


def test_passing_a_large_object(ray_session):
    import numpy as np

    @ray.remote
    def f(x):
        pass

    x = np.zeros(10 ** 6)  # fmt: skip

    # Alternative 1: Here, x is copied into the object store 10 times.
    first = [f.remote(x) for _ in range(10)]

    # Alternative 2: Here, x is copied into the object store once.
    x_id = ray.put(x)
    second = [f.remote(x_id) for _ in range(10)]

    assert ray.get(first + second) == [None] * 20


def test_waiting(ray_session, mode):
    import time

    import numpy as np  # noqa: F401

    @ray.remote
    def f(n):
        time.sleep(n)
        return n

    # Start 3 tasks with different durations.
    results = [f.remote(i) for i in range(3)]
    # Block until 2 of them have finished.
    ready_ids, remaining_ids = ray.wait(results, num_returns=2)

    assert len(ready_ids) == 2
    assert len(remaining_ids) == 1
    assert ray.get(ready_ids) == [0, 1]

    # Start 5 tasks with different durations.
    results = [f.remote(i) for i in range(5)]
    # Block until 4 of them have finished or 2.5 seconds pass.
    started = Stopwatch()
    ready_ids, remaining_ids = ray.wait(results, num_returns=4, timeout=2500)

    assert sorted([*ready_ids, *remaining_ids], key=results.index) == results
    if mode == "local_mode":  # all have ended by then
        assert len(ready_ids) == 4
    else:
        assert len(ready_ids) < 4  # four processors are busy with the first wait's last task and these
        assert started.elapsed_s() > 2.3
        assert started.undisturbed_s() < 10


def test_waiting_in_a_loop(ray_session, capsys):
    @ray.remote
    def f():
        return 1

    # Start 5 tasks.
    remaining_ids = [f.remote() for i in range(5)]
    # Whenever one task finishes, start a new one.
    for _ in range(100):
        ready_ids, remaining_ids = ray.wait(remaining_ids)
        # Get the available object and do something with it.
        print(ray.get(ready_ids))
        # Start a new task.
        remaining_ids.append(f.remote())

    assert capsys.readouterr().out == "[1]\n" * 100
    assert len(remaining_ids) == 5


def test_viewing_errors(ray_session, capfd):
    @ray.remote
    def f():
        raise Exception("This task failed!!")

    f.remote()  # An error message will be printed in the background.

    # Wait for the error to propagate to Redis.
    import time

    time.sleep(1)

    shown, end = "", time.monotonic() + 20  # a machine may be so busy that a second is not enough
    while not (ray.error_info() and "This task failed!!" in shown) and time.monotonic() < end:
        time.sleep(0.05)
        shown += capfd.readouterr().err

    errors = ray.error_info()  # This returns a list containing the error message.

    assert len(errors) == 1
    assert "This task failed!!" in errors[0]["message"]
    assert errors[0]["type"] == "task"
    assert shown.count("Exception: This task failed!! in") == 1

    # "If ray.get is called on an object ID whose parent task threw an exception, it will be re-raised by ray.get."
    with pytest.raises(Exception, match="This task failed!!"):
        ray.get(f.remote())


def test_wait_counts_milliseconds(ray_session, mode):
    """ "it will block for at most that many milliseconds" """
    if mode == "local_mode":
        return

    @ray.remote
    def f():
        time.sleep(1)

    ref = f.remote()
    started = Stopwatch()
    assert ray.wait([ref], timeout=200) == ([], [ref])
    assert started.elapsed_s() > 0.15
    assert started.undisturbed_s() < 0.9
