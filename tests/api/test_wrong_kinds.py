"""Something of the wrong kind where a call wants references, an actor or a function: the error names the right call."""

import functools
import operator
import subprocess
import sys

import pytest
from tests.api.one_session import nothing_left, session

import ray
from ray.exceptions import ObjectStoreFullError, RayConnectionError

__all__ = ["nothing_left", "session"]


@ray.remote
def one():
    return 1


@ray.remote
class Counter:
    def get(self):
        return 0


class Adder:
    def __call__(self, x):
        return x + 1


@pytest.fixture(scope="module")
def actor(session):
    return Counter.remote()


SEVERAL = [
    (lambda a, b: ray.get(a, b), r"ray\.get\(\[ref1, ref2\]\)"),
    (lambda a, b: ray.get(a, [b]), r"ray\.get\(\[ref1, ref2\]\)"),
    (lambda a, b: ray.get([a], [b]), r"ray\.get\(\[ref1, ref2\]\)"),
    (lambda a, b: ray.get([a], timeout=b), r"ray\.get\(\[ref1, ref2\]\)"),
    (lambda a, b: ray.wait(a, b), r"ray\.wait\(\[ref1, ref2\]\)"),
    (lambda a, b: ray.wait([a], b), r"ray\.wait\(\[ref1, ref2\]\)"),
    (lambda a, b: ray.wait([a], 1, b), r"ray\.wait\(\[ref1, ref2\]\)"),
    (lambda a, b: ray.wait((a, b)), r"ray\.wait\(list\(it\)\)"),
    (lambda a, b: ray.get([a, [b]]), "One flat list"),
    (lambda a, b: ray.wait([a, [b]]), "One flat list"),
]


@pytest.mark.parametrize(("call", "text"), SEVERAL)
def test_several_references(call, text):
    with pytest.raises(TypeError, match=text):
        call(one.remote(), one.remote())


NO_REFERENCE = [
    (lambda actor: actor, r"actor\.method\.remote\(\)"),
    (lambda actor: actor.get, r"actor\.method\.remote\(\)"),
    (lambda actor: one, r"f\.remote\(\)"),
    (lambda actor: one.remote, r"f\.remote\(\)"),
    (lambda actor: Counter, r"A\.remote\(\) makes an actor"),
]


@pytest.mark.parametrize(("make", "text"), NO_REFERENCE)
def test_what_makes_references_is_none(actor, make, text):
    with pytest.raises(ValueError, match=text):
        ray.get(make(actor))
    with pytest.raises(TypeError, match=text):
        ray.get([one.remote(), make(actor)])
    with pytest.raises(TypeError, match=text):
        ray.wait([make(actor)])
    with pytest.raises(TypeError, match=text):
        ray.wait(make(actor))


CANCELLED = [
    (lambda actor: actor, r"ray\.kill\(actor\)"),
    (lambda actor: [actor], r"ray\.kill\(actor\)"),
    (lambda actor: actor.get, r"ray\.cancel\(ref\)"),
    (lambda actor: one, r"ray\.cancel\(ref\)"),
]


@pytest.mark.parametrize(("make", "text"), CANCELLED)
def test_cancel(actor, make, text):
    with pytest.raises(TypeError, match=text):
        ray.cancel(make(actor))


def test_options_of_cancel_and_kill_are_given_by_name(actor):
    ref = one.remote()
    for more in (True, ref):
        with pytest.raises(TypeError, match=r"ray\.cancel\(\[ref1, ref2\], force=True\)"):
            ray.cancel(ref, more)
    for more in (False, actor):
        with pytest.raises(TypeError, match=r"ray\.kill\(actor, no_restart=False\).*for actor in actors"):
            ray.kill(actor, more)
    assert ray.get([ref, actor.get.remote()]) == [1, 0]


KILLED = [
    (lambda actor: actor.get.remote(), r"ray\.cancel"),
    (lambda actor: actor.get, r"ray\.kill\(actor\)"),
    (lambda actor: Counter, r"actor = A\.remote\(\)"),
    (lambda actor: [actor], "for actor in actors"),
    (lambda actor: "name", r"ray\.kill\(ray\.get_actor\('name'\)\)"),
]


