"""``inspect_serializability`` names what cannot be pickled; no session is needed."""

import io
import threading

import pytest

import ray
from ray.util import inspect_serializability
from ray.util.check_serialize import FailureTuple


def names(failures: set[FailureTuple]) -> set[str]:
    return {failure.name for failure in failures}


def with_lock():
    lock = threading.Lock()

    def use():
        with lock:
            return 1

    return use, lock


def test_what_can_be_sent():
    report = io.StringIO()
    assert inspect_serializability(with_lock, print_file=report) == (True, set())
    assert inspect_serializability({"a": [1, 2]}, "data", print_file=report) == (True, set())
    assert report.getvalue() == "with_lock can be serialized.\ndata can be serialized.\n"


def test_a_variable_of_a_closure():
    use, lock = with_lock()
    report = io.StringIO()
    can, failures = inspect_serializability(use, "use", print_file=report)
    (failure,) = failures
    assert (can, failure.name, failure.obj, failure.parent) == (False, "lock", lock, use)
    assert "use → closure variable 'lock' → <unlocked _thread.lock" in report.getvalue()
    assert "cannot pickle '_thread.lock' object" in report.getvalue()
    assert repr(failure).startswith("FailureTuple(lock [obj=<unlocked")


def test_the_report_is_on_stdout(capsys):
    inspect_serializability(threading.Lock(), "it")
    assert capsys.readouterr().out.startswith("it cannot be serialized:\n")


def test_all_parts_to_blame_are_found():
    first, second = threading.Lock(), threading.RLock()

    def use():
        return first, second, first

    can, failures = inspect_serializability(use, print_file=io.StringIO())
    assert (can, names(failures)) == (False, {"first", "second"})


def test_an_attribute_of_a_class_and_of_an_instance():
    _, lock = with_lock()

    class Holder:
        kept = lock

        def __init__(self):
            self.value = threading.Condition(lock)

    _, failures = inspect_serializability(Holder, print_file=io.StringIO())
    assert names(failures) == {"kept"}

    class Plain:
        pass

    plain = Plain()
    plain.lock = lock
    _, failures = inspect_serializability(plain, print_file=io.StringIO())
    assert names(failures) == {"lock"}


def test_what_is_decorated_is_looked_into():
    use, _ = with_lock()
    _, failures = inspect_serializability(ray.remote(use), print_file=io.StringIO())
    assert names(failures) == {"lock"}

    lock = threading.Lock()

    class Holder:
        kept = lock

    _, failures = inspect_serializability(ray.remote(Holder), print_file=io.StringIO())
    assert names(failures) == {"kept"}


def test_no_deeper_than_it_is_told():
    nested = {"a": {"b": {"c": threading.Lock()}}}
    assert names(inspect_serializability(nested, "it", print_file=io.StringIO())[1]) == {"['c']"}
    assert names(inspect_serializability(nested, "it", 1, io.StringIO())[1]) == {"['a']"}
    (failure,) = inspect_serializability(nested, "it", 0, io.StringIO())[1]
    assert (failure.name, failure.obj, failure.parent) == ("it", nested, nested)


def test_loops_end():
    loop = [threading.Lock()]
    loop.append(loop)
    assert names(inspect_serializability(loop, depth=50, print_file=io.StringIO())[1]) == {"[0]"}


def test_a_value_whose_way_to_be_shown_fails():
    class Bad:
        def __repr__(self):
            raise ValueError("no")

        def __reduce__(self):
            raise ValueError("not me")

    report = io.StringIO()
    assert names(inspect_serializability(Bad(), print_file=report)[1]) == {"<Bad>"}
    assert "not me" in report.getvalue()


@pytest.mark.parametrize("depth", [-1, 1.5, "3"])
def test_wrong_depths(depth):
    with pytest.raises((TypeError, ValueError), match="depth"):
        inspect_serializability(1, depth=depth)
