"""What runs where and when: no task waits for a worker that is not needed elsewhere, and nothing stalls."""

import datetime
import os
import threading
import time
from pathlib import Path

import pytest
from tests.api.meeting import LIMIT_S, meet, peak, wait_for
from tests.stopwatch import Stopwatch
from tests.victims import workers

import ray
from ray.protocol.tasks import IDLE_HOLD_S
from ray.testing import eventually, inside

#: No single call may take longer than this, less what the machine takes for others.
STALL_S = 1.0

gather = ray.remote(meet)


@ray.remote
def echo(x):
    return x


@ray.remote
def pid(_=None):
    return os.getpid()


@ray.remote
def act(action, *arguments):
    """One function for long and short tasks, so that nothing is known of the next one."""
    return ACTIONS[action](*arguments)


def pause(seconds):
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic(), os.getpid()


def spin_until(folder, count):
    while len(os.listdir(folder)) < count:
        pass


def wait_inside(refs):
    while not ray.wait(refs, timeout=datetime.timedelta(seconds=5))[0]:
        pass
    return ray.get(refs)


ACTIONS = {
    "nothing": lambda: None,
    "touch": lambda folder, name: (Path(folder) / str(name)).touch(),
    "get": lambda refs: ray.get(refs),
    "wait": wait_inside,
    "pause": pause,
    "spin": spin_until,
}


def make_short(count=400):
    """Let ``act`` be known as short, so that many are pushed to one worker at a time."""
    ray.get([act.remote("nothing") for _ in range(count)], timeout=LIMIT_S)


# --- waiting inside tasks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["get", "wait"])
def test_a_blocked_worker_gives_back_its_cpu_and_what_it_has_not_started(start, tmp_path, how):
    start(num_cpus=1)
    make_short()
    gate = gather.options(num_cpus=0).remote(tmp_path, 31)
    blocked = act.remote(how, [gate])  # goes on when all behind it have run
    rest = [act.remote("touch", tmp_path, number) for number in range(30)]
    ray.get(rest, timeout=LIMIT_S)
    ray.get(blocked, timeout=LIMIT_S)


def test_three_levels_run_on_one_cpu(start):
    start(num_cpus=1)

    @ray.remote
    def child(x):
        return sum(ray.get([echo.remote(x), echo.remote(1)]))

    @ray.remote
    def parent(x):
        return sum(ray.get([child.remote(x), child.remote(x)]))

    assert ray.get([parent.remote(x) for x in range(6)], timeout=LIMIT_S) == [2 * x + 2 for x in range(6)]


def test_a_resumed_worker_takes_tasks_again(start):
    start(num_cpus=1)

    @ray.remote
    def parent():
        ray.get(pid.remote())
        return os.getpid()

    ray.get([parent.remote() for _ in range(10)], timeout=LIMIT_S)
    eventually(lambda: len(workers()) <= 4, LIMIT_S, "workers pile up")
    assert len(set(ray.get([pid.remote() for _ in range(20)], timeout=LIMIT_S))) == 1


# --- balance ----------------------------------------------------------------------------------------------------------


def test_short_tasks_behind_a_long_one_go_elsewhere(start, tmp_path):
    start(num_cpus=2)
    make_short()
    long = act.remote("spin", tmp_path, 1)
    ray.get([act.remote("nothing") for _ in range(500)], timeout=LIMIT_S)
    assert ray.wait([long], timeout=datetime.timedelta(0))[1] == [long]
    (tmp_path / "go").touch()
    ray.get(long, timeout=LIMIT_S)


def test_short_tasks_behind_a_long_one_get_a_worker_that_was_given_back(start, tmp_path):
    start(num_cpus=2)
    make_short()
    long = act.remote("spin", tmp_path, 1)
    eventually(lambda: inside.leases() == [1], 2.0, "there is more than one worker")
    ray.get([act.remote("nothing") for _ in range(50)], timeout=LIMIT_S)
    assert ray.wait([long], timeout=datetime.timedelta(0))[1] == [long]
    (tmp_path / "go").touch()
    ray.get(long, timeout=LIMIT_S)


