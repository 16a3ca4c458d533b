"""What is said of a module that a process does not find: where it has looked, and what to do."""

from __future__ import annotations

import os
import sys

from ray.exceptions.base import add_note, notes_of

_MAX_PLACES = 10
_HEAD = "Process "
#: {module that lies beside the program, and not where this process looks: its folder on the program's machine}
_beside: dict[str, str] = {}


def lies_beside(module: str, folder: str) -> None:
    """The program says where it has a module that this process does not find."""
    _beside[module] = folder


def explain_missing(exc: ModuleNotFoundError) -> None:
    """Add what is known as a note, once."""
    name = exc.name
    if not name or any(isinstance(note, str) and note.startswith(_HEAD) for note in notes_of(exc)):
        return
    places = [path for path in map(str, sys.path) if "site-packages" not in path]  # some put a Path there
    shown = ", ".join([*map(repr, places[:_MAX_PLACES]), *(["…"] if len(places) > _MAX_PLACES else [])])
    folder = _beside.get(name.partition(".")[0])
    if folder is None:
        advice = (
            "Workers look where the program does, also in what it adds to sys.path later: add the folder of the module "
            "there, or install its package."
        )
    else:
        advice = (
            f"The program has it on its machine, in {folder!r}: ray.init(working_dir={folder!r}) sends that directory "
            "to the workers of every node, which then look there first."
        )
    add_note(
        exc,
        f"{_HEAD}{os.getpid()} has looked for {name!r} in {shown} and the packages of {sys.prefix!r}. {advice}",
    )
