"""Writing to the program's ``sys.stdout`` and ``sys.stderr``: Python's own files, or what the program has put there.

What the program has put there gets all text by its ``write``, as from ``print``, however much it looks like a file.
"""

from __future__ import annotations

import contextlib
import io
import select
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

#: What a pipe that has room takes without a wait.
_PIECE_BYTES = select.PIPE_BUF


class Shadow:
    """Takes the place of a file's ``write``, as an attribute of the file."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[str], int]) -> None:
        self._call = call

    def __call__(self, text: str) -> int:
        return self._call(text)


def is_file(stream: TextIO) -> bool:
    """Whether it is a text file as Python makes them, and nothing of the program's sees what is written to it."""
    if getattr(type(stream), "write", None) is not io.TextIOWrapper.write:
        return False
    before = vars(stream).get("write")
    return before is None or isinstance(before, Shadow)


def write(stream: TextIO | None, text: str, wait_s: float | None = None, *, above: bool = False) -> None:
    """Write and flush. What the stream fails to take goes to Python's own stderr; only if that fails too, it is lost.

    Where nobody reads any more, and where there is no stream at all, nothing happens, as in ``print``.

    Args:
        stream: of the program.
        text: what to write.
        wait_s: how long to wait for each piece of it that the stream does not take at once; None: until it does.
        above: as the program itself writes, above what is drawn.
    """
    if stream is None:
        return
    has_room = _room(stream, wait_s)
    for piece in _pieces(text):
        if not has_room():
            return
        try:
            _put(stream, piece, above=above)
        except (BrokenPipeError, BlockingIOError):
            pass  # nobody reads it any more; the stream keeps it until there is room
        except (Exception, SystemExit):  # it is closed, or fails in a way of its own
            _write_instead(stream, piece, wait_s)


def _write_instead(failing: TextIO, text: str, wait_s: float | None) -> None:
    if failing is not sys.__stderr__:
        write(sys.__stderr__, text, wait_s, above=True)


def flush(stream: TextIO, wait_s: float | None = None) -> None:
    """Flush, where that does not wait for longer."""
    if _room(stream, wait_s)():
        with contextlib.suppress(Exception):  # what fails here fails in ``write`` as well
            stream.flush()


def _pieces(text: str) -> Iterator[str]:
    """Parts that end with a line, unless one is longer than a piece."""
    step, begin = _PIECE_BYTES if text.isascii() else _PIECE_BYTES // 4, 0
    while begin < len(text):
        end = begin + step
        if end < len(text):
            end = text.rfind("\n", begin, end) + 1 or end
        yield text[begin:end]
        begin = end


def _room(stream: TextIO, wait_s: float | None) -> Callable[[], object]:
    """Waits until the stream takes a piece, and says whether it does.

    A thread that waits in ``write`` has the lock of the stream, without which Python cannot end: it aborts.
    """
    try:
        waiting = select.poll()
        waiting.register(stream.fileno(), select.POLLOUT)
    except Exception:  # it stands for no descriptor, or is closed
        return lambda: True
    return lambda: waiting.poll(None if wait_s is None else wait_s * 1000)


def _put(stream: TextIO, text: str, *, above: bool) -> None:
    """Write and flush one piece, with escapes for what the stream cannot encode."""
    put = _file_write(stream, above=above) if is_file(stream) else stream.write
    try:
        put(text)
    except UnicodeEncodeError as error:
        encoding = getattr(stream, "encoding", None)
        encoding = encoding if isinstance(encoding, str) else error.encoding
        put(text.encode(encoding, "backslashreplace").decode(encoding))
    try:
        stream.flush()
    except Exception:
        if is_file(stream):  # else it has taken the text
            raise


def _file_write(stream: TextIO, *, above: bool) -> Callable[[str], object]:
    """How to write to a file: past what shadows it, unless the text belongs above what is drawn."""
    if above and "write" in vars(stream):
        return stream.write
    buffer = stream.buffer
    if not isinstance(buffer, io.RawIOBase):
        return lambda text: io.TextIOWrapper.write(stream, text)  # type: ignore[arg-type]

    def whole(text: str) -> None:  # ``python -u``: Python drops the rest of what a pipe takes in parts
        data = memoryview(text.encode(stream.encoding, stream.errors or "strict"))
        stream.flush()
        while data:
            data = data[buffer.write(data) or len(data) :]

    return whole
