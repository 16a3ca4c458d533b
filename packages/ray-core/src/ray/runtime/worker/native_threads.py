"""How many threads native libraries use in a worker: as many as its task has CPUs, where the user has not said.

Most libraries read the variables once, when they are loaded. The zygote, which may load numpy for all workers, has them
at 1; OpenBLAS, which numpy comes with, can be told later.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from ray.protocol.resources import UNIT

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
#: Names of the function that takes a number; others, with an underscore at the end, take a pointer to one.
_SETTERS = ("openblas_set_num_threads", "openblas_set_num_threads64_", "openblas_set_num_threads_64")


class NativeThreads:
    """Made once per node, before any library is loaded; each worker has a copy."""

    def __init__(self) -> None:
        self._names = [name for name in VARIABLES if name not in os.environ]
        self._cpus = 0
        self.set_for({})

    def leave(self, names: Container[str]) -> None:
        """The user has said something about these."""
        self._names = [name for name in self._names if name not in names]

    def set_for(self, resources: Mapping[str, int]) -> None:
        """From now on for a task, or an actor, that holds ``resources``; cheap if nothing changes."""
        cpus = resources.get("CPU", 0) // UNIT or 1
        if cpus == self._cpus or not self._names:
            return
        self._cpus = cpus
        for name in self._names:
            os.environ[name] = str(cpus)
        if "OPENBLAS_NUM_THREADS" in self._names:
            for set_threads in _setters():
                set_threads(cpus)


def _setters() -> Iterator[Callable[[int], Any]]:
    """Functions of the OpenBLAS libraries that this process has loaded."""
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split(maxsplit=5)[-1].strip() for line in maps if "openblas" in line}
    except OSError:  # not Linux
        return
    for path in paths:
        try:
            library = ctypes.CDLL(path)
        except OSError:  # a file that is only mapped
            continue
        for prefix, name in itertools.product(("", "scipy_"), _SETTERS):
            function = getattr(library, prefix + name, None)
            if function is not None:
                yield function
