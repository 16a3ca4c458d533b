"""The error of a task that raised."""

from __future__ import annotations

from typing import Any

from ray.exceptions.base import RayError, qualified_name


class RayTaskError(RayError):
    """A task or actor method raised.

    ``ray.get`` raises an instance of a class that is both this and the type of the original exception, with the
    original as ``__cause__`` and its ``args`` and attributes. Exceptions that steer the interpreter (``SystemExit``,
    ``KeyboardInterrupt``, ``StopIteration``, …) arrive as a plain RayTaskError, so that they cannot end the caller.

    Class attributes shield against properties and slots of the same name in the other base.
    """

    function_name: str = ""
    traceback_str: str = ""
    """Remote traceback text with the chain of causes and notes; bounded."""
    cause: BaseException | None = None
    """The original exception, or None if it could not travel."""
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
    _origin: tuple[Any, ...] | None = None
    """How to make this object again, as a reduce value; set where it was made from an envelope."""

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

    def __init_subclass__(cls, **options: Any) -> None:
        """Keep the other base's hook from running: a class made for one error is no new class of the user's."""

    # The other base may define any of these; ours must stay in force.
    __getattribute__ = object.__getattribute__
    __setattr__ = object.__setattr__
    __format__ = object.__format__
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        lines = [self.summary, f"  in {self.place}", *(f"  passed on by {hop}" for hop in self.via)]
        if self.traceback_str:
            lines += ["", "Remote traceback:", self.traceback_str.rstrip()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self.place}: {self.summary}>"

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

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            return super().__reduce__()
        notes = list(getattr(self, "__notes__", ()))
        return (*self._origin[:2], {"__notes__": notes} if notes else None)

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state or {})

    def __copy__(self) -> RayTaskError:
        function, args, state = (*self.__reduce__(), None)[:3]
        error: RayTaskError = function(*args)
        error.__setstate__(state)
        return error

    def __deepcopy__(self, memo: dict[int, Any]) -> RayTaskError:
        return self.__copy__()
