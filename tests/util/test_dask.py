"""Graphs of Dask in a session: what Dask's own schedulers compute; failures with their key; nothing is left running."""

import os
import subprocess
import sys
import time

import pytest
from tests import sessions

import ray
from ray.testing import eventually
from ray.util.dask import disable_dask_on_ray, enable_dask_on_ray, ray_dask_get

dask = pytest.importorskip("dask")
np = pytest.importorskip("numpy")
da = pytest.importorskip("dask.array")
Callback = pytest.importorskip("dask.diagnostics").Callback

kept_session = sessions.kept()


def inc(x):
    return x + 1


def add(x, y):
    return x + y


def test_graphs_of_tuples(ray_session):
    graph = {"x": 1, "y": 2, "z": (inc, "x"), "w": (add, "z", "y"), "l": [(inc, "x"), "y"], "a": "w"}
    assert ray_dask_get(graph, "w") == 4
    assert ray_dask_get(graph, ["w", "y"]) == (4, 2)
    assert ray_dask_get(graph, [["w"], ["y", "z"], "a"]) == ((4,), (2, 2), 4)
    assert ray_dask_get(graph, "l") == dask.get(graph, "l")


def test_delayed(ray_session):
    total = dask.delayed(sum)([dask.delayed(inc)(i) for i in range(20)])
    assert total.compute(scheduler=ray_dask_get) == sum(range(1, 21))
    values = dask.compute({"a": dask.delayed(inc)(1)}, [dask.delayed(add)(1, y=5)], 7, scheduler=ray_dask_get)
    assert values == ({"a": 2}, [6], 7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: da.ones((100, 80), chunks=(30, 40)).sum(),
        lambda: da.arange(1000, chunks=77).mean(),
        lambda: (da.arange(64, chunks=16).reshape(8, 8) @ da.ones((8, 8), chunks=4)).T,
        lambda: da.from_array(np.arange(100).reshape(10, 10), chunks=3)[::2, 1:7].std(axis=0),
        lambda: da.map_blocks(lambda block: block * 2, da.arange(30, chunks=7)),
        lambda: da.percentile(da.arange(100, chunks=13), [10, 50]),
    ],
    ids=["sum", "mean", "matmul", "slices", "map_blocks", "percentile"],
)
def test_arrays(ray_session, make):
    np.testing.assert_array_equal(make().compute(scheduler=ray_dask_get), make().compute(scheduler="sync"))


def frame():
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    return dd.from_pandas(pd.DataFrame({"k": [i % 7 for i in range(200)], "v": range(200)}), npartitions=5)


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.v.sum(),
        lambda x: x.groupby("k").v.mean(),
        lambda x: x[x.v > 50].assign(w=lambda y: y.v * 2).describe(),
        lambda x: x.merge(x.groupby("k").v.max().reset_index(), on="k"),
        lambda x: x.set_index("v").loc[20:40],
        lambda x: x.shuffle("k").map_partitions(len).sum(),
    ],
    ids=["sum", "groupby", "describe", "merge", "set_index", "shuffle"],
)
def test_frames(ray_session, ask):
    with dask.config.set(scheduler="sync"):  # some compute when they are made
        expected = ask(frame()).compute()
    with enable_dask_on_ray():
        found = ask(frame()).compute()
    if hasattr(expected, "sort_values"):
        pd = pytest.importorskip("pandas")
        by = {"by": list(expected.columns)} if hasattr(expected, "columns") else {}
        expected, found = (each.sort_values(**by).reset_index(drop=True) for each in (expected, found))
        (pd.testing.assert_frame_equal if by else pd.testing.assert_series_equal)(expected, found)
    else:
        assert found == expected


def test_tasks_run_in_workers(start):
    start(num_cpus=2)
    assert dask.delayed(os.getpid)().compute(scheduler=ray_dask_get) != os.getpid()


def test_data_is_sent_once(start):
    start(num_cpus=2)
    data = np.ones(1 << 20)
    blocks = da.from_array(data, chunks=1 << 16)
    seen = []

    class Puts(Callback):
        def _posttask(self, key, result, graph, state, worker):
            seen.append(result)

    with Puts():
        assert blocks.sum().compute(scheduler=ray_dask_get) == 1 << 20
    assert all(isinstance(ref, ray.ObjectRef) for ref in seen)


def fail(x):
    raise ZeroDivisionError(f"no {x}")


def test_a_failure_names_the_key(ray_session):
    graph = {"a": 1, ("bad-one", 0): (fail, "a"), "c": (inc, ("bad-one", 0))}
    with pytest.raises(ZeroDivisionError, match="no 1") as caught:
        ray_dask_get(graph, "c")
    assert "bad-one" in str(caught.value)


