"""What tasks and actors ask for: they get it, hold it as long as they should, and nobody gets more than there is."""

import datetime
import io
import os
import signal
import sys

import pytest
from tests.api.meeting import LIMIT_S, meet, peak, wait_for
from tests.quick import first_of

import ray
from ray.exceptions import RayActorError, TaskCancelledError, WorkerCrashedError
from ray.testing import eventually, inside, leaks

QUICK = datetime.timedelta(seconds=0.1)

gather = ray.remote(meet)


@ray.remote
def echo(x):
    return x


@ray.remote
def show_gpus(folder=None, count=1):
    if folder is not None:
        meet(folder, count)
    return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")


@ray.remote(max_retries=0)
def die():
    os.kill(os.getpid(), signal.SIGKILL)


@ray.remote
class Counter:
    def __init__(self):
        self.calls = 0

    def add(self):
        self.calls += 1
        return self.calls

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def show_gpus(self):
        return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")


def all_free(timeout_s=leaks.PATIENCE_S):
    """Everything is given back in time."""
    inside.settled(timeout_s)
    assert ray.available_resources() == ray.cluster_resources()
    return True


def free(name):
    return ray.available_resources()[name]


# --- amounts ----------------------------------------------------------------------------------------------------------


def test_four_halves_run_on_two_cpus(start, tmp_path):
    start(num_cpus=2)
    refs = [gather.options(num_cpus=0.5).remote(tmp_path, 4, 0.02) for _ in range(12)]
    assert peak(ray.get(refs, timeout=LIMIT_S)) == 4
    assert all_free()


def test_tenths_add_up_exactly(start, tmp_path):
    start(num_cpus=1)
    refs = [gather.options(num_cpus=0.1).remote(tmp_path, 10, 0.02) for _ in range(12)]
    assert peak(ray.get(refs, timeout=LIMIT_S)) == 10
    assert all_free()


def test_parts_of_different_size_share_a_cpu(start, tmp_path):
    start(num_cpus=1)
    refs = [gather.options(num_cpus=amount).remote(tmp_path, 2) for amount in (0.25, 0.75)]
    assert peak(ray.get(refs, timeout=LIMIT_S)) == 2
    assert all_free()


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        ({"resources": {"disk": 2}}, {"resources": {"disk": 1}, "num_cpus": 0}),
        ({"resources": {"disk": 0.5}}, {"resources": {"disk": 0.25}}),
        ({"memory": 1 << 30}, {"memory": 1 << 29}),
    ],
    ids=["custom", "parts of custom", "memory"],
)
def test_other_resources_bound_what_runs(start, tmp_path, offered, wanted):
    start(num_cpus=4, **offered)
    refs = [gather.options(**wanted).remote(tmp_path, 2, 0.02) for _ in range(6)]
    assert peak(ray.get(refs, timeout=LIMIT_S)) == 2
    assert all_free()


def test_a_full_resource_holds_up_only_those_that_need_it(start, tmp_path):
    start(num_cpus=2, resources={"disk": 1})
    holder = gather.options(num_cpus=0, resources={"disk": 1}).remote(tmp_path, 2)
    waiting = echo.options(num_cpus=0, resources={"disk": 1}).remote("second")
    wait_for(tmp_path, 1)
    assert ray.get([echo.remote(i) for i in range(20)], timeout=LIMIT_S) == list(range(20))
    assert ray.wait([waiting], timeout=QUICK) == ([], [waiting])
    (tmp_path / "go").touch()
    ray.get(holder, timeout=LIMIT_S)
    assert ray.get(waiting, timeout=LIMIT_S) == "second"


def test_tasks_without_cpu_are_bounded(start, tmp_path):
    start(num_cpus=1)
    refs = [gather.options(num_cpus=0).remote(tmp_path, 2, 0.02) for _ in range(30)]
    assert 2 <= peak(ray.get(refs, timeout=LIMIT_S)) <= 4
    assert all_free()


