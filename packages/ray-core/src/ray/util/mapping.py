"""``ray.map``: the built-in ``map`` over tasks or actors, lazy, with as much under way as keeps the session busy."""

from __future__ import annotations

import builtins
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, overload

from ray.api.actor_method import ActorMethod
from ray.api.inspection import cluster_resources
from ray.api.objects import get, wait
from ray.api.options import seconds, whole_number
from ray.api.remote_function import RemoteFunction
from ray.clock import monotonic, perf_counter
from ray.exceptions import GetTimeoutError
from ray.runtime.completion import current_session, session_of
from ray.runtime.interface import FunctionDescriptor
from ray.runtime.refs.ref import ObjectRef
from ray.util.chunking import ChunkSize, chunk_size, cut, flat, results_of, runner, zipped

__all__ = ["as_completed", "map", "map_unordered", "starmap"]

#: So many chunks are under way, or wait to be taken, for each processor of the session, or for each actor.
AHEAD = 4
#: A limit above this is none.
_LONGEST_S = 1e9
#: Options that are of each call: functions with one of these get a task for each item.
_PER_CALL = frozenset({"max_calls", "retry_exceptions", "timeout_s"})

R = TypeVar("R")
Pack: TypeAlias = Callable[[Sequence[Any]], tuple[Any, ...]]


class _Sent(NamedTuple):
    """A chunk under way."""

    ref: ObjectRef[Any]
    items: int
    seconds: float
    """How long it took to send."""


class _Way(Protocol):
    """How chunks are sent, and what comes back."""

    places: int
    """How many of them run at a time, or so."""
    one_by_one: bool
    """Whether a chunk is one item."""

    def send(self, chunk: Sequence[Any]) -> ObjectRef[Any]: ...
    def ended(self, ref: ObjectRef[Any]) -> None: ...


class _Chunked:
    """Each chunk is a task."""

    one_by_one = False

    def __init__(self, function: Callable[..., Any], given: dict[str, Any], name: str, pack: Pack) -> None:
        runs = runner(function, name)
        descriptor: FunctionDescriptor[Any] = FunctionDescriptor(runs)
        descriptor.name = name
        self._remote: Any = RemoteFunction(runs, given, descriptor=descriptor)
        self._pack = pack
        self.places = _cpus()

    def send(self, chunk: Sequence[Any]) -> ObjectRef[Any]:
        return self._remote.remote(*self._pack(chunk))  # type: ignore[no-any-return]

    def ended(self, ref: ObjectRef[Any]) -> None:
        """Nothing is kept of it."""


class _OneByOne:
    """Each item is a call: of a function whose options are of each call, or of one of several actors."""

    one_by_one = True

    def __init__(self, targets: Sequence[Any], places: int, pack: Pack) -> None:
        self._targets = targets
        self._pack = pack
        self._busy = [0] * len(targets)
        #: {ref: index of its target}
        self._where: dict[ObjectRef[Any], int] = {}
        self.places = places

    def send(self, chunk: Sequence[Any]) -> ObjectRef[Any]:
        at = self._busy.index(min(self._busy))
        target = self._targets[at]
        ref = target.remote(*self._pack(chunk)[1:])
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"map() needs a function that has one result; {target!r} returned {ref!r}")
        self._where[ref] = at
        self._busy[at] += 1
        return ref

    def ended(self, ref: ObjectRef[Any]) -> None:
        self._busy[self._where.pop(ref)] -= 1


