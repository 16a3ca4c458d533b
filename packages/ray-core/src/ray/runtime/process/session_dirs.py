"""Session directories: private to the user, short, and removed when their last process has gone."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile

import msgspec

from ray.clock import wall_time
from ray.exceptions import RayConnectionError, RaySystemError
from ray.exceptions.base import printable
from ray.runtime.process.group_ends import await_trackers
from ray.runtime.process.marks import kill_marked
from ray.runtime.process.supervision import is_stopped, stat_of

#: Leaves room for the socket names below the 107 bytes of a unix socket path.
_MAX_ROOT_BYTES = 60
_PID_FILE = "owner.pid"
_NODE_FILE = "node.pid"
_FACTS_FILE = "session.json"
_PIDS_FILE = "pids.txt"
#: A directory that is empty for longer is nobody's.
_YOUNG_S = 60.0
_SURVIVOR_FILE = "survivor.pid"
_END_FILE = "end.txt"
#: The start time of a process that has ended.
GONE = "gone"


def new_session_id() -> str:
    """A name for a session: unguessable and safe in file names."""
    return secrets.token_hex(8)


def place_session(session: str) -> str:
    """Path of the session's directory, in a root that exists; sweeps what dead nodes left.

    Raises:
        RaySystemError: the root directory belongs to somebody else, is a symlink, or cannot be made.
    """
    sweep_sessions()
    return os.path.join(_private_root(), session)


def create_session_dir(path: str, owner_pid: int) -> None:
    """Make the directory with mode 0700. The node manager does, since it outlives a driver that is killed.

    Args:
        path: of the directory.
        owner_pid: the process with which the session ends: a driver, or the node manager itself.

    Raises:
        RaySystemError: it cannot be made.
    """
    try:
        os.mkdir(path, 0o700)
        node, owner = (f"{pid} {start_time(pid)}" for pid in (os.getpid(), owner_pid))
        for name, text in ((_PIDS_FILE, _meaning_of_pids()), (_NODE_FILE, node), (_PID_FILE, owner)):
            descriptor = os.open(os.path.join(path, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as file:
                file.write(text)
    except OSError as error:
        raise RaySystemError(f"cannot create the session directory {path}: {error}") from error


class ClusterFacts(msgspec.Struct, frozen=True):
    """The part that a node has in a cluster."""

    name: str
    """Of the cluster."""
    session: str
    """The id of this life of the cluster."""
    address: str
    """What users give: ``host:port`` of the control server."""
    host: str = "127.0.0.1"
    """Where other nodes reach this one."""
    node_name: str = ""
    is_head: bool = False
    labels: dict[str, str] = {}


class SessionFacts(msgspec.Struct, frozen=True):
    """What a program that was not started by the session needs to look into it; kept in the session's directory."""

    session: str
    address: str
    store_address: str
    plan: str
    owner_pid: int
    """The process with which the session ends."""
    events: bool = False
    """Whether a plugin wants to know of the ends of tasks."""
    python: str = ""
    """Version of the interpreter, without its patch level: workers unpickle what drivers send."""
    node: int = 0
    """The node's number."""
    cluster: ClusterFacts | None = None
    """None: the node is alone."""


