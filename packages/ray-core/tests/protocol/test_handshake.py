"""The first message of a connection: what is accepted, and what is refused with both sides named."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ray.exceptions import RayError, RemoteProtocolError
from ray.messages import codec, wire
from ray.messages.codec import PROTOCOL_VERSION
from ray.protocol.handshake import GUESTS, KINDS, Membership, check, check_at_node, check_job, check_welcome, hello

SESSION = "session_2026"
NODE = 0x8123_4567
PROCESS = b"\x81\x23\x45\x67proc"
HERE = Membership(SESSION, NODE, "job_5", "digest_a")


def a_hello(**changes: Any) -> wire.Hello:
    made = hello(HERE, "worker", PROCESS, "unix:/run/w1", 42)
    return msgspec.structs.replace(made, **changes)


def refused(message: object, accept: Callable[[object, Membership], object] = check) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        accept(message, HERE)
    assert isinstance(caught.value, RayError)
    return str(caught.value)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_accepted_as_it_was_sent(kind: str) -> None:
    sent = hello(HERE, kind, PROCESS, "unix:/run/w1", 42)
    received = check(codec.decode([codec.encode(sent)]), HERE)
    assert received == sent
    assert (received.kind, received.process, received.address, received.pid) == (kind, PROCESS, "unix:/run/w1", 42)
    assert (received.node, received.job, received.digest) == (NODE, "job_5", "digest_a")
    assert received.protocol == PROTOCOL_VERSION


def test_process_without_an_address() -> None:
    """It is reached by nobody: an observer."""
    assert check(hello(HERE, "observer", PROCESS, "", 1), HERE).address == ""


@pytest.mark.parametrize("message", [wire.Recall(), wire.Fetch(b"x"), wire.Push([]), None, "hello", b"", 1], ids=repr)
def test_anything_else_first_is_refused(message: object) -> None:
    text = refused(message)
    assert type(message).__name__ in text
    assert "Hello" in text


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1, 10**6])
def test_other_protocol_versions_are_refused(version: int) -> None:
    text = refused(a_hello(protocol=version))
    assert f"protocol {version}" in text
    assert f"speaks {PROTOCOL_VERSION}" in text


@pytest.mark.parametrize("session", ["", "session_2025", SESSION + "0", SESSION.upper()])
def test_other_sessions_are_refused(session: str) -> None:
    text = refused(a_hello(session=session))
    assert f"session {session}," in text
    assert SESSION in text


@pytest.mark.parametrize("kind", ["", "Worker", "workers", "root", "\x00"])
def test_unknown_kinds_are_refused(kind: str) -> None:
    assert repr(kind) in refused(a_hello(kind=kind))


def test_version_is_looked_at_first() -> None:
    """Another version may mean anything by the rest."""
    assert "protocol 99" in refused(a_hello(protocol=99, session="other", kind="other"))
    assert "session other" in refused(a_hello(session="other", kind="other"))


def test_newer_hello_with_more_fields_is_still_judged_by_its_version() -> None:
    fields = list(msgspec.structs.astuple(a_hello(protocol=PROTOCOL_VERSION + 1)))
    newer = msgspec.msgpack.encode([1, *fields, "a field of tomorrow", 5])
    assert f"protocol {PROTOCOL_VERSION + 1}" in refused(codec.decode([newer]))


def test_no_bytes_make_anything_but_a_hello_or_an_error() -> None:
    rng = random.Random(20260802)
    good = codec.encode(a_hello())
    accepted = 0
    for _ in range(5_000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            received = check(codec.decode([bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])]), HERE)
        except RemoteProtocolError:
            continue
        assert (received.protocol, received.session) == (PROTOCOL_VERSION, SESSION)
        assert received.kind in KINDS
        accepted += 1
    assert accepted  # what differs in the fields that nobody judges


@pytest.mark.parametrize("process", [b"", b"7 bytes", bytes(9)], ids=repr)
def test_odd_ids_are_refused(process: bytes) -> None:
    assert f"id of {len(process)} bytes" in refused(a_hello(process=process))


def test_odd_addresses_are_refused() -> None:
    assert "address of 1001 characters" in refused(a_hello(address="x" * 1001))


@pytest.mark.parametrize(
    ("field", "other", "said"),
    [
        ("digest", "digest_b", ("plan digest_b,", "digest_a")),
        ("node", NODE + 1, (f"node {NODE + 1},", str(NODE))),
    ],
)
@pytest.mark.parametrize("accept", [check, check_at_node])
def test_what_contradicts_is_refused_and_both_are_named(
    field: str, other: Any, said: tuple[str, str], accept: Callable[[object, Membership], object]
) -> None:
    text = refused(a_hello(**{field: other}), accept)
    assert all(each in text for each in said)


def test_jobs_meet_but_a_node_manager_knows_what_job_a_process_is_of() -> None:
    sent = a_hello(job="job_6")
    assert check(sent, HERE) == check_at_node(sent, HERE) == sent
    check_job(sent, "job_6")
    check_job(a_hello(job=""), "job_6")
    with pytest.raises(RemoteProtocolError, match="job job_6, this process to job_5"):
        check_job(sent, "job_5")


@pytest.mark.parametrize("changes", [{"job": ""}, {"digest": ""}, {"node": 0}, {"kind": "node", "job": ""}], ids=repr)
def test_what_a_peer_does_not_know_contradicts_nothing(changes: dict[str, Any]) -> None:
    sent = a_hello(**changes)
    assert check(sent, HERE) == check_at_node(sent, HERE) == sent
    assert check(a_hello(), Membership(SESSION)) == a_hello()


def test_processes_of_other_nodes_speak_to_each_other_and_to_their_own_node_manager() -> None:
    sent = a_hello(process=b"\0\0\0\x05proc", node=5)
    assert check(sent, HERE) == sent
    assert refused(sent, check_at_node) == f"peer belongs to node 5, this process to {NODE}"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_node_manager_gives_ids_to_drivers_and_observers(kind: str) -> None:
    without = a_hello(kind=kind, process=b"", node=0)
    if kind in GUESTS:
        assert check_at_node(without, HERE) == without
        assert "before it has got one" in refused(a_hello(kind=kind), check_at_node)
    else:
        assert "id of 0 bytes" in refused(without, check_at_node)
        assert check_at_node(a_hello(kind=kind), HERE)


def test_welcome_is_taken_as_it_was_sent() -> None:
    sent = wire.Welcome(NODE, PROCESS, "job_5", "digest_a")
    received = codec.decode([codec.encode(sent)])
    assert check_welcome(received, HERE) == check_welcome(received, Membership(SESSION)) == sent


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (wire.Recall(), "Recall, not with Welcome"),
        (a_hello(), "Hello, not with Welcome"),
        (wire.Welcome(NODE, b"", "job_5", "digest_a"), "gave the id"),
        (wire.Welcome(7, PROCESS, "job_5", "digest_a"), "node 7 gave the id '8123456770726f63'"),
        (wire.Welcome(7, b"\0\0\0\x07proc", "job_5", "digest_a"), f"node 7, this process to {NODE}"),
        (wire.Welcome(NODE, PROCESS, "job_6", "digest_a"), "job job_6, this process to job_5"),
        (wire.Welcome(NODE, PROCESS, "job_5", "digest_b"), "plan digest_b, this process to digest_a"),
    ],
)
def test_other_welcomes_are_refused(message: object, said: str) -> None:
    assert said in refused(message, check_welcome)


def test_who_is_meant_is_who_answers() -> None:
    """An address that is used again leads to somebody else."""
    other = b"\x81\x23\x45\x67else"
    for to, here in ((b"", PROCESS), (PROCESS, PROCESS), (PROCESS, b"")):
        assert check(a_hello(to=to), HERE, here).to == to
    text = refused(a_hello(to=PROCESS), lambda message, here: check(message, here, other))
    assert text == "peer wants process 8123456770726f63, this one is 81234567656c7365"
