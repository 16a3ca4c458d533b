"""The exit codes of the ``ray`` command: what they are is said here, and each help text says it."""

from __future__ import annotations

DONE, FAILED, USAGE, UNREACHABLE, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 130

#: In the order of the help texts.
MEANINGS = {
    DONE: "done",
    FAILED: "the operation failed, or found something wrong",
    USAGE: "wrong usage, an unknown plugin, or an unusable key file",
    UNREACHABLE: "no session or cluster can be reached",
    TIMED_OUT: "the time is over",
    INTERRUPTED: "interrupted",
}
