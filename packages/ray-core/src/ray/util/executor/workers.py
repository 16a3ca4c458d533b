"""Where the calls of an executor run: in actors of its own, which have been made ready by its initializer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ray.api.actor_calls import kill
from ray.api.actors import ActorClass, ActorHandle
from ray.api.options import CLASS_NAMES, normalise
from ray.exceptions import RayActorError
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import failure_of
from ray.util.executor.futures import Call
from ray.util.executor.script_globals import ScriptGlobals


class ExecutorWorker:
    """The actor."""

    def __init__(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        self._globals = ScriptGlobals()
        if initializer is not None:
            self._globals.run(initializer, initargs)

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """One call."""
        lent = self._globals.lend((function, *args))
        if not lent:
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        finally:
            self._globals.take_back(lent)


class ActorPlace:
    """Room for one actor, which runs one call at a time. Implements ``Place``."""

    def __init__(
        self, make: Callable[[], ActorHandle[ExecutorWorker]], most_calls: int | None, idle: deque[Any]
    ) -> None:
        self._make = make
        self._most_calls = most_calls
        self._idle = idle
        self._actor: ActorHandle[ExecutorWorker] | None = None
        self._calls = 0
        #: What the last call came to.
        self._last: ObjectRef[Any] | None = None

    def check(self) -> None:
        """Let go of an actor that has died, or has run as many calls as it is to.

        Raises:
            BrokenWorkerError: the initializer failed in it.
        """
        last, self._last = self._last, None
        error = None if last is None else failure_of(last)
        actor = self._actor
        # Of another actor it is the error of an argument.
        if isinstance(error, RayActorError) and actor is not None and error.actor_id == actor._core.actor_id:
            self._actor = None
            if error.summary or error.cause is not None:
                from ray.util.executor.broken import initializer_failed  # It takes multiprocessing.

                raise initializer_failed(error)
        if self._calls == self._most_calls:
            self._actor = None  # ends by itself

    def submit(self, call: Call) -> ObjectRef[Any]:
        """See ``Place``."""
        if self._actor is None:
            self._actor, self._calls = self._make(), 0
        self._calls += 1
        name = getattr(call.function, "__name__", None)
        method: Any = self._actor.run
        if isinstance(name, str) and name:
            method = method.options(name=name)
        ref: ObjectRef[Any] = method.remote(call.function, *call.args, **call.kwargs)
        self._last = ref
        return ref

    def free(self) -> None:
        """See ``Place``."""
        self._idle.append(self)

    def end(self) -> None:
        """End the actor, and the call that it runs."""
        actor = self._actor
        if actor is not None:
            kill(actor)

    def close(self) -> None:
        """Let go of the actor."""
        self._actor = self._last = None


class ActorPlaces:
    """Each call runs in one of so many actors, which are made when they are needed. Implements ``Places``."""

    def __init__(
        self,
        size: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        most_calls: int | None,
        options: Mapping[str, Any],
    ) -> None:
        """Make it.

        Raises:
            TypeError, ValueError: an option that no actor has.
        """
        actors: ActorClass[ExecutorWorker] = ActorClass(ExecutorWorker, normalise(options, CLASS_NAMES, "an executor"))
        #: Those that have an actor are at the right end.
        self._idle: deque[ActorPlace] = deque()
        self._places = [
            ActorPlace(lambda: actors.remote(initializer, initargs), most_calls, self._idle) for _ in range(size)
        ]
        self._idle.extend(self._places)

    def find(self) -> ActorPlace:
        """See ``Places``."""
        place = self._idle.pop()
        try:
            place.check()
        except BaseException:
            self._idle.append(place)
            raise
        return place

    @staticmethod
    def prepared(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """``function`` as it is to be given to ``submit`` where it runs many calls."""
        return function

    def end(self, refs: list[ObjectRef[Any]]) -> None:
        """End the actors, and with them the calls that make these objects."""
        for place in self._places:
            place.end()

    def close(self) -> None:
        """Have the actors end."""
        for place in self._places:
            place.close()
