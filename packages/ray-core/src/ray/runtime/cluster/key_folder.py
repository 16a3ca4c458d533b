"""Where key files are: ``$RAY_HOME/clusters``, by default ``~/.ray/clusters``; and how one is written and removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ray.clock import monotonic, sleep
from ray.exceptions import KeyFileError
from ray.runtime.cluster.key_file import KeyFile, read_given_up, read_key_file
from ray.runtime.cluster.wanted import NAME

HOME = "RAY_HOME"
_SUFFIX = ".json"
_LOCK_S = 60.0
_LOOK_S = 0.02


class FoundKey(NamedTuple):
    """A key file that was read."""

    path: str
    key: KeyFile


class KeyFolder:
    """The key files of this user. It holds no state, and looks anew each time."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        home = (os.environ if environ is None else environ).get(HOME) or os.path.join("~", ".ray")
        self.path = os.path.join(os.path.abspath(os.path.expanduser(home)), "clusters")

    def path_of(self, name: str) -> str:
        """Where the key file of a cluster is, or would be."""
        return os.path.join(self.path, name + _SUFFIX)

    def names(self) -> list[str]:
        """The clusters of which there are key files, usable or not."""
        try:
            found = os.listdir(self.path)
        except OSError:
            return []
        names = [name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)]
        return sorted(name for name in names if NAME.fullmatch(name))

    def read(self, name: str) -> FoundKey:
        """The keys of one cluster.

        Raises:
            FileNotFoundError: there is no such key file.
            KeyFileError: it cannot be used.
        """
        path = self.path_of(name)
        self._check(path)
        key = read_key_file(path)
        if key.name != name:
            raise KeyFileError(path, f"it is that of cluster {key.name!r}, and bears the name of {name!r}")
        return FoundKey(path, key)

    def make(self) -> None:
        """Have the folder there, for this user alone.

        Raises:
            KeyFileError: it cannot be.
        """
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            reason = "it is a symbolic link" if os.path.islink(self.path) else str(error.strerror)
            raise KeyFileError(self.path, f"as the folder of key files: {reason}") from None
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid():
                raise KeyFileError(self.path, f"as the folder of key files: it belongs to user {found.st_uid}")
            if stat.S_IMODE(found.st_mode) != 0o700:
                os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)

    def _check(self, path: str) -> None:
        """See that nobody else can put a file there."""
        try:
            found = os.stat(self.path)
        except OSError:
            return  # as there is no file
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise KeyFileError(path, f"others than you can put files into its folder: chmod 700 {self.path}")


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of the key file at ``path``, which may not be there yet; for programs of every machine.

    Raises:
        KeyFileError: it cannot be had.
    """
    lock = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.lock")
    end = monotonic() + _LOCK_S
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise KeyFileError(path, f"{lock}: {error.strerror}") from None
        if _has_locked(descriptor, lock):
            break
        os.close(descriptor)
        if monotonic() > end:
            raise KeyFileError(path, f"another program holds {lock} for more than {_LOCK_S:g} s")
        sleep(_LOOK_S)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(lock)
        os.close(descriptor)


def _has_locked(descriptor: int, lock: str) -> bool:
    """Whether this process holds the lock now; not if the file was removed by the one that held it before."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == os.stat(lock).st_ino
    except OSError:
        return False


def write_key_file(path: str, key: KeyFile) -> None:
    """Write it whole, or not at all; the caller holds the lock.

    Raises:
        KeyFileError: it cannot be written.
    """
    draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(draft, flags, 0o600), "wb") as file:
            file.write(key.to_json())
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, path)
    except OSError as error:
        raise KeyFileError(path, f"it cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(draft)


def remove_key_file(path: str, session: str) -> bool:
    """Remove it if it is still that of ``session``; returns whether it was."""
    with contextlib.suppress(OSError, KeyFileError), locked(path):
        if read_given_up(path).session == session:
            os.unlink(path)
            return True
    return False
