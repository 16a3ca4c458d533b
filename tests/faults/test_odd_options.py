"""Options, names and numbers that no message can hold: refused at the call, or the failure of that call alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.sessions import shared, unchecked

import ray
from ray.exceptions import RayError, UnpicklableError
from ray.testing import eventually

PATIENCE_S = 30.0
LONE = "a\udc80"
HUGE = 1 << 70
#: Python refuses to write it.
VAST = 10**5000
_session = shared(num_cpus=2)
nothing_left = unchecked()


@ray.remote
def same(value: Any = None, **named: Any) -> Any:
    return named or value


@ray.remote
class Echo:
    def same(self, value: Any = None, **named: Any) -> Any:
        return named or value


def rename(target: Any, name: str) -> Any:
    target.__name__ = target.__qualname__ = name
    return target


@pytest.fixture(scope="module")
def bystander(_session: None) -> Iterator[Any]:
    yield Echo.remote()
    free_again()


@pytest.fixture(autouse=True)
def others_go_on(bystander: Any) -> Iterator[None]:
    """Whatever the test has done: tasks and actors run as before."""
    yield
    refs = [same.remote(number) for number in range(40)] + [bystander.same.remote(number) for number in range(40)]
    assert ray.get(refs, timeout=PATIENCE_S) == [*range(40), *range(40)]


def free_again() -> None:
    def free() -> str:
        return f"{ray.available_resources()} are free of {ray.cluster_resources()}"

    eventually(lambda: ray.available_resources() == ray.cluster_resources(), PATIENCE_S, free)


# --- refused at the call ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["max_calls", "max_retries", "priority", "num_returns"])
def test_a_number_beyond_64_bits_is_refused(name: str) -> None:
    for value in (1 << 63, 1 << 64, HUGE, VAST, -(1 << 63) - 1, -(1 << 64), -VAST):
        with pytest.raises(ValueError, match=f"^{name} must be at (most|least) -?[0-9]+, not "):
            same.options(**{name: value}).remote(1)
        with pytest.raises(ValueError, match=name):
            ray.remote(**{name: value})(lambda: None)


@pytest.mark.parametrize("name", ["max_concurrency", "max_restarts"])
def test_a_number_beyond_64_bits_is_refused_for_an_actor(name: str) -> None:
    for value in (1 << 63, HUGE, VAST):
        with pytest.raises(ValueError, match=f"^{name} must be at most 9223372036854775807, not "):
            Echo.options(**{name: value}).remote()


def test_other_numbers_of_actors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^max_task_retries must be at most"):
        Echo.options(max_restarts=1, max_task_retries=HUGE).remote()
    with pytest.raises(ValueError, match=r"^concurrency_groups\['io'\] must be at most"):
        Echo.options(concurrency_groups={"io": HUGE}).remote()
    echo = Echo.remote()
    with pytest.raises(ValueError, match=r"^num_returns must be at most"):
        echo.same.options(num_returns=HUGE).remote()
    with pytest.raises(ValueError, match=r"^max_task_retries must be at most"):
        ray.method(max_task_retries=HUGE)


@pytest.mark.parametrize("name", ["num_cpus", "num_gpus"])
def test_an_amount_beyond_every_float_is_refused(name: str) -> None:
    for value in (10**400, 1e300, VAST):
        with pytest.raises(ValueError, match=name):
            same.options(**{name: value})
        with pytest.raises(ValueError, match=name):
            Echo.options(**{name: value})
    with pytest.raises(ValueError, match=r"resources\['x'\] must be below"):
        same.options(resources={"x": 10**400})
    with pytest.raises(ValueError, match="memory"):
        same.options(memory=HUGE)


def test_a_time_beyond_every_float_is_refused() -> None:
    ref = same.remote(1)
    with pytest.raises(ValueError, match="timeout must be below"):
        ray.get(ref, timeout=10**400)
    with pytest.raises(ValueError, match="timeout must be below"):
        ray.wait([ref], timeout=10**400)
    with pytest.raises(ValueError, match="timeout_s must be below"):
        same.options(timeout_s=10**400)
    with pytest.raises(ValueError, match="num_returns"):
        ray.wait([ref], num_returns=VAST)
    assert ray.get(ref, timeout=1e300) == 1


def test_more_results_than_memory_holds_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="num_returns must be at most 1000000, not 1000001"):
        same.options(num_returns=1_000_001)


@pytest.mark.parametrize(
    "options", [{"max_calls": (1 << 63) - 1}, {"priority": (1 << 63) - 1}, {"priority": -(1 << 63)},
                {"max_retries": (1 << 63) - 1}, {"timeout_s": 1e300}, {"timeout_s": float("inf")}],
)  # fmt: skip
def test_the_limits_themselves_work(options: dict[str, Any]) -> None:
    assert ray.get(same.options(**options).remote(1), timeout=PATIENCE_S) == 1


@pytest.mark.parametrize("option", ["max_restarts", "max_concurrency"])
def test_the_limits_themselves_work_for_actors(option: str) -> None:
    options = {option: (1 << 63) - 1}
    assert ray.get(Echo.options(**options).remote().same.remote(1), timeout=PATIENCE_S) == 1


NAMES: dict[str, Callable[[], Any]] = {
    "a task": lambda: same.options(name=LONE).remote(1),
    "a resource": lambda: same.options(resources={LONE: 1}).remote(1),
    "an actor": lambda: Echo.options(name=LONE).remote(),
    "an actor to be found": lambda: Echo.options(name=LONE, get_if_exists=True).remote(),
    "a namespace": lambda: Echo.options(name="a", namespace=LONE).remote(),
    "a resource of an actor": lambda: Echo.options(resources={LONE: 1}).remote(),
    "a concurrency group": lambda: Echo.options(concurrency_groups={LONE: 1}).remote(),
    "a call": lambda: Echo.remote().same.options(name=LONE).remote(),
    "the group of a call": lambda: Echo.remote().same.options(concurrency_group=LONE).remote(),
    "a looked-up actor": lambda: ray.get_actor(LONE),
    "a looked-up namespace": lambda: ray.get_actor("a", namespace=LONE),
    "a method": lambda: ray.remote(type("Odd", (), {LONE: lambda self: 1})).remote(),
}


@pytest.mark.parametrize("what", NAMES)
def test_a_name_that_utf8_cannot_encode_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match=r"name 'a\\udc80' cannot be encoded in UTF-8") as caught:
        NAMES[what]()
    assert type(caught.value) is ValueError


def test_a_class_that_cannot_travel_is_refused_as_what_to_retry_on() -> None:
    class Held(Exception):
        lock = threading.Lock()

    with pytest.raises(UnpicklableError):
        same.options(retry_exceptions=[Held]).remote(1)


def test_a_class_that_cannot_travel_any_more_fails_the_call_alone() -> None:
    class Held(Exception):
        pass

    retries = same.options(retry_exceptions=[Held])
    assert ray.get(retries.remote(1), timeout=PATIENCE_S) == 1
    Held.lock = threading.Lock()  # type: ignore[attr-defined]
    refs = [retries.remote(2), same.remote(3)]
    with pytest.raises(UnpicklableError, match="the call of same"):
        ray.get(refs[0], timeout=PATIENCE_S)
    assert ray.get(refs[1], timeout=PATIENCE_S) == 3


# --- names that nobody has chosen -------------------------------------------------------------------------------------


def test_a_function_has_a_printable_name() -> None:
    def fails() -> None:
        raise KeyError(1)

    assert ray.get(ray.remote(rename(lambda: 1, LONE)).remote(), timeout=PATIENCE_S) == 1
    with pytest.raises(KeyError, match=r"in task a\\udc80"):
        ray.get(ray.remote(rename(fails, LONE)).remote(), timeout=PATIENCE_S)


def test_a_name_may_be_of_a_class_of_its_own() -> None:
    class Name(str):
        __slots__ = ()

    assert ray.get(ray.remote(rename(lambda: 1, Name("f"))).remote(), timeout=PATIENCE_S) == 1
    assert ray.get(same.options(name=Name("f")).remote(1), timeout=PATIENCE_S) == 1
    assert ray.get(same.remote(**{Name("x"): ray.put(1)}), timeout=PATIENCE_S) == {"x": 1}


def test_a_failure_may_say_anything() -> None:
    @ray.remote
    def fails() -> None:
        kind = rename(type("Odd", (Exception,), {}), "Odd")
        kind.__module__ = LONE
        raise kind(LONE)

    with pytest.raises(RayError, match=r"a\\udc80"):
        ray.get(fails.remote(), timeout=PATIENCE_S)


# --- what the checks do not see ---------------------------------------------------------------------------------------
# The name of a keyword argument that is a reference travels as such.


def test_a_call_that_cannot_be_sent_fails_alone() -> None:
    refs = [same.remote(**{LONE: ray.put(number)}) if number % 3 == 1 else same.remote(number) for number in range(60)]
    for number, ref in enumerate(refs):
        if number % 3 == 1:
            with pytest.raises(UnpicklableError, match="the call of same: 'utf-8' codec can't encode character"):
                ray.get(ref, timeout=PATIENCE_S)
        else:
            assert ray.get(ref, timeout=PATIENCE_S) == number


def test_a_call_of_an_actor_that_cannot_be_sent_fails_alone_and_in_order() -> None:
    echo = Echo.remote()
    refs = [echo.same.remote(**{LONE: ray.put(1)}) if number % 3 == 1 else echo.same.remote(number)
            for number in range(60)]  # fmt: skip
    for number, ref in enumerate(refs):
        if number % 3 == 1:
            with pytest.raises(UnpicklableError, match=r"the call of Echo.same"):
                ray.get(ref, timeout=PATIENCE_S)
        else:
            assert ray.get(ref, timeout=PATIENCE_S) == number


def test_a_call_that_cannot_be_sent_waits_for_its_arguments_before() -> None:
    ref = same.remote(**{LONE: same.remote(1)})
    with pytest.raises(UnpicklableError):
        ray.get(ref, timeout=PATIENCE_S)


def test_a_large_argument_is_there_for_the_next_call() -> None:
    large = ray.put(b"x" * 50_000)
    for _ in range(3):
        with pytest.raises(UnpicklableError):
            ray.get(same.remote(**{LONE: large}), timeout=PATIENCE_S)
        assert len(ray.get(same.remote(large), timeout=PATIENCE_S)) == 50_000


def test_borrowed_references_in_a_call_that_cannot_be_sent_are_let_go() -> None:
    @ray.remote
    def borrows(refs: list[Any]) -> str:
        try:
            ray.get(same.remote(refs, **{LONE: ray.put(refs)}), timeout=PATIENCE_S)
        except UnpicklableError:
            return "alone"
        return "sent"

    assert ray.get(borrows.remote([ray.put(1), ray.put(2)]), timeout=PATIENCE_S) == "alone"


@pytest.mark.parametrize("name", [None, "named"])
def test_an_actor_that_cannot_be_sent_is_refused(name: str | None) -> None:
    @ray.remote
    class Takes:
        def __init__(self, **named: Any) -> None:
            pass

    with pytest.raises(UnpicklableError):
        Takes.options(name=name).remote(**{LONE: ray.put(1)})
    if name:
        with pytest.raises(UnpicklableError):
            Takes.options(name=name, get_if_exists=True).remote(**{LONE: ray.put(1)})
        with pytest.raises(ValueError, match="does not exist"):
            ray.get_actor(name)


def test_an_actor_that_cannot_be_sent_when_its_arguments_are_there_is_dead(tmp_path: Path) -> None:
    @ray.remote
    def wait_for(path: Path) -> None:
        eventually(path.exists, PATIENCE_S)

    @ray.remote
    class Takes:
        def __init__(self, **named: Any) -> None:
            pass

        def method(self) -> None:
            pass

    takes = Takes.remote(**{LONE: wait_for.remote(tmp_path / "go")})
    (tmp_path / "go").touch()
    with pytest.raises(RayError, match="codec can't encode"):
        ray.get(takes.method.remote(), timeout=PATIENCE_S)


@pytest.mark.parametrize("changed", [{"priority": 1 << 64}, {"resources": {LONE: 1}}, {"max_calls": 1 << 64}])
def test_what_no_check_has_refused_fails_alone(changed: dict[str, Any]) -> None:
    """As an option would that is not checked: here the checks are got round."""
    odd = same.options(name="odd")
    odd._options = msgspec.structs.replace(odd._options, **changed)
    for ref in [odd.remote(number) for number in range(3)]:
        with pytest.raises(UnpicklableError, match="the call of odd"):
            ray.get(ref, timeout=PATIENCE_S)


# --- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ("num_cpus", {"num_cpus": 10**400}),
        ("num_gpus must be at most 10000", {"num_gpus": 1e14}),
        ("num_gpus must be at most 10000", {"num_gpus": 10_001}),
        ("UTF-8", {"namespace": LONE}),
        ("UTF-8", {"resources": {LONE: 1}}),
        ("memory", {"memory": HUGE}),
        ("object_store_memory", {"object_store_memory": HUGE}),
    ],
)
def test_a_session_refuses_what_no_message_can_hold(said: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=said):
        ray.init(ignore_reinit_error=True, **options)


PROGRAM = """
import os, sys
import ray
if sys.argv[1] == "executable":
    sys.executable = [None, ""][int(sys.argv[2])]
    try:
        ray.init(num_cpus=1)
    except ray.exceptions.RaySystemError as error:
        assert "sys.executable is" in str(error), error
        print("refused")
