"""Modules that a worker does not find are looked for where the driver looks now: notebooks extend ``sys.path`` late.

The driver is asked only then, so that nothing on the way of a task has to look whether its path has changed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ray.exceptions.base import printable
from ray.messages import jobs
from ray.serialization.missing import lies_beside

if TYPE_CHECKING:
    from ray.runtime.process.node_link import NodeLink

#: Modules of Python itself.
_LIBRARY = os.path.dirname(os.__file__)
#: The driver's reader answers, unless the program keeps the interpreter to itself.
_ASK_S = 5.0


def current_path(sent: str = "") -> list[str]:
    """``sys.path`` of this process as others can use it, who begin elsewhere: what is relative there is not, here.

    Without its working directory where that is gone: Python looks for nothing there either.

    Args:
        sent: the directory that the program sends along, or empty. What is relative and lies in it is relative to it:
            workers begin in their copy.
    """
    try:
        here = os.getcwd()
    except OSError:
        here = ""
    return [entry for path in sys.path if (entry := _seen_from_elsewhere(os.fsdecode(path), here, sent))]


def _seen_from_elsewhere(entry: str, here: str, sent: str) -> str:
    if not entry or not here or os.path.isabs(entry):
        return entry or here
    whole = os.path.normpath(os.path.join(here, entry))
    real = os.path.realpath(whole)
    return os.path.relpath(real, sent) if _is_in(real, sent) and real != sent else whole


def _is_in(path: str, folder: str) -> bool:
    return bool(folder) and (path == folder or path.startswith(os.path.join(folder, "")))


def answer_to(question: jobs.AskPath, sent: str = "") -> jobs.Path:
    """The same as a message.

    Args:
        question: of a worker.
        sent: the directory that the program has sent along, or empty.
    """
    path = current_path(sent)
    named = [entry for entry in path if entry == printable(entry)]
    odd = [os.fsencode(entry) for entry in path if entry != printable(entry)]
    return jobs.Path(question.request, question.worker, named, odd, _beside(question.module, sent))


def _beside(module: str, sent: str) -> str:
    """The folder in which the program has a module of its own; empty if it has none.

    That of the program's file, the working directory, or one where it looks for modules and nothing is installed.
    Empty as well where it was sent along: what of it is not sent is left out on purpose.
    """
    if not module.isidentifier():
        return ""
    folders = []
    with contextlib.suppress(OSError):  # the working directory was removed
        file = str(getattr(sys.modules.get("__main__"), "__file__", None) or "")
        folders.append(os.path.dirname(os.path.abspath(file)))
        folders.append(os.getcwd())
    folders += [entry for entry in current_path() if not _is_in(entry, sys.prefix) and not _is_in(entry, _LIBRARY)]
    for folder in folders:
        path = os.path.join(folder, module)
        if os.path.isfile(f"{path}.py") or os.path.isfile(os.path.join(path, "__init__.py")):
            return "" if _is_in(os.path.realpath(folder), sent) else printable(folder)
    return ""


class Process(Protocol):
    """A worker."""

    lock: Any
    closed: bool
    is_forked: bool
    node: NodeLink


class DriverPath:
    """The last finder on a worker's ``sys.meta_path``."""

    def __init__(self, process: Process, *, sends: bool) -> None:
        """``sends``: the program has sent a directory along."""
        self._process = process
        self._sends = sends

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the import system asks after all other finders have found nothing."""
        if path is not None:
            return None
        places, beside = self._ask(name)
        missing = [entry for entry in places if entry not in sys.path]
        found = None
        if missing:
            sys.path.extend(missing)
            importlib.invalidate_caches()
            found = PathFinder.find_spec(name, missing)
        if found is None and beside:
            lies_beside(name, beside, sends_another=self._sends)
        return found

    def _ask(self, name: str) -> tuple[Iterable[str], str]:
        """Where the program looks now, and the folder beside it in which the module lies, or an empty text."""
        process = self._process
        if process.closed or process.is_forked or process.lock._is_owned():
            return (), ""
        try:
            answer = process.node.request(lambda request: jobs.AskPath(request, module=name), _ASK_S)
            if not answer.ok:
                return (), ""
            entries, beside = msgspec.msgpack.decode(answer.data)
            return [os.fsdecode(entry) for entry in entries], beside
        except Exception:  # the import fails as it would have failed
            return (), ""
