"""The page "The Ray API" with a cluster: "you can connect to and use an existing Ray cluster".

The programs are as printed, but for the address, which is that of the test's cluster. What the page shows in comments
or says in words is asserted after it.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any

import msgspec
import psutil
import pytest
from tests.commands import LIMIT_S, Machine

from ray.builtin.redis_control.keys import KeySpace
from ray.runtime.cluster.control_server import open_link
from ray.runtime.cluster.key_file import read_key_file
from ray.runtime.driver.observer import SessionObserver
from ray.runtime.process.session_dirs import session_in
from ray.testing import eventually

DAY_MS = 24 * 3600 * 1000


#: That of nodes on one machine, and that of nodes on several.
EACH_TRANSPORT = pytest.mark.parametrize("cluster", ["unix", "routed"], indirect=True)


@pytest.fixture
def cluster(machine: Machine, request: pytest.FixtureRequest) -> Machine:
    """Two nodes of two processors each."""
    machine.environ["RAY_TRANSPORT"] = transport = getattr(request, "param", "unix")
    if transport == "routed":
        pytest.importorskip("ray_transport_zmq")
    machine.done("start", "--head", "--num-cpus", "2", "--node-name", "first")
    machine.done("start", f"--address={machine.address()}", "--num-cpus", "2", "--node-name", "second")
    return machine


def connected(cluster: Machine, program: str) -> str:
    """The program after the line that connects it."""
    return f'ray.init(redis_address="{cluster.address()}")\n{program}'


def line(program: subprocess.Popen[str]) -> str:
    """The next one that it prints itself."""
    assert program.stdout is not None
    found = program.stdout.readline()
    assert found, program.communicate(timeout=LIMIT_S)[1]
    return found.strip()


def tell(program: subprocess.Popen[str]) -> None:
    """Let a program go on that waits for a line."""
    assert program.stdin is not None
    program.stdin.write("\n")
    program.stdin.flush()


def nodes(cluster: Machine) -> dict[str, dict[str, Any]]:
    """{name: facts} of those that are alive."""
    return {node["node_name"]: node for node in cluster.status()["nodes"] if node["state"] == "alive"}


def processes(cluster: Machine, *besides: int) -> dict[tuple[int, float], str]:
    """{(pid, when it began): name} of all processes of the cluster, without the programs ``besides`` themselves."""
    found: dict[tuple[int, float], str] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("RAY_HOME") == str(cluster.home):
                family = [process, *process.children(recursive=True)]  # Redis has no environment to look at
                found |= {(each.pid, each.create_time()): each.name() for each in family if each.pid not in besides}
    return found


def workers(cluster: Machine) -> set[int]:
    """Pids of the workers of all nodes, as their managers know them."""
    found: set[int] = set()
    for facts in nodes(cluster).values():
        path = facts["session_dir"]
        with contextlib.closing(SessionObserver(path, session_in(path))) as observer:
            found |= set(observer.ask("workers")["pids"])
    return found


USES_BOTH = """
@ray.remote
def f(x):
    time.sleep(0.1)
    return ray.get_runtime_context().node_id

print(sorted(set(ray.get([f.remote(number) for number in range(40)]))), flush=True)
"""


SHUTS_DOWN = """
sys.stdin.readline()
ray.shutdown()
print("over", flush=True)
sys.stdin.readline()
"""


@EACH_TRANSPORT
def test_connecting_to_a_cluster(cluster):
    """ "The only thing you need in order to connect to it is the address of the Redis server." """
    [said] = cluster.run(connected(cluster, USES_BOTH))
    assert said == str(sorted(node["node_id"] for node in nodes(cluster).values()))


def test_no_process_is_started_or_ended(cluster):
    """ "Your script will not start up or shut down any processes." """
    before = processes(cluster)
    for name in ("ray::keeper", "ray::redis", "ray::node", "ray::zygote"):
        assert name in before.values()
    program = cluster.program(connected(cluster, USES_BOTH) + SHUTS_DOWN)
    line(program)
    known = workers(cluster)

    def new() -> set[int]:
        found = processes(cluster, program.pid)
        assert found.items() >= before.items()
        return {pid for pid, _ in found.keys() - before.keys()}

    eventually(lambda: new() <= known | workers(cluster), LIMIT_S, "only workers are new, which the nodes have started")
    assert psutil.Process(program.pid).children() == []
    tell(program)
    assert line(program) == "over"
    eventually(lambda: processes(cluster, program.pid) == before, LIMIT_S, "nothing is left, and all the rest is there")
    tell(program)
    assert program.wait(LIMIT_S) == 0
    program.communicate()
    assert processes(cluster) == before
    assert nodes(cluster).keys() == {"first", "second"}


COUNTS = """
@ray.remote
def f(x):
    return x + 1