def test_kinds_of_tasks_alternate_without_a_pause(start):
    start(num_cpus=1)
    kinds = [echo, echo.options(num_cpus=0.75)]
    began = Stopwatch()
    for number in range(100):
        assert ray.get(kinds[number % 2].remote(number), timeout=LIMIT_S) == number
    assert began.undisturbed_s() < 100 * IDLE_HOLD_S / 2


def test_unequal_durations_use_both_workers(start):
    start(num_cpus=2)
    make_short()
    rows = ray.get([act.remote("pause", 0.001 if number % 10 else 0.1) for number in range(100)], timeout=LIMIT_S)
    spans = [(began, ended) for began, ended, _ in rows]
    busy = {worker: sum(ended - began for began, ended, of in rows if of == worker) for *_, worker in rows}
    assert peak(spans) == 2
    assert len(busy) == 2
    assert min(busy.values()) > 0.25 * sum(busy.values())
    took = max(ended for _, ended in spans) - min(began for began, _ in spans)
    assert took < 0.8 * sum(ended - began for began, ended in spans)


def test_a_result_does_not_wait_for_the_long_task_behind_it(start, tmp_path):
    start(num_cpus=1)
    make_short()
    short = [act.remote("nothing") for _ in range(5)]
    long = act.remote("spin", tmp_path, 1)
    assert ray.get(short, timeout=LIMIT_S) == [None] * 5
    (tmp_path / "go").touch()
    ray.get(long, timeout=LIMIT_S)


def test_many_kinds_of_tasks_take_turns(start):
    start(num_cpus=2, resources={f"kind{number}": 1 for number in range(40)})
    kinds = [echo.options(num_cpus=0.5, resources={f"kind{number}": 1}) for number in range(40)]
    refs = [kind.remote((number, turn)) for turn in range(5) for number, kind in enumerate(kinds)]
    assert ray.get(refs, timeout=LIMIT_S) == [(number, turn) for turn in range(5) for number in range(40)]


def test_one_kind_of_tasks_does_not_keep_a_cpu_from_another(start):
    start(num_cpus=1)
    many = [act.remote("pause", 0.02) for _ in range(200)]
    ray.get(many[0], timeout=LIMIT_S)
    other = act.options(num_cpus=0.5).remote("nothing")
    ray.get(other, timeout=LIMIT_S)
    waiting = ray.wait(many, num_returns=len(many), timeout=datetime.timedelta(0))[1]
    assert len(waiting) > 20
    for ref in waiting:
        ray.cancel(ref)


def test_an_idle_lease_is_given_back(start):
    start(num_cpus=2)
    ray.get([echo.remote(number) for number in range(100)], timeout=LIMIT_S)
    inside.settled()
    eventually(lambda: not inside.leases(), 2.0, "leases are kept")


@pytest.mark.slow
def test_surplus_workers_end(start, tmp_path):
    start(num_cpus=1)
    ray.get([gather.options(num_cpus=0.125).remote(tmp_path, 8) for _ in range(8)], timeout=LIMIT_S)
    assert inside.ask_node("workers")["workers"] >= 8
    eventually(lambda: inside.ask_node("workers")["workers"] <= 1, LIMIT_S, "idle workers stay")
    assert ray.get(echo.remote(1), timeout=LIMIT_S) == 1


# --- order ------------------------------------------------------------------------------------------------------------


def test_higher_priority_goes_first(start, tmp_path):
    start(num_cpus=1)
    order = tmp_path / "order"
    room = tmp_path / "room"
    room.mkdir()

    @ray.remote
    def note(name):
        with order.open("a") as file:
            file.write(f"{name}\n")

    first = gather.remote(room, 2)
    wait_for(room, 1)  # the CPU is taken
    priorities = [0, 5, -3, 10, 5, 0, -3, 10]
    refs = [note.options(priority=priority).remote(f"{priority}") for priority in priorities]
    (room / "go").touch()
    ray.get([first, *refs], timeout=LIMIT_S)
    assert [int(name) for name in order.read_text().split()] == sorted(priorities, reverse=True)