def test_tasks_without_cpu_run_beside_a_full_cpu(start, tmp_path):
    start(num_cpus=1)
    long = gather.remote(tmp_path, 2)
    wait_for(tmp_path, 1)
    assert ray.get(echo.options(num_cpus=0).remote(1), timeout=LIMIT_S) == 1
    (tmp_path / "go").touch()
    ray.get(long, timeout=LIMIT_S)


def test_what_is_free_is_told(start, tmp_path):
    start(num_cpus=2, resources={"disk": 1.5})
    assert ray.cluster_resources()["disk"] == 1.5
    ref = gather.options(num_cpus=0.5, resources={"disk": 0.3}).remote(tmp_path, 2)
    wait_for(tmp_path, 1)
    assert (free("CPU"), free("disk")) == (1.5, 1.2)
    (tmp_path / "go").touch()
    ray.get(ref, timeout=LIMIT_S)
    assert all_free()


def test_everything_is_given_back_after_deaths(start):
    start(num_cpus=2, num_gpus=2, resources={"disk": 2}, log_to_driver=False)
    options = [{}, {"num_cpus": 0.5}, {"num_gpus": 1}, {"num_gpus": 0.5}, {"resources": {"disk": 2}, "num_cpus": 0}]
    refs = [die.options(**wanted).remote() for wanted in options for _ in range(3)]
    for ref in refs:
        with pytest.raises(WorkerCrashedError):
            ray.get(ref, timeout=LIMIT_S)
    assert all_free()
    assert ray.get([echo.options(**wanted).remote(1) for wanted in options], timeout=LIMIT_S) == [1] * len(options)
    assert all_free()


def test_a_blocked_task_lends_its_cpu_and_nothing_else(start, tmp_path):
    start(num_cpus=1, resources={"disk": 1})

    @ray.remote(resources={"disk": 1})
    def parent():
        return ray.get(gather.remote(tmp_path, 2))

    ref = parent.remote()
    wait_for(tmp_path, 1)  # the child runs, on the only CPU
    assert free("disk") == 0
    (tmp_path / "go").touch()
    ray.get(ref, timeout=LIMIT_S)
    assert all_free()


# --- GPUs -------------------------------------------------------------------------------------------------------------


def test_each_task_sees_its_whole_gpu(start, tmp_path):
    start(num_cpus=2, num_gpus=2)
    refs = [show_gpus.options(num_gpus=1).remote(tmp_path, 2) for _ in range(2)]
    assert sorted(ray.get(refs, timeout=LIMIT_S)) == [([0], "0"), ([1], "1")]
    assert ray.get(show_gpus.options(num_gpus=2).remote(), timeout=LIMIT_S) == ([0, 1], "0,1")
    assert all_free()


def test_two_halves_share_a_gpu(start, tmp_path):
    start(num_cpus=2, num_gpus=1)
    refs = [show_gpus.options(num_gpus=0.5).remote(tmp_path, 2) for _ in range(2)]
    assert ray.get(refs, timeout=LIMIT_S) == [([0], "0")] * 2
    assert all_free()


def test_halves_leave_the_other_gpu_whole(start, tmp_path):
    start(num_cpus=3, num_gpus=2)
    refs = [show_gpus.options(num_gpus=amount).remote(tmp_path, 3) for amount in (0.5, 0.5, 1)]
    (half,), (other_half,), (whole,) = (ids for ids, _ in ray.get(refs, timeout=LIMIT_S))
    assert half == other_half != whole