@overload
def map(
    function: Callable[..., R] | RemoteFunction[Callable[..., R]],
    *iterables: Iterable[Any],
    ordered: bool = ...,
    limit: int | None = ...,
    chunksize: int | str = ...,
    progress: Callable[[int], object] | None = ...,
) -> Generator[R, None, None]: ...
@overload
def map(
    function: ActorMethod[Callable[..., R]] | Sequence[ActorMethod[Callable[..., R]]],
    *iterables: Iterable[Any],
    ordered: bool = ...,
    limit: int | None = ...,
    chunksize: int | str = ...,
    progress: Callable[[int], object] | None = ...,
) -> Generator[Any, None, None]: ...
def map(
    function: Any,
    *iterables: Iterable[Any],
    ordered: bool = True,
    limit: int | None = None,
    chunksize: int | str = "auto",
    progress: Callable[[int], object] | None = None,
) -> Generator[Any, None, None]:
    """Yield the results of a function for each item, as the built-in ``map``; calls are made ahead of what is yielded.

    Those that are under way when one fails, or the iteration is left, are cancelled; ``contextlib.closing`` makes that
    moment sure.

    Args:
        function: a function, with ``@ray.remote`` or without; or the method of an actor, or a list of such methods,
            ``[actor.run for actor in actors]``, among which the items are shared out.
        *iterables: arguments; taken as they are needed, until the shortest ends. References among them are replaced by
            their values.
        ordered: results come in the order of the items; else as they come.
        limit: how many chunks there may be whose results have not been yielded; by default 4 for each processor of the
            session, or each actor.
        chunksize: how many items a task has; "auto" measures, so that a task takes some milliseconds. Calls of actors,
            and of functions with ``retry_exceptions``, ``timeout_s`` or ``max_calls``, have one.
        progress: called with the number of results so far, each time that there are more.

    Raises:
        RayConnectionError: there is no session.
        TypeError, ValueError: an argument that is wrong.
        RayError: the first failure in the order of the items, or the first to come; after the results before it.
    """
    if not iterables:
        raise TypeError("map() needs an iterable of items")
    for items in iterables:
        _check_iterable("map()", items)
    return _started(function, *zipped(iterables), ordered, limit, chunksize, progress)


def starmap(
    function: Any,
    calls: Iterable[Iterable[Any]],
    *,
    ordered: bool = True,
    limit: int | None = None,
    chunksize: int | str = "auto",
    progress: Callable[[int], object] | None = None,
) -> Generator[Any, None, None]:
    """As ``map``, where each item has all arguments of a call: ``starmap(pow, [(2, 5), (3, 2)])``."""
    _check_iterable("starmap()", calls)
    return _started(function, builtins.map(tuple, calls), flat, ordered, limit, chunksize, progress)


def map_unordered(
    function: Any,
    *iterables: Iterable[Any],
    limit: int | None = None,
    chunksize: int | str = "auto",
    progress: Callable[[int], object] | None = None,
) -> Generator[Any, None, None]:
    """``map`` with ``ordered=False``."""
    return map(function, *iterables, ordered=False, limit=limit, chunksize=chunksize, progress=progress)


@overload
def as_completed(refs: Iterable[ObjectRef[R]], *, timeout: float | None = ...) -> Generator[R, None, None]: ...
@overload
def as_completed(
    refs: Iterable[ObjectRef[R]], *, timeout: float | None = ..., yield_obj_refs: bool
) -> Generator[Any, None, None]: ...
def as_completed(
    refs: Iterable[ObjectRef[Any]], *, timeout: float | None = None, yield_obj_refs: bool = False
) -> Generator[Any, None, None]:
    """Yield values in the order in which they become ready; the failure of one is raised.

    Args:
        refs: no two alike.
        timeout: seconds from now for all of them.
        yield_obj_refs: yield the references instead, also of those that have failed.

    Raises:
        RayConnectionError: there is no session.
        TypeError, ValueError: an argument that is wrong.
        TimeoutError: not all are ready in time; nothing is cancelled.
        RayError: as ``ray.get``.
    """
    _check_iterable("as_completed()", refs)
    pending = list(refs)
    wait(pending, max(1, len(pending)), 0)  # which checks them
    limit_s = seconds("timeout", timeout)
    end = None if limit_s is None else monotonic() + limit_s
    return _completed(pending, end, limit_s, yield_obj_refs)


def _completed(
    pending: list[ObjectRef[Any]], end: float | None, limit_s: float | None, as_refs: bool
) -> Generator[Any, None, None]:
    total = len(pending)
    while pending:
        left = None if end is None else timedelta(seconds=min(_LONGEST_S, max(0.0, end - monotonic())))
        ready, pending = wait(pending, 1, left)
        if not ready:
            raise GetTimeoutError(limit_s, len(pending), total)
        yield ready[0] if as_refs else get(ready[0])