else:
    import beside
    with ray.init(num_cpus=1):
        os.mkdir("later"); sys.path.append(os.path.abspath("later"))
        open("later/later_module.py", "w").write("def there(): return 2")
        def finds():
            import later_module
            return later_module.there()
        print(ray.get([ray.remote(beside.there).remote(), ray.remote(finds).remote()], timeout=30))
"""


def program(folder: bytes, *arguments: str) -> str:
    path = os.path.join(folder, b"program.py")
    with open(path, "w") as file:
        file.write(PROGRAM)
    done = subprocess.run(
        [sys.executable, path, *arguments], cwd=folder, capture_output=True, timeout=50, check=False,
        env={**os.environ, "TMPDIR": os.fsdecode(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_a_program_may_be_in_a_folder_whose_name_is_not_in_utf8(tmp_path: Any) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"odd-\xff")
    os.mkdir(folder)
    with open(os.path.join(folder, b"beside.py"), "w") as file:
        file.write("def there(): return 1")
    assert program(folder, "folder") == "[1, 2]\n"


@pytest.mark.parametrize("at", ["0", "1"])
def test_without_an_interpreter_a_session_says_so(tmp_path: Any, at: str) -> None:
    assert program(os.fsencode(tmp_path), "executable", at) == "refused\n"
