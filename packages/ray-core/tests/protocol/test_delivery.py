"""Exactly once and in order, whatever the channel does: in virtual time, with a channel that hypothesis makes."""

import heapq
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.exceptions import RemoteProtocolError
from ray.protocol.delivery import WINDOW, Delivery, Header


class Channel:
    """Two ends, and what is under way between them."""

    def __init__(self, seed, loss, duplicate, max_delay_s):
        self.chance = random.Random(seed)
        self.loss, self.duplicate, self.max_delay_s = loss, duplicate, max_delay_s
        self.now = 0.0
        self.ends = (Delivery(), Delivery())
        self.arrived = ([], [])
        self.way = []
        self.numbers = itertools.count()
        self.packets = 0

    def transmit(self, end):
        for header, message in self.ends[end].packets(self.now):
            self.packets += 1
            assert header == Header.decode(header.encode())
            for _ in range(2 if self.chance.random() < self.duplicate else 1):
                if self.chance.random() >= self.loss:
                    due = self.now + self.chance.random() * self.max_delay_s
                    heapq.heappush(self.way, (due, next(self.numbers), 1 - end, header, message))

    def step(self):
        """Go on to whatever happens next; False if nothing will."""
        due = min(min(end.due() for end in self.ends), self.way[0][0] if self.way else float("inf"))
        if due == float("inf"):
            return False
        self.now = max(self.now, due)
        while self.way and self.way[0][0] <= self.now:
            _, _, end, header, message = heapq.heappop(self.way)
            self.arrived[end].extend(self.ends[end].receive(header, message))
            assert len(self.ends[end]._early) < WINDOW
        for end in (0, 1):
            if self.ends[end].due() <= self.now:
                self.transmit(end)
        return True


rates = st.sampled_from([0.0, 0.1, 0.25, 0.5])


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    loss=rates,
    duplicate=rates,
    max_delay_s=st.sampled_from([0.0, 0.01, 0.5]),
    bursts=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40), st.floats(0, 1)), max_size=12),
)
def test_everything_arrives_once_and_in_order(seed, loss, duplicate, max_delay_s, bursts):
    channel = Channel(seed, loss, duplicate, max_delay_s)
    sent = ([], [])
    for end, count, wait_s in bursts:
        for _ in range(count):
            sent[end].append((end, len(sent[end])))
            channel.ends[end].send(sent[end][-1])
        until = channel.now + wait_s
        while channel.now < until and channel.step():
            pass
    steps = 0
    while channel.step():
        steps += 1
        assert steps < 100_000
    assert channel.arrived == (sent[1], sent[0])
    assert all(end.is_settled and not end.unconfirmed and not end._early for end in channel.ends)
    # The last message took a few tries of growing length at most.
    assert channel.now < 200


def test_a_good_channel_carries_everything_once():
    """And confirmations ride on what goes the other way."""
    channel = Channel(0, 0.0, 0.0, 0.001)
    for number in range(5 * WINDOW):
        channel.ends[0].send(number)
        channel.ends[1].send(number)
    while channel.step():
        pass
    assert channel.arrived == (list(range(5 * WINDOW)),) * 2
    assert [end.sent_again + end.came_again for end in channel.ends] == [0, 0]
    assert channel.packets < 2.5 * 5 * WINDOW * 2


def test_no_more_than_the_window_is_under_way():
    end = Delivery()
    for number in range(3 * WINDOW):
        end.send(number)
    assert len(end.packets(0.0)) == WINDOW
    assert end.packets(0.0) == []
    assert len(end.unconfirmed) == 3 * WINDOW
    end.receive(Header(0, WINDOW // 2, 0), None)
    assert len(end.packets(0.0)) == WINDOW // 2


def test_what_is_not_confirmed_is_sent_again_at_growing_intervals():
    end = Delivery(first_retry_s=1.0, last_retry_s=4.0)
    end.send("x")
    assert end.due() == 0.0
    times = []
    now = 0.0
    for _ in range(6):
        ((header, message),) = end.packets(now)
        assert (header.number, message) == (1, "x")
        times.append(now)
        assert end.packets(now) == []
        now = end.due()
    assert times == [0.0, 1.0, 3.0, 7.0, 11.0, 15.0]
    end.receive(Header(0, 1, 0), None)
    assert end.due() == float("inf")


def test_what_was_overtaken_by_far_is_sent_again_at_once():
    one, other = Delivery(first_retry_s=1.0, reorder_s=0.1), Delivery()
    late = []
    for now in (0.0, 0.05, 0.11, 0.12):
        one.send(now)
        late += one.packets(now)
    for header, message in late[1:3]:
        other.receive(header, message)
    ((header, _),) = other.packets(0.2)
    one.receive(header, None)
    assert one.due() < 0.2
    assert [message for _, message in one.packets(0.2)] == [0.0], "but what is close behind or later may be on its way"
    assert one.due() == 0.12 + 1.0


def test_only_what_is_missing_is_sent_again():
    one, other = Delivery(first_retry_s=1.0), Delivery()
    for number in range(10):
        one.send(number)
    for header, message in one.packets(0.0):
        if message not in (3, 5):
            other.receive(header, message)
    for header, _ in other.packets(0.1):
        one.receive(header, None)
    assert [message for _, message in one.packets(1.0)] == [3, 5]


@pytest.mark.parametrize("header", [Header(0, 1, 0), Header(WINDOW + 1, 0, 0), Header(0, 1 << 63, 0)])
def test_what_cannot_be_is_refused(header):
    with pytest.raises(RemoteProtocolError):
        Delivery().receive(header, None)


@pytest.mark.parametrize("data", [b"", b"x" * 15, b"x" * 400])
def test_what_is_no_header_is_refused(data):
    with pytest.raises(RemoteProtocolError):
        Header.decode(data)


def test_confirmations_of_what_was_never_sent_ahead_do_nothing():
    end = Delivery()
    end.send("x")
    end.packets(0.0)
    end.receive(Header(0, 0, (1 << 64) - 1), None)
    assert end.unconfirmed == ["x"]