def publish_session(path: str, facts: SessionFacts) -> None:
    """Let other programs of this user find the session; called once it can be reached."""
    descriptor = os.open(os.path.join(path, _FACTS_FILE + ".new"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(msgspec.json.encode(facts))
    os.rename(os.path.join(path, _FACTS_FILE + ".new"), os.path.join(path, _FACTS_FILE))


def session_in(path: str) -> SessionFacts:
    """Facts of the session whose directory is ``path``.

    Raises:
        RayConnectionError: no session of this user is there, or it has ended.
    """
    try:
        with open(os.path.join(path, _FACTS_FILE), "rb") as file:
            owner = os.fstat(file.fileno()).st_uid
            facts = msgspec.json.decode(file.read(), type=SessionFacts)
    except (OSError, ValueError) as error:
        raise RayConnectionError(f"no running session has its directory at {path!r}: {error}") from None
    if owner != os.geteuid():
        raise RayConnectionError(f"the session at {path!r} belongs to user {owner}: only that user can join it")
    if start_time(facts.owner_pid) == GONE:
        raise RayConnectionError(f"the session at {path!r} has ended: process {facts.owner_pid} is gone")
    return facts


def live_sessions() -> list[tuple[str, SessionFacts]]:
    """``(directory, facts)`` of every session of this user on this machine, newest first."""
    root = _private_root()
    found: list[tuple[float, str, SessionFacts]] = []
    for name in os.listdir(root):
        path = os.path.join(root, name)
        try:
            with open(os.path.join(path, _FACTS_FILE), "rb") as file:
                facts = msgspec.json.decode(file.read(), type=SessionFacts)
                started = os.fstat(file.fileno()).st_mtime
        except (OSError, msgspec.DecodeError):
            continue
        if start_time(facts.owner_pid) != GONE:
            found.append((started, path, facts))
    return [(path, facts) for _, path, facts in sorted(found, key=lambda item: -item[0])]


def session_dirs() -> list[str]:
    """Every directory of a session, or of what is made as one, of this user on this machine; some may be dead."""
    root = _private_root()
    return [os.path.join(root, name) for name in sorted(os.listdir(root))]


def maker_of(path: str) -> tuple[int, str]:
    """The process that has made a session's directory, a node manager, and its start time; ``(0, "")``: unknown."""
    try:
        with open(os.path.join(path, _NODE_FILE)) as file:
            pid, started = file.read().split()
            return int(pid), started
    except (OSError, ValueError):
        return 0, ""


def note_survivor(path: str, pid: int) -> None:
    """Write down which process cleans up if the node manager cannot."""
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with open(os.open(os.path.join(path, _SURVIVOR_FILE), flags, 0o600), "w") as file:
            file.write(str(pid))


def survivor_of(path: str) -> int:
    """The process that ``note_survivor`` was told; 0 if there is none."""
    try:
        with open(os.path.join(path, _SURVIVOR_FILE)) as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def note_end(path: str, reason: str) -> None:
    """Write down why the node of a cluster has to end; empty, while it has not."""
    with contextlib.suppress(OSError), open(os.path.join(path, _END_FILE), "w") as file:
        file.write(reason)


class NodeEnd:
    """Tells why a node has ended, also when its directory is gone. Made while it runs."""

    def __init__(self, path: str) -> None:
        """``path`` is the session's directory."""
        try:
            self._fd = os.open(os.path.join(path, _END_FILE), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def reason(self) -> str:
        """What ``note_end`` was told; empty if nobody knows."""
        try:
            return os.pread(self._fd, 4096, 0).decode()
        except OSError:
            return ""

    def close(self) -> None:
        """Forget it. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def remove_session_dir(path: str) -> None:
    """Remove the directory and what is in it; never raises. The root stays: another session may be about to start.

    What tells the next session whose it was goes last: that one does the rest, if this process is killed here.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name not in (_PID_FILE, _NODE_FILE):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
    shutil.rmtree(path, ignore_errors=True)


def _private_root() -> str:
    problem, instead = "no directory is writable", ""
    for base in _candidates():
        if not base or not os.path.isdir(base) or not os.access(base, os.W_OK):
            continue
        root = os.path.join(base, f"ray-{os.geteuid()}")
        if len(os.fsencode(root)) > _MAX_ROOT_BYTES or root != printable(root):  # addresses are names in it
            continue
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(root, 0o700)
            found = os.lstat(root)
            if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
                problem, instead = f"{root} is not a directory of its own (a symlink?)", "remove it, or "
            elif found.st_uid != os.geteuid():
                problem, instead = f"{root} belongs to user {found.st_uid}", "remove it, or "
            else:
                if stat.S_IMODE(found.st_mode) != 0o700:
                    os.chmod(root, 0o700)
                return root
        except OSError as error:  # the superuser is told that every directory is writable
            problem, instead = f"cannot make {root}: {error.strerror}", ""
    raise RaySystemError(
        f"no safe place for the session directory: {problem}; {instead}set XDG_RUNTIME_DIR or TMPDIR to a directory "
        "of yours"
    )


def _candidates() -> list[str]:
    """Directories that may hold the root, the best first."""
    try:
        usual = tempfile.gettempdir()
    except FileNotFoundError:
        usual = ""
    return [os.environ.get("XDG_RUNTIME_DIR", ""), usual, "/tmp"]


def sweep_sessions() -> int:
    """Remove sessions of this user whose owner has died without a process left to clean up; returns how many.

    Raises:
        RaySystemError: the root directory belongs to somebody else, is a symlink, or cannot be made.
    """
    root, swept = _private_root(), 0
    with contextlib.suppress(OSError):
        for name in os.listdir(root):
            path = os.path.join(root, name)
            try:
                with open(os.path.join(path, _PID_FILE)) as file:
                    pid, started = file.read().split()
            except (OSError, ValueError):
                with contextlib.suppress(OSError):  # another session may be about to write it
                    if wall_time() - os.stat(path).st_mtime > _YOUNG_S:
                        os.rmdir(path)
                continue
            if start_time(int(pid)) != started and not _in_use(path):
                remove_session_dir(path)
                await_trackers(kill_marked(name))  # what stands, and so could not end by itself
                swept += 1
    return swept


def _in_use(path: str) -> bool:
    """Whether somebody of the session will clean up: not a node manager that was stopped."""
    try:
        with open(os.path.join(path, _NODE_FILE)) as file:
            pid, started = file.read().split()
    except (OSError, ValueError):  # it has died at its start
        return False
    if start_time(int(pid)) == started:
        return not is_stopped(int(pid))
    return _answers(path) or _starts_elsewhere(path)  # else it is dead


def _starts_elsewhere(path: str) -> bool:
    """Whether it is of another container that has the directory as well, and may not listen yet."""
    with contextlib.suppress(OSError):
        return made_elsewhere(path) and wall_time() - os.stat(os.path.join(path, _PIDS_FILE)).st_mtime < _YOUNG_S
    return False


def made_elsewhere(path: str) -> bool:
    """Whether pids mean something else where that session is: it is in another container."""
    with contextlib.suppress(OSError), open(os.path.join(path, _PIDS_FILE)) as file:
        return file.read() not in ("", _meaning_of_pids())
    return False


def _meaning_of_pids() -> str:
    """The same in all processes for which pids mean the same; empty where the system does not say."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _answers(path: str) -> bool:
    """Whether a process listens in ``path``."""
    import socket

    for name in os.listdir(path):
        if name.endswith(".sock"):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(0.2)
                probe.connect(os.path.join(path, name))
                return True
    return False


def start_time(pid: int) -> str:
    """What tells two processes of the same pid apart; ``-`` where the system does not say, ``gone`` of a dead one."""
    stat = stat_of(pid)
    if stat:
        return GONE if stat[0] in (b"Z", b"X") else stat[19].decode()  # a container may have no process that reaps
    try:
        os.kill(pid, 0)
    except OSError:
        return GONE
    return "-"
