"""Sessions of programs whose standard streams are closed."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import textwrap

import pytest
from tests import victims
from tests.quick import crossed

SUBSETS = [
    pytest.param(subset, marks=[] if subset == (0, 1, 2) else [pytest.mark.slow], id="".join(map(str, subset)))
    for count in (1, 2, 3)
    for subset in itertools.combinations(range(3), count)
]

_PROGRAM = textwrap.dedent("""
    import json, os, sys, traceback

    def is_null(descriptor):
        return os.readlink(f"/proc/self/fd/{descriptor}") == "/dev/null"

    answer = {}
    try:
        import ray
        ray.init(num_cpus=1)

        @ray.remote
        def streams():
            print("printed")
            print("printed", file=sys.stderr)
            return [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]

        answer["worker"] = ray.get(streams.remote(), timeout=30)
        answer["large"] = len(ray.get(ray.put(bytes(1_000_000))))
        answer["driver"] = [number for number in range(3) if is_null(number)]
        ray.shutdown()
        answer["end"] = "fine"
    except BaseException:
        answer["error"] = traceback.format_exc()
    with open(sys.argv[1], "w") as file:
        json.dump(answer, file)
""")
_CLOSE_AND_RUN = (
    "import os, sys; [os.close(int(n)) for n in sys.argv[1].split(',')]; os.execv(sys.argv[2], sys.argv[2:])"
)
_CLOSE_AND_GO_ON = "import os, sys; [os.close(int(n)) for n in sys.argv.pop(2).split(',')]\n" + _PROGRAM


def check(command, tmp_path, closed):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=50, check=False)
    answer = json.loads((tmp_path / "answer").read_text())
    assert answer.get("end") == "fine", answer
    assert done.returncode == 0, done
    assert answer["large"] == 1_000_000
    assert all(number in answer["driver"] for number in closed)
    first, *others = answer["worker"]
    assert first == "/dev/null"
    assert all(other.startswith("pipe:") for other in others)


@pytest.mark.parametrize("closed", SUBSETS)
def test_streams_closed_before_the_program(tmp_path, closed):
    numbers = ",".join(map(str, closed))
    program = [sys.executable, "-c", _PROGRAM, str(tmp_path / "answer")]
    check([sys.executable, "-c", _CLOSE_AND_RUN, numbers, *program], tmp_path, closed)


@pytest.mark.parametrize("closed", [pytest.param((0, 1, 2), marks=pytest.mark.slow), (2,)], ids=["012", "2"])
def test_streams_closed_by_the_program(tmp_path, closed):
    numbers = ",".join(map(str, closed))
    check([sys.executable, "-c", _CLOSE_AND_GO_ON, str(tmp_path / "answer"), numbers], tmp_path, closed)


_FAILING = textwrap.dedent("""
    import json, os, signal, sys, time
    import ray
    from ray.exceptions import NodeDiedError, RayActorError
    from tests.faults.rude_peer import RudePeer

    class Broken:
        def write(self, text):
            raise BrokenPipeError("nobody reads this")
        def flush(self):
            pass

    def break_stderr(how):
        if how == "closed":
            sys.stderr.close()
        else:
            sys.stderr = {"broken": Broken(), "none": None}[how]

    @ray.remote
    class Leaver:
        def leave(self, how):
            break_stderr(how)
            sys.exit("a reason")

    @ray.remote
    def one():
        return 1

    @ray.remote
    def rest():
        time.sleep(60)

    how = sys.argv[1]
    break_stderr(how)
    context = ray.init(num_cpus=2)
    try:
        ray.get(Leaver.remote().leave.remote(how), timeout=30)
    except RayActorError as error:
        reason = error.reason
    with RudePeer(context, os.path.join(context.address_info["session_dir"], "driver.sock")) as peer:
        peer.send(b"nonsense")
        peer.is_hung_up_on()
    answer = ray.get(one.remote(), timeout=30)
    os.kill(int(ray.nodes()[0]["Pid"]), signal.SIGKILL)
    try:
        ray.get(rest.remote(), timeout=30)
    except NodeDiedError:
        died = True
    ray.shutdown()
    print(json.dumps([reason, answer, died]))
""")


@pytest.mark.parametrize("how", ["closed", "broken", "none"])
def test_streams_that_take_nothing(how):
    """What would be said there is lost, and nothing else: neither calls nor threads fail with it."""
    assert victims.in_program(_FAILING, how) == ["sys.exit('a reason') was called", 1, True]


WITHOUT_DESCRIPTORS = """
import os, sys, threading, time
import ray

ray.init(num_cpus=1, log_to_driver=False, store=sys.argv[2])
kept = ray.put(bytes(500_000))

@ray.remote
def long():
    time.sleep(60)

def close_all():
    os.closerange(3, 1000)  # as code does that makes a daemon

ref = long.remote()
if sys.argv[1] == "before":
    close_all()
else:
    threading.Timer(1, close_all).start()
try:
    ray.get(ref, timeout=25)
except ray.exceptions.RayConnectionError:
    print("lost", flush=True)
ray.shutdown()
print("ended", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(("when", "store"), crossed(["before", "while it waits"], ["plasma", "heap", "shm"]))
def test_a_program_that_closes_everything_is_told_that_its_session_is_gone(when, store):
    program = [sys.executable, "-c", WITHOUT_DESCRIPTORS, when, store]
    done = subprocess.run(program, capture_output=True, text=True, timeout=50)
    assert done.stdout == "lost\nended\n", done.stderr[-2000:]
