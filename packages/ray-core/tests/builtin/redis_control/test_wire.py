"""What goes over the wire: only commands that its user is allowed, and keys of one slot."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.cutting_proxy import CuttingProxy
from tests.redis_servers import RedisUnderTest, free_port

from ray.abc.blocking_control import BlockingControl
from ray.abc.control_operations import Append, Claim, Delete, Incr, Keys, Put, StreamAppend
from ray.builtin.redis_control.commands import COMMANDS
from ray.builtin.redis_control.doing import Doubt
from ray.builtin.redis_control.existing import ExistingRedis
from ray.builtin.redis_control.handle import RedisControlStore
from ray.builtin.redis_control.keys import KeySpace
from ray.exceptions import ControlStoreError
from ray.testing import eventually
from ray.testing.contracts import _checks_control, _checks_control_streams, _checks_control_times
from ray.testing.contracts._asking import ControlSubject

#: Before these a connection has no user.
OF_EVERYBODY = {"auth"}
WITHOUT_KEYS = (b"AUTH", b"CLIENT", b"EXEC", b"INFO", b"MULTI", b"PING", b"TIME", b"UNWATCH")
CHECKS = _checks_control.REQUIRED + _checks_control_times.REQUIRED + _checks_control_streams.REQUIRED


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, ...]]:
    """Every command that is sent from here by threads with our names, so without those of the administrator."""
    connection = pytest.importorskip("redis").connection
    commands: list[tuple[bytes, ...]] = []
    pack = connection.PythonRespSerializer.pack

    def recorded(self: Any, *arguments: Any) -> Any:
        if threading.current_thread().name.startswith("ray-"):
            commands.append(tuple(a if isinstance(a, bytes) else str(a).encode() for a in arguments))
        return pack(self, *arguments)

    monkeypatch.setattr(connection.PythonRespSerializer, "pack", recorded)
    return commands


def use_everything(server: RedisUnderTest) -> None:
    for check in CHECKS:
        if check is _checks_control_streams.streams_drop_their_oldest:
            continue  # the same commands, two thousand times
        access = server.access("unix")
        control = RedisControlStore(access)
        check(ControlSubject(control, lambda access=access: RedisControlStore(access)))
        control.close()
        server.admin("FLUSHALL")
    # Answers that are lost, and looked for.
    proxy = CuttingProxy(("127.0.0.1", server.port), seed=2)
    proxy.cuts = {"after": 0.3, "before": 0.2}
    control = RedisControlStore(server.access("tcp", hosts=[("127.0.0.1", proxy.port)]))
    for number in range(10):
        for op in (Incr("c"), Append("l", b"x"), StreamAppend("s", b"x"), Put(f"{number}", b"", ttl_s=50.0)):
            BlockingControl(control).ask(op, timeout_s=20.0)
    control.close()
    proxy.close()
    # A connection for hints that hears nothing.
    control = RedisControlStore(server.access("unix"))
    control.subscribe("a", lambda key: None)
    eventually(lambda: control._hints._next_ping)
    control._hints._next_ping = 0.0
    control._wake()
    eventually(lambda: control._hints._next_ping)
    control.close()
    # A server that is full, where even the mark has no room.
    control = RedisControlStore(server.access("unix"))
    blocking = BlockingControl(control)
    blocking.ask(Claim("lease", None, b"me", 50.0))
    server.admin("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(ControlStoreError):
        blocking.ask(Put("more", b"x"))
    assert blocking.ask(Claim("lease", b"me", b"me", 60.0))
    control._doing._doubt = Doubt(99, Put("more", b"x"), True)  # as if the connection had been lost just now
    assert blocking.ask(Delete("lease"))
    server.admin("CONFIG", "SET", "maxmemory", 0)
    control.close()


def test_the_user_may_do_what_is_sent_and_nothing_else(
    server: RedisUnderTest, sent: list[tuple[bytes, ...]], short_dir: Path
) -> None:
    use_everything(server)
    session = short_dir / "s1"
    session.mkdir()
    existing = ExistingRedis(str(session), server.access("unix"))
    at_its_end = threading.Thread(target=existing.close, name="ray-end")
    at_its_end.start()
    at_its_end.join()
    names = {c[0].decode().lower() for c in sent} - {"client", "xinfo"}
    names |= {f"{c[0].decode()}|{c[1].decode()}".lower() for c in sent if c[0] in (b"CLIENT", b"XINFO")}
    assert names - OF_EVERYBODY == set(COMMANDS)


def test_all_keys_are_in_one_slot(server: RedisUnderTest, sent: list[tuple[bytes, ...]], short_dir: Path) -> None:
    use_everything(server)
    keys = set()
    administrator = server.administrator()
    for command in set(sent):
        if command[0] in (b"SUBSCRIBE", b"PUBLISH"):
            keys.add(command[1])  # a channel
        elif command[0] not in WITHOUT_KEYS:
            keys |= {key.encode() for key in administrator.execute_command("COMMAND GETKEYS", *command)}
    assert len(keys) > 60
    assert {key[: len(b"ray:{default}:s1")] for key in keys} == {b"ray:{default}:s1"}
    administrator.close()
    (short_dir / "c").mkdir()
    clustered = RedisUnderTest(short_dir / "c", "cluster-enabled yes", f"cluster-port {free_port()}")
    administrator = clustered.administrator()
    slots = {administrator.execute_command("CLUSTER", "KEYSLOT", key) for key in keys | {KeySpace.current("default")}}
    administrator.close()
    clustered.close()
    assert len(slots) == 1


def test_the_keys_of_different_clusters_are_apart(server: RedisUnderTest) -> None:
    one = RedisControlStore(server.access("unix"))
    other = RedisControlStore(server.access("unix", session="s2"))
    for control, value in ((one, b"1"), (other, b"2")):
        BlockingControl(control).ask(Put("a", value))
    assert BlockingControl(one).ask(Keys("")) == ["a"]
    denied = RedisControlStore(server.access("unix", name="others"))
    with pytest.raises(ControlStoreError, match="does not allow it to this user"):
        BlockingControl(denied).ask(Put("a", b"3"))
    for control in (one, other, denied):
        control.close()
