"""``ActorPool``: shares calls out over several actors, each of which has one at a time."""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

import ray
from ray.exceptions import RayActorError
from ray.runtime.refs.session import failure_of

V = TypeVar("V")
#: What a call gives: a ref, or a list of refs.
Future: TypeAlias = Any
#: ``lambda actor, value: actor.method.remote(value)``
Call: TypeAlias = Callable[[Any, V], Future]

_NO_MORE = "No more results to get"
_LATE = "Timed out waiting for result"


class ActorPool(Generic[V]):
    """Actors that take turns.

    Each actor of the pool has one call at a time; a call for which none is free waits in this object until one is.

    An actor that dies for good leaves the pool: what it was doing raises ``RayActorError``, and the others go on. If
    none is left, what still waits raises that error as well, one result each, until ``push`` brings another actor. One
    that is started again stays.

    ::

        pool = ActorPool([Worker.remote() for _ in range(4)])
        print(list(pool.map(lambda actor, value: actor.double.remote(value), [1, 2, 3, 4])))

    Not safe from several threads at a time.
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        """Make one of these actors' handles."""
        self._idle = list(actors)
        #: {index of the submission: (the actor, the call)} of those under way.
        self._running: dict[int, tuple[Any, Future]] = {}
        #: Submissions that wait for an actor.
        self._waiting: deque[tuple[Call[V], V]] = deque()
        self._submitted = 0
        #: Index of what ``get_next`` returns.
        self._next = 0
        #: Why the last actor that left the pool did.
        self._death: RayActorError | None = None

    def map(self, fn: Call[V], values: Iterable[V]) -> Iterator[Any]:
        """Call ``fn`` with an actor and each value, and yield the results in the order of the values.

        Results that nobody has asked for yet, of what was submitted before, are given up. All values are taken at once.

        Args:
            fn: takes an actor and a value, and returns what a ``remote`` call does.
            values: what it is called with.

        Raises:
            What the calls raise, when its turn comes; the results after it can still be had.
        """
        self._start(fn, values)
        return self._results(self.get_next)

    def map_unordered(self, fn: Call[V], values: Iterable[V]) -> Iterator[Any]:
        """As ``map``, with the results in the order in which they come."""
        self._start(fn, values)
        return self._results(self.get_next_unordered)

    def submit(self, fn: Call[V], value: V) -> None:
        """Have ``fn`` called with an actor and the value, now or when one is free. See ``get_next``.

        Raises:
            What ``fn`` itself raises, if an actor is free; else the method that makes one free does.
        """
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        try:
            call = fn(actor, value)
        except BaseException:
            self._idle.append(actor)
            raise
        self._running[self._submitted] = actor, call
        self._submitted += 1

    def has_next(self) -> bool:
        """Whether there is a result to come."""
        return bool(self._running or self._waiting)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result, in the order of submission.

        Args:
            timeout: seconds to wait at most; None: as long as it takes.
            ignore_if_timedout: whether that result is given up then. Its actor is thought to be free.

        Raises:
            StopIteration: there is none to come.
            TimeoutError: it has not come in that time.
            ValueError: ``get_next_unordered`` has returned results since, so that there is no order.
            What the call raises.
        """
        self._check_left()
        if self._next not in self._running:
            raise ValueError("It is not allowed to call get_next() after get_next_unordered().")
        index = self._next
        ready = self._wait([index], timeout)
        return self._take(index, bool(ready), ignore_if_timedout)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Any result that has come, or comes next.

        Args:
            timeout: seconds to wait at most; None: as long as it takes.
            ignore_if_timedout: whether the oldest one under way is given up then. Its actor is thought to be free.

        Raises:
            As ``get_next``.
        """
        self._check_left()
        ready = self._wait(list(self._running), timeout)
        return self._take(ready[0] if ready else next(iter(self._running)), bool(ready), ignore_if_timedout)

    def has_free(self) -> bool:
        """Whether an actor is free, and no submission waits for it."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> Any | None:
        """Remove a free actor from the pool and return it; None if there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Add an actor; what waits for one is given to it.

        Raises:
            ValueError: it belongs to the pool already.
        """
        if actor in self._idle or any(actor == busy for busy, _ in self._running.values()):
            raise ValueError("Actor already belongs to current ActorPool")
        self._return(actor)

    def _start(self, fn: Call[V], values: Iterable[V]) -> None:
        self._waiting.clear()
        self._idle += [actor for actor, _ in self._running.values()]
        self._running.clear()
        self._next = self._submitted
        for value in values:
            self.submit(fn, value)

    def _results(self, get: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield get()

    def _check_left(self) -> None:
        """Raise if there is nothing under way; what waits for an actor while there is none fails."""
        if self._running:
            return
        if not self._waiting:
            raise StopIteration(_NO_MORE)
        self._waiting.popleft()
        raise self._death or ValueError("The pool has no actor: push() one.")

    def _wait(self, indices: Sequence[int], timeout: float | None) -> list[int]:
        """Which of these is ready first, in a list; empty if the time is over."""
        refs = {_first_of(self._running[index][1]): index for index in indices}
        limit = None if timeout is None else datetime.timedelta(seconds=timeout)
        ready, _ = ray.wait(list(refs), num_returns=1, timeout=limit)
        return [refs[ref] for ref in ready]

    def _take(self, index: int, is_ready: bool, ignore: bool) -> Any:
        if not (is_ready or ignore):
            raise TimeoutError(_LATE)
        actor, call = self._running.pop(index)
        self._next = max(self._next, index + 1)
        if not is_ready:
            self._return(actor)
            raise TimeoutError(f"{_LATE}. The task {call} has been ignored.")
        error = failure_of(_first_of(call))
        if isinstance(error, RayActorError) and _is_end_of(actor, error):
            self._death = error
        else:
            self._return(actor)
        return ray.get(call)

    def _return(self, actor: Any) -> None:
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.popleft())

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "An ActorPool cannot be pickled: it knows the calls of its process. Pass the actors on instead."
        )


def _first_of(call: Future) -> Any:
    return call[0] if isinstance(call, list) else call


def _is_end_of(actor: Any, error: RayActorError) -> bool:
    """Whether the error says that this actor is dead for good."""
    return error.actor_id == actor._core.actor_id and not (error.restarts or error.lives)
