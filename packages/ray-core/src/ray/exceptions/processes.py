"""Errors of workers and actors: death, cancellation, limits."""

from __future__ import annotations

from signal import SIGKILL

from ray.exceptions.base import RayError, exit_advice, exit_text, last_lines, own_signal, stderr_block
from ray.exceptions.dual import DualError


class WorkerCrashedError(RayError, RuntimeError):
    """The process that ran a task died.

    Args:
        task: what it ran, or an empty string.
        pid: of the dead process.
        exit_code: its exit status; a negative one is a signal number, as in ``subprocess``.
        signal: the signal that ended it.
        reason: what else is known, a clause.
        stderr_tail: the end of its stderr; the last 20 lines are kept and shown.
    """

    def __init__(
        self,
        task: str = "",
        pid: int = 0,
        exit_code: int | None = None,
        signal: int | None = None,
        reason: str = "",
        stderr_tail: str = "",
    ) -> None:
        if signal is None and exit_code is not None and exit_code < 0:
            signal, exit_code = -exit_code, None
        self.task, self.pid, self.exit_code, self.signal, self.reason = task, pid, exit_code, signal, reason
        self.stderr_tail = last_lines(stderr_tail)
        subject = f"The worker process{f' (pid {pid})' if pid else ''}{f' that ran {task}' if task else ''}"
        why = f"{exit_text(exit_code, signal)}{f'; {reason}' if reason else ''}"
        advice = "" if reason and signal == SIGKILL else f" {exit_advice(exit_code, signal)}"  # the cause is known
        super().__init__(f"{subject} died: {why}.{advice}{stderr_block(self.stderr_tail)}")


class OutOfMemoryError(RayError, MemoryError):
    """A worker was ended, or refused, because memory ran out.

    Args:
        task: what it ran, or an empty string.
        pid: of the process.
        limit_bytes: the limit that was hit; 0 if unknown.
        used_bytes: what was in use then; 0 if unknown.
        top_users: text that lists the largest processes.
        stderr_tail: as in WorkerCrashedError.
    """

    def __init__(
        self,
        task: str = "",
        pid: int = 0,
        limit_bytes: int = 0,
        used_bytes: int = 0,
        top_users: str = "",
        stderr_tail: str = "",
    ) -> None:
        self.task, self.pid, self.limit_bytes, self.used_bytes, self.top_users = (
            task, pid, limit_bytes, used_bytes, top_users,
        )  # fmt: skip
        self.stderr_tail = last_lines(stderr_tail)
        subject = f"The worker process{f' (pid {pid})' if pid else ''}{f' that ran {task}' if task else ''}"
        used = f" ({used_bytes:,} of {limit_bytes:,} bytes in use)" if limit_bytes else ""
        top = f"\nLargest users of memory:\n{top_users}" if top_users else ""
        super().__init__(
            f"{subject} was ended because memory ran out{used}. Give each task less to do, run fewer at a time "
            f"(num_cpus=, memory=), or raise the limit.{top}{stderr_block(self.stderr_tail)}"
        )


