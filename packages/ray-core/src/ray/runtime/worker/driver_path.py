"""Modules that a worker does not find are looked for where the driver looks now: notebooks extend ``sys.path`` late.

The driver is asked only then, so that nothing on the way of a task has to look whether its path has changed.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from ray.runtime.process.node_link import NodeLink

#: The driver's reader answers, unless the program keeps the interpreter to itself.
_ASK_S = 5.0


def current_path() -> list[str]:
    """``sys.path`` of this process as others can use it.

    Without its working directory where that is gone: Python looks for nothing there either.
    """
    try:
        here = os.getcwd()
    except OSError:
        here = ""
    return [entry for path in sys.path if (entry := os.fsdecode(path) or here)]


def answer_to(question: jobs.AskPath) -> jobs.Path:
    """The same as a message."""
    path = current_path()
    named = [entry for entry in path if entry == printable(entry)]
    odd = [os.fsencode(entry) for entry in path if entry != printable(entry)]
    return jobs.Path(question.request, question.worker, named, odd)


class Process(Protocol):
    """A worker."""

    lock: Any
    closed: bool
    is_forked: bool
    node: NodeLink


class DriverPath:
    """The last finder on a worker's ``sys.meta_path``."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the import system asks after all other finders have found nothing."""
        if path is not None:
            return None
        missing = [entry for entry in self._ask() if entry not in sys.path]
        if not missing:
            return None
        sys.path.extend(missing)
        importlib.invalidate_caches()
        return PathFinder.find_spec(name, missing)

    def _ask(self) -> Iterable[str]:
        process = self._process
        if process.closed or process.is_forked or process.lock._is_owned():
            return ()
        try:
            answer = process.node.request(jobs.AskPath, _ASK_S)
            return [os.fsdecode(entry) for entry in msgspec.msgpack.decode(answer.data)] if answer.ok else ()
        except Exception:  # the import fails as it would have failed
            return ()
