"""Functions and classes in pickled form, once per session and process."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from ray.runtime.interface import FunctionDescriptor
from ray.runtime.owner.captured import captured_by
from ray.runtime.owner.records import Export
from ray.serialization import dump_function, largest_captures

if TYPE_CHECKING:
    from ray.runtime.owner.here import OwnerBase

_log = logging.getLogger("ray")
WARN_BYTES = 10 * 1024 * 1024
HASH_BYTES = 16


def export_of(function: FunctionDescriptor, runtime: OwnerBase) -> Export:
    """Pickle ``function`` for this session; later calls of the same descriptor reuse it.

    Raises:
        UnpicklableError: naming the path to what cannot be pickled.
    """
    known = runtime.known_code(function.target)
    if known is not None:  # it came here in a pickle, which serves again
        export = function.export = Export(runtime, *known, function.name, [])
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
    export = Export(runtime, digest, data, function.name, refs)
    if not runtime.is_worker:
        export.captured = captured_by(function.target, function.name)
    function.export = export
    return export
