"""What the calls of an actor await: found from the outside, by what the tasks of their event loops wait for.

What cannot be seen counts as something that will come: a timer, a queue, an event, a loop that is not one of asyncio's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.exceptions import BlockingCallError
from ray.protocol.references import ObjectEntry, ReferenceTable
from ray.runtime.refs.session import Listener

if TYPE_CHECKING:
    from types import FrameType

    from ray.runtime.worker.call import TaskCall


class LoopWaits:
    """A look at what is awaited in this process; made and used under the lock."""

    def __init__(self, table: ReferenceTable, creating_thread: int, unsubscribe: Callable[[Listener], bool]) -> None:
        """Look.

        Args:
            table: of the process.
            creating_thread: the one that runs ``__init__``, or 0.
            unsubscribe: ends a listener, if it was not told yet.
        """
        self._creating_thread = creating_thread
        self._unsubscribe = unsubscribe
        #: {future: (the listener that completes it, the object)}
        self._awaited: dict[Any, tuple[Listener, ObjectEntry]] = {}
        #: {call: the loops on which something is awaited for it}
        self._loops: dict[TaskCall | None, set[Any]] = {}
        if not table.listeners:
            return
        for entry in list(table.entries.values()):
            for waiter in () if entry.status else list(entry.waiters or ()):
                if isinstance(waiter, Listener) and (future := waiter.future()) is not None:
                    self._awaited[future] = waiter, entry
                    self._loops.setdefault(waiter.call, set()).add(future.get_loop())

    def of(self, call: TaskCall | None) -> Awaits | None:
        """What a call that runs awaits; None if it does not, as far as can be seen."""
        if not self._awaited:
            return None
        running = None if call is None else call.coroutine
        tasks: list[Any] = []
        if running is not None:
            tasks.append(running[1])
        else:
            for loop in self._loops.get(call, ()):
                if self._is_run_by(loop, call):
                    tasks += sys.modules["asyncio"].all_tasks(loop)
        return Awaits(tasks, self._awaited) if tasks else None

    def _is_run_by(self, loop: Any, call: TaskCall | None) -> bool:
        thread = getattr(loop, "_thread_id", None)
        if call is None:
            return bool(thread) and thread == self._creating_thread
        return runs(sys._current_frames().get(thread or 0), call)

    def refuse(self, call: TaskCall | None, error: BlockingCallError) -> None:
        """Have the first object that a call awaits fail there."""
        awaits = self.of(call)
        listener = None if awaits is None else awaits.first()
        if listener is not None and self._unsubscribe(listener):
            listener.refuse(error)


class Awaits:
    """The tasks that all have to wait for what never comes, if their call is to wait for ever."""

    def __init__(self, tasks: list[Any], awaited: dict[Any, tuple[Listener, ObjectEntry]]) -> None:
        self._tasks = tasks
        self._awaited = awaited

    def last(self, never: Callable[[ObjectEntry], bool]) -> bool:
        """Whether they wait for ever, where the objects do not come for which ``never`` is true."""
        timed: dict[Any, set[Any] | None] = {}
        return all(self._lasts(task, never, timed, set()) for task in self._tasks)

    def _lasts(
        self, future: Any, never: Callable[[ObjectEntry], bool], timed: dict[Any, set[Any] | None], seen: set[Any]
    ) -> bool:
        known = self._awaited.get(future)
        if known is not None:
            return never(known[1])
        if future is None or future in seen or future.done():
            return False
        seen.add(future)
        loop = future.get_loop()
        if loop not in timed:
            timed[loop] = _timed(loop)
        ends = timed[loop]
        if ends is None or future in ends:
            return False
        if hasattr(future, "_fut_waiter"):
            return self._lasts(future._fut_waiter, never, timed, seen)
        children = [child for child in getattr(future, "_children", ()) if not child.done()]
        return bool(children) and all(self._lasts(child, never, timed, seen) for child in children)

    def first(self) -> Listener | None:
        """What completes the first future that the tasks come to."""
        seen: set[Any] = set()
        left = list(self._tasks)
        while left:
            future = left.pop()
            if future in self._awaited:
                return self._awaited[future][0]
            if future is not None and future not in seen:
                seen.add(future)
                left += [getattr(future, "_fut_waiter", None), *getattr(future, "_children", ())]
        return None


def runs(frame: FrameType | None, call: TaskCall) -> bool:
    """Whether the thread whose innermost frame this is runs a call of the actor on itself."""
    code = type(call).run.__code__
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


def _timed(loop: Any) -> set[Any] | None:
    """The tasks that a timer of their loop may cancel; None where that cannot be seen."""
    scheduled = getattr(loop, "_scheduled", None)
    if scheduled is None:
        return None
    owners = {getattr(handle._callback, "__self__", None) for handle in list(scheduled) if not handle.cancelled()}
    return owners | {getattr(owner, "_task", None) for owner in owners}
