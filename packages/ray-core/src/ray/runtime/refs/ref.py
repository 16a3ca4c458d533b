"""``ObjectRef``: a handle on an object that may not exist yet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ray.exceptions import RayError, TaskCancelledError
from ray.exceptions.base import cut_frames
from ray.ids import NIL_OBJECT_ID, OBJECT_ID_BYTES, task_of
from ray.protocol.references import FAILED, ObjectEntry, ReferenceTable
from ray.runtime.refs import session
from ray.runtime.refs.not_a_value import NotAValue
from ray.whole_imports import import_whole

if TYPE_CHECKING:
    import asyncio
    import contextvars
    from collections.abc import Callable, Coroutine, Generator

    from ray.runtime.refs.futures import RefFuture

T_co = TypeVar("T_co", covariant=True)

#: Of ``awaiting``, once it is imported.
_await_ref: Any = None


def _import_await_ref() -> Any:
    global _await_ref
    import_whole("ray.runtime.refs.awaiting")  # asyncio takes as long as the rest of this package
    from ray.runtime.refs.awaiting import await_ref

    _await_ref = await_ref
    return await_ref


class ObjectRef(NotAValue, Generic[T_co]):
    """A reference to an object: pass it to tasks, ``ray.get`` it, keep it to keep the object.

    Equality and hash are by id. Refs may be pickled inside arguments, results and ``ray.put`` values; the object then
    lives as long as any process holds it. Made by the runtime; the public constructor takes a 20-byte id.
    """

    __slots__ = ("__weakref__", "_entry")

    def __init__(self, entry: ObjectEntry | bytes) -> None:
        if type(entry) is not ObjectEntry:
            entry = _entry_of(entry)
        entry.local += 1
        self._entry = entry

    def __del__(self) -> None:
        try:
            entry = self._entry
        except AttributeError:  # the constructor refused its argument
            return
        entry.local -= 1
        if not entry.local and not entry.pins:  # in this order: ``unpin`` looks at them in the other one
            entry.table.dropped.append(entry)

    # --- as a future --------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, T_co]:
        """Wait on the running event loop; any number of times, on any loop. Returns and raises as ``ray.get``.

        Cancelling the coroutine that awaits leaves the task alone and the ref usable.
        """
        value: Generator[Any, None, T_co] = (_await_ref or _import_await_ref())(self)
        return value

    def as_coroutine(self, *, cancel: bool = False, grace_s: float = 0.0) -> Coroutine[Any, Any, T_co]:
        """A coroutine that awaits this ref, for what takes nothing else, such as ``TaskGroup.create_task``.

        Args:
            cancel: whether the task that makes the object is cancelled with the coroutine, even before its first step.
            grace_s: how long the cancelled coroutine, of asyncio, then waits for that task to end before it raises
                ``TimeoutError``; 0 does not wait.
        """
        import_whole("ray.runtime.refs.coroutine")
        from ray.runtime.refs.coroutine import RefCoroutine

        return RefCoroutine(self, cancel, grace_s)

    def as_future(self) -> asyncio.Future[T_co]:
        """A new future with the value or the error. Cancelling it leaves the task alone.

        It is of the running event loop, or else of the current one, which may run later.

        Raises:
            RuntimeError: there is no loop.
            RayConnectionError: the session has ended.
        """
        import_whole("ray.runtime.refs.awaiting")  # asyncio takes as long as the rest of this package
        from ray.runtime.refs.awaiting import as_future

        return as_future(self)

    def future(self) -> RefFuture[T_co, ObjectRef[T_co]]:
        """A new ``concurrent.futures.Future``; it keeps the ref as ``object_ref``.

        It never says that it is running; cancelling it leaves the task alone. Callbacks run on a thread of their own.

        Raises:
            RayConnectionError: the session has ended.
        """
        import_whole("ray.runtime.refs.futures")
        from ray.runtime.refs.futures import RefFuture

        return RefFuture(self)

    def add_done_callback(
        self, fn: Callable[[ObjectRef[T_co]], object], *, context: contextvars.Context | None = None
    ) -> None:
        """Have the event loop call ``fn(ref)`` once the object is ready or failed: the running one, else the current.

        The ref is kept until then. With these methods ``asyncio.wait`` takes refs and returns them.

        Raises:
            RuntimeError: there is no loop.
        """
        import_whole("ray.runtime.refs.awaiting")  # asyncio takes as long as the rest of this package
        from ray.runtime.refs.awaiting import add_done_callback

        add_done_callback(self, fn, context)

    def remove_done_callback(self, fn: Callable[[ObjectRef[T_co]], object]) -> int:
        """Remove ``fn`` wherever it was added; returns how often that was. What is on its way is called still."""
        import_whole("ray.runtime.refs.awaiting")  # asyncio takes as long as the rest of this package
        from ray.runtime.refs.awaiting import remove_done_callback

        return remove_done_callback(self, fn)

    def done(self) -> bool:
        """Whether the object is ready or failed, at once. True if the session has ended, since nothing can follow."""
        return session.is_done(self)

    def cancelled(self) -> bool:
        """Whether the task was cancelled, by ``ray.cancel``; at once."""
        return self.done() and isinstance(session.failure_of(self), TaskCancelledError)

    def result(self) -> T_co:
        """The value of an object that is ready; waits for nothing but a disk, or a large value's way from another node.

        Raises as ``ray.get`` if it failed.

        Raises:
            asyncio.InvalidStateError: it is not ready; ``ray.get(ref)`` and ``await ref`` wait.
        """
        if not session.is_done(self):
            from asyncio import InvalidStateError

            raise InvalidStateError(f"{self!r} is not ready; use 'await ref' or ray.get(ref) to wait for it.")
        try:
            return session.value_of(self)
        except RayError as error:
            cut_frames(error)
            raise

    def exception(self) -> BaseException | None:
        """What ``result`` would raise, or None; never waits.

        Raises:
            asyncio.InvalidStateError: it is not ready.
        """
        if not session.is_done(self):
            self.result()  # raises
        return session.failure_of(self)

    # --- as an id -----------------------------------------------------------------------------------------------------

    def binary(self) -> bytes:
        """The id: 20 bytes."""
        return self._entry.id

    def hex(self) -> str:
        """The id as 40 hexadecimal digits."""
        return self._entry.id.hex()

    def is_nil(self) -> bool:
        """Whether this is the id that stands for no object."""
        return self._entry.id == NIL_OBJECT_ID

    def task_id(self) -> bytes:
        """Id of the task that makes the object: 16 bytes."""
        return task_of(self._entry.id)

    @classmethod
    def nil(cls) -> ObjectRef[Any]:
        """The id that stands for no object."""
        return ObjectRef(NIL_OBJECT_ID)

    @classmethod
    def from_random(cls) -> ObjectRef[Any]:
        """An id that no object has."""
        return ObjectRef(os.urandom(OBJECT_ID_BYTES))

    #: Names of early releases.
    id = binary
    nil_id = nil

    @staticmethod
    def size() -> int:
        """Length of an id in bytes."""
        return OBJECT_ID_BYTES

    def __hash__(self) -> int:
        return hash(self._entry.id)

    def __eq__(self, other: object) -> bool:
        if type(other) is not ObjectRef:
            return NotImplemented
        return self._entry is other._entry or self._entry.id == other._entry.id

    def __repr__(self) -> str:
        return f"ObjectRef({self._entry.id.hex()})"

    def __reduce__(self) -> Any:
        """Pickling outside arguments, results and ``put``: the object then lives until the session ends.

        Of a ref whose session has ended, and of one that never had any, only the id travels.
        """
        runtime = session.current()
        if runtime is not None and runtime.knows(self):
            way: _Way = (runtime.session_id, *runtime.reduce_ref(self, None))
        else:
            table = self._entry.table
            way = table.way if isinstance(table, _NoSession) else ("", None, ())
        return _open_ref, (self._entry.id, way)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


#: The session that a pickled ref belongs to, and what makes the ref there.
_Way = tuple[str, Any, tuple[Any, ...]]


class _NoSession(ReferenceTable):
    """The table of one ref that is of no session of this process; it keeps the way back."""

    def __init__(self, way: _Way = ("", None, ())) -> None:
        super().__init__()
        self.way = way

    def entry(self, id: bytes) -> ObjectEntry:
        """Of an object that nothing can complete any more: nobody need wait for it."""
        entry = ObjectEntry(id, self)
        self.fill(entry, FAILED, None)
        return entry


def _open_ref(id: bytes, way: _Way) -> ObjectRef[Any]:
    """What a ref becomes that was pickled outside arguments, results and ``put``: only its own session knows it."""
    session_id, function, args = way
    runtime = session.current()
    if runtime is not None and runtime.session_id == session_id:
        ref: ObjectRef[Any] = function(*args)
        return ref
    return ObjectRef(_NoSession(way).entry(id))


def _entry_of(id: object) -> ObjectEntry:
    if not isinstance(id, bytes):
        raise TypeError(f"ObjectRef takes the {OBJECT_ID_BYTES} bytes of an id, not {id!r}")
    if len(id) != OBJECT_ID_BYTES:
        raise ValueError(f"ID string needs to have length {OBJECT_ID_BYTES}, got {len(id)}")
    runtime = session.current()
    if runtime is None:
        return _NoSession().entry(id)
    return runtime.find_entry(id)