print("joined", flush=True)
while sys.stdin.readline():
    print(ray.get([f.remote(x) for x in range(9)]), flush=True)
"""


def test_the_cluster_is_shared_by_several_scripts(cluster):
    """ "The cluster (...) may be shared between multiple scripts." The end of one is none of the others' business."""
    first, second = (cluster.program(connected(cluster, COUNTS)) for _ in range(2))
    for script in (first, second):
        assert line(script) == "joined"
        tell(script)
    results = str([*range(1, 10)])
    assert [line(first), line(second)] == [results, results]
    assert first.communicate(timeout=LIMIT_S)[0] == ""
    tell(second)
    assert line(second) == results
    assert second.communicate(timeout=LIMIT_S)[0] == ""
    assert (first.returncode, second.returncode) == (0, 0)


@pytest.mark.parametrize("how", ["redis_address", "address", "variable"])
def test_what_describes_the_machine_is_refused(cluster, how):
    """ "In this case, you cannot specify num_cpus or num_gpus in ray.init." """
    given = "" if how == "variable" else f'{how}="{cluster.address()}", '
    if how == "variable":
        cluster.environ["RAY_ADDRESS"] = cluster.address()
    said = cluster.run(f"""
        for options in ({{"num_cpus": 20}}, {{"num_gpus": 2}}):
            try:
                ray.init({given}**options)
            except ValueError as error:
                print(error)
        print(ray.is_initialized())
    """)
    cpus, gpus, is_initialized = said
    assert "num_cpus must not be provided" in cpus
    assert "num_gpus must not be provided" in gpus
    assert is_initialized == "False"


def test_connecting_again(cluster):
    """``ray.shutdown()`` ends the session of the script and nothing else."""
    [said] = cluster.run(f"""
        @ray.remote
        def f(x):
            return x + 1

        numbers, jobs = [], set()
        for number in range(3):
            ray.init(redis_address="{cluster.address()}")
            numbers.append(ray.get(f.remote(number)))
            jobs.add(ray.get_runtime_context().job_id)
            ray.shutdown()
        print(numbers, len(jobs))
    """)
    assert said == "[1, 2, 3] 3"
    assert nodes(cluster).keys() == {"first", "second"}


FAILS = """
@ray.remote
def f():
    raise Exception("This task failed!!")

f.remote()  # An error message will be printed in the background.

# Wait for the error to propagate to Redis.
import time
time.sleep(1)

ray.error_info()  # This returns a list containing the error message.
"""
TELLS = """
while not ray.error_info():
    time.sleep(0.05)  # a machine may be so busy that a second is not enough
[row] = ray.error_info()
assert row["type"] == "task"
assert "This task failed!!" in row["message"]
print(ray.get_runtime_context().job_id, flush=True)
sys.stdin.readline()
"""
OTHER = """
print(ray.error_info())
[row] = ray.error_info(job_id={job!r})
assert row["type"] == "task"
print(row["message"].splitlines()[0])
print(ray.error_info(job_id="00ffffff"))
"""


