"""Exceptions whose own attributes raise: each fails its call, once, and harms nothing else."""

import threading

import pytest
from tests.quick import crossed, first_of

import ray
from ray.exceptions import DeserializationError, RayTaskError

LIMIT_S = 30


def refuse(self):
    raise ZeroDivisionError("not even this")


class OddClass(Exception):
    __class__ = property(refuse)  # type: ignore[assignment]


class OddArgs(Exception):
    args = property(refuse)  # type: ignore[assignment]


class OddTraceback(Exception):
    __traceback__ = property(refuse)  # type: ignore[assignment]


class OddAttributes(Exception):
    def __getattribute__(self, name):
        return refuse(self)


ODD = [OddClass, OddArgs, OddTraceback, OddAttributes]


def fail(kind, path):
    with open(path, "a") as file:
        print("ran", file=file)
    raise kind("it is odd")


odd_task = ray.remote(fail)


@ray.remote
class Plain:
    def fail(self, kind, path):
        fail(kind, path)

    def ping(self):
        return threading.active_count()


@pytest.fixture(params=[False, True], ids=["processes", "local_mode"])
def session(request):
    if request.param:
        with ray.init(local_mode=True):
            yield
    else:
        request.getfixturevalue("start")(num_cpus=2)
        yield


def told(ref):
    """(whether it is the error of a task, what it says); the error itself would be too much for pytest."""
    try:
        ray.get(ref, timeout=LIMIT_S)
    except BaseException as error:
        kind = type(error)
        text = RayTaskError.__str__(error) if issubclass(kind, RayTaskError) else ""
        return issubclass(kind, RayTaskError), f"{kind.__name__}: {text}"
    return False, "nothing was raised"


def runs(path):
    return path.read_text().split().count("ran")


@pytest.mark.parametrize("kind", ODD)
def test_a_task_fails_once(session, tmp_path, kind):
    path = tmp_path / "runs"
    is_error, text = told(odd_task.remote(kind, str(path)))
    assert is_error, text
    assert kind.__name__ in text
    assert "in fail" in text
    assert runs(path) == 1


@pytest.mark.parametrize(
    ("kind", "options"), crossed(ODD, [{}, {"max_concurrency": 2}, {"concurrency_groups": {"io": 1}}])
)
def test_an_actor_lives_on(session, tmp_path, kind, options):
    actor = Plain.options(**options).remote()
    path = tmp_path / "runs"
    for _ in range(3):
        is_error, text = told(actor.fail.remote(kind, str(path)))
        assert is_error, text
        assert kind.__name__ in text
    assert ray.get(actor.ping.remote(), timeout=LIMIT_S) >= 1
    assert runs(path) == 3


def raise_odd(kind):
    raise kind("it is odd")


class Unreadable:
    """Opens to an exception."""

    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return raise_odd, (self.kind,)


class Unwritable:
    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        raise self.kind("it is odd")


class OddText(Exception):
    def __str__(self):
        return refuse(self)

    __repr__ = __str__


def raised_by(call):
    """The type of what a call raises, and how that prints; the error itself would be too much for pytest."""
    try:
        call()
    except BaseException as error:
        return type(error), repr(error)
    return None, ""


@ray.remote
def take(value):
    return value


@pytest.mark.parametrize("kind", first_of([*ODD, OddText], 2))
def test_a_value_that_cannot_be_unpickled(session, kind):
    for ref in (ray.put(Unreadable(kind)), take.remote(Unreadable(kind))):
        found, _ = raised_by(lambda ref=ref: ray.get(ref, timeout=LIMIT_S))
        assert issubclass(found, (DeserializationError, RayTaskError))  # here, or in the task that takes it
    assert ray.get(take.remote(1), timeout=LIMIT_S) == 1


@pytest.mark.parametrize("kind", first_of([*ODD, OddText], 2))
def test_a_value_that_cannot_be_pickled(session, kind):
    value = Unwritable(kind)
    for call in (lambda: ray.put(value), lambda: take.remote(value), lambda: Plain.remote(value)):
        found, _ = raised_by(call)
        assert issubclass(found, TypeError)  # UnpicklableError, or that of a wrong number of arguments
