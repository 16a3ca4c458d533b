"""The driver: starts a node on this machine, owns what the program submits, and takes everything down at the end."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from typing import IO, Any

import msgspec

from ray._paths import IMPORTED_FROM, NODE_MAIN
from ray.abc.store import Store
from ray.abc.transport import Transport
from ray.clock import monotonic, sleep
from ray.exceptions import NodeDiedError, RayError, RaySystemError
from ray.exceptions.base import exit_text
from ray.messages import node
from ray.plugins.compose import Composition
from ray.protocol.handshake import Membership, hello
from ray.protocol.resources import UNIT
from ray.runtime.driver.printer import Printer
from ray.runtime.driver.unfinished import unfinished_line
from ray.runtime.node.trouble import NodeTrouble
from ray.runtime.owner.here import Here
from ray.runtime.owner.owner import OwnerRuntime
from ray.runtime.process import descriptors, hardware
from ray.runtime.process.admission import Admission, admit, guard_parts
from ray.runtime.process.forked import watch_forks
from ray.runtime.process.group_ends import TRACKER_S, await_trackers
from ray.runtime.process.interrupts import may_interrupt
from ray.runtime.process.session_dirs import NodeConfig, new_session_id, place_session, remove_session_dir, survivor_of
from ray.runtime.process.signal_guard import SignalGuard
from ray.runtime.process.standard_streams import fill_standard_descriptors
from ray.runtime.process.supervision import is_stopped, kill_session
from ray.runtime.process.telling import write
from ray.runtime.start_options import StartOptions, offered
from ray.runtime.worker import driver_path
from ray.threads import Flag, UnawaitedThread

_START_S = 30.0
#: The node manager ends within this time, unless it waits for resource trackers.
_STOP_S = 2.0
_LAST_WORDS_S = 0.5
_PRESTART = 8
_TAIL_BYTES = 8192
#: What a session without workers needs in this process.
_DESCRIPTORS = 32
_STORE_SHARE = 0.3
#: Of the address space that a process may have: the store is mapped twice, and there is more to a process.
_SPACE_SHARE = 0.15
#: Imported by the zygote when the driver has them, so that workers need not.
_PRELOAD = ("numpy",)


class DriverRuntime(OwnerRuntime):
    """A session of this program, with a node of its own."""

    def __init__(self, options: StartOptions) -> None:
        fill_standard_descriptors()
        session = new_session_id()
        here = self.here = Here(session, b"", options.namespace)
        self.session_dir = place_session(session)
        self._signals = SignalGuard()
        self._signals.install()
        #: Nothing more will come from the node manager.
        self._node_gone = Flag()
        self._pid = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        #: What the node manager prints; a file without a name.
        self._log: IO[bytes] | None = None
        transport: Transport | None = None
        store: Store | None = None
        answer: dict[str, Any] | None = None
        try:
            descriptors.secure(_DESCRIPTORS, "the program that starts a session")
            config = _node_config(options, session, self.session_dir)
            self._start_node(config)
            composition = Composition(options.plan)
            composition.lifecycle("plan_resolved", {})
            answer = self._await_node()
            transport = composition.open_transport(self.session_dir)
            guard_parts(composition, transport)
            admission = _admit(transport, answer["address"], Membership(session, digest=options.plan.digest))
            here.name(admission.welcome.process, admission.welcome.job)
            store = composition.open_store(answer["store"])
            super().__init__(here, "driver", transport, store, composition)
            self._printer = Printer(lambda amount: self.node.send(node.Printed(amount)), self.timers.after)
            self._trouble = NodeTrouble(self._printer.show)
            self.events.wanted = answer["events"]
            self.attach(admission.address, admission.connection, answer["address"])
            self.inbox.node_handlers |= {
                node.Logs: self._printer.show,
                node.RecordError: lambda message: self._trouble.note(message.record),
                node.ShowFailure: lambda message: self.show_failure(message.text),
                node.AskPath: lambda message: self.node.send(driver_path.answer_to(message)),
                node.Ending: lambda message: self.node_lost(message.reason, orderly=True),
            }
            self.inbox.pending.extend(admission.events)
            self.polling.program_ends = self._signals.ends_program
            self.polling.start()
            self.plugins.join()
        except BaseException as problem:
            failed = self._joining_failed(problem) if answer is not None else ""
            if hasattr(self, "polling"):
                self.here.closed = True
                self.polling.stop()
            if transport is not None:
                transport.close()
            if store is not None:
                store.close()
            self._end_node()
            remove_session_dir(self.session_dir)
            self._signals.remove()
            if failed:
                raise RaySystemError(failed) from problem
            raise
        self.address_info = {
            "address": self.node.address,
            "node_ip_address": "127.0.0.1",
            "node_id": self.node_id,
            "session_dir": self.session_dir,
            "object_store_address": answer["store"],
            "raylet_socket_name": self.node.address,
            "redis_address": None,
            "webui_url": None,
        }
        if options.log_to_driver:
            write(f"[ray] session {session} started: {options.plan.describe()}\n")
        watch_forks(self)

    # --- the node's process -------------------------------------------------------------------------------------------

    def _start_node(self, config: NodeConfig) -> None:
        if not sys.executable:
            raise RaySystemError(
                f"cannot start the node manager: sys.executable is {sys.executable!r}, and should be the path of a "
                "Python interpreter. Programs that embed Python have to set it."
            )
        self._log = _nameless_file()
        ours, theirs = socket.socketpair()
        self._lifeline = ours
        program = (
            f"import sys; sys.path.append({IMPORTED_FROM!r}); from {NODE_MAIN} import main; main({theirs.fileno()})"
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, *_own_options(), "-P", "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env={**os.environ, "RAY_SESSION": config.session},
            )
        except OSError as error:
            raise RaySystemError(f"cannot start the node manager: {error}") from error
        finally:
            theirs.close()
        with contextlib.suppress(OSError):  # it has died already; it is asked for its answer next
            ours.sendall(config.to_json() + b"\n")

    def _await_node(self) -> dict[str, Any]:
        assert self._lifeline is not None
        self._lifeline.settimeout(_START_S)
        line = b""
        try:
            while not line.endswith(b"\n"):
                data = self._lifeline.recv(65536)
                if not data:
                    break
                line += data
        except TimeoutError:
            raise RaySystemError(f"the node manager did not start within {_START_S:g} s{self._log_tail()}") from None
        except OSError:
            line = b""
        if line:
            answer = msgspec.json.decode(line)
        else:
            answer = {"error": f"the process ended{self._how_it_ended(_LAST_WORDS_S)}"}
        if "error" in answer:
            raise RaySystemError(f"the node manager did not start: {answer['error']}{self._log_tail()}")
        return dict(answer)

    def _how_it_ended(self, patience_s: float) -> str:
        """The exit code or signal of the node manager, after a colon; empty if it does not end in time."""
        assert self._process is not None
        if not _ends(self._process, patience_s):
            return ""
        code = self._process.wait()
        return f": {exit_text(signal=-code) if code < 0 else exit_text(code)}"

    def _joining_failed(self, problem: BaseException) -> str:
        """What to say of an error of this process as it joins the session, if that is not the error to raise.

        Mostly the node manager has ended; it does so as well where the store has died.
        """
        unreached = isinstance(problem, OSError)
        ended = self._how_it_ended(_STOP_S if unreached else 0.0) if isinstance(problem, Exception) else ""
        if ended:
            return f"the node manager has ended while the session was started{ended}{self._log_tail()}"
        if unreached and not isinstance(problem, RayError):
            return f"the session was started, and cannot be joined: {problem}{self._log_tail()}"
        return ""

    def _log_tail(self) -> str:
        assert self._log is not None
        try:
            size = os.fstat(self._log.fileno()).st_size
            text = os.pread(self._log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace")
        except (OSError, ValueError):  # the program has closed what is not its own
            return ""
        lines = text.splitlines()[-20:]
        return "; its log ends:\n" + "\n".join(lines) if lines else ""

    def _end_node(self) -> None:
        if self._lifeline is not None:
            with contextlib.suppress(OSError):  # the program has closed what is not its own; here and below
                self._lifeline.close()
            self._lifeline = None
        process = self._process
        if process is not None:
            if not _ends(process, _STOP_S) and (is_stopped(process.pid) or not _ends(process, TRACKER_S)):
                process.kill()
            if process.wait() < 0:  # it was killed, here or before
                self._bury()
            self._process = None
        if self._log is not None:
            with contextlib.suppress(OSError):
                self._log.close()

    # --- the end ------------------------------------------------------------------------------------------------------

    def node_lost(self, reason: str, *, orderly: bool = False) -> None:
        """The node manager is gone, or ends, and with it every worker: whatever waits gets an error."""
        self._node_gone.set()
        with self.lock:
            if self.closed:
                return
            self.node.dead = reason  # first: a caller that finds the session closed is told why
            self.here.closed = True
            text = f"[ray] {reason}{self._log_tail()}\n"  # the program may close the log as soon as it has the error
            self.node.lost(reason)
            self.abandon_all(NodeDiedError(self.node_id, reason))
        process = self._process
        if not orderly:
            if process is not None and process.poll() is None:
                process.kill()
                _ends(process, _STOP_S)  # else it would be there, if dead, until the session is shut down
            self._bury()
        self._printer.show(text)  # the caller may hold the lock, and stderr take nothing

    def _bury(self) -> None:
        """The node manager was killed: end what it has left. The caller does not wait for what cleans up itself."""
        survivor = survivor_of(self.session_dir)
        if not survivor:  # or it has just removed what tells of it, and is not to be killed before it has removed all
            remove_session_dir(self.session_dir)
        trackers = kill_session(self.session_id, survivor)
        if trackers:
            with contextlib.suppress(RuntimeError):  # there can be no more threads
                UnawaitedThread(target=self._bury_rest, args=(trackers,), name="ray-bury").start()
                return
        self._bury_rest(trackers)

    def _bury_rest(self, trackers: list[int]) -> None:
        """The survivor comes last: if this process is killed before, that one goes on."""
        await_trackers(trackers)
        remove_session_dir(self.session_dir)
        kill_session(self.session_id)

    def shutdown(self) -> None:
        if os.getpid() != self._pid:
            return  # a forked child: the session is its parent's
        undone = ""
        with self.lock:
            if not self.closed:
                self.plugins.leave()
                undone = unfinished_line(self)
                self.reports.flush()
                self.events.flush()
                self.node.send(node.Stop())
            self.here.closed = True
        self.polling.nudge()  # the last words of workers come before the node manager ends
        self._end_node()
        self._node_gone.wait(_LAST_WORDS_S)
        with self.lock:
            self.node.end()
            self.abandon_all(None)
        self.polling.stop()
        self.table.close()
        self.transport.close()
        self.values.views.close()
        self.store.close()
        if undone:
            self._printer.show(undone)
        self._printer.close()
        remove_session_dir(self.session_dir)
        self._signals.remove()

    def trouble(self) -> str:
        return super().trouble() or self._trouble.sentence()

    def show_failure(self, text: str) -> None:
        self._printer.show(f"[ray] {text}\n")

    def after_fork_in_child(self) -> None:
        """This is a copy of the driver: let go of everything without touching it."""
        super().after_fork_in_child()
        if self._lifeline is not None:
            self._lifeline.close()
        if self._process is not None:
            self._process.returncode = 0  # it is no child of this process, and not to be missed when forgotten
            self._process = None
        self._signals.remove()


may_interrupt(DriverRuntime._await_node.__code__)


def _admit(transport: Transport, node_address: str, here: Membership) -> Admission:
    """Get this process's id."""
    return admit(
        transport, "driver", node_address, lambda own: hello(here, "driver", b"", own, os.getpid()), here, _START_S
    )