def test_a_late_task_of_higher_priority_overtakes(start):
    start(num_cpus=1)
    low = [act.remote("pause", 0.01) for _ in range(60)]
    ray.get(low[0], timeout=LIMIT_S)
    ray.get(act.options(priority=1).remote("nothing"), timeout=LIMIT_S)
    waiting = ray.wait(low, num_returns=len(low), timeout=datetime.timedelta(0))[1]
    assert len(waiting) > 30
    ray.get(low, timeout=LIMIT_S)


def test_equal_tasks_run_in_the_order_of_submission(start, tmp_path):
    start(num_cpus=1)
    order = tmp_path / "order"

    @ray.remote
    def note(number):
        with order.open("a") as file:
            file.write(f"{number}\n")

    ray.get([note.remote(number) for number in range(200)], timeout=LIMIT_S)
    assert [int(number) for number in order.read_text().split()] == list(range(200))


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [1, 7])
def test_max_calls_replaces_the_process_and_loses_nothing(start, calls):
    start(num_cpus=2)
    count = 200 if calls > 1 else 40

    @ray.remote(max_calls=calls)
    def run(number):
        return number, os.getpid()

    rows = ray.get([run.remote(number) for number in range(count)], timeout=LIMIT_S)
    assert [number for number, _ in rows] == list(range(count))
    runs = {of: sum(of == other for _, other in rows) for _, of in rows}
    assert max(runs.values()) <= calls
    assert len(runs) >= count / calls


@pytest.mark.slow
def test_objects_survive_the_planned_end_of_the_process_that_owns_them(start):
    start(num_cpus=2)

    @ray.remote(max_calls=1)
    def make():
        return [ray.put("small"), ray.put(b"x" * 300_000)], os.getpid()

    @ray.remote
    class Maker:
        def make(self):
            return [ray.put("from an actor")]

    (small, large), pid = ray.get(make.remote(), timeout=LIMIT_S)
    maker = Maker.remote()
    (other,) = ray.get(maker.make.remote(), timeout=LIMIT_S)
    del maker
    time.sleep(7)  # longer than a process is given to end by itself
    assert ray.get(small, timeout=LIMIT_S) == "small"
    assert ray.get(large, timeout=LIMIT_S) == b"x" * 300_000
    assert ray.get(other, timeout=LIMIT_S) == "from an actor"
    assert ray.available_resources()["CPU"] == 2
    del small, large
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), LIMIT_S, "the process outlives its objects")


# --- nothing stalls ---------------------------------------------------------------------------------------------------


def slowest_of(count, call):
    """The longest that one of ``count`` calls takes, in seconds."""
    slowest = 0.0
    for number in range(count):
        began = Stopwatch()
        assert call(number) == number
        if began.elapsed_s() > slowest:
            slowest = max(slowest, began.undisturbed_s())
    return slowest


def in_threads(count, run):
    """Run ``run(index)`` in threads; returns what they return, or raises what one of them raises."""
    results = [None] * count

    def body(index):
        try:
            results[index] = run(index)
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=body, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive(), "a thread hangs"
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def get_echo(number):
    return ray.get(echo.remote(number), timeout=LIMIT_S)


def test_calls_one_by_one_do_not_stall(start):
    start(num_cpus=1)
    assert slowest_of(3000, get_echo) < STALL_S


def test_calls_of_an_actor_one_by_one_do_not_stall(start):
    start(num_cpus=1)

    @ray.remote
    class Echo:
        def echo(self, x):
            return x

    actor = Echo.remote()
    assert slowest_of(2000, lambda number: ray.get(actor.echo.remote(number), timeout=LIMIT_S)) < STALL_S


def test_calls_of_eight_threads_do_not_stall(start):
    start(num_cpus=2)
    assert max(in_threads(8, lambda index: slowest_of(250, get_echo))) < STALL_S


