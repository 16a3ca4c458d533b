"""What servers do wrong, or are made to: each is an error in its time, with the address, the cause and what to do."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.redis_servers import RedisUnderTest, free_port

from ray.abc.blocking_control import BlockingControl
from ray.abc.control import ControlStore
from ray.abc.control_operations import Append, Claim, Delete, Expire, Get, Incr, Items, Keys, Operation, Put, StreamRead
from ray.builtin.redis_control.access import Access
from ray.builtin.redis_control.handle import RedisControlStore
from ray.exceptions import (
    ControlDeniedError,
    ControlFullError,
    ControlStoreError,
    ControlTimeoutError,
    ControlUnavailableError,
)
from ray.testing import eventually

Open = Callable[[Access], BlockingControl]


@pytest.fixture
def open() -> Iterator[Open]:
    opened: list[ControlStore] = []

    def open(access: Access) -> BlockingControl:
        opened.append(RedisControlStore(access))
        return BlockingControl(opened[-1])

    yield open
    for control in opened:
        control.close()


def refused(control: BlockingControl, op: Operation[Any], timeout_s: float = 10.0) -> ControlStoreError:
    with pytest.raises(ControlStoreError) as caught:
        control.ask(op, timeout_s=timeout_s)
    assert caught.value.operation == type(op).__name__
    return caught.value


@pytest.fixture(params=["unix", "tcp"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_wrong_password(server: RedisUnderTest, open: Open, kind: str) -> None:
    access = server.access(kind, password="not that one")
    error = refused(open(access), Get("a"))
    assert type(error) is ControlDeniedError
    assert f"{access.where} does not let this user in" in str(error)
    assert "correct user and password" in str(error)
    assert "not that one" not in str(error)


def test_a_user_who_is_let_in_later(server: RedisUnderTest, open: Open) -> None:
    control = open(server.access("unix"))
    assert control.ask(Put("a", b"1"))
    server.admin("ACL", "SETUSER", "ray", "off")
    server.admin("CLIENT", "KILL", "USER", "ray")
    assert type(refused(control, Get("a"))) is ControlDeniedError
    server.admin("ACL", "SETUSER", "ray", "on")
    eventually(lambda: control.ask(Get("a")) == b"1" if not _is_refused(control) else False)


def _is_refused(control: BlockingControl) -> bool:
    try:
        control.ask(Get("a"))
    except ControlDeniedError:
        return True
    return False


@pytest.mark.parametrize(
    ("rule", "op"),
    [
        ("-get", Get("a")),
        ("-set", Put("a", b"1")),
        ("-watch", Incr("a")),
        ("-exec", Put("a", b"1")),
        ("-ltrim", Append("a", b"1")),
        ("-zadd", Append("a", b"1")),
        ("-zrange", Keys("")),
        ("-publish", Put("a", b"1")),
        ("-exists", Put("a", b"1", overwrite=False)),
        ("-xinfo|stream", StreamRead("a")),
        ("-lrange", Items("a")),
        ("resetchannels", Put("a", b"1")),
    ],
)
def test_rules_that_are_too_narrow(server: RedisUnderTest, open: Open, rule: str, op: Operation[Any]) -> None:
    control = open(server.access("unix"))
    control.ask(Delete("other"))
    server.admin("ACL", "SETUSER", "ray", rule)
    error = refused(control, op)
    assert type(error) is ControlDeniedError
    assert "does not allow it to this user" in str(error)
    assert "give the user the rules" in str(error)
    assert server.admin("EXISTS", "ray:{default}:s1:a") == 0


@pytest.mark.parametrize("rule", ["-info", "-multi", "-exec", "-client|setname"])
def test_rules_under_which_nothing_can_be_begun(server: RedisUnderTest, open: Open, rule: str) -> None:
    server.admin("ACL", "SETUSER", "ray", rule)
    assert type(refused(open(server.access("unix")), Get("a"))) is ControlDeniedError


def test_a_full_server(server: RedisUnderTest, open: Open, kind: str) -> None:
    access = server.access(kind)
    control = open(access)
    control.ask(Claim("lease", None, b"me", 50.0))
    control.ask(Put("a", b"x"))
    server.admin("CONFIG", "SET", "maxmemory", 1)
    for op in (Put("b", b"x"), Incr("c"), Append("l", b"x"), Claim("d", None, b"x")):
        error = refused(control, op)
        assert type(error) is ControlFullError
        assert f"{access.where} has used all the memory" in str(error)
        assert "raise its maxmemory" in str(error)
    # What is needed most goes on.
    assert control.ask(Get("a")) == b"x"
    assert control.ask(Claim("lease", b"me", b"me", 80.0))
    assert control.ask(Expire("a", 80.0))
    assert control.ask(Delete("a"))
    assert control.ask(Keys("")) == ["lease"]
    server.admin("CONFIG", "SET", "maxmemory", 0)
    assert control.ask(Incr("c")) == 1


def test_a_read_only_replica(server: RedisUnderTest, open: Open, short_dir: Path) -> None:
    (short_dir / "r").mkdir()
    replica = RedisUnderTest(short_dir / "r", f"replicaof 127.0.0.1 {server.port}")
    try:
        error = refused(open(replica.access("tcp")), Get("a"), 0.5)
        assert isinstance(error, ControlTimeoutError)
        assert "it is a read-only replica: name its primary, or the Sentinels that know it" in str(error)
        assert f"redis://127.0.0.1:{replica.port}" in str(error)
    finally:
        replica.close()


def test_a_primary_that_becomes_a_replica_and_back(server: RedisUnderTest, open: Open) -> None:
    control = open(server.access("unix"))
    assert control.ask(Incr("a")) == 1
    server.admin("REPLICAOF", "127.0.0.1", free_port())
    error = refused(control, Incr("a"), 0.3)
    assert "read-only replica" in str(error)
    back = threading.Timer(0.5, lambda: server.admin("REPLICAOF", "NO", "ONE"))
    back.start()
    assert control.ask(Incr("a")) == 2
    back.join()


def test_a_server_that_is_stopped(server: RedisUnderTest, open: Open, kind: str) -> None:
    control = open(server.access(kind))
    control.ask(Incr("a"))
    with server.stopped():
        for timeout_s in (0.1, 0.5, 2.5):
            begin = time.monotonic()
            error = refused(control, Get("a"), timeout_s)
            took_s = time.monotonic() - begin
            assert type(error) is ControlTimeoutError
            assert timeout_s * 0.9 < took_s < timeout_s + 1.0
        assert "does not answer" in str(error)
    assert control.ask(Incr("a")) == 2


def test_a_server_that_is_stopped_from_the_beginning(server: RedisUnderTest, open: Open, kind: str) -> None:
    with server.stopped():
        control = open(server.access(kind))
        begin = time.monotonic()
        assert type(refused(control, Get("a"), 0.2)) is ControlTimeoutError
        assert time.monotonic() - begin < 1.2
    assert control.ask(Get("a")) is None


def test_a_server_that_is_killed_and_started_again(server: RedisUnderTest, open: Open, kind: str) -> None:
    control = open(server.access(kind))
    assert [control.ask(Incr("a")) for _ in range(3)] == [1, 2, 3]
    server.admin("CONFIG", "SET", "appendfsync", "always")
    server.kill()
    error = refused(control, Incr("a"), 0.3)
    assert type(error) is ControlTimeoutError
    assert error.trouble.startswith(f"{server.access(kind).where} has not been there for 0.")
    assert error.trouble.endswith(("connection refused", "no such file or directory"))
    again = threading.Timer(0.3, server.start)
    again.start()
    assert control.ask(Incr("a")) == 4
    again.join()


def test_a_restart_in_the_middle_of_many_changes(server: RedisUnderTest, open: Open) -> None:
    """Nothing that was answered is lost or doubled, as each change is on disk before its answer."""
    server.admin("CONFIG", "SET", "appendfsync", "always")
    control = open(server.access("tcp"))
    killer = threading.Timer(0.2, lambda: (server.kill(), server.start()))
    killer.start()
    counts = []
    while len(counts) < 300 or killer.is_alive():
        counts.append(control.ask(Incr("a")))
    assert counts == list(range(1, len(counts) + 1))


def test_a_server_that_is_not_there(open: Open, short_dir: Path) -> None:
    pytest.importorskip("redis")
    port = free_port()
    error = refused(open(Access(hosts=[("127.0.0.1", port)])), Get("a"), 0.3)
    assert f"redis://127.0.0.1:{port} has not been there for 0." in str(error)
    assert "connection refused" in str(error)
    error = refused(open(Access(path=str(short_dir / "none"))), Get("a"), 0.3)
    assert "no such file or directory" in str(error)


def test_a_name_that_leads_nowhere(open: Open) -> None:
    pytest.importorskip("redis")
    error = refused(open(Access(hosts=[("no-such-host.invalid", 6379)])), Get("a"), 1.0)
    assert "redis://no-such-host.invalid:6379" in str(error)


def test_connections_that_are_cut(server: RedisUnderTest, open: Open) -> None:
    control = open(server.access("tcp"))
    for number in range(1, 51):
        assert control.ask(Incr("a")) == number
        server.admin("CLIENT", "KILL", "USER", "ray")


def test_data_that_is_lost(server: RedisUnderTest, open: Open) -> None:
    control = open(server.access("unix"))
    control.ask(Incr("a"))
    server.admin("FLUSHALL")
    assert control.ask(Keys("")) == []
    assert control.ask(Incr("a")) == 1
    assert control.ask(Keys("")) == ["a"]


def test_a_cluster(open: Open, short_dir: Path) -> None:
    (short_dir / "c").mkdir()
    clustered = RedisUnderTest(short_dir / "c", "cluster-enabled yes", f"cluster-port {free_port()}")
    try:
        error = refused(open(clustered.access("unix")), Get("a"))
        assert "is part of a Redis Cluster, which this release cannot use: name one server" in str(error)
    finally:
        clustered.close()


def test_an_old_server(server: RedisUnderTest, open: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.builtin.redis_control import link

    monkeypatch.setattr(link, "LEAST", (99, 0))
    error = refused(open(server.access("unix")), Get("a"))
    assert "is the oldest that serves: install a newer one" in str(error)


def test_a_certificate_that_nobody_trusts(short_dir: Path, open: Open) -> None:
    pytest.importorskip("cryptography")
    from ray.builtin.redis_control.certificate import make_certificate

    certificate, key = make_certificate("127.0.0.1")
    other, _ = make_certificate("127.0.0.1")
    (short_dir / "c").write_text(certificate)
    (short_dir / "k").write_text(key)
    port = free_port()
    lines = [f"tls-port {port}", f"tls-cert-file {short_dir}/c", f"tls-key-file {short_dir}/k", "tls-auth-clients no"]
    server = RedisUnderTest(short_dir, *lines)
    try:
        there = {"hosts": [("127.0.0.1", port)], "tls": True}
        good = open(server.access("tcp", **there, certificate=certificate))
        assert good.ask(Put("a", b"1"))
        for trusted in (other, ""):
            error = refused(open(server.access("tcp", **there, certificate=trusted)), Get("a"))
            assert "has a certificate that is not trusted" in str(error)
            assert "give ca_file" in str(error)
        plain = refused(open(server.access("tcp", hosts=[("127.0.0.1", port)])), Get("a"), 0.5)
        assert f"redis://127.0.0.1:{port}" in str(plain)
    finally:
        server.close()


def test_hints_come_back_with_the_server(server: RedisUnderTest) -> None:
    control, other = RedisControlStore(server.access("unix")), RedisControlStore(server.access("unix"))
    seen: list[str] = []
    control.subscribe("watched/", seen.append)

    def hinted(key: str) -> bool:
        control.deliver()
        return key in seen

    def change(key: str) -> bool:
        BlockingControl(other).ask(Put(key, b"x"))
        return hinted(key)

    eventually(lambda: change("watched/a"))
    server.admin("CONFIG", "SET", "appendfsync", "always")
    server.kill()
    server.start()
    # What has changed before the connection for hints is there again is hinted all the same.
    BlockingControl(other).ask(Put("watched/b", b"x"))
    eventually(lambda: hinted("watched/b"))
    eventually(lambda: change("watched/c"))
    control.close()
    other.close()


def test_a_silent_connection_for_hints_is_given_up(server: RedisUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.builtin.redis_control import hints

    monkeypatch.setattr(hints, "PING_S", 0.1)
    control = RedisControlStore(server.access("tcp"))
    control.subscribe("a", lambda key: None)
    eventually(lambda: control._hints.fileno() >= 0)
    with server.stopped():
        eventually(lambda: "does not answer" in control._trouble())
    eventually(lambda: control._hints.fileno() >= 0)
    control.close()


def test_nobody_waits_for_the_thread_that_waits(server: RedisUnderTest, kind: str) -> None:
    control = RedisControlStore(server.access(kind))
    BlockingControl(control).ask(Incr("a"))
    answers: list[Any] = []
    with server.stopped():
        begin = time.monotonic()
        for number in range(100):
            control.ask(Get("a"), answers.append, timeout_s=0.1 + number / 1000)
            control.deliver()
        control.subscribe("b", answers.append)
        assert time.monotonic() - begin < 0.5
        eventually(
            lambda: select.select([control.fileno()], [], [], 1)[0] and (control.deliver() or len(answers) == 100)
        )
        assert time.monotonic() - begin < 1.5
        begin = time.monotonic()
        control.close()
        assert time.monotonic() - begin < 1.0
    assert {type(answer) for answer in answers} == {ControlTimeoutError}


def test_nothing_is_left_of_a_handle(server: RedisUnderTest, kind: str) -> None:
    def things() -> tuple[int, set[str]]:
        return len(os.listdir("/proc/self/fd")), {thread.name for thread in threading.enumerate()}

    warm = RedisControlStore(server.access(kind))
    BlockingControl(warm).ask(Get("a"))
    warm.close()
    before = things()
    for used in (False, True, True):
        control = RedisControlStore(server.access(kind))
        if used:
            control.subscribe("a", lambda key: None)
            BlockingControl(control).ask(Put("a", b"1"))
            eventually(lambda control=control: control._hints.fileno() >= 0)
        control.close()
        with pytest.raises(ControlUnavailableError):
            control.ask(Get("a"), lambda answer: None)
    eventually(lambda: things() == before)


def test_a_handle_starts_nothing_until_it_is_used(server: RedisUnderTest) -> None:
    before = threading.active_count()
    control = RedisControlStore(server.access("unix"))
    control.fileno()
    control.deliver()
    assert threading.active_count() == before
    control.close()


def test_keys_of_which_the_time_is_over_leave_no_names(server: RedisUnderTest, open: Open) -> None:
    from ray.builtin.redis_control import index

    control = open(server.access("unix"))
    count = 4 * index._SWEEP_AFTER
    for number in range(count):
        control.ask(Put(f"key {number}", b"", ttl_s=0.001))
    assert server.admin("ZCARD", "ray:{default}:s1/index") < count / 2
    assert control.ask(Keys("")) == []
    assert server.admin("ZCARD", "ray:{default}:s1/index") == 0


def test_a_key_that_comes_back_keeps_its_name(server: RedisUnderTest, open: Open) -> None:
    control, other = open(server.access("unix")), open(server.access("unix"))
    stop = threading.Event()

    def list_all() -> None:
        while not stop.is_set():
            other.ask(Keys(""))

    lister = threading.Thread(target=list_all)
    lister.start()
    for _ in range(100):
        control.ask(Put("a", b"", ttl_s=0.001))
        time.sleep(0.001)
        control.ask(Put("a", b"1"))
        assert control.ask(Keys("")) == ["a"]
        control.ask(Delete("a"))
    stop.set()
    lister.join()


def test_a_signal_in_the_middle_of_an_ask(server: RedisUnderTest, open: Open) -> None:
    """A handler may ask as well."""
    control = RedisControlStore(server.access("unix"))
    answers: list[Any] = []
    asked = [0]

    def handler(number: int, frame: object) -> None:
        control.ask(Incr("a"), answers.append)
        asked[0] += 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(300):
            control.ask(Incr("a"), answers.append)
            control.deliver()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    eventually(lambda: control.deliver() or len(answers) == 300 + asked[0])
    assert sorted(answers) == list(range(1, len(answers) + 1))
    control.close()
