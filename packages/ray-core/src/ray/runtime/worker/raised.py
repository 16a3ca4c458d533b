"""What the user's code has raised: looked at without its own code, as its attributes may raise in their turn."""

from __future__ import annotations

from typing import Any

from ray.exceptions.base import cause_of, is_a
from ray.serialization import load_function

_TRACEBACK: Any = BaseException.__dict__["__traceback__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]
_MEMBERS: Any = BaseExceptionGroup.__dict__["exceptions"]


def forget_frames(error: BaseException) -> None:
    """The traceback holds the user's locals, and so refs and large values: let go of them."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # Past the class's own attribute access: it may refuse, as a frozen dataclass does.
        _TRACEBACK.__set__(current, None)
        pending += [cause_of(current), _CONTEXT.__get__(current)]
        if issubclass(type(current), BaseExceptionGroup):
            pending += _MEMBERS.__get__(current)


def wants_retry(error: BaseException, wanted: bytes) -> bool:
    """Whether ``retry_exceptions``, as it is sent, has ``error`` among those that a task is run again for."""
    if wanted == b"*":
        return is_a(error, Exception)
    try:
        return is_a(error, load_function(wanted))
    except Exception:  # the types cannot be loaded here, so this is none of them
        return False