def test_what_cannot_be_pickled_names_the_key(start):
    import threading

    start(num_cpus=1)
    lock = threading.Lock()
    graph = {"with-lock": (lambda: lock,)}
    with pytest.raises(TypeError, match="lock") as caught:
        ray_dask_get(graph, "with-lock")
    assert "with-lock" in "".join(caught.value.__notes__)


def sleep_and_mark(path):
    time.sleep(30)
    open(path, "w").close()


def test_a_failure_cancels_the_rest(start, tmp_path):
    start(num_cpus=4)
    graph = {"slow": (sleep_and_mark, str(tmp_path / "a")), "bad": (fail, 1), "end": (add, "slow", "bad")}
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        ray_dask_get(graph, "end")
    assert time.monotonic() - began < 15
    # The slow one holds a processor until it is cancelled.
    eventually(lambda: ray.available_resources().get("CPU", 0) == 4, 20, "it goes on")
    assert not (tmp_path / "a").exists()


def test_wrong_arguments(ray_session):
    with pytest.raises(ValueError, match="num_workers"):
        ray_dask_get({"a": 1}, "a", num_workers=0)
    with pytest.raises(KeyError, match="missing"):
        ray_dask_get({"a": (inc, 1)}, "missing")


def test_graphs_in_circles_end(ray_session):
    with pytest.raises((RuntimeError, ValueError)):
        ray_dask_get({"a": (inc, "b"), "b": (inc, "a")}, "a")


def test_num_workers_bounds_what_is_under_way(ray_session):
    most = 0

    class Watch(Callback):
        def _pretask(self, key, graph, state):
            nonlocal most
            most = max(most, len(state["running"]))

    with Watch():
        graph = {i: (inc, i) for i in range(0)} | {f"k{i}": (inc, i) for i in range(30)}
        assert ray_dask_get(graph, [f"k{i}" for i in range(30)], num_workers=3) == tuple(range(1, 31))
    assert most == 3


def test_callbacks(ray_session):
    calls = []

    class Note(Callback):
        def _start(self, graph):
            calls.append("start")

        def _start_state(self, graph, state):
            calls.append("state")

        def _pretask(self, key, graph, state):
            calls.append(("pre", key))

        def _posttask(self, key, result, graph, state, worker):
            calls.append(("post", key, ray.get(result)))

        def _finish(self, graph, state, errored):
            calls.append(("finish", errored))

    with Note():
        ray_dask_get({"a": (inc, 1)}, "a")
    assert calls == ["start", "state", ("pre", "a"), ("post", "a", 2), ("finish", False)]
    calls.clear()
    with pytest.raises(ZeroDivisionError):
        ray_dask_get({"a": (fail, 1)}, "a", ray_callbacks=[Note()])
    assert calls[-1] == ("finish", True)


def test_references_instead_of_results(ray_session):
    refs = ray_dask_get({"a": (inc, 1), "b": (inc, "a")}, ["a", "b"], ray_persist=True)
    assert ray.get(list(refs)) == [2, 3]
    (whole,) = dask.persist(da.ones(10, chunks=5) + 1, scheduler=ray_dask_get)
    assert isinstance(whole, da.Array)
    assert whole.sum().compute(scheduler=ray_dask_get) == 20


def cpus():
    return ray.get_runtime_context().resources["CPU"]


def test_options(start):
    start(num_cpus=4)
    assert dask.delayed(cpus)().compute(scheduler=ray_dask_get, ray_remote_args={"num_cpus": 2}) == 2
    with dask.annotate(ray_remote_args={"num_cpus": 3}):
        task = dask.delayed(cpus)()
    assert task.compute(scheduler=ray_dask_get) == 3


def test_in_a_task(ray_session):
    @ray.remote
    def nested():
        return da.ones(100, chunks=10).sum().compute(scheduler=ray_dask_get)

    assert ray.get(nested.remote()) == 100


def test_enabled_and_disabled(ray_session):
    enable_dask_on_ray()
    try:
        assert dask.config.get("scheduler") is ray_dask_get
        assert da.ones(10, chunks=5).sum().compute() == 10
    finally:
        disable_dask_on_ray()
    assert dask.config.get("scheduler", None) is None
    disable_dask_on_ray()
    assert ray.is_initialized()


PROGRAM = """
import dask, ray
from ray.util.dask import enable_dask_on_ray, ray_dask_get
assert dask.delayed(sum)([1, 2]).compute(scheduler=ray_dask_get) == 3
assert not ray.is_initialized()
with enable_dask_on_ray():
    assert ray.is_initialized()
    assert dask.delayed(sum)([1, 2]).compute() == 3
assert not ray.is_initialized()
print("fine")
"""


def test_without_a_session_one_is_started_and_ended(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "fine\n", done.stderr


def test_without_dask_the_error_says_what_to_install():
    code = """
import sys
sys.modules["dask"] = None
import ray.util.dask
try:
    ray.util.dask.ray_dask_get({}, [])
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ray-core[dask]" in done.stdout, done.stderr
