"""What a server or the way to it may answer instead, in the terms of the seam, each with what to do."""

from __future__ import annotations

from typing import Any

from ray.abc.control_operations import Operation
from ray.exceptions import ControlDeniedError, ControlFullError, ControlStoreError


class LinkLostError(Exception):
    """There is no connection, or no answer. It is worth trying again. The text is the cause."""


class RefusedError(Exception):
    """The server does not do it, and would not the next time. The text says why, and what to do."""

    kind: type[ControlStoreError] = ControlStoreError

    def answer(self, op: Operation[Any]) -> ControlStoreError:
        """As the caller is answered."""
        return self.kind(type(op).__name__, op.key, str(self))


class DeniedError(RefusedError):
    """It does not let this user do it."""

    kind = ControlDeniedError


class FullError(RefusedError):
    """It has no memory left."""

    kind = ControlFullError


def cause_of(error: BaseException) -> str:
    """A short cause, such as ``connection refused``: never with what was sent."""
    from redis.exceptions import BusyLoadingError, ReadOnlyError, TimeoutError

    known: tuple[tuple[type[BaseException], str], ...] = (
        (BusyLoadingError, "it is still loading its data"),
        (ReadOnlyError, "it is a read-only replica: name its primary, or the Sentinels that know it"),
        (TimeoutError, "it does not answer"),
    )
    for kind, text in known:
        if isinstance(error, kind):
            return text
    below = error
    while below.__cause__ is not None or below.__context__ is not None:
        below = below.__cause__ or below.__context__ or below
    if isinstance(below, OSError) and below.strerror:
        return below.strerror.lower()
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def refusal_of(error: BaseException, where: str) -> RefusedError | None:
    """What an error says that trying again does not change, or None."""
    import ssl

    from redis.exceptions import (
        AskError,
        AuthenticationError,
        AuthorizationError,
        ClusterCrossSlotError,
        NoPermissionError,
        OutOfMemoryError,
        ResponseError,
    )

    said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    if isinstance(error, OutOfMemoryError):
        return FullError(f"{where} has used all the memory that it may use: raise its maxmemory, or delete keys")
    if isinstance(error, NoPermissionError) or " NOPERM " in said:  # of EXEC itself
        return DeniedError(
            f"{where} does not allow it to this user ({said}): give the user the rules of the documentation"
        )
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return DeniedError(f"{where} does not let this user in ({said}): correct user and password of its URL")
    if isinstance(error, (AskError, ClusterCrossSlotError)):
        return RefusedError(f"{where} is part of a Redis Cluster, which this release cannot use: name one server")
    if isinstance(error, ResponseError):
        return RefusedError(f"{where} says: {said}")
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, ssl.SSLCertVerificationError):
            return RefusedError(f"{where} has a certificate that is not trusted ({below.verify_message}): give ca_file")
        below = below.__cause__ or below.__context__
    return None
