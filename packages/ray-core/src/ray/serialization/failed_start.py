"""The error of calls to an actor whose ``__init__`` raised: RayActorError, and what was raised, at once."""

from __future__ import annotations

from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serialization.dual import of_both_types
from ray.serialization.envelope import open_envelope
from ray.serialization.render import message_of, summary_of


def failed_start(facts: dict[str, Any], envelope: bytes) -> RayActorError:
    """A fresh error to raise, which survives pickling.

    Args:
        facts: keyword arguments of RayActorError.
        envelope: what became of ``__init__``.
    """
    inner = open_envelope(envelope)
    kind: type[BaseException] | None
    cause: BaseException | None
    if isinstance(inner, RayTaskError):
        cause, summary, text = inner.cause, inner.summary, inner.traceback_str
        kind = next((base for base in type(inner).__bases__ if not issubclass(RayTaskError, base)), None)
    else:
        cause, kind, summary, text = inner, type(inner), summary_of(inner), message_of(inner)
    error = RayActorError(**facts, cause=cause, summary=summary, traceback_str=text)
    return of_both_types(error, kind, (failed_start, (facts, envelope)))
