"""The error of a task that raised."""

from __future__ import annotations

from ray.exceptions.base import qualified_name
from ray.exceptions.dual import DualError


class RayTaskError(DualError):
    """A task or actor method raised.

    ``ray.get`` raises an instance of a class that is both this and the type of the original exception, with the
    original as ``__cause__`` and its ``args`` and attributes. Exceptions that steer the interpreter (``SystemExit``,
    ``KeyboardInterrupt``, ``StopIteration``, …) arrive as a plain RayTaskError, so that they cannot end the caller.
    """

    function_name: str = ""
    traceback_str: str = ""
    """Remote traceback text with the chain of causes and notes; bounded."""
    cause_type: str = ""
    """Qualified name of the original type, also when it could not travel."""
    summary: str = ""
    """One line: type and message."""
    task_id: bytes = b""
    attempt: int = 0
    pid: int = 0
    node: str = ""
    via: tuple[str, ...] = ()
    """The tasks that let the error pass through, first to last; long chains are cut in the middle."""

    def __init__(
        self,
        function_name: str,
        traceback_str: str = "",
        cause: BaseException | None = None,
        *,
        cause_type: str = "",
        summary: str = "",
        task_id: bytes = b"",
        attempt: int = 0,
        pid: int = 0,
        node: str = "",
        via: tuple[str, ...] = (),
    ) -> None:
        if cause is not None and not cause_type:
            cause_type = qualified_name(type(cause))
        if not summary:
            summary = traceback_str.rstrip().rpartition("\n")[2] or cause_type or "the task failed"
        self.__dict__.update(
            function_name=function_name,
            traceback_str=traceback_str,
            cause=cause,
            cause_type=cause_type,
            summary=summary,
            task_id=task_id,
            attempt=attempt,
            pid=pid,
            node=node,
            via=via,
        )
        self.args = (summary,)
        self.__cause__ = cause

    def __str__(self) -> str:
        lines = [self.summary, f"  in {self.place}", *(f"  passed on by {hop}" for hop in self.via)]
        if self.traceback_str:
            lines += ["", "Remote traceback:", self.traceback_str.rstrip()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self.place}: {self.summary}>"

    def as_instanceof_cause(self) -> RayTaskError:
        """This error as one that is of the original type as well, which is what ``ray.get`` raises already."""
        if self.cause is None or isinstance(self, type(self.cause)):
            return self
        from importlib import import_module

        # By its name: the room that makes such classes is above this one.
        names = ["function_name", "traceback_str", "cause", "cause_type", "summary"]
        facts = {name: getattr(self, name) for name in [*names, "task_id", "attempt", "pid", "node", "via"]}
        make = import_module("ray.serialization.dual").task_error
        both: RayTaskError = make(facts, type(self.cause), None)
        return both

    @property
    def place(self) -> str:
        """Which task, in which process, on which node."""
        facts = [f"pid={self.pid}"] if self.pid else []
        if self.node:
            facts.append(f"node={self.node}")
        if self.task_id:
            facts.append(f"task={self.task_id.hex()}")
        if self.attempt:
            facts.append(f"attempt={self.attempt}")
        return f"task {self.function_name}" + (f" ({', '.join(facts)})" if facts else "")