class RayActorError(DualError, RuntimeError):
    """The process of an actor is dead, or the connection to it is, so a call cannot run (or it is not known whether it
    ran).

    Where the actor's ``__init__`` raised, ``ray.get`` raises an instance of a class that is both this and the type of
    that exception, which is its ``__cause__``.

    Args:
        actor_class: the class's name.
        actor_id: 16 bytes, or empty.
        reason: why it died, a clause, such as ``exit_text`` gives or "ray.kill() was called".
        cause: the error behind it, such as the one its ``__init__`` raised; becomes ``__cause__``.
        method: the call that failed, or an empty string.
        fate: what became of that call, a verb phrase.
        restarts: whether the actor is started again.
        lives: whether only the connection to it was lost.
        pid: of its last process; 0 if unknown.
        stderr_tail: as in WorkerCrashedError.
        summary: type and message of what its ``__init__`` raised, where that is the reason.
        traceback_str: the remote traceback of that.
        restarted: how often it was started again, where that is as often as it may be.
    """

    actor_class: str = ""
    actor_id: bytes = b""
    reason: str = ""
    method: str = ""
    pid: int = 0
    exit_code: int | None = None
    signal: int | None = None
    stderr_tail: str = ""
    summary: str = ""
    traceback_str: str = ""
    restarted: int = 0
    restarts: bool = False
    lives: bool = False
    _text: str = ""

    def __init__(
        self,
        actor_class: str = "",
        actor_id: bytes = b"",
        reason: str = "",
        cause: BaseException | None = None,
        *,
        method: str = "",
        fate: str = "did not complete",
        restarts: bool = False,
        lives: bool = False,
        pid: int = 0,
        exit_code: int | None = None,
        signal: int | None = None,
        stderr_tail: str = "",
        summary: str = "",
        traceback_str: str = "",
        restarted: int = 0,
    ) -> None:
        if signal is None and exit_code is not None and exit_code < 0:
            signal, exit_code = -exit_code, None
        self.restarted, self.restarts, self.lives = restarted, restarts, lives
        self.actor_class, self.actor_id, self.reason, self.cause, self.method = (
            actor_class, actor_id, reason, cause, method,
        )  # fmt: skip
        self.pid, self.exit_code, self.signal = pid, exit_code, signal
        self.stderr_tail = last_lines(stderr_tail)
        self.summary, self.traceback_str = summary, traceback_str
        self.__cause__ = cause
        facts = [actor_id.hex()] if actor_id else []
        if pid:
            facts.append(f"pid {pid}")
        known = f" ({', '.join(facts)})" if facts else ""
        died = signal is not None or bool(exit_code) or (exit_code == 0 and not reason)  # else it has ended in order
        why = [f"its process died: {exit_text(exit_code, signal)}"] if died else []
        if reason:
            why.append(reason)
        if summary or cause is not None:
            why.append(f"caused by {summary or getattr(cause, 'summary', '') or type(cause).__name__}")
        because = f": {'; '.join(why)}".rstrip(".") if why else ""
        lost = f"{own_signal(signal)}{f' The call to {method}() {fate}.' if method else ''}"
        if lives:
            state = "goes on, but the connection to it was lost"
            advice = "Calls that follow reach it by a new connection; with max_task_retries= such calls are repeated."
        elif restarts:
            state = "has lost its process and is started again"
            advice = "With max_task_retries= such calls are repeated."
        else:
            state = "is dead"
            crashed = signal is not None or bool(exit_code) or not reason
            advice = _actor_advice(bool(summary) or cause is not None, crashed, restarted)
        remote = f"\n\nRemote traceback:\n{traceback_str.rstrip()}" if traceback_str else ""
        self._text = (
            f"The actor {actor_class or '(unknown class)'}{known} {state}{because}.{lost} {advice}"
            f"{stderr_block(self.stderr_tail)}{remote}"
        )
        self.args = (self._text,)

    def __str__(self) -> str:
        return self._text


def _actor_advice(failed: bool, crashed: bool, restarted: int) -> str:
    if failed:
        return "Mend its __init__, or what it is given, and create a new one."
    if restarted:
        times = f"{'once' if restarted == 1 else f'{restarted} times'}, as often as its max_restarts allows"
        return f"It was started again {times}: create a new one, or raise that number."
    if crashed:
        return "Create a new one, or decorate its class with max_restarts= to have it started again."
    return "Create a new one if it is still needed."


class ActorUnschedulableError(RayActorError):
    """No node can have an actor where it is to be, by its options.

    Args:
        actor_class: the class's name.
        actor_id: 16 bytes, or empty.
        reason: a predicate, such as "is to run on the node 0000002a, which has died".
    """

    def __init__(self, actor_class: str = "", actor_id: bytes = b"", reason: str = "cannot run anywhere") -> None:
        super().__init__(actor_class, actor_id, reason)
        self._text = f"The actor {actor_class or '(unknown class)'} {reason}. {_ELSEWHERE}"
        self.args = (self._text,)


_ELSEWHERE = "Name another node, or say soft=True to have it run elsewhere then."


