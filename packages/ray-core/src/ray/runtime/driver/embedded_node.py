"""A node of the driver's own: a process that the driver starts, and that ends with it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import IO

from ray._paths import IMPORTED_FROM, NODE_MAIN
from ray.clock import monotonic, sleep
from ray.exceptions import RaySystemError
from ray.exceptions.base import exit_text
from ray.runtime.driver.node_log import NodeLog
from ray.runtime.driver.node_options import node_config
from ray.runtime.process.group_ends import TRACKER_S, await_trackers
from ray.runtime.process.interrupts import may_interrupt
from ray.runtime.process.marks import kill_marked
from ray.runtime.process.node_start import JobConfig, NodeFacts
from ray.runtime.process.session_dirs import new_session_id, place_session, remove_session_dir, survivor_of
from ray.runtime.process.supervision import is_stopped
from ray.runtime.start_options import StartOptions
from ray.threads import UnawaitedThread

_START_S = 30.0
#: The node manager ends within this time, unless it waits for resource trackers.
_STOP_S = 2.0
_LAST_WORDS_S = 0.5


class EmbeddedNode:
    """Implements ``Hosting``."""

    is_owner = True
    is_guest = False

    def __init__(self, options: StartOptions, job: JobConfig) -> None:
        """Make a place for it.

        Args:
            options: of the program.
            job: what it wants.

        Raises:
            RaySystemError: no directory is safe for the session.
        """
        self._options = options
        self._job = job
        self.session = new_session_id()
        self.session_dir = place_session(self.session)
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        #: What the node manager prints.
        self._log: NodeLog | None = None

    def begin(self) -> None:
        """See ``Hosting``."""
        config = node_config(self._options, self.session, self.session_dir, self._job)
        if not sys.executable:
            raise RaySystemError(
                f"cannot start the node manager: sys.executable is {sys.executable!r}, and should be the path of a "
                "Python interpreter. Programs that embed Python have to set it."
            )
        self._log = NodeLog()
        ours, theirs = socket.socketpair()
        self._lifeline = ours
        try:
            self._process = launch_node_manager(config.session, theirs.fileno(), self._log.file)
        finally:
            theirs.close()
        with contextlib.suppress(OSError):  # it has died already; it is asked for its answer next
            ours.sendall(config.to_json() + b"\n")

    def await_facts(self) -> NodeFacts:
        """See ``Hosting``."""
        assert self._lifeline is not None
        try:
            facts = read_facts(self._lifeline)
        except TimeoutError:
            raise RaySystemError(f"the node manager did not start within {_START_S:g} s{self.log_tail()}") from None
        if facts is None:
            facts = NodeFacts(error=f"the process ended{self.how_it_ended(_LAST_WORDS_S)}")
        if facts.error:
            raise RaySystemError(f"the node manager did not start: {facts.error}{self.log_tail()}")
        return facts

    def how_it_ended(self, patience_s: float) -> str:
        """See ``Hosting``."""
        assert self._process is not None
        if not wait_for_end(self._process, patience_s):
            return ""
        code = self._process.wait()
        return f": {exit_text(signal=-code) if code < 0 else exit_text(code)}"

    def why_it_ended(self) -> str:
        """See ``Hosting``: it is alone."""
        return ""

    def log_tail(self) -> str:
        """See ``Hosting``."""
        assert self._log is not None
        return self._log.tail()

    # --- the end ------------------------------------------------------------------------------------------------------

    def lost(self, *, orderly: bool) -> None:
        """See ``Hosting``."""
        process = self._process
        if not orderly:
            if process is not None and process.poll() is None:
                process.kill()
                wait_for_end(process, _STOP_S)  # else it would be there, if dead, until the session is shut down
            self._bury()

    def end(self) -> None:
        """See ``Hosting``."""
        if self._lifeline is not None:
            with contextlib.suppress(OSError):  # the program has closed what is not its own; here and below
                self._lifeline.close()
            self._lifeline = None
        process = self._process
        if process is not None:
            if not wait_for_end(process, _STOP_S) and (is_stopped(process.pid) or not wait_for_end(process, TRACKER_S)):
                process.kill()
            if process.wait() < 0:  # it was killed, here or before
                self._bury()
            self._process = None
        if self._log is not None:
            self._log.close()

    def clear_away(self) -> None:
        """See ``Hosting``."""
        remove_session_dir(self.session_dir)

    def _bury(self) -> None:
        """The node manager was killed: end what it has left. The caller does not wait for what cleans up itself."""
        survivor = survivor_of(self.session_dir)
        if not survivor:  # or it has just removed what tells of it, and is not to be killed before it has removed all
            remove_session_dir(self.session_dir)
        trackers = kill_marked(self.session, survivor)
        if trackers:
            with contextlib.suppress(RuntimeError):  # there can be no more threads
                UnawaitedThread(target=self._bury_rest, args=(trackers,), name="ray-bury").start()
                return
        self._bury_rest(trackers)

    def _bury_rest(self, trackers: list[int]) -> None:
        """The survivor comes last: if this process is killed before, that one goes on."""
        await_trackers(trackers)
        remove_session_dir(self.session_dir)
        kill_marked(self.session)

    def after_fork_in_child(self) -> None:
        """See ``Hosting``."""
        if self._lifeline is not None:
            self._lifeline.close()
        if self._process is not None:
            self._process.returncode = 0  # it is no child of this process, and not to be missed when forgotten
            self._process = None


def launch_node_manager(session: str, lifeline: int, log: IO[bytes], main: str = NODE_MAIN) -> subprocess.Popen[bytes]:
    """Start the process; ``lifeline`` is the descriptor of its end of a socket, where it reads its configuration.

    ``main`` is the module of its program.

    Raises:
        RaySystemError: the system starts none.
    """
    # What is imported stays: to look through it for garbage takes time, and memory that forked processes would share.
    program = (
        f"import gc, sys; gc.disable(); sys.path.append({IMPORTED_FROM!r}); from {main} import main; "
        f"gc.freeze(); gc.enable(); main({lifeline})"
    )
    try:
        return subprocess.Popen(
            [sys.executable, *_own_options(), "-P", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lifeline,),
            start_new_session=True,
            env={**os.environ, "RAY_SESSION": session},
        )
    except OSError as error:
        raise RaySystemError(f"cannot start the node manager: {error}") from error


def read_facts(lifeline: socket.socket) -> NodeFacts | None:
    """What a new node manager answers; None if it has ended.

    Raises:
        TimeoutError: it says nothing for long.
    """
    line = read_line(lifeline, _START_S)
    return None if line is None else NodeFacts.from_json(line)


def read_line(lifeline: socket.socket, limit_s: float) -> bytes | None:
    """The line with which a process answers that this one has started; None if it has ended.

    Raises:
        TimeoutError: it is not there in time.
    """
    end, line = monotonic() + limit_s, b""
    while not line.endswith(b"\n"):
        lifeline.settimeout(max(0.001, end - monotonic()))
        try:
            data = lifeline.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            data = b""
        if not data:
            return None
        line += data
    return line


may_interrupt(read_line.__code__)


def _own_options() -> list[str]:
    """The options of this interpreter, which its workers, forked from the node's, have as well: -O, -W, -X and others.

    Not those about its start: without the ``site`` module (-S) the node's finds no package, and its imports (-v) are
    nobody's concern.
    """
    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [option for option in options if not option.startswith(("-S", "-v"))]


def wait_for_end(process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Whether the process ends in time; the limits of subprocess go by clocks that a program may have frozen."""
    end, pause_s = monotonic() + limit_s, 0.0005
    while process.poll() is None:
        left_s = end - monotonic()
        if left_s <= 0:
            return False
        pause_s = min(2 * pause_s, left_s, 0.05)
        sleep(pause_s)
    return True
