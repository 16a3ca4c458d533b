"""What every transport that others can reach must do about peers that say nothing, or too much at first."""

from __future__ import annotations

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
        out = link.client.connect(link.address)
        out.send([b"hello"])
        out.send([b"x" * FIRST_MESSAGE_BYTES * 4])
        seen = link.at_server.wait(2, "whoever begins with little is heard, and need not go on so")
        expect_equal([len(frames[0]) for frames in seen], [5, FIRST_MESSAGE_BYTES * 4], "messages arrive as sent")


def strangers_have_to_leave(subject: TransportSubject) -> None:
    limit = Strangers[int]().limit
    with linked(subject) as link:
        link.out.send([b"hello"])
        link.at_server.wait(1, "every message arrives")
        outs = [link.client.connect(link.address) for _ in range(limit + 20)]
        rule = f"no more than {limit} peers that say nothing are kept"
        eventually(lambda: sum(out.closed for out in outs) >= 20, rule)
        other = link.client.connect(link.address)
        other.send([b"hello"])
        link.at_server.wait(2, "a peer that begins as it should is heard, whoever else has come")
        rule = f"a peer that has said nothing for {FIRST_MESSAGE_S:g} s is turned away"
        eventually(lambda: all(out.closed for out in outs), rule, FIRST_MESSAGE_S + _expect.DEADLINE_S)
        expect(not (link.out.closed or other.closed), "a peer that has said something may be silent afterwards")
        expect_equal(len(link.at_server.events), 2, "nobody hears of a peer that was turned away")


STRANGERS: tuple[Check, ...] = (a_large_first_message_is_refused, strangers_have_to_leave)
"""Those of ``TransportContract.meets_strangers``."""
