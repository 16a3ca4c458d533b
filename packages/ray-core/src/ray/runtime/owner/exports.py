"""Functions and classes in pickled form, once per session and process."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.runtime.interface import FunctionDescriptor
from ray.runtime.owner.captured import captured_by
from ray.runtime.owner.records import Export
from ray.serialization import dump_function, largest_captures

if TYPE_CHECKING:
    from ray.runtime.owner.here import Here

_log = logging.getLogger("ray")
WARN_BYTES = 10 * 1024 * 1024
HASH_BYTES = 16


class Exports:
    """Pickles what the tasks and actors of one process run."""

    def __init__(
        self,
        here: Here,
        known: Callable[[Any], tuple[bytes, bytes] | None],
        check_open: Callable[[], None],
        *,
        watch: bool,
    ) -> None:
        """Make it.

        Args:
            here: this process.
            known: hash and pickle of what came here in a pickle.
            check_open: raises if the session has ended.
            watch: whether to look what functions capture, and tell of what has changed since they were pickled.
        """
        self._here = here
        self._known = known
        self._check_open = check_open
        self._watch = watch

    def of(self, function: FunctionDescriptor[Export]) -> Export:
        """``function`` for this session; later calls of the same descriptor reuse it.

        Raises:
            RayConnectionError: the session has ended.
            UnpicklableError: naming the path to what cannot be pickled.
        """
        export = function.export
        if export is None or export.here is not self._here or self._here.closed:
            self._check_open()
            return self._make(function)
        if export.captured is not None:
            export.captured.look()
        return export

    def _make(self, function: FunctionDescriptor[Export]) -> Export:
        known = self._known(function.target)
        if known is not None:  # it came here in a pickle, which serves again
            export = function.export = Export(self._here, *known, function.name, [])
            return export
        data, refs = dump_function(function.target)
        if len(data) > WARN_BYTES:
            captures = ", ".join(
                f"{name} ({nbytes / 1e6:,.1f} MB)" for name, nbytes in largest_captures(function.target)[:3]
            )
            _log.warning(
                "%s is %.1f MB when pickled; it captures %s. Put large values with ray.put() and pass the ref.",
                function.name,
                len(data) / 1e6,
                captures or "large values",
            )
        digest = hashlib.sha256(data).digest()[:HASH_BYTES]
        export = Export(self._here, digest, data, function.name, refs)
        if self._watch:
            export.captured = captured_by(function.target, function.name)
        function.export = export
        return export
