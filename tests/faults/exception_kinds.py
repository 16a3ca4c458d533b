"""The kinds of exceptions that must cross from one process to another, as a table.

Each kind raises in ``run``; what arrives must be an instance of ``expected`` (and always of ``RayTaskError``), with
``text`` in its ``str``. Import it as the top-level module ``exception_kinds`` in every process concerned.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import email.message
import json
import sqlite3
import struct
import subprocess
import sys
import threading
import types
import urllib.error
import zlib
from collections.abc import Callable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Kind:
    """One row: how to fail, and what must arrive."""

    name: str
    run: Callable[[], Any]
    expected: type[BaseException] | None
    """What the arriving error must be an instance of; None where it is a plain RayTaskError on purpose."""
    text: str
    cause: type[BaseException] | None
    """Type of the arriving ``__cause__``; None where the original cannot come across."""


KINDS: list[Kind] = []


def kind(
    expected: type[BaseException] | None, text: str, cause: type[BaseException] | str | None = "expected"
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(run: Callable[[], Any]) -> Callable[[], Any]:
        arriving = expected if isinstance(cause, str) else cause
        KINDS.append(Kind(run.__name__, run, expected, text, arriving))
        return run

    return add


# --- ordinary ---------------------------------------------------------------------------------------------------------


class PlainError(Exception):
    pass


class TwoBasesError(ValueError, KeyError):
    pass


@kind(ValueError, "ValueError: no good")
def value_error():
    raise ValueError("no good")


@kind(KeyError, "KeyError: 'x'")
def key_error():
    return {}["x"]


@kind(PlainError, "PlainError: ('of my own', 2)")
def own_class():
    raise PlainError("of my own", 2)


@kind(TwoBasesError, "TwoBasesError: 'both'")
def two_bases():
    raise TwoBasesError("both")


@kind(PlainError, "PlainError")
def no_arguments():
    raise PlainError


@kind(ZeroDivisionError, "division by zero")
def zero_division():
    return 1 / 0


@kind(AssertionError, "AssertionError: checked")
def assertion():
    raise AssertionError("checked")


@kind(MemoryError, "MemoryError")
def memory_error():
    raise MemoryError("too much")


@kind(TimeoutError, "TimeoutError: late")
def timeout():
    raise TimeoutError("late")


@kind(NameError, "name 'not_there' is not defined")
def name_error():
    return not_there  # noqa: F821


@kind(ModuleNotFoundError, "No module named 'no_such_module'")
def import_error():
    import no_such_module  # noqa: F401


@kind(FileNotFoundError, "No such file or directory: '/no/such/file'")
def file_not_found():
    open("/no/such/file")  # noqa: SIM115


@kind(SyntaxError, "invalid syntax")
def syntax_error():
    compile("a b c", "program.py", "exec")


@kind(UnicodeDecodeError, "can't decode byte 0xff")
def unicode_decode():
    b"\xff".decode()


@kind(UnicodeEncodeError, "can't encode character")
def unicode_encode():
    "\udc00".encode()


@kind(PlainError, "\\udc80")
def lone_surrogate():
    raise PlainError("\udc80")


@kind(ValueError, "wrapped")
def with_notes():
    error = ValueError("wrapped")
    error.add_note("a note that helps")
    raise error


# --- of libraries and C -----------------------------------------------------------------------------------------------


@kind(struct.error, "unpack requires a buffer of 4 bytes")
def c_struct():
    struct.unpack("<I", b"")


@kind(zlib.error, "while decompressing data")
def c_zlib():
    zlib.decompress(b"nothing")


@kind(sqlite3.OperationalError, "no such table")
def c_sqlite():
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("select * from missing")
    finally:
        connection.close()


@kind(json.JSONDecodeError, "Expecting value")
def json_decode():
    json.loads("nothing")


@kind(subprocess.CalledProcessError, "returned non-zero exit status 3")
def called_process():
    subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=True)


@kind(urllib.error.HTTPError, "HTTP Error 503: Service Unavailable")
def http_error():
    raise urllib.error.HTTPError("http://x/", 503, "Service Unavailable", email.message.Message(), None)


@kind(urllib.error.URLError, "no route")
def url_error():
    raise urllib.error.URLError("no route")


@kind(concurrent.futures.CancelledError, "CancelledError")
def future_cancelled():
    raise concurrent.futures.CancelledError


# --- that steer the interpreter: they must not end the caller ---------------------------------------------------------


@kind(None, "KeyboardInterrupt", KeyboardInterrupt)
def keyboard_interrupt():
    raise KeyboardInterrupt


@kind(None, "SystemExit: 3", SystemExit)
def system_exit():
    sys.exit(3)


@kind(None, "GeneratorExit", GeneratorExit)
def generator_exit():
    raise GeneratorExit


@kind(None, "StopIteration: 7", StopIteration)
def stop_iteration():
    raise StopIteration(7)


@kind(None, "StopAsyncIteration", StopAsyncIteration)
def stop_async_iteration():
    raise StopAsyncIteration


@kind(None, "CancelledError", asyncio.CancelledError)
def asyncio_cancelled():
    raise asyncio.CancelledError


# --- chains, groups, sizes --------------------------------------------------------------------------------------------


@kind(RuntimeError, "inner cause")
def chained():
    try:
        raise ValueError("inner cause")
    except ValueError as error:
        raise RuntimeError("outer") from error


@kind(RuntimeError, "During handling of the above exception")
def in_context():
    try:
        {}["first"]
    except KeyError:
        raise RuntimeError("second")  # noqa: B904


@kind(PlainError, "link 99")
def chained_100_deep():
    error: BaseException | None = None
    for i in range(100):
        try:
            raise PlainError(f"link {i}") from error
        except PlainError as caught:
            error = caught
    assert error is not None
    raise error


@kind(PlainError, "PlainError: round")
def circular_chain():
    first, second = PlainError("and round"), PlainError("round")
    first.__cause__, second.__cause__ = second, first
    raise second


@kind(ExceptionGroup, "second member")
def exception_group():
    raise ExceptionGroup("several", [ValueError("first member"), TypeError("second member")])


@kind(ExceptionGroup, "KeywordOnlyError: in a group")
def group_of_odd_members():
    raise ExceptionGroup("several", [KeywordOnlyError(reason="in a group"), LockedError(), ReduceRaises("deep")])


@kind(None, "KeyboardInterrupt", BaseExceptionGroup)
def base_exception_group():
    raise BaseExceptionGroup("several", [KeyboardInterrupt(), ValueError("x")])


@kind(RecursionError, "maximum recursion depth exceeded")
def recursion():
    return recursion()


@kind(RecursionError, "maximum recursion depth exceeded")
def mutual_recursion():
    def ping(n):
        return pong(n + 1)

    def pong(n):
        return ping(n + 1)

    return ping(0)


@kind(ValueError, "characters left out")
def message_of_50_mb():
    raise ValueError("m" * 50_000_000)


@kind(PlainError, "PlainError: heavy")
def attribute_of_50_mb():
    error = PlainError("heavy")
    error.data = b"d" * 50_000_000
    raise error


# --- classes that Python's own way cannot rebuild ---------------------------------------------------------------------


class KeywordOnlyError(Exception):
    def __init__(self, *, reason):
        super().__init__(reason)
        self.reason = reason


class RewordingError(Exception):
    def __init__(self, code):
        super().__init__(f"failed with code {code}")
        self.code = code


class ManyArgumentsError(Exception):
    def __init__(self, a, b, c):
        super().__init__(f"{a}-{b}-{c}")
        self.parts = (a, b, c)


class NewTakesMore(ValueError):
    def __new__(cls, message, extra):
        made = super().__new__(cls, message)
        made.extra = extra
        return made

    def __init__(self, message, extra):
        super().__init__(message)


class OwnOSError(OSError):
    def __init__(self, host, port):
        super().__init__(111, f"refused by {host}:{port}")
        self.host = host


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__("slotted")
        self.code = code


class FieldNamesError(Exception):
    """Its attributes have the names of ours."""

    __slots__ = ("node",)

    @property
    def pid(self):
        return -1

    def __init__(self):
        super().__init__("same names")
        self.node = "mine"
        self.cause = "mine too"


@kind(KeywordOnlyError, "KeywordOnlyError: by keyword")
def keyword_only_init():
    raise KeywordOnlyError(reason="by keyword")


@kind(RewordingError, "RewordingError: failed with code 5")
def rewording_init():
    raise RewordingError(5)


@kind(ManyArgumentsError, "ManyArgumentsError: 1-2-3")
def many_arguments_init():
    raise ManyArgumentsError(1, 2, 3)


@kind(NewTakesMore, "NewTakesMore: fresh")
def odd_new():
    raise NewTakesMore("fresh", "extra")


@kind(OwnOSError, "refused by there:80")
def own_os_error():
    raise OwnOSError("there", 80)


@kind(SlottedError, "SlottedError: slotted")
def slots():
    raise SlottedError(9)


@kind(FieldNamesError, "FieldNamesError: same names")
def colliding_names():
    raise FieldNamesError


# --- contents that cannot travel --------------------------------------------------------------------------------------


class LockedError(Exception):
    def __init__(self):
        super().__init__("holds a lock")
        self.lock = threading.Lock()


@kind(LockedError, "LockedError: holds a lock")
def unpicklable_attribute():
    raise LockedError


@kind(PlainError, "PlainError")
def unpicklable_argument():
    raise PlainError("holds a generator", (i for i in ()))


@kind(PlainError, "PlainError: myself")
def refers_to_itself():
    error = PlainError("myself")
    error.me = error
    raise error


@kind(AttributeError, "has no attribute 'missing'")
def attribute_error_of_unpicklable():
    return threading.Lock().missing


# --- hostile methods --------------------------------------------------------------------------------------------------


class StrRaises(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class StrExits(Exception):
    def __str__(self):  # noqa: PLE0307
        sys.exit(1)


class ReprRaises(Exception):
    def __repr__(self):
        raise RuntimeError("no repr")


class ReduceRaises(Exception):
    def __reduce__(self):
        raise RuntimeError("not me")


class ReduceExits(Exception):
    def __reduce__(self):
        sys.exit(4)


class ReduceLoops(Exception):
    def __reduce__(self):
        while True:
            pass


class ReduceRecurses(Exception):
    def __reduce__(self):
        return self.__reduce__()


class ReduceNests(Exception):
    def __reduce__(self):
        return type(self), (ReduceNests(*self.args),)


class ReduceLies(Exception):
    def __reduce__(self):
        return dict, ()


class OpeningRaises(Exception):
    def __setstate__(self, state):
        raise RuntimeError("not to be opened")


class Falsy(Exception):
    def __bool__(self):
        return False


class EmptyLooking(Exception):
    def __len__(self):
        return 0


@dataclasses.dataclass
class DataError(Exception):
    code: int
    reason: str


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class GetAttributeRaises(Exception):
    def __getattribute__(self, name):
        if name == "cause":
            raise RuntimeError("not this one")
        return super().__getattribute__(name)


class Picky(type):
    def __new__(mcs, name, bases, namespace):
        if name.startswith("RayTaskError"):
            raise RuntimeError("no subclasses of others")
        return super().__new__(mcs, name, bases, namespace)


class PickyError(ValueError, metaclass=Picky):
    pass


class Registered(ValueError):
    def __init_subclass__(cls, *, code, **options):
        raise RuntimeError("subclasses need a code")


def _kind_of(cls: type[BaseException], text: str, *args: Any, plain: bool = False) -> None:
    def run() -> None:
        raise cls(*args)

    KINDS.append(Kind(cls.__name__, run, None if plain else cls, text, cls))


_kind_of(StrRaises, "its __str__ raised RuntimeError", "hidden")
_kind_of(StrExits, "its __str__ raised SystemExit", "hidden")
_kind_of(ReprRaises, "ReprRaises: fine", "fine")
_kind_of(ReduceRaises, "ReduceRaises: kept", "kept")
_kind_of(ReduceExits, "ReduceExits: kept", "kept")
_kind_of(ReduceLoops, "ReduceLoops: kept", "kept")
_kind_of(ReduceRecurses, "ReduceRecurses: kept", "kept")
_kind_of(ReduceNests, "ReduceNests: kept", "kept")
_kind_of(ReduceLies, "ReduceLies: kept", "kept")
_kind_of(OpeningRaises, "OpeningRaises: kept", "kept")
_kind_of(Falsy, "Falsy: but true", "but true")
_kind_of(EmptyLooking, "EmptyLooking: but full", "but full")
_kind_of(DataError, "DataError", 3, "because")
_kind_of(FrozenError, "FrozenError", 3)
_kind_of(GetAttributeRaises, "GetAttributeRaises: shy", "shy")
_kind_of(PickyError, "PickyError: alone", "alone", plain=True)
_kind_of(Registered, "Registered: listed", "listed")


# --- classes that are not importable ----------------------------------------------------------------------------------


@kind(LookupError, "Local: inside a function", LookupError)
def local_class():
    class Local(LookupError):
        pass

    raise Local("inside a function")


@kind(PlainError, "Bound: cannot travel", None)
def local_class_that_cannot_travel():
    class Bound(PlainError):
        lock = threading.Lock()

    raise Bound("cannot travel")


@kind(KeyError, "Missing: nobody knows me", None)
def class_missing_elsewhere():
    module = types.ModuleType("only_in_the_worker")
    exec("class Missing(KeyError):\n    def __str__(self): return 'nobody knows me'", module.__dict__)
    sys.modules["only_in_the_worker"] = module
    raise module.Missing("x")


# --- from unusual places ----------------------------------------------------------------------------------------------


@kind(PlainError, "PlainError: while iterating")
def inside_generator():
    def numbers() -> Iterator[int]:
        yield 1
        raise PlainError("while iterating")

    return list(numbers())


@kind(PlainError, "PlainError: in a coroutine")
def inside_coroutine():
    async def work() -> None:
        raise PlainError("in a coroutine")

    return asyncio.run(work())


@kind(PlainError, "PlainError: in a lambda")
def inside_lambda():
    fail = lambda: (_ for _ in ()).throw(PlainError("in a lambda"))  # noqa: E731
    return fail()
