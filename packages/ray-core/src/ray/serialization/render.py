"""Exceptions as text of bounded size, whatever their own methods do."""

from __future__ import annotations

import os
import traceback
import types
from collections.abc import Iterator

from ray._paths import OWN_CODE
from ray.exceptions import qualified_name
from ray.exceptions.base import is_a, traceback_of

MAX_MESSAGE = 16 * 1024
MAX_SUMMARY = 500
MAX_TEXT = 64 * 1024
_MAX_CHAIN = 20
_MAX_FRAMES = 100
_MAX_NOTES = 20
_MAX_GROUP_WIDTH = 15
_MAX_GROUP_DEPTH = 5

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n"


def message_of(exc: BaseException) -> str:
    """``str(exc)``, cut in the middle if it is long; what went wrong if it raises."""
    try:
        text = str(exc)
        return shorten(text, MAX_MESSAGE)
    except BaseException as failure:  # __str__ is the user's and may do anything, exit included.
        return f"<its __str__ raised {type(failure).__name__}>"


def summary_of(exc: BaseException) -> str:
    """One line: the type and the first line of the message."""
    return summary_text(qualified_name(type(exc)), message_of(exc))


def summary_text(name: str, message: str) -> str:
    """The same, of a type's name and a message."""
    first = message.strip().partition("\n")[0].rstrip()
    return shorten(f"{name}: {first}" if first else name, MAX_SUMMARY)


def render(exc: BaseException) -> str:
    """The traceback text of an exception with its chain, notes and groups, as Python prints it; at most 64 KiB.

    Of the frames that belong to this package only the innermost is shown, where it raised; with
    ``RAY_CORE_FULL_TRACEBACK=1`` all are.
    """
    try:
        return shorten("\n".join(_chain_lines(exc, 0)), MAX_TEXT)
    except BaseException as failure:
        return f"{summary_of(exc)}\n<its traceback cannot be shown: {type(failure).__name__}>"


def render_frames(exc: BaseException, last: str) -> str:
    """The frames of its traceback, and ``last`` in the place of what the exception says: runs no code of its own."""
    frames = _frames(traceback_of(exc))
    lines = ["Traceback (most recent call last):", *_frame_lines(frames)] if frames else []
    return shorten("\n".join([*lines, last]), MAX_TEXT)


def place_of(exc: BaseException) -> str:
    """``file:line`` of the first frame outside this package, or an empty string."""
    for frame, line in traceback.walk_tb(traceback_of(exc)):
        if not _is_own(frame):
            return f"{frame.f_code.co_filename}:{line}"
    return ""


def shorten(text: str, limit: int) -> str:
    """``text`` of at most about ``limit`` characters; the middle is what goes."""
    if len(text) <= limit:
        return text
    head = limit * 3 // 8
    tail = limit - head
    return f"{text[:head]}\n… {len(text) - limit:,} characters left out …\n{text[-tail:]}"


def _chain_lines(exc: BaseException, depth: int) -> Iterator[str]:
    chain: list[tuple[BaseException, str]] = []
    seen: set[int] = set()
    link, current = "", exc
    while id(current) not in seen:
        seen.add(id(current))
        chain.append((current, link))
        if current.__cause__ is not None:
            link, current = _CAUSE, current.__cause__
        elif current.__context__ is not None and not current.__suppress_context__:
            link, current = _CONTEXT, current.__context__
        else:
            break
    keep = _MAX_CHAIN // 2
    for i, (item, joint) in enumerate(reversed(chain)):
        if keep <= i < len(chain) - keep:
            if i == keep:
                yield f"\n… {len(chain) - 2 * keep} more exceptions of the chain left out …\n"
            continue
        yield from _lines(item, depth)
        if joint:
            yield joint


def _lines(exc: BaseException, depth: int) -> Iterator[str]:
    frames = _frames(traceback_of(exc))
    if frames:
        yield "Traceback (most recent call last):"
        yield from _frame_lines(frames)
    yield from _last_lines(exc)
    notes = getattr(exc, "__notes__", None)
    if isinstance(notes, (list, tuple)):
        for note in notes[:_MAX_NOTES]:
            yield shorten(note, MAX_MESSAGE) if isinstance(note, str) else f"<a note of {type(note).__name__}>"
    if is_a(exc, BaseExceptionGroup) and depth < _MAX_GROUP_DEPTH:
        for number, member in enumerate(exc.exceptions[:_MAX_GROUP_WIDTH], 1):
            yield f"  +---------------- {number} ----------------"
            for block in _chain_lines(member, depth + 1):
                for line in block.split("\n"):
                    yield f"  | {line}"
        if len(exc.exceptions) > _MAX_GROUP_WIDTH:
            yield f"  … and {len(exc.exceptions) - _MAX_GROUP_WIDTH} more exceptions"


def _last_lines(exc: BaseException) -> Iterator[str]:
    if is_a(exc, SyntaxError):
        # It shows the offending line, which its message does not hold.
        try:
            parts = traceback.TracebackException(type(exc), exc, None).format_exception_only()
            yield shorten("".join(parts).rstrip("\n"), MAX_MESSAGE)
            return
        except BaseException:
            pass
    text = message_of(exc)
    name = qualified_name(type(exc))
    yield f"{name}: {text}" if text else name


def _frames(tb: types.TracebackType | None) -> list[tuple[types.FrameType, int]]:
    frames = list(traceback.walk_tb(tb))
    if os.environ.get("RAY_CORE_FULL_TRACEBACK") == "1":
        return frames
    return [found for found in frames[:-1] if not _is_own(found[0])] + frames[-1:]


def _is_own(frame: types.FrameType) -> bool:
    return frame.f_code.co_filename.startswith(OWN_CODE)


def _frame_lines(frames: list[tuple[types.FrameType, int]]) -> Iterator[str]:
    for part in _cut(frames):
        if isinstance(part, str):
            yield part
            continue
        try:
            # Line positions are left to the summary, which reads them from the frames' code.
            for text in traceback.StackSummary.extract(iter(part)).format():
                yield text.rstrip("\n")
        except BaseException:
            for frame, line in part:
                yield f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}'


def _cut(frames: list[tuple[types.FrameType, int]]) -> list[list[tuple[types.FrameType, int]] | str]:
    if len(frames) <= _MAX_FRAMES:
        return [frames]
    keep = _MAX_FRAMES // 2
    return [frames[:keep], f"  … {len(frames) - 2 * keep} frames left out …", frames[-keep:]]