def test_viewing_errors(cluster):
    """ "The errors will also be accumulated in Redis and can be accessed with ray.error_info", those of one's own."""
    first = cluster.program(connected(cluster, FAILS + TELLS))
    job = line(first)
    for _ in range(2):  # while the script runs, and after its end
        for name, facts in nodes(cluster).items():
            asking = cluster.program(f'ray.init("unix:{facts["session_dir"]}")\n' + OTHER.format(job=job))
            out, err = asking.communicate(timeout=LIMIT_S)
            assert asking.returncode == 0, (name, err)
            assert out.splitlines() == ["[]", "Exception: This task failed!! in f", "[]"]
            assert "This task failed!!" not in err
        if first.returncode is None:
            out, err = first.communicate("\n", timeout=LIMIT_S)
            assert first.returncode == 0, err
            assert err.count("Exception: This task failed!! in") == 1
    key = read_key_file(str(cluster.key_path()))
    with contextlib.closing(open_link(key, 5.0)) as redis:
        at = KeySpace(key.name, key.session).key(f"errors:{job}").decode()
        found = redis.call("LRANGE", at, "0", "-1")
        assert isinstance(found, list)
        [row] = found
        assert isinstance(row, bytes)
        assert "This task failed!!" in msgspec.msgpack.decode(row)["message"]
        left_ms = eventually(lambda: redis.call("PTTL", at) != -1 and redis.call("PTTL", at), LIMIT_S, "it is to go")
        assert isinstance(left_ms, int)
        assert 0.9 * DAY_MS < left_ms <= DAY_MS


#: What the page prints after the part on clusters.
SNIPPETS = """
@ray.remote
def f(x):
    return x + 1

x_id = f.remote(0)
assert ray.get(x_id) == 1  # 1

y_id = f.remote(x_id)
assert ray.get(y_id) == 2  # 2


@ray.remote(num_return_vals=2)
def f():
    return 1, 2

x_id, y_id = f.remote()
assert ray.get(x_id) == 1  # 1
assert ray.get(y_id) == 2  # 2


@ray.remote
def f():
    return {'key1': ['value']}

# Get one object ID.
assert ray.get(f.remote()) == {'key1': ['value']}

# Get a list of object IDs.
assert ray.get([f.remote() for _ in range(2)]) == [{'key1': ['value']}, {'key1': ['value']}]


x_id = ray.put(1)
assert ray.get(x_id) == 1  # 1


import numpy as np

@ray.remote
def f(x):
    pass

x = np.zeros(10 ** 6)

# Alternative 1: Here, x is copied into the object store 10 times.
copied = [f.remote(x) for _ in range(10)]

# Alternative 2: Here, x is copied into the object store once.
x_id = ray.put(x)
shared = [f.remote(x_id) for _ in range(10)]

assert ray.get(copied + shared) == 20 * [None]


import time
import numpy as np

@ray.remote
def f(n):
    time.sleep(n)
    return n

# Start 3 tasks with different durations.
results = [f.remote(i) for i in range(3)]
# Block until 2 of them have finished.
ready_ids, remaining_ids = ray.wait(results, num_returns=2)

assert ray.get(ready_ids) == [0, 1]
assert remaining_ids == results[2:]

# Start 5 tasks with different durations.
results = [f.remote(i) for i in range(5)]
# Block until 4 of them have finished or 2.5 seconds pass.
ready_ids, remaining_ids = ray.wait(results, num_returns=4, timeout=2500)

assert 1 <= len(ready_ids) < 4
assert sorted([*ready_ids, *remaining_ids], key=results.index) == results


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
"""


@EACH_TRANSPORT
def test_the_other_snippets(cluster):
    """All the same as on one machine."""
    assert cluster.run(connected(cluster, SNIPPETS)) == 100 * ["[1]"]


@EACH_TRANSPORT
def test_numpy_arrays(cluster):
    """ "If you want to mutate a numpy array (...), you will have to first copy it", from whichever node it came."""
    said = cluster.run(
        connected(
            cluster,
            """
import numpy as np

@ray.remote
def f(seconds):
    time.sleep(seconds)
    return ray.get_runtime_context().node_id, np.ones(100_000)

found = ray.get([f.remote(0.1) for _ in range(20)])
for _, array in found:
    assert array.sum() == 100_000
    try:
        array[0] = 2
    except ValueError as error:
        assert "read-only" in str(error)
    else:
        raise AssertionError
    array = array.copy()
    array[0] = 2
print(len({node for node, _ in found}))
""",
        )
    )
    assert said == ["2"]