def test_calls_of_eight_threads_do_not_stall_beside_other_work(start):
    start(num_cpus=2)
    stop = threading.Event()
    background = []

    def submit():
        while not stop.is_set():
            background.extend(echo.remote(None) for _ in range(20))
            ray.wait(background[-1:], timeout=datetime.timedelta(seconds=LIMIT_S))

    other = threading.Thread(target=submit)
    other.start()
    try:
        slowest = max(in_threads(8, lambda index: slowest_of(250, get_echo)))
    finally:
        stop.set()
        other.join(LIMIT_S)
    assert slowest < STALL_S
    assert ray.get(background, timeout=LIMIT_S) == [None] * len(background)


def test_an_infeasible_task_does_not_slow_the_others(start):
    start(num_cpus=1, log_to_driver=False)

    def took():
        began = Stopwatch()
        slowest_of(500, get_echo)
        return began.undisturbed_s()

    get_echo(0)
    usual = took()
    greedy = echo.options(num_cpus=100).remote(1)
    assert min(took() for _ in range(3)) < 3 * max(usual, 0.05)
    ray.cancel(greedy)


def test_questions_are_answered_while_another_thread_waits(start, tmp_path):
    start(num_cpus=1)
    long = gather.remote(tmp_path, 2)

    def run(index):
        if index == 0:
            return ray.get(long, timeout=LIMIT_S)
        wait_for(tmp_path, 1)
        try:
            began = Stopwatch()
            for _ in range(50):
                assert ray.cluster_resources()["CPU"] == 1
                assert ray.available_resources()["CPU"] == 0
            return began.undisturbed_s()
        finally:
            (tmp_path / "go").touch()

    assert in_threads(2, run)[1] < 50 * STALL_S / 5


def test_results_arrive_while_the_program_computes(start, tmp_path):
    """A chain of tasks goes on though no thread waits for it."""
    start(num_cpus=1)
    ref = echo.remote(0)
    for _ in range(20):
        ref = act.remote("get", [ref])
    last = act.remote("touch", tmp_path, "done")
    end = time.monotonic() + LIMIT_S
    while not (tmp_path / "done").exists():
        assert time.monotonic() < end
        sum(range(1000))
    ray.get([ref, last], timeout=LIMIT_S)


@pytest.mark.slow
def test_thousands_of_waiting_actors_do_not_stall_the_node():
    @ray.remote
    class Waits:
        def here(self):
            return True

    with ray.init(num_cpus=1, log_to_driver=False):
        first = Waits.remote()
        assert ray.get(first.here.remote())
        waiting = [Waits.remote() for _ in range(3000)]
        assert ray.get(waiting[0].here.remote(), timeout=30)
        for actor in waiting:  # those whose handles only go run their constructors first
            ray.kill(actor)
        assert ray.get(Waits.remote().here.remote(), timeout=30)
        assert ray.available_resources()["CPU"] <= 1


@pytest.mark.parametrize("how", ["value", "ref", "keyword", "both"])
def test_large_constructor_arguments_survive_a_restart(start, tmp_path, how):
    """They do not pass through the node manager; the actor fetches them, each time it starts."""

    @ray.remote(max_restarts=1, max_task_retries=1)
    class Reader:
        def __init__(self, data, more=b""):
            self.size = len(data) + len(more)

        def read(self, path):
            if path and not path.exists():
                path.touch()
                os._exit(1)
            return self.size

    data = bytes(5_000_000)
    start(num_cpus=2)
    ref = ray.put(data)
    ways = {
        "value": ((data,), {}),
        "ref": ((ref,), {}),
        "keyword": ((b"",), {"more": data}),
        "both": ((data[:-1],), {"more": ref}),
    }
    args, kwargs = ways.pop(how)
    reader = Reader.remote(*args, **kwargs)
    del args, kwargs, ways, ref
    expected = len(data) * 2 - 1 if how == "both" else len(data)
    assert ray.get(reader.read.remote(None), timeout=20) == expected
    assert ray.get(reader.read.remote(tmp_path / "died"), timeout=20) == expected
