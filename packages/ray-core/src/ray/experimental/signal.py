"""Signals that tasks and actors send, to whom it may concern. The interface of Ray 0.6 to 0.8."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, TypeAlias

import ray
from ray.clock import monotonic
from ray.experimental.signal_board import SignalBoard
from ray.util.steps import checked_timeout
from ray.util.tickets import OPTIONS

__all__ = ["ErrorSignal", "Signal", "forget", "receive", "reset", "send"]

#: An actor's handle, or a ref that a task makes.
Source: TypeAlias = "ray.ActorHandle[Any] | ray.ObjectRef[Any]"


class Signal:
    """What is sent: derive from it, and add what is to be said."""


class ErrorSignal(Signal):
    """A task has failed; comes of itself, once, from its ref."""

    def __init__(self, error: str) -> None:
        self._error = error

    def error(self) -> str:
        """What it has raised."""
        return self._error


#: {source: how many of its signals this process has received, or has forgotten}
_received: dict[str, int] = {}
#: Refs whose failure it has received.
_failed: set[str] = set()
_session = ""


def send(signal: Signal) -> None:
    """Send a signal, of the actor or the task that runs here. It is kept until all programs have ended.

    The last 1,000 of a source are kept.

    Raises:
        RuntimeError: this is neither.
    """
    context = ray.get_runtime_context()
    source = context.get_actor_id() or context.get_task_id()
    if not source:
        raise RuntimeError("signal.send() is for code of a task or an actor: others name it as the source")
    ray.get(_board().send.remote(source, signal))


def receive(sources: Sequence[Source], timeout: float | None = None) -> list[tuple[Source, Signal]]:
    """What these have sent that this process has not received, in the order of each; waits until there is something.

    Args:
        sources: handles of actors, and refs that tasks make.
        timeout: seconds to wait at most; None: as long as it takes.

    Returns:
        Pairs of a source and a signal; none if there was nothing in that time.

    Raises:
        ValueError: there are no sources, or ``timeout`` is negative.
    """
    checked_timeout(timeout)
    by_id = {_id_of(source): source for source in sources}
    if not by_id:
        raise ValueError("receive() takes one source or more")
    board = _board()
    end = None if timeout is None else monotonic() + timeout
    while True:
        pending = [source for source in by_id.values() if isinstance(source, ray.ObjectRef) and not source.done()]
        since = {id: _received.get(id, 0) for id in by_id}
        answer = ray.get(board.receive.remote(since))
        found: list[tuple[Source, Signal]] = []
        if isinstance(answer, dict):
            for id, (upto, signals) in answer.items():
                _received[id] = upto
                found += [(by_id[id], signal) for signal in signals]
        found += _failures(by_id)
        if found or isinstance(answer, dict):
            return found
        number, (ref,) = answer
        left = None if end is None else datetime.timedelta(seconds=max(0.0, end - monotonic()))
        ready, _ = ray.wait([ref, *pending], num_returns=1, timeout=left)
        if ref not in ready:
            board.withdraw.remote(number)
        if not ready:
            return []
        ray.get([each for each in ready if each == ref])  # raises what has become of the board


def forget(sources: Sequence[Source]) -> None:
    """Receive nothing of what these have sent so far."""
    received = ray.get(_board().count.remote([_id_of(source) for source in sources]))
    _received.update(received)


def reset() -> None:
    """Receive all signals again, from the first one that is kept."""
    _received.clear()
    _failed.clear()


def _board() -> Any:
    global _session
    session = ray.get_runtime_context().session_id
    if session != _session:
        reset()
        _session = session
    options = OPTIONS | {"name": "ray.experimental.signal", "get_if_exists": True, "lifetime": "detached"}
    return ray.remote(SignalBoard).options(**options).remote()


def _id_of(source: Source) -> str:
    if isinstance(source, ray.ObjectRef):
        return source.task_id().hex()
    if isinstance(source, ray.ActorHandle):
        return source._core.actor_id.hex()
    raise TypeError(f"A source of signals is an actor's handle or a ref that a task makes, not {source!r}")


def _failures(by_id: dict[str, Source]) -> list[tuple[Source, Signal]]:
    found: list[tuple[Source, Signal]] = []
    for id, source in by_id.items():
        if isinstance(source, ray.ObjectRef) and id not in _failed and source.done():
            error = source.exception()
            if error is not None:
                _failed.add(id)
                found.append((source, ErrorSignal(str(error))))
    return found
