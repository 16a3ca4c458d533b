"""The first message of a connection: what is accepted, and what is refused with both sides named."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from ray.exceptions import RayError, RemoteProtocolError
from ray.messages import codec, wire
from ray.messages.codec import PROTOCOL_VERSION
from ray.protocol.handshake import KINDS, check, hello

SESSION = "session_2026"


def a_hello(**changes: Any) -> wire.Hello:
    made = hello(SESSION, "worker", b"process!", "unix:/run/w1", 42)
    return msgspec.structs.replace(made, **changes)


def refused(message: object, session: str = SESSION) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        check(message, session)
    assert isinstance(caught.value, RayError)
    return str(caught.value)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_accepted_as_it_was_sent(kind: str) -> None:
    sent = hello(SESSION, kind, b"process!", "unix:/run/w1", 42)
    received = check(codec.decode([codec.encode(sent)]), SESSION)
    assert received == sent
    assert (received.kind, received.process, received.address, received.pid) == (kind, b"process!", "unix:/run/w1", 42)
    assert received.protocol == PROTOCOL_VERSION


def test_process_without_an_address() -> None:
    """It is reached by nobody: an observer."""
    assert check(hello(SESSION, "observer", b"process!", "", 1), SESSION).address == ""


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
            received = check(codec.decode([bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])]), SESSION)
        except RemoteProtocolError:
            continue
        assert (received.protocol, received.session) == (PROTOCOL_VERSION, SESSION)
        assert received.kind in KINDS
        accepted += 1
    assert accepted  # what differs in the fields that nobody judges


@pytest.mark.parametrize(
    "changes", [{"process": b""}, {"process": b"7 bytes"}, {"process": bytes(9)}, {"address": "x" * 1001}], ids=repr
)
def test_odd_ids_and_addresses_are_refused(changes: dict[str, Any]) -> None:
    assert "id of" in refused(a_hello(**changes))
