"""What asks the user, in a process without a terminal: it says so, rather than see the end of an empty input."""

from __future__ import annotations

import builtins
import os
import sys
from typing import Any

_WHY = (
    "needs a terminal, and tasks and actors run in processes without one. With ray.init(local_mode=True) they run in "
    "the process of the program, where it works."
)


def install() -> None:
    """Have ``breakpoint()`` and ``input()`` say what they need; in a worker."""
    stdin, ask = sys.stdin, builtins.input

    def refuse(prompt: object = "", /) -> str:
        if sys.stdin is not stdin:  # the program has put something there to be read
            return ask(prompt)
        if sys._getframe(1).f_globals.get("__name__") == "cmd":  # a debugger, which would take the end for "quit"
            raise RuntimeError(f"The debugger {_WHY}")
        raise EOFError(f"input() {_WHY}")

    builtins.input = refuse
    sys.breakpointhook = _stop


def _stop(*args: Any, **kwargs: Any) -> Any:
    if os.environ.get("PYTHONBREAKPOINT", "") not in ("", "pdb.set_trace"):
        return sys.__breakpointhook__(*args, **kwargs)  # noqa: T100 - the user's own choice
    raise RuntimeError(f"breakpoint() {_WHY} PYTHONBREAKPOINT may name a debugger that needs no terminal.")
