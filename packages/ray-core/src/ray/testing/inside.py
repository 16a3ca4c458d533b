"""What tests see of the inside of this process's session: the one place that knows where it lies.

Ask here, and the test stays as it is when the parts of a session change places. Most of it needs a session with
processes; ``settled`` and ``session_dir`` also take one in local mode. Nothing here is for programs.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from ray.abc.store import Store
from ray.abc.transport import Connection
from ray.protocol.references import ObjectEntry
from ray.runtime import interface
from ray.runtime.owner.owner import OwnerRuntime
from ray.runtime.process.peers import Peer
from ray.runtime.refs.ref import ObjectRef
from ray.testing import leaks

# --- the session ------------------------------------------------------------------------------------------------------


def session_dir() -> str | None:
    """The directory of the session, which no two sessions share; None without a session, or in local mode."""
    return getattr(interface.current(), "session_dir", None)


def settled(timeout_s: float = leaks.PATIENCE_S) -> None:
    """Wait until everything granted is free again: nothing runs, no actor lives.

    Raises:
        LeakError: something is still taken.
    """
    leaks.assert_settled(interface.current_session(), timeout_s)


def listen_far() -> tuple[str, str]:
    """Have this process listen for other nodes, too; returns its address without and with that."""
    runtime = _owner()
    return runtime.address, runtime.transport.listen_far(runtime.address)


def ask_node(question: str) -> Any:
    """The answer of the node manager, such as to ``"workers"``."""
    return _owner().node.ask(question)


def leases() -> list[int]:
    """How many tasks each leased worker has been sent and not answered; one number a worker."""
    return [len(lease.inflight) for lease in list(_owner().leasing.tasks.leases.values())]


@contextlib.contextmanager
def standing_still() -> Iterator[None]:
    """No other thread deals with what arrives before the block ends; nor may the block wait for it."""
    with _owner().lock:
        yield


def has_lock() -> bool:
    """Whether this thread has the lock of the process's runtime; True without a session, where there is no lock."""
    lock = getattr(interface.current(), "lock", None)
    return lock is None or bool(lock._is_owned())


def forget_executor(name: str) -> None:
    """Go on as if the plugin of that executor were not installed."""
    _owner().composition.plan.executors.pop(name)


# --- connections to processes of other nodes --------------------------------------------------------------------------


def cut_far(process: bytes = b"") -> int:
    """Lose the connections to other nodes' processes, or to one of them, with what is in their queues; how many."""
    runtime, count = _owner(), 0
    with runtime.lock:
        for peer in list(runtime.peers.by_process.values()):
            if peer.talk is not None and peer.talk.is_open and process in (b"", peer.process):
                _cut(runtime, peer)
                count += 1
    return count


def cut_far_with_next_message(process: bytes) -> None:
    """The same for one of them, as soon as something is said to it, which is lost."""
    runtime = _owner()
    peer = runtime.peers.by_process[process]
    assert peer.talk is not None
    connection = peer.talk.inner

    def lose(frames: Sequence[Any]) -> None:
        del connection.send
        _cut(runtime, peer)

    connection.send = lose  # type: ignore[method-assign]


def _cut(runtime: OwnerRuntime, peer: Peer) -> None:
    assert peer.talk is not None
    connection = peer.talk.inner
    connection.abort()
    runtime.timers.soon(0.0, lambda: _hear_of_it(runtime, peer, connection))


def _hear_of_it(runtime: OwnerRuntime, peer: Peer, connection: Connection) -> None:
    runtime.inbox.conversations.broken(peer, connection)


def reconnections() -> int:
    """How often connections to processes of other nodes were lost, of those that there are."""
    return sum(peer.talk.losses for peer in list(_owner().peers.by_process.values()) if peer.talk is not None)


def unconfirmed() -> int:
    """How many messages are kept for processes of other nodes."""
    peers = list(_owner().peers.by_process.values())
    return sum(len(peer.talk.conversation.kept) for peer in peers if peer.talk is not None)


def process_id() -> bytes:
    """Of this process."""
    return _owner().here.process_id


# --- what it knows of objects -----------------------------------------------------------------------------------------


def entries() -> dict[bytes, ObjectEntry]:
    """What this process knows of objects, by their ids. It is the table itself: it changes."""
    return _owner().table.entries


def listeners() -> int:
    """How many wait for objects without a thread of their own."""
    return _owner().table.listeners


def watchers() -> int:
    """How many threads wait for several objects each."""
    return len(_owner().table.watchers)


def foreign_ref(object_id: bytes, owner: str) -> ObjectRef[Any]:
    """A ref to an object of the process at that address, which need not know of it."""
    return _owner().rebuild_ref(object_id, owner)


# --- what is stored ---------------------------------------------------------------------------------------------------


def store() -> Store:
    """The store as this process has it."""
    return _owner().store


def shares_memory() -> bool:
    """Whether processes see the same memory; else each has its own copy of an object."""
    return _owner().values.shared


def stored_objects() -> int:
    """How many objects are in the store."""
    return _owner().store.stats().objects


def keepers() -> set[bool]:
    """Of the processes that keep large arguments which this one has sent: whether they are of its node."""
    return {peer.near for peer in list(_owner().peers.by_process.values()) if peer.kept}


def leave_result(object_id: bytes, caller: bytes, nbytes: int) -> None:
    """Store what a task is to return, as a process does that dies before it says so; not for callers elsewhere."""
    session = _owner()
    if session.values.shared and session.peers.by_process[caller].near:
        session.store.delete(object_id)
        session.store.put(object_id, [bytes(nbytes)], nbytes)


def die_with_next_result() -> None:
    """This process is killed when it has stored the next result, before it says so."""
    values = _owner().values
    store_result = values.store_result

    def store_and_die(*arguments: Any, **options: Any) -> None:
        store_result(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    values.store_result = store_and_die  # type: ignore[method-assign]


def stored_bytes() -> int:
    """How much the store has in memory."""
    return _owner().store.stats().used_bytes


def spilled_bytes() -> int:
    """How much the store has on the disk."""
    return _owner().store.stats().spilled_bytes


def stored_view(object_id: bytes) -> memoryview:
    """The memory of an object in a store whose memory is shared."""
    return _owner().values.stored_blob(object_id)


def _owner() -> OwnerRuntime:
    session = interface.current_session()
    assert isinstance(session, OwnerRuntime), "a session in local mode has no such inside"
    return session