@pytest.mark.parametrize(("make", "text"), KILLED)
def test_kill(actor, make, text):
    with pytest.raises(ValueError, match=text):
        ray.kill(make(actor))
    assert ray.get(actor.get.remote()) == 0


def test_get_actor(actor):
    with pytest.raises(TypeError, match=r"Actor name must be a string.*is a handle already"):
        ray.get_actor(actor)
    with pytest.raises(TypeError, match=r"Actor name must be a string.*options\(name="):
        ray.get_actor(Counter)


NO_FUNCTION = [
    (lambda actor: actor, r"actor\.method\.remote\(\)"),
    (lambda actor: actor.get, r"actor\.method\.remote\(\)"),
    (lambda actor: Adder(), r"__call__.*make its class remote"),
    (lambda actor: functools.lru_cache(len), r"ray\.remote\(lambda"),
    (lambda actor: operator.itemgetter(1), r"ray\.remote\(lambda"),
    (lambda actor: iter([1]).__next__, r"ray\.remote\(lambda"),
    (lambda actor: str.upper, r"ray\.remote\(lambda"),
    (lambda actor: classmethod(len), "the whole class"),
    (lambda actor: 3, r"Use '@ray\.remote'"),
]


@pytest.mark.parametrize(("make", "text"), NO_FUNCTION)
def test_remote(actor, make, text):
    with pytest.raises(TypeError, match=text):
        ray.remote(make(actor))
    with pytest.raises(TypeError, match=text):
        ray.remote(num_cpus=1)(make(actor))


def test_what_the_texts_of_remote_say_works():
    numpy = pytest.importorskip("numpy")
    for function in (numpy.sum, numpy.add, numpy.add.__call__):
        with pytest.raises(TypeError, match=r"ray\.remote\(lambda"):
            ray.remote(function)
    total = ray.remote(lambda *args, **kwargs: numpy.sum(*args, **kwargs))
    refs = [total.remote([1, 2]), ray.remote(Adder().__call__).remote(2), ray.remote(len).remote("abc")]
    assert ray.get(refs) == [3, 3, 3]
    assert ray.get(ray.remote(functools.partial(int, "3")).remote()) == 3


@pytest.mark.parametrize("text", ["{:.2f}", "{:>60}", "{!s:.3}"])
def test_formats(text):
    ref = one.remote()
    assert f"{ref}" == repr(ref)
    if "!" in text:
        assert text.format(ref) == "Obj"
        return
    with pytest.raises(TypeError, match=r"is a reference to a value.*format\(ray\.get\(ref\), '"):
        text.format(ref)


def test_positional_arguments_of_init():
    with pytest.raises(RuntimeError):
        ray.init(4)
    said = run("import ray\ntry:\n    ray.init(4)\nexcept TypeError as error:\n    print(error)")
    assert "ray.init(num_cpus=4)" in said
    said = run("import ray\ntry:\n    ray.init({'num_cpus': 2})\nexcept TypeError as error:\n    print(error)")
    assert "ray.init(**options)" in said


AFTERWARDS = """
import ray
def say():
    try:
        ray.put(1)
    except ray.exceptions.RayConnectionError as error:
        print(error)
say()
ray.init(local_mode=True)
ray.shutdown()
say()
with ray.init(local_mode=True):
    ray.put(1)
say()
"""


def test_before_and_after_a_session():
    before, after, again = run(AFTERWARDS).splitlines()
    assert before == "Ray has not been started yet. You can start Ray with 'ray.init()'."
    assert after == again
    assert "was shut down" in after
    assert "start Ray again with 'ray.init()'" in after
    assert issubclass(RayConnectionError, ConnectionError)


def test_a_full_store_names_what_frees_it():
    said = str(ObjectStoreFullError(10, 20, 15))
    for way in ("Delete references", "ray.get(ref, copy=True)", "fewer at a time", "ray.init(object_store_memory=...)"):
        assert way in said


@pytest.mark.parametrize("needed", [10, 30], ids=["full", "too-small"])
def test_a_full_store_names_the_option_of_clusters(needed):
    assert "or in a cluster `ray start --object-store-memory`, more" in str(ObjectStoreFullError(needed, 20, 15))


def run(program):
    """What a program prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=50).stdout.strip()