def start(options: StartOptions) -> DriverRuntime:
    """Start a session on this machine."""
    return DriverRuntime(options)


def _own_options() -> list[str]:
    """The options of this interpreter, which its workers, forked from the node's, have as well: -O, -W, -X and others.

    Not those about its start: without the ``site`` module (-S) the node's finds no package, and its imports (-v) are
    nobody's concern.
    """
    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [option for option in options if not option.startswith(("-S", "-v"))]


def _ends(process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Whether the process ends in time; the limits of subprocess go by clocks that a program may have frozen."""
    end, pause_s = monotonic() + limit_s, 0.0005
    while process.poll() is None:
        left_s = end - monotonic()
        if left_s <= 0:
            return False
        pause_s = min(2 * pause_s, left_s, 0.05)
        sleep(pause_s)
    return True


def _nameless_file() -> IO[bytes]:
    """One that goes with its last descriptor."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("ray-node-log"), "w+b")
    return tempfile.TemporaryFile()


def _default_store_bytes(total: int) -> int:
    """A part of the memory, and no more than each process can map once for reading and once for writing."""
    space = hardware.address_space_bytes()
    most = int(total * _STORE_SHARE)
    return most if space is None else min(most, int(space * _SPACE_SHARE))


def _node_config(options: StartOptions, session: str, session_dir: str) -> NodeConfig:
    found = hardware.gpu_ids()
    resources = offered(options, len(found))
    cpus, count = (resources.get(name, 0) // UNIT for name in ("CPU", "GPU"))
    ids = [*found, *(str(number) for number in range(count) if str(number) not in found)][:count]
    total = hardware.memory_limit_bytes()
    store = options.object_store_bytes if options.object_store_bytes is not None else _default_store_bytes(total)
    return NodeConfig(
        session=session,
        session_dir=session_dir,
        plan=options.plan.to_json().decode(),
        resources=resources,
        gpu_ids=ids,
        store_bytes=store,
        sys_path=driver_path.current_path(),
        preload=[name for name in _PRELOAD if name in sys.modules],
        prestart=max(1, min(cpus, _PRESTART)),
        namespace=options.namespace,
        log_to_driver=options.log_to_driver,
        driver_pid=os.getpid(),
    )