def test_who_asks_for_no_gpu_sees_none(start, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    start(num_cpus=1)
    assert ray.cluster_resources()["GPU"] == 2
    assert ray.get(show_gpus.remote(), timeout=LIMIT_S) == ([], "")
    assert ray.get(show_gpus.options(num_gpus=1).remote(), timeout=LIMIT_S) != ([], "")
    assert ray.get(show_gpus.remote(), timeout=LIMIT_S) == ([], "")
    assert ray.get(Counter.remote().show_gpus.remote(), timeout=LIMIT_S) == ([], "")


@pytest.mark.parametrize("options", [{}, {"max_calls": 100}], ids=["a process each", "one process"])
def test_gpus_are_those_the_driver_sees(start, monkeypatch, options):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    start(num_cpus=1, num_gpus=2)
    task = show_gpus.options(**options)
    assert ray.get(task.options(num_gpus=2).remote(), timeout=LIMIT_S) == ([3, 5], "3,5")
    assert ray.get(task.options(num_gpus=1).remote(), timeout=LIMIT_S) == ([3], "3")
    assert ray.get(task.remote(), timeout=LIMIT_S) == ([], "")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"


def test_actors_keep_their_gpus(start, tmp_path):
    start(num_cpus=2, num_gpus=2)
    whole = Counter.options(num_gpus=1).remote()
    halves = [Counter.options(num_gpus=0.5, num_cpus=0).remote() for _ in range(2)]
    (kept,), environment = ray.get(whole.show_gpus.remote(), timeout=LIMIT_S)
    assert environment == str(kept)
    shared = ray.get([half.show_gpus.remote() for half in halves], timeout=LIMIT_S)
    assert shared == [([1 - kept], str(1 - kept))] * 2
    assert free("GPU") == 0
    refused = show_gpus.options(num_gpus=1, num_cpus=0).remote()
    assert ray.wait([refused], timeout=QUICK) == ([], [refused])
    ray.kill(whole)
    assert ray.get(refused, timeout=LIMIT_S) == ([kept], str(kept))


# --- more than there is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted", first_of([{"num_cpus": 100}, {"resources": {"moon": 1}}, {"num_gpus": 1}, {"memory": 1 << 48}], 2)
)
def test_an_infeasible_task_warns_and_blocks_nobody(start, monkeypatch, wanted):
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stderr", printed)
    start(num_cpus=1)
    ref = echo.options(name="greedy", **wanted).remote(1)
    assert ray.get([echo.remote(i) for i in range(20)], timeout=LIMIT_S) == list(range(20))
    (row,) = eventually(
        lambda: [row for row in ray.error_info() if row["type"] == "infeasible_task"], 5.0, "no warning"
    )
    assert "greedy" in row["message"]
    eventually(lambda: "[ray] greedy needs" in printed.getvalue(), 5.0, "nothing was printed")
    assert ray.wait([ref], timeout=QUICK) == ([], [ref])
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=LIMIT_S)
    assert all_free()


def test_amounts_beyond_counting_are_refused(start):
    for options in ({"num_cpus": 1e15}, {"num_gpus": 10**15}, {"memory": 1 << 60}, {"resources": {"x": 1e300}}):
        with pytest.raises(ValueError, match="above the largest amount that counts, 922337203685477"):
            echo.options(**options).remote(1)
        with pytest.raises(ValueError, match="above the largest amount"):
            start(**options)


def test_an_infeasible_actor_warns_and_blocks_nobody(start):
    start(num_cpus=1, log_to_driver=False)
    greedy = Counter.options(num_cpus=100).remote()
    ref = greedy.add.remote()
    assert ray.get(Counter.remote().add.remote(), timeout=LIMIT_S) == 1
    assert ray.get(echo.remote(1), timeout=LIMIT_S) == 1
    (row,) = eventually(
        lambda: [row for row in ray.error_info() if row["type"] == "infeasible_task"], 5.0, "no warning"
    )
    assert "Counter" in row["message"]
    assert ray.wait([ref], timeout=QUICK) == ([], [ref])
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=LIMIT_S)
    second = greedy.add.remote()
    ray.kill(greedy)
    with pytest.raises(RayActorError):
        ray.get(second, timeout=LIMIT_S)
    assert all_free()


