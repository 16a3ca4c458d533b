"""Until when a node may run: written by its node manager, read by its zygote, which is told once."""

import contextlib
import os
import socket

import pytest

from ray.runtime.node.forking import decode_request
from ray.runtime.node.renewals import Renewals, Renewed


@pytest.fixture
def channel():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, theirs


def heard(theirs):
    found = []
    while True:
        try:
            found.append(decode_request(theirs.recv(4096)))
        except BlockingIOError:
            return found


def test_a_child_reads_what_its_parent_notes_later(channel):
    ours, _ = channel
    renewals = Renewals()
    assert renewals.newest() == 0.0
    go, answer = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.read(go[0], 1)
        os.write(answer[1], repr(renewals.newest()).encode())
        os._exit(0)
    renewals.note(12.5, ours)
    renewals.note(13.25, ours)
    os.write(go[1], b"!")
    assert os.read(answer[0], 100) == b"13.25"
    os.waitpid(pid, 0)
    for fd in (*go, *answer):
        os.close(fd)


def test_a_zygote_is_told_once(channel):
    ours, theirs = channel
    renewals = Renewals()
    renewals.note(1.0, None)
    assert heard(theirs) == []
    renewals.note(2.0, ours)
    renewals.note(3.0, ours)
    assert heard(theirs) == [Renewed()]


def test_the_next_zygote_is_told_as_well(channel):
    ours, theirs = channel
    renewals = Renewals()
    renewals.note(1.0, ours)
    renewals.note(2.0, None)
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with first, second:
        second.setblocking(False)
        renewals.note(3.0, first)
        renewals.note(4.0, first)
        assert heard(second) == [Renewed()]
    assert heard(theirs) == [Renewed()]


def test_who_is_not_told_now_is_told_the_next_time(channel):
    ours, theirs = channel
    ours.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"\x91\x02")
    renewals = Renewals()
    renewals.note(1.0, ours)
    count = len(heard(theirs))
    renewals.note(2.0, ours)
    assert len(heard(theirs)) == 1
    assert count > 1
