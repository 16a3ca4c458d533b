"""Errors of a process that reaches nobody, or has no room for one more connection, and how it finds out."""

from __future__ import annotations

import os
from copy import copy

from ray.abc.transport import Connection, Transport
from ray.clock import monotonic
from ray.exceptions import RayConnectionError, RaySystemError
from ray.runtime.process import descriptors

#: How soon the node manager, whose address is known to be good, has to answer whether it can be reached.
_PROBE_S = 1.0

#: How long a process that reaches nobody tries again; longer than the node manager needs to find that its directory is
#: gone, as every process is told of that.
CUT_OFF_S = 2.0

#: The context of a connection that was dropped, whose messages may still be under way here.
DROPPED = object()


class OwnFaultError(ConnectionError):
    """Nothing is wrong with the peer, as far as is known. ``kind``: of the error that the program gets."""

    kind: type[RaySystemError] = RaySystemError


class OutOfDescriptorsError(OwnFaultError):
    """This process may not have one more file open."""


class CutOffError(OwnFaultError):
    """This process can reach nobody, not even its node manager. ``since``: when that was noticed first."""

    kind = RayConnectionError

    def __init__(self, cause: ConnectionError, since: float) -> None:
        self.since = since
        super().__init__(
            f"This process (pid {os.getpid()}) cannot reach the other processes of its session any more: {cause}. Its "
            "user, root directory, mounts or rights have changed since it started, or the directory of the session was "
            "removed. Make such changes in a process of its own (subprocess), or only once ray is not needed any more."
        )

    @property
    def lasts(self) -> bool:
        """Whether it is known for so long that it is not expected to pass."""
        return monotonic() - self.since >= CUT_OFF_S


def told_again(failure: ConnectionError) -> ConnectionError:
    """The failure of a dial, to be raised or kept.

    That of the connection itself must not be raised: it would keep the frames that it goes through, with all that the
    program holds in them, for as long as there is the connection.
    """
    again = copy(failure)
    again.__cause__ = cause = failure.__cause__ or failure.__context__
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    failure.__traceback__ = None
    return again


class Probe:
    """A dial to the node manager, made where a peer was not reached: is any process?"""

    def __init__(self, transport: Transport, node_address: str) -> None:
        self.began = monotonic()
        self._connection: Connection | None = None
        self._error: ConnectionError | None = None
        try:
            self._connection = transport.dial(node_address, _PROBE_S)
            self._connection.context = DROPPED
        except ConnectionError as error:
            self._error = error.with_traceback(None)  # the frame of this call has the probe

    @property
    def is_decided(self) -> bool:
        """Whether the node manager is known to be reached, or not to be."""
        return self._connection is None or not self._connection.dialling

    def end(self) -> ConnectionError | None:
        """Why nobody is reached; None if the node manager is, or as far as is known. It is not probed any more."""
        connection, error = self._connection, self._error
        if connection is not None:
            error = None if connection.failure is None else told_again(connection.failure)
            connection.abort()
        # One that does not answer in time may be slow.
        if error is None or descriptors.is_exhausted(error) or monotonic() - self.began >= _PROBE_S:
            return None
        return error