def test_what_depends_on_an_infeasible_task_can_be_given_up(start):
    start(num_cpus=1, log_to_driver=False)
    ref = echo.options(num_cpus=2).remote(1)
    dependent = echo.remote(ref)
    assert ray.get(echo.remote(2), timeout=LIMIT_S) == 2
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(dependent, timeout=LIMIT_S)


# --- actors -----------------------------------------------------------------------------------------------------------


def test_more_actors_than_cpus_live_side_by_side(start):
    start(num_cpus=2)
    actors = [Counter.remote() for _ in range(8)]
    assert ray.get([actor.add.remote() for actor in actors], timeout=LIMIT_S) == [1] * 8
    assert eventually(lambda: free("CPU") == 2, 2.0, "they hold CPUs")
    assert ray.get([echo.remote(i) for i in range(4)], timeout=LIMIT_S) == [0, 1, 2, 3]


def test_an_actor_needs_a_cpu_to_be_placed(start, tmp_path):
    start(num_cpus=1)
    long = gather.remote(tmp_path, 2)
    wait_for(tmp_path, 1)
    actor = Counter.remote()
    ref = actor.add.remote()
    assert ray.wait([ref], timeout=QUICK) == ([], [ref])
    (tmp_path / "go").touch()
    ray.get(long, timeout=LIMIT_S)
    assert ray.get(ref, timeout=LIMIT_S) == 1


def kill(actor):
    ray.kill(actor)


def let_die(actor):
    with pytest.raises(RayActorError):
        ray.get(actor.die.remote(), timeout=LIMIT_S)


def terminate(actor):
    actor.__ray_terminate__.remote()


def drop(actor):
    pass


@pytest.mark.parametrize("end", first_of([kill, drop, let_die, terminate], 2))
def test_what_an_actor_holds_is_given_back_at_its_end(start, end):
    start(num_cpus=2, num_gpus=1, resources={"disk": 2}, log_to_driver=False)
    actor = Counter.options(num_cpus=1, num_gpus=1, resources={"disk": 0.5}).remote()
    assert ray.get(actor.add.remote(), timeout=LIMIT_S) == 1
    assert (free("CPU"), free("GPU"), free("disk")) == (1, 0, 1.5)
    second = Counter.options(num_cpus=2).remote()
    ref = second.add.remote()
    assert ray.wait([ref], timeout=QUICK) == ([], [ref])
    end(actor)
    del actor
    assert ray.get(ref, timeout=LIMIT_S) == 1  # it is placed where the first one was
    del second
    assert all_free()


def test_an_actor_holds_what_it_asks_for_and_no_cpu_if_it_asks_for_none(start):
    start(num_cpus=2, resources={"disk": 1})
    idle = Counter.options(num_cpus=0, resources={"disk": 1}).remote()
    assert ray.get(idle.add.remote(), timeout=LIMIT_S) == 1
    assert (free("CPU"), free("disk")) == (2, 0)
    busy = Counter.options(num_cpus=1.5).remote()
    assert ray.get(busy.add.remote(), timeout=LIMIT_S) == 1
    assert free("CPU") == 0.5


def test_a_failing_init_gives_back_what_it_was_placed_with(start):
    start(num_cpus=1, log_to_driver=False)

    @ray.remote(num_cpus=1)
    class Failing:
        def __init__(self):
            raise ValueError("no")

        def method(self):
            pass

    for _ in range(3):
        with pytest.raises(RayActorError):
            ray.get(Failing.remote().method.remote(), timeout=LIMIT_S)
    assert all_free()


def test_a_restarted_actor_holds_its_resources_once(start):
    start(num_cpus=2, log_to_driver=False)
    actor = Counter.options(num_cpus=1, max_restarts=1).remote()
    let_die(actor)

    def answers():
        try:
            return ray.get(actor.add.remote(), timeout=LIMIT_S)
        except RayActorError:
            return None

    assert eventually(answers, LIMIT_S, "it is not restarted") == 1
    assert free("CPU") == 1
    ray.kill(actor)
    assert all_free()
