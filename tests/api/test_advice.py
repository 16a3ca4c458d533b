"""What messages say to those who take one thing for another, and that nobody else is disturbed."""

import copy
import datetime
import functools
import logging
import pickle
import threading
import types

import pytest
from tests.api.one_session import nothing_left, session

import ray
from ray.exceptions import UnpicklableError

__all__ = ["nothing_left", "session"]


@ray.remote
def one():
    return 1


# --- attributes of references -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("get", "ray.get(ref)."),
        ("compute", "ray.get(ref)."),
        ("append", "ray.get(ref).append."),
        ("shape", "ray.get(ref).shape."),
    ],
)
def test_an_attribute_of_the_value(name, instead):
    with pytest.raises(AttributeError) as caught:
        getattr(one.remote(), name)
    assert str(caught.value).startswith(f"'ObjectRef' object has no attribute {name!r}: it is a reference")
    assert str(caught.value).endswith(f"ray.get(ref) gives the value, as in {instead}")
    assert caught.value.name == name


def test_who_only_looks_finds_nothing():
    ref = one.remote()
    names = ("__array__", "__array_interface__", "__dataframe__", "_repr_html_", "dtype", "shape", "to_numpy", "keys")
    assert [name for name in names if hasattr(ref, name)] == []
    assert getattr(ref, "nothing", 5) == 5
    with pytest.raises(AttributeError, match=r"^'ObjectRef' object has no attribute '__array__'$"):
        _ = ref.__array__
    assert not hasattr(ray.ObjectRef, "get")
    assert {"get", "append", "keys"}.isdisjoint(dir(ref))
    assert "future" in dir(ref)
    assert copy.copy(ref) is copy.deepcopy(ref) is ref
    assert pickle.loads(pickle.dumps(ref)) == ref
    assert ray.get(ref) == 1


def test_data_libraries_take_refs_for_objects():
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    refs = [one.remote(), ray.put({"a": 1})]
    assert list(numpy.array(refs)) == refs
    assert list(pandas.Series(refs)) == refs
    assert list(pandas.DataFrame({"refs": refs})["refs"]) == refs


# --- what cannot be pickled -------------------------------------------------------------------------------------------


class Refuses:
    def __reduce__(self):
        raise ValueError("no pickling!")


def classes():
    """They are sent by value, as those of a script are."""

    class Calls:
        def which(self):
            return super().__repr__()

        def lives(self):
            return [super() for _ in range(2)], Calls

        held = threading.Lock()

    class Lists:
        def which(self):
            return super().__repr__()

        parts = [functools.partial(print, [threading.Lock()])]

    class Caches:
        def which(self):
            return super().__repr__()

        cached = types.SimpleNamespace(lock=threading.Lock())

    return [(Calls, ".held"), (Lists, ".parts[0].args[0][0]"), (Caches, ".cached.lock")]


@pytest.mark.parametrize(("cls", "path"), classes())
def test_what_leads_back_is_not_to_blame(cls, path):
    for what in (cls, lambda: cls()):
        with pytest.raises(UnpicklableError) as caught:
            ray.put(what)
        *_, where, kind = caught.value.path.split(" → ")
        assert (where, kind) == (path, "<class '_thread.lock'>")
        assert "which" not in caught.value.path


def test_what_only_leads_back():
    refuses = Refuses()
    refuses.me = refuses
    with pytest.raises(UnpicklableError, match="Refuses"):
        ray.put([refuses])


def test_who_refuses_is_not_told_how_to():
    with pytest.raises(UnpicklableError) as caught:
        ray.put([Refuses()])
    assert "no pickling! Its class says so itself: leave it out, or send what it can be made from." in str(caught.value)


def test_what_was_made_in_the_task_is_not_to_be_made_there(session):
    @ray.remote
    def lock():
        return threading.Lock()

    with pytest.raises(UnpicklableError, match="Remove it, create it where it is used") as caught:
        ray.get(lock.remote())
    if session != "local_mode":
        assert caught.value.__notes__[0].startswith("raised for what was sent by task ")


def test_what_goes_very_deep_is_shown_at_its_ends():
    value = threading.Lock()
    for _ in range(58):
        value = {"a key of some length": value}
    with pytest.raises(UnpicklableError) as caught:
        ray.put(value)
    assert "…" in str(caught.value)
    assert len(str(caught.value)) < 700


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_method_that_was_made_remote():
    class Broken:
        @ray.remote
        def method(self):
            return 1

    with pytest.raises(TypeError, match=r"missing a required argument: 'self'.*put @ray.remote on its class"):
        Broken().method.remote()


def test_no_limit_has_no_unit(monkeypatch, caplog):
    monkeypatch.setattr("ray.units._hinted", False)
    with caplog.at_level(logging.WARNING, "ray"):
        ray.wait([one.remote()], timeout=float("inf"))
        ray.wait([one.remote()], timeout=datetime.timedelta(seconds=20))
        assert "milliseconds" not in caplog.text
        ray.wait([one.remote()], timeout=9000.0)
    assert "milliseconds" in caplog.text


def test_a_function_of_no_module():
    names = {"ray": ray}
    exec("@ray.remote\ndef f():\n    return 3", names)
    assert repr(names["f"]) in ("RemoteFunction(f)", "RemoteFunction(builtins.f)")
    assert ray.get(names["f"].remote()) == 3


def test_options_of_a_handle_are_those_of_its_methods():
    @ray.remote
    class Counter:
        def add(self):
            return 1

    with pytest.raises(AttributeError, match=r"handle\.method\.options\(\.\.\.\)\.remote\(\.\.\.\), or of the class"):
        Counter.remote().options(name="x")


def test_num_returns_of_other_releases():
    with pytest.raises(ValueError, match=r"not 'dynamic'. It is not in this release. num_returns='streaming' gives"):
        ray.remote(num_returns="dynamic")(lambda: 1)
