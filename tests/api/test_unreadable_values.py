"""Values that cannot be unpickled: the error names the object, the task that made it, and what went wrong."""

import asyncio
import pickle
import sys

import pytest
from tests.api.one_session import nothing_left, session
from tests.quick import crossed

import ray
from ray.exceptions import DeserializationError

__all__ = ["nothing_left", "session"]

LARGE = b"x" * 500_000


def refuse(kind, *args):
    raise kind(*args)


class Sealed:
    """Pickles, and does not come back."""

    def __init__(self, kind=KeyError, ballast=b""):
        self.kind = kind
        self.ballast = ballast

    def __reduce__(self):
        return refuse, (self.kind, "no way back", self.ballast[:5]), None if not self.ballast else {"b": self.ballast}


class Missing:
    """Its module is nowhere."""

    def __reduce_ex__(self, protocol):
        return eval, ("__import__('a_module_that_nobody_has')",)


@ray.remote
def make(*args):
    return Sealed(*args)


@ray.remote
def take(*given, **named):
    return len(given) + len(named)


@ray.remote
def count(number):
    for i in range(number):
        yield Sealed(ValueError) if i == 1 else i


@ray.remote
class Actor:
    def __init__(self, *given):
        pass

    def make(self):
        return Sealed()

    def take(self, *given):
        return len(given)

    def get(self):
        return 1


def check(error, kind=KeyError):
    assert isinstance(error, DeserializationError)
    assert isinstance(error, kind)
    assert type(error.__cause__) is kind
    assert f"cannot be unpickled (pid={error.pid}): {kind.__name__}: " in str(error)
    assert "in refuse" in str(error) or kind is ModuleNotFoundError
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    return str(error)


def caught_from(ref):
    with pytest.raises(DeserializationError) as caught:
        ray.get(ref, timeout=30)
    return caught.value


@pytest.mark.parametrize("ballast", [b"", LARGE])
def test_get_names_the_ref_and_the_task(ballast):
    ref = make.remote(KeyError, ballast)
    error = caught_from(ref)
    text = check(error)
    assert f"The value of {ref!r}, made by the task make, cannot be" in text
    assert (error.object_id, error.task) == (ref.binary(), "make")
    assert f"of {ref!r}" in check(caught_from([ray.put(1), ref]))


def test_of_calls_streams_and_puts():
    ref = Actor.remote().make.remote()
    assert f"{ref!r}, made by the task Actor.make," in check(caught_from(ref))
    first, second, third = count.options(num_returns="streaming").remote(3)
    assert ray.get([first, third]) == [0, 2]
    assert f"{second!r}" in check(caught_from(second), ValueError)
    stored = ray.put(Sealed(TypeError))
    assert f"The value of {stored!r} cannot be" in check(caught_from(stored), TypeError)
    assert "No module named" in check(caught_from(ray.put(Missing())), ModuleNotFoundError)


def test_await_and_futures():
    ref = make.remote()

    async def wait():
        return await ref

    with pytest.raises(DeserializationError) as caught:
        asyncio.run(wait())
    assert repr(ref) in check(caught.value)
    with pytest.raises(DeserializationError) as caught:
        ref.future().result(30)
    assert repr(ref) in check(caught.value)


def test_arguments():
    assert "An argument of take cannot be" in check(caught_from(take.remote(1, Sealed())))
    assert "An argument of take cannot be" in check(caught_from(take.remote(named=[Sealed(ballast=LARGE)])))
    assert "No module named" in check(caught_from(take.remote(Missing())), ModuleNotFoundError)
    ref = make.remote()
    assert repr(ref) in check(caught_from(take.remote(1, ref)))
    assert repr(ref) in check(caught_from(take.remote(named=ref)))
    actor = Actor.remote()
    assert "An argument of Actor.take cannot be" in check(caught_from(actor.take.remote(Sealed())))
    assert ray.get(actor.take.remote(1)) == 1


def test_arguments_of_constructors():
    for given in (Sealed(), make.remote()):
        with pytest.raises(ray.exceptions.RayActorError, match="no way back") as caught:
            ray.get(Actor.remote(given).get.remote(), timeout=30)
        assert isinstance(caught.value, KeyError)


# --- slots of exceptions ----------------------------------------------------------------------------------------------


class Slotted(Exception):
    __slots__ = ("code", "message", "nothing")

    def __init__(self, code):
        super().__init__("slotted")
        self.code = code
        self.message = "mine"
        self.nothing = None
        self.more = 4


class SlottedError(OSError):
    __slots__ = ("code",)


def test_slots_of_exceptions_travel():
    @ray.remote
    def fail():
        raise Slotted(7)

    @ray.remote
    def fail_as_system():
        error = SlottedError(2, "no", "file")
        error.code = 5
        raise error

    with pytest.raises(Slotted) as caught:
        ray.get(fail.remote())
    for error in (caught.value, caught.value.__cause__, pickle.loads(pickle.dumps(caught.value))):
        assert (error.code, error.message, error.nothing, error.more) == (7, "mine", None, 4)
    with pytest.raises(SlottedError) as caught:
        ray.get(fail_as_system.remote())
    assert (caught.value.code, caught.value.errno, caught.value.filename) == (5, 2, "file")


def test_slots_of_exceptions_that_are_sent_by_value():
    class Inner(Exception):
        __slots__ = ("code",)

    @ray.remote
    def fail():
        error = Inner("inner")
        error.code = 8
        raise error

    with pytest.raises(Inner) as caught:
        ray.get(fail.remote())
    assert caught.value.code == caught.value.__cause__.code == 8


class EndsThePrograms:
    def __reduce__(self):
        return sys.exit, (3,)


def test_a_value_that_exits_ends_no_program():
    ref = ray.remote(lambda: EndsThePrograms()).remote()
    with pytest.raises(DeserializationError, match=r"SystemExit\(3\)"):
        ray.get(ref)


class Raises:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return _raise, (self.error,)


def _raise(error):
    raise error


class AsyncActor:
    async def take(self, *args):
        return len(args)


@pytest.mark.parametrize(
    ("by_ref", "error"),
    crossed([False, True], [SystemExit(3), GeneratorExit("x"), asyncio.CancelledError(), BaseException("y")]),
)
def test_arguments_that_exit_end_nobody(error, by_ref):
    given = ray.put(Raises(error)) if by_ref else Raises(error)
    for actor in (None, Actor.remote(), ray.remote(AsyncActor).remote()):
        method = take if actor is None else actor.take
        with pytest.raises(DeserializationError, match=type(error).__name__):
            ray.get(method.remote(given), timeout=30)
        assert actor is None or ray.get(actor.take.remote(1), timeout=30) == 1
    with pytest.raises(ray.exceptions.RayActorError, match=type(error).__name__):
        ray.get(Actor.remote(given).get.remote(), timeout=30)
