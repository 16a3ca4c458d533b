"""Errors of the control store. They come as answers: a caller that waits for one gets it raised."""

from __future__ import annotations

from ray.exceptions.system import RaySystemError


class ControlStoreError(RaySystemError):
    """Base of what the control store answers where it cannot do what it was asked for."""

    def __init__(self, operation: str = "", key: str = "", reason: str = "it could not be done") -> None:
        self.operation, self.key, self.reason = operation, key, reason
        what = f"{operation}({key!r}) of the" if operation else "The"
        super().__init__(f"{what} control store failed: {reason}.")


class ControlUnavailableError(ControlStoreError, ConnectionError):
    """There is no control store, or no connection to it."""

    def __init__(self, operation: str = "", key: str = "", reason: str = "it is closed") -> None:
        super().__init__(operation, key, reason)


class ControlTimeoutError(ControlUnavailableError, TimeoutError):
    """It did not answer in time; it may have done what it was asked for."""

    def __init__(self, operation: str = "", key: str = "", timeout_s: float = 0.0, trouble: str = "") -> None:
        self.timeout_s, self.trouble = timeout_s, trouble
        told = f"; {trouble}" if trouble else ""
        super().__init__(operation, key, f"it did not answer within {timeout_s:g} s, and may have done it or not{told}")


class ControlDeniedError(ControlStoreError, PermissionError):
    """The control store does not let this user in, or do this."""

    def __init__(self, operation: str = "", key: str = "", reason: str = "it is not allowed") -> None:
        super().__init__(operation, key, reason)


class ControlFullError(ControlStoreError, MemoryError):
    """The control store has no memory left for this."""

    def __init__(self, operation: str = "", key: str = "", reason: str = "it is full") -> None:
        super().__init__(operation, key, reason)


class ControlKindError(ControlStoreError, TypeError):
    """The key holds what this cannot be done with, such as a list where a value is wanted."""

    def __init__(self, operation: str = "", key: str = "", reason: str = "the key holds something else") -> None:
        super().__init__(operation, key, reason)