class TaskUnschedulableError(RayError, RuntimeError):
    """No node can run a task where it is to run, by its options; ``reason`` is a predicate."""

    def __init__(self, task: str = "", reason: str = "cannot run anywhere") -> None:
        self.task, self.reason = task, reason
        super().__init__(f"The task{f' {task}' if task else ''} {reason}. {_ELSEWHERE}")


class TaskCancelledError(RayError):
    """The task was cancelled by ``ray.cancel`` before it ended."""

    def __init__(self, task: str = "", task_id: bytes = b"", reason: str = "") -> None:
        self.task, self.task_id, self.reason = task, task_id, reason
        name = f" {task}" if task else ""
        ident = f" ({task_id.hex()})" if task_id else ""
        super().__init__(f"The task{name}{ident} was cancelled{f': {reason}' if reason else ''}.")


class TaskTimeoutError(RayError, TimeoutError):
    """The task ran longer than its ``timeout_s`` option allows, and was ended.

    ``goes_on``: it could not be, and may go on, as other calls run in the process of its actor.
    """

    def __init__(self, task: str = "", timeout_s: float = 0.0, goes_on: bool = False) -> None:
        self.task, self.timeout_s, self.goes_on = task, timeout_s, goes_on
        name = f" {task}" if task else ""
        fate = "could not be ended in time: it may go on in its actor, which others use" if goes_on else "was ended"
        super().__init__(
            f"The task{name} ran longer than timeout_s={timeout_s:g} and {fate}. Raise timeout_s or make it shorter."
        )


class RuntimeEnvSetupError(RayError, RuntimeError):
    """What the program has sent along for its tasks and actors is not there on their node, so that none can run.

    ``reason``: why, a clause; or the whole text.
    """

    def __init__(self, reason: str = "The environment of a task cannot be set up.", node: str = "") -> None:
        self.reason, self.node = reason, node
        super().__init__(
            f"The working_dir of the program is not there on node {node}, and none of its tasks and actors can run "
            f"there: {reason}."
            if node
            else reason
        )


class BlockingCallError(RayError, RuntimeError):
    """A blocking call that holds up what it waits for.

    On the event loop of an async actor; or for a later call of the same actor, in ``__init__`` or where calls that do
    so take all its places.
    """

    def __init__(self, call: str = "ray.get", actor: str = "", crowded: bool = False) -> None:
        """Make one.

        Args:
            call: the call that blocks.
            actor: the class of an actor that waits for itself; empty on an event loop.
            crowded: whether it runs several calls at a time, and all of them do.
        """
        self.call, self.actor, self.crowded = call, actor, crowded
        shown = call if call == "await" or call.endswith(")") else f"{call}()"
        if crowded:
            super().__init__(
                f"{shown} in a method of the actor {actor} waits for a call of the same actor, and so do all the other "
                "calls that it runs at a time: none of them would ever end. Call the method itself, as in "
                "self.method(); or let the actor run more calls at a time with a larger max_concurrency."
            )
            return
        if actor:
            super().__init__(
                f"{shown} in a method of the actor {actor} waits for a call of the same actor, which cannot begin "
                "before this method ends: it would wait for ever. Call the method itself, as in self.method(); or, "
                "except in __init__, let the actor run several calls at a time with options(max_concurrency=2)."
            )
            return
        why, instead = "", "await ref (or await asyncio.gather(*refs))"
        if call == "ray.wait":
            instead = "await asyncio.wait([...])"
        elif call == "next(stream)":
            instead = "async for ref in stream"
        elif call == "ray.put":
            why = ": the object store has to make room first"
            instead = "await asyncio.to_thread(ray.put, value), and pass large arguments as refs"
        super().__init__(f"{shown} would block the event loop of this async actor{why}; use {instead} instead.")


class BackPressureError(RayError, RuntimeError):
    """A bounded queue is full and the caller asked not to wait."""

    def __init__(self, queue: str = "A queue is full.", limit: int | None = None) -> None:
        self.queue, self.limit = queue, limit
        if limit is None:  # a program's own, with the whole text
            super().__init__(queue)
            return
        super().__init__(f"{queue} is full ({limit:,} pending). Wait for some results before submitting more.")
