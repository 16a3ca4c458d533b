"""The page on locks and threads names every thread there is, and docstrings say truly which code has the lock."""

from __future__ import annotations

import ast
import builtins
import gc
import importlib
import pkgutil
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from tests import victims

import ray
import ray.protocol
import ray.runtime.owner
import ray.runtime.process
import ray.runtime.worker
from ray.exceptions import RayActorError, TaskCancelledError
from ray.testing import eventually, inside

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "threads.md"
TIMEOUT_S = 30
#: Where a worker keeps what it notes.
NOTED = "_ray_calls"

# --- which code has the lock ------------------------------------------------------------------------------------------

UNDER = re.compile(r"\b[Uu]nder the (runtime's )?lock\b|\bholds the runtime's lock\b")
OTHERWISE = re.compile(r"\b[Ww]ith(out| or without) the (runtime's )?lock\b|^See ``")


def says(thing: Any) -> bool | None:
    """What a docstring says: called under the lock, or not; None if nothing."""
    text = " ".join((getattr(thing, "__doc__", None) or "").split())
    return False if OTHERWISE.search(text) else True if UNDER.search(text) else None


def modules() -> Iterator[ModuleType]:
    for room in (ray.protocol, ray.runtime.owner, ray.runtime.process, ray.runtime.worker):
        for info in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            yield importlib.import_module(info.name)


def functions_of(module: ModuleType) -> Iterator[tuple[FunctionType, bool | None]]:
    """Each function, with what it, or else its class or its module, says."""
    for thing in vars(module).values():
        if getattr(thing, "__module__", None) != module.__name__:
            continue
        if isinstance(thing, FunctionType):
            yield thing, says(thing)
        elif isinstance(thing, type):
            by_class = says(thing) if says(thing) is not None else says(module)
            for name, method in vars(thing).items():
                if isinstance(method, FunctionType):
                    said = says(method)
                    yield method, by_class if said is None and not name.startswith("__") else said


#: {code of a function that is called under the lock: its name}
LOCKED: dict[CodeType, str] = {
    function.__code__: f"{module.__name__}:{function.__qualname__}"
    for module in modules()
    for function, said in functions_of(module)
    if said
}


def test_functions_that_are_called_under_the_lock_are_found() -> None:
    assert len(LOCKED) > 200


class Calls:
    """The calls of these functions, with the threads that make them noted by a profile function."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        #: Those without the lock.
        self.wrong: set[str] = set()

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or (name := LOCKED.get(frame.f_code)) is None:
            return
        self.seen.add(name)
        if not inside.has_lock():
            caller = frame.f_back
            self.wrong.add(f"{name}, by {caller.f_code.co_qualname if caller is not None else 'nobody'}")


@ray.remote
def begin() -> None:
    calls = Calls()
    setattr(builtins, NOTED, calls)
    sys.setprofile(calls.note)


@ray.remote
def noted() -> Calls:
    sys.setprofile(None)
    calls: Calls = getattr(builtins, NOTED)
    return calls


@ray.remote
def give(value: Any = None, after_s: float = 0.0) -> Any:
    time.sleep(after_s)
    return value


@ray.remote
def fail() -> None:
    raise ValueError("mine")


@ray.remote
def nest() -> Any:
    return ray.get(give.remote(1)), [ray.put(2), give.remote(3)]


@ray.remote
class Actor:
    def give(self, value: Any = None) -> Any:
        return value

    def count(self) -> Iterator[int]:
        yield from range(5)


def use_everything() -> None:
    """What programs do, with everything that arrives for it."""
    big = ray.put(b"x" * 300_000)
    refs = [ray.put(1), big, give.remote(big), give.remote([big]), give.remote(b"x" * 300_000), nest.remote()]
    assert len(ray.get(refs, timeout=TIMEOUT_S)) == len(refs)
    assert ray.get(ray.get(refs[-1])[1], timeout=TIMEOUT_S) == [2, 3]
    with pytest.raises(ValueError, match="mine"):
        ray.get(give.remote(fail.remote()), timeout=TIMEOUT_S)
    late = give.remote(1, 60)
    ray.wait([late], timeout=0.1)
    ray.cancel(late)
    with pytest.raises(TaskCancelledError):
        ray.get(late, timeout=TIMEOUT_S)
    actor = Actor.options(name="a").remote()
    assert ray.get(ray.get_actor("a").give.remote(give.remote(4)), timeout=TIMEOUT_S) == 4
    assert [ray.get(ref) for ref in actor.count.options(num_returns="streaming").remote()] == list(range(5))
    ray.kill(actor)
    with pytest.raises(RayActorError):
        ray.get(actor.give.remote(), timeout=TIMEOUT_S)
    assert give.remote(5).future().result(TIMEOUT_S) == 5
    del refs, late, actor
    gc.collect()


@pytest.fixture
def in_driver() -> Iterator[Calls]:
    """Calls of this thread and of those that begin meanwhile."""
    calls = Calls()
    threading.setprofile(calls.note)
    sys.setprofile(calls.note)
    yield calls
    sys.setprofile(None)
    threading.setprofile(None)  # type: ignore[arg-type]


def test_a_driver_has_the_lock_where_functions_say_so(in_driver: Calls) -> None:
    with ray.init(num_cpus=2, log_to_driver=False):
        use_everything()
    assert len(in_driver.seen) > 100
    assert in_driver.wrong == set()


def test_a_worker_has_the_lock_where_functions_say_so() -> None:
    with ray.init(num_cpus=1, log_to_driver=False):
        ray.get(begin.remote(), timeout=TIMEOUT_S)
        for _ in range(20):
            ray.get([give.remote(), nest.remote()], timeout=TIMEOUT_S)
        calls = ray.get(noted.remote(), timeout=TIMEOUT_S)
    assert len(calls.seen) > 20
    assert calls.wrong == set()


# --- what never runs under the lock -----------------------------------------------------------------------------------


class Value:
    """Notes where the program's code ran under the lock, in the process in which it did."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps

    def __reduce__(self) -> tuple[Any, ...]:
        return Value, ([*self.steps, f"pickled {inside.has_lock()}"],)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, [*value, f"made {inside.has_lock()}"])


