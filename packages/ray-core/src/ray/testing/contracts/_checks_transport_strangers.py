"""What every transport that others can reach must do about peers that say nothing, or too much at first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ray.abc.strangers import FIRST_MESSAGE_BYTES, FIRST_MESSAGE_S, Strangers
from ray.testing.contracts import _expect
from ray.testing.contracts._expect import eventually, expect, expect_equal
from ray.testing.contracts._link import Check, TransportSubject, linked


def a_large_first_message_is_refused(subject: TransportSubject) -> None:
    with linked(subject) as link:
        link.out.send([bytes(FIRST_MESSAGE_BYTES + 1)])
        rule = f"a peer that begins with more than {FIRST_MESSAGE_BYTES} bytes is turned away"
        eventually(link.at_client.ends, rule)
        expect_equal(link.at_server.events, [], "nobody hears of a peer that was turned away")
        out = link.client.dial(link.address)
        out.send([b"hello"])
        out.send([b"x" * FIRST_MESSAGE_BYTES * 4])
        seen = link.at_server.wait(2, "a peer that begins with little is heard, and need not go on so")
        expect_equal([len(frames[0]) for frames in seen], [5, FIRST_MESSAGE_BYTES * 4], "messages arrive as sent")


def strangers_have_to_leave(subject: TransportSubject) -> None:
    limit = Strangers[int]().limit
    with linked(subject) as link:
        link.out.send([b"hello"])
        link.at_server.wait(1, "every message arrives")
        outs = [link.client.dial(link.address) for _ in range(limit + 20)]
        rule = f"no more than {limit} peers that say nothing are kept"
        eventually(lambda: sum(out.closed for out in outs) >= 20, rule)
        other = link.client.dial(link.address)
        other.send([b"hello"])
        link.at_server.wait(2, "a peer that begins as it should is heard, though many others have come")
        rule = f"a peer that has said nothing for {FIRST_MESSAGE_S:g} s is turned away"
        eventually(lambda: all(out.closed for out in outs), rule, FIRST_MESSAGE_S + _expect.DEADLINE_S)
        expect(not (link.out.closed or other.closed), "a peer that has said something may be silent afterwards")
        expect_equal(len(link.at_server.events), 2, "nobody hears of a peer that was turned away")


def a_lack_of_descriptors_costs_the_newcomer_alone(subject: TransportSubject) -> None:
    with linked(subject) as link:
        back = link.accept()
        newcomer = None
        with descriptors_left(1):  # the newcomer's own end takes it
            with suppress(ConnectionError):  # or it is refused at once
                newcomer = link.client.dial(link.address)
                newcomer.send([b"late"])
            for number in range(50):
                link.out.send([b"%d" % number])
                back.send([b"%d" % number])
            numbers = [[b"%d" % number] for number in range(50)]
            rule = "messages of others arrive while there is no descriptor for one more connection"
            expect_equal(link.at_server.wait(50, rule), numbers, rule)
            expect_equal(link.at_client.wait(50, rule), numbers, rule)
            link.at_server.check()
        if newcomer is None or newcomer.closed:  # it may have been turned away, but not those that come later
            newcomer = link.client.dial(link.address)
            newcomer.send([b"late"])
        link.at_server.wait(51, "a client that comes when there are descriptors again is heard")


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Leave this process so many descriptors, and no more than that, meanwhile."""
    import resource  # not on every system

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 64, hard))
    try:
        while True:
            try:
                held.append(os.dup(held[0]))
            except OSError:
                break
        for _ in range(count):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


STRANGERS: tuple[Check, ...] = (
    a_large_first_message_is_refused,
    strangers_have_to_leave,
    a_lack_of_descriptors_costs_the_newcomer_alone,
)
"""Those of ``TransportContract.meets_strangers``."""