def _started(
    function: Any,
    calls: Iterator[Any],
    pack: Pack,
    ordered: bool,
    limit: int | None,
    chunksize: int | str,
    progress: Callable[[int], object] | None,
) -> Generator[Any, None, None]:
    size = chunk_size(chunksize)
    if limit is not None:
        limit = whole_number("limit", limit, least=1)
    if not isinstance(ordered, bool):
        raise TypeError(f"ordered must be True or False, not {ordered!r}")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be a callable, not {progress!r}")
    current_session()
    way = _way(function, pack)
    if way.one_by_one:
        size = ChunkSize(1, 1)
    return _results(way, calls, size, limit or AHEAD * way.places, ordered, progress)


def _way(function: Any, pack: Pack) -> _Way:
    if isinstance(function, RemoteFunction):
        given = function._given
        if given.get("num_returns", 1) != 1:
            raise TypeError(f"map() needs a function that has one result, and {function!r} has num_returns=")
        if given.keys() & _PER_CALL or function._options.max_calls:
            return _OneByOne([function], _cpus(), pack)
        return _Chunked(function._function, given, function._descriptor.name, pack)
    if isinstance(function, ActorMethod):
        return _OneByOne([function], 1, pack)
    if isinstance(function, (list, tuple)) and function and all(isinstance(each, ActorMethod) for each in function):
        return _OneByOne(function, len(function), pack)
    if not callable(function):
        raise TypeError(f"map() needs a function, the method of an actor or a list of such methods, not {function!r}")
    return _Chunked(function, {}, getattr(function, "__name__", type(function).__name__), pack)


def _results(
    way: _Way,
    calls: Iterator[Any],
    size: ChunkSize,
    limit: int,
    ordered: bool,
    progress: Callable[[int], object] | None,
) -> Generator[Any, None, None]:
    ahead: deque[_Sent] = deque()
    count = 0
    try:
        chunks = cut(calls, size)
        exhausted = False
        while True:
            while not exhausted and len(ahead) < limit:
                chunk = next(chunks, None)
                if chunk is None:
                    exhausted = True
                    break
                started = perf_counter()
                ref = way.send(chunk)
                ahead.append(_Sent(ref, len(chunk), perf_counter() - started))
            if not ahead:
                return
            if not ordered:
                _bring_forward(ahead)
            outcome = get(ahead[0].ref)  # which stays there, to be cancelled, until it is done
            sent = ahead.popleft()
            way.ended(sent.ref)
            count += sent.items
            if way.one_by_one:
                _tell(progress, count)
                yield outcome
            else:
                size.learn(sent.items, max(outcome.seconds, sent.seconds))
                _tell(progress, count - sent.items + len(outcome.results))
                yield from results_of(outcome)
            del outcome
    finally:
        _cancel(ahead)


def _bring_forward(ahead: deque[_Sent]) -> None:
    """Have one that is done come first."""
    refs = [sent.ref for sent in ahead]
    ready, _ = wait(refs, 1)
    at = refs.index(ready[0])
    if at:
        sent = ahead[at]
        del ahead[at]
        ahead.appendleft(sent)


def _tell(progress: Callable[[int], object] | None, count: int) -> None:
    if progress is not None:
        progress(count)


def _cancel(ahead: Iterable[_Sent]) -> None:
    try:
        for sent in ahead:
            session_of(sent.ref).cancel(sent.ref, False, True)
    except ConnectionError:  # their session has ended, and they with it
        pass


def _cpus() -> int:
    return max(1, int(cluster_resources().get("CPU", 0.0)))


def _check_iterable(caller: str, given: object) -> None:
    if isinstance(given, ObjectRef):
        raise TypeError(f"{caller} needs an iterable, not one object ref: put it into a list")
    if not isinstance(given, Iterable):
        raise TypeError(f"{caller} needs an iterable, not {given!r} ({type(given).__name__})")
