"""The exit codes of the ``ray`` command: what they are is said here, and each help text says it."""

from __future__ import annotations

DONE, FAILED, USAGE, UNREACHABLE, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 130

#: In the order of the help texts.
MEANINGS = {
    DONE: "done",
    FAILED: "the operation failed, or found something wrong",
    USAGE: "wrong usage, including a plugin that does not exist",
    UNREACHABLE: "no session can be reached",
    TIMED_OUT: "the time is over",
    INTERRUPTED: "interrupted",
}