@ray.remote
def pass_on(value: Value) -> list[Any]:
    return [Value([*value.steps, f"taken {inside.has_lock()}"]), ray.put(value)]


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_no_code_of_the_program_runs_under_the_lock(large: bool) -> None:
    told: list[bool] = []
    with ray.init(num_cpus=1, log_to_driver=False):
        value = Value(["x" * 200_000] if large else [])
        result, put = ray.get(pass_on.remote(ray.put(value)), timeout=TIMEOUT_S)
        steps = [*result.steps, *ray.get(put, timeout=TIMEOUT_S).steps, *ray.get(ray.put([value]))[0].steps]
        future = pass_on.remote(value).future()
        future.add_done_callback(lambda _: told.append(inside.has_lock()))
        future.result(TIMEOUT_S)
        eventually(lambda: told == [False])
    assert {step for step in steps if len(step) < 100} == {"pickled False", "made False", "taken False"}


# --- which threads there are ------------------------------------------------------------------------------------------


def threads_of_page() -> dict[str, tuple[set[str], set[str]]]:
    """{module that starts threads: (their names, the processes that they are in)}."""
    rows = re.findall(r"^\| (`[^|]*|no name) \| ([^|]*) \| `([\w.]+)` \|", PAGE.read_text(), re.MULTILINE)
    found: dict[str, tuple[set[str], set[str]]] = {}
    for names, processes, module in rows:
        known = found.setdefault(module, (set(), set()))
        known[0].update(re.findall(r"`([\w-]+)`", names) or [""])
        known[1].update(re.split(r", ", processes))
    return found


def threads_of_code() -> dict[str, set[str]]:
    """{module: names of the threads that it starts}; of names that are made, the beginning."""
    found: dict[str, set[str]] = {}
    for path in ROOT.glob("packages/*/src/**/*.py"):
        if "testing" in path.parts:
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts[3:])
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and STARTERS.fullmatch(ast.unparse(node.func)):
                given = [key.value for key in node.keywords if key.arg == "name"] or node.args[1:2]
                name = given[0].value if given and isinstance(given[0], ast.Constant) else ""
                if given and isinstance(given[0], ast.JoinedStr):
                    name = NAMES_THAT_ARE_MADE[module]
                found.setdefault(module, set()).add(name if isinstance(name, str) else "")
    return found


STARTERS = re.compile(r"(threading\.)?(Unawaited)?Thread|threading\.Timer|ThreadPoolExecutor|_thread\.start_new_thread")
NAMES_THAT_ARE_MADE = {"ray.builtin.executors": "ray-call"}


def test_the_page_names_each_place_that_starts_threads() -> None:
    assert {module: names for module, (names, _) in threads_of_page().items()} == threads_of_code()


def names_of(process: str) -> set[str]:
    return {name for names, processes in threads_of_page().values() if process in processes for name in names}


@ray.remote
def threads_here() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


@ray.remote(max_concurrency=2)
class Threaded:
    def threads_here(self) -> list[str]:
        return [thread.name for thread in threading.enumerate()]


def unknown(threads: list[str], process: str) -> set[str]:
    known = names_of(process) - {""}
    return {name for name in threads if not re.fullmatch(rf"(MainThread|{'|'.join(known)})([-_].*)?", name)}


def test_the_threads_of_a_session_are_on_the_page() -> None:
    others = {thread.name for thread in threading.enumerate()}
    with ray.init(num_cpus=2):
        use_everything()
        mine = [thread.name for thread in threading.enumerate() if thread.name not in others]
        assert "ray-reader" in mine
        assert unknown(mine, "driver") == set()
        workers = ray.get(threads_here.remote(), timeout=TIMEOUT_S)
        workers += ray.get(Threaded.remote().threads_here.remote(), timeout=TIMEOUT_S)
        assert {"ray-reader", "ray-call-0"} <= set(workers)
        assert unknown(workers, "worker") == set()


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads by /proc")
def test_node_manager_and_zygote_have_one_thread() -> None:
    with ray.init(num_cpus=2, log_to_driver=False, transport="unix"):
        use_everything()
        for pid in (victims.node_manager(), victims.zygote()):
            assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
