"""``await ref`` under trio, which has loops and cancellation of its own. Nothing here imports it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.session import Listener, Source
from ray.serialization.imported import imported


class _TrioListener(Listener):
    """Wakes a trio task, unless it was cancelled before."""

    __slots__ = ("_task", "_token", "_trio")

    def __init__(self, ref: CountedRef[Any], trio: Any) -> None:
        super().__init__(ref)
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._task = trio.lowlevel.current_task()

    def told(self) -> None:
        try:
            self._token.run_sync_soon(self._wake)
        except self._trio.RunFinishedError:  # nobody waits there any more
            pass

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._trio.lowlevel.reschedule(task)

    def abort(self) -> None:
        """The task is cancelled, and woken by trio."""
        self._task = None


def await_on_trio(ref: CountedRef[Any], source: Source) -> Generator[Any, Any, None]:
    """Wait until ``source`` tells a listener.

    Raises:
        RuntimeError: no trio runs here either.
    """
    trio: Any = imported("trio")
    try:
        if trio is None:
            raise RuntimeError
        listener = _TrioListener(ref, trio)
    except RuntimeError:
        raise RuntimeError(
            "await on an ObjectRef needs a running event loop, of asyncio or trio; elsewhere use ray.get(ref)."
        ) from None
    if not source.subscribe(listener):
        return

    def abort(raise_cancel: Callable[[], Any]) -> Any:
        source.unsubscribe(listener)
        listener.abort()
        return trio.lowlevel.Abort.SUCCEEDED

    yield from trio.lowlevel.wait_task_rescheduled(abort).__await__()
