"""Errors of the system itself: session, nodes, protocol."""

from __future__ import annotations

from typing import Any, Self

from ray.exceptions.base import RayError


class RaySystemError(RayError, RuntimeError):
    """The system itself failed, or is not in a state to serve the call."""

    def __init__(self, message: str = "internal failure") -> None:
        self.message = message
        super().__init__(message)


class RayConnectionError(RaySystemError, ConnectionError):
    """There is no session, or the connection to it is gone."""

    #: Why a process has no session, where nothing else is said.
    absence = "Ray has not been started yet. You can start Ray with 'ray.init()'."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(self.absence if message is None else message)


class NodeDiedError(RayConnectionError):
    """A node, or its manager process, is dead."""

    def __init__(self, node: str = "", reason: str = "") -> None:
        self.node, self.reason = node, reason
        super().__init__(
            f"The node {node or '(unknown)'} died{f': {reason}' if reason else ''}. Its tasks run again elsewhere if "
            "their max_retries allows; a program whose own node it was calls ray.shutdown() and ray.init() again."
        )


class KeyFileError(RayError, ValueError):
    """The key file of a cluster cannot be used."""

    def __init__(self, path: str = "", reason: str = "it cannot be read") -> None:
        self.path, self.reason = path, reason
        super().__init__(f"The key file {path or '(unknown)'} cannot be used: {reason}.")


class ProtocolError(RayError, RuntimeError):
    """Abstract: a message that the protocol does not allow. Raise the local or the remote kind."""

    def __new__(cls, *args: Any) -> Self:
        if cls is ProtocolError:
            raise TypeError("ProtocolError is abstract: raise LocalProtocolError or RemoteProtocolError")
        return super().__new__(cls, *args)

    def __init__(self, message: str = "protocol violated") -> None:
        self.message = message
        super().__init__(message)


class LocalProtocolError(ProtocolError):
    """This process tried to do what the protocol does not allow: a defect here."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow: the connection is to be closed."""


class InvalidTransition(RayError, RuntimeError):  # noqa: N818 (what the design calls it)
    """A state machine got an event that its state does not accept: a defect."""

    def __init__(self, machine: str = "", state: str = "", event: str = "") -> None:
        self.machine, self.state, self.event = machine, state, event
        super().__init__(f"{machine}: event {event!r} is not allowed in state {state!r}")
