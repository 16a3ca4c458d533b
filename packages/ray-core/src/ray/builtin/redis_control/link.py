"""One connection to the server, by redis-py. It waits for answers, so only the thread of a handle uses it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Any, TypeAlias

from ray.builtin.redis_control.access import Access
from ray.builtin.redis_control.binary import LEAST, too_old
from ray.builtin.redis_control.failures import LinkLostError, RefusedError, cause_of, refusal_of
from ray.builtin.redis_control.wire import Wire, make_wire

Command: TypeAlias = "tuple[bytes | str | int, ...]"


class Link:
    """A connection that is open. It ends with the first error that is not an answer, and is then made anew."""

    def __init__(self, access: Access, client_name: str) -> None:
        """Connect, and see that the server can be used.

        Raises:
            LinkLostError: it cannot be reached, or not be used now.
            RefusedError: it cannot be used, and trying again would not help.
        """
        self._where = access.where
        #: redis-py would connect again by itself, and know nothing of what was watched.
        self._is_closed = False
        self._connection: Wire = make_wire(access, client_name)
        try:
            self._open()
            # Without transactions the commands of one would be done one by one.
            self._check(self.call(("MULTI",), ("EXEC",), ("INFO", "server"), ("INFO", "replication")))
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        from redis.exceptions import RedisError

        try:
            self._connection.connect()
        except (RedisError, OSError) as error:
            raise refusal_of(error, self._where) or LinkLostError(cause_of(error)) from None

    def _check(self, answers: list[Any]) -> None:
        for answer in answers:
            if isinstance(answer, Exception):
                raise refusal_of(answer, self._where) or LinkLostError(cause_of(answer))
        facts: dict[str, str] = {}
        for section in answers[-2:]:
            for line in section.decode("utf-8", "replace").splitlines():
                name, _, value = line.partition(":")
                facts[name] = value
        version = facts.get("redis_version", "0.0")
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers < LEAST:
            raise RefusedError(too_old(self._where, version))
        if facts.get("redis_mode") == "cluster":
            raise RefusedError(
                f"{self._where} is part of a Redis Cluster, which this release cannot use: name one server"
            )
        if facts.get("role") != "master":
            raise LinkLostError("it is a read-only replica: name its primary, or the Sentinels that know it")

    def call(self, *commands: Command) -> list[Any]:
        """Send commands together; returns their answers, errors of the server among them.

        Raises:
            LinkLostError: there is no answer, or the server says that it cannot work now. All may have been done.
        """
        from redis.exceptions import RedisError, ResponseError

        if self._is_closed:
            raise LinkLostError("the connection is closed")
        answers: list[Any] = []
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
            for _ in commands:
                try:
                    answers.append(self._connection.read_response())
                except ResponseError as error:
                    answers.append(error)
        except (RedisError, OSError) as error:
            self.close()
            raise refusal_of(error, self._where) or LinkLostError(cause_of(error)) from None
        for answer in answers:
            if isinstance(answer, Exception) and _is_for_now(answer):
                self.close()
                raise LinkLostError(cause_of(answer))
        return answers

    def transact(self, commands: Sequence[Command]) -> list[Any] | None:
        """Have all commands done in one step, or none; None: what is watched has changed.

        Raises:
            LinkLostError: as for ``call``.
            ResponseError: the server refuses one of them, and has done none.
        """
        from redis.exceptions import ExecAbortError

        answers = self.call(("MULTI",), *commands, ("EXEC",))
        done = answers[-1]
        if isinstance(done, ExecAbortError):
            raise next(answer for answer in answers if isinstance(answer, Exception))
        if isinstance(done, Exception):
            self.close()  # what is queued there is not to be done with what comes next
            raise done
        results: list[Any] | None = done
        return results

    # --- for hints --------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when something comes without being asked for; -1 once closed."""
        found = self._socket()
        return -1 if found is None else found.fileno()

    def say(self, *command: str | bytes) -> None:
        """Send a command whose answer is read by ``heard``.

        Raises:
            LinkLostError: the connection is lost.
        """
        from redis.exceptions import RedisError

        if self._is_closed:
            raise LinkLostError("the connection is closed")
        try:
            self._connection.send_command(*command, check_health=False)
        except (RedisError, OSError) as error:
            self.close()
            raise LinkLostError(cause_of(error)) from None

    def heard(self) -> Any:
        """What has come, or None.

        Raises:
            LinkLostError: the connection is lost.
        """
        from redis.exceptions import RedisError

        if self._is_closed:
            raise LinkLostError("the connection is closed")
        try:
            return self._connection.read_response() if self._connection.can_read(timeout=0) else None
        except (RedisError, OSError) as error:
            self.close()
            raise refusal_of(error, self._where) or LinkLostError(cause_of(error)) from None

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._is_closed = True
        self._connection.disconnect()

    def cut(self) -> None:
        """End what another thread waits for here."""
        found = self._socket()
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def _socket(self) -> socket.socket | None:
        return self._connection._sock


def _is_for_now(error: Exception) -> bool:
    """Whether the server can do it later, or another one can now."""
    from redis.exceptions import BusyLoadingError, ClusterDownError, MasterDownError, ReadOnlyError

    if isinstance(error, (BusyLoadingError, ClusterDownError, MasterDownError, ReadOnlyError)):
        return True
    return str(error).startswith(("BUSY ", "NOREPLICAS", "MISCONF"))
