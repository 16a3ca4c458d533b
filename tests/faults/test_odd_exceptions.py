"""Exceptions whose own attributes raise: each fails its call, once, and harms nothing else."""

import threading

import pytest

import ray
from ray.exceptions import RayTaskError

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


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(
    "options", [{}, {"max_concurrency": 2}, {"concurrency_groups": {"io": 1}}], ids=["serial", "threads", "groups"]
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
