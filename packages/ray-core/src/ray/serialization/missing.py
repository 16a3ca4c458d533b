"""What is said of a module that a process does not find: where it has looked, and what to do."""

from __future__ import annotations

import os
import sys

from ray.exceptions.base import add_note, notes_of

_MAX_PLACES = 10
_HEAD = "Process "
#: {module that the program has, and this process does not find: its folder on the program's machine, and whether the
#: program sends another one}
_beside: dict[str, tuple[str, bool]] = {}


def lies_beside(module: str, folder: str, *, sends_another: bool = False) -> None:
    """The program says where it has a module that this process does not find; it may send another directory along."""
    _beside[module] = folder, sends_another


def explain_missing(exc: ModuleNotFoundError) -> None:
    """Add what is known as a note, once."""
    name = exc.name
    if not name or any(isinstance(note, str) and note.startswith(_HEAD) for note in notes_of(exc)):
        return
    places = [path for path in map(str, sys.path) if "site-packages" not in path]  # some put a Path there
    shown = ", ".join([*map(repr, places[:_MAX_PLACES]), *(["…"] if len(places) > _MAX_PLACES else [])])
    folder, sends_another = _beside.get(name.partition(".")[0], ("", False))
    if not folder:
        advice = (
            "Workers look where the program does, also in what it adds to sys.path later: add the folder of the module "
            "there, or install its package."
        )
    elif sends_another:
        advice = (
            f"The program has it on its machine, in {folder!r}, which is not in the directory that it sends: move it "
            "there, or send a directory that has both, by ray.init(working_dir=...)."
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
