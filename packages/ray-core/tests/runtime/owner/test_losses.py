"""What is said of objects and stores that are gone: once the reason is known, or the time for it is over."""

import contextlib

import pytest
from tests.owners import Owner

from ray.clock import monotonic
from ray.exceptions import NodeDiedError, ObjectLostError, OwnerDiedError, RayConnectionError
from ray.runtime.owner.losses import Losses
from ray.runtime.process.own_faults import OutOfDescriptorsError

PLAIN = ObjectLostError(bytes(20), "it is not there")


class Process:
    def __init__(self):
        self.owner = Owner()
        self.death = None
        self.cut_off = []
        #: What happens while it waits.
        self.news = lambda: None
        self.losses = Losses(
            self.owner.here,
            contextlib.nullcontext(),
            self.owner.peers,
            lambda waiter, timeout_s: self.news(),
            lambda: self.death,
            self.cut_off.append,
            0.2,
        )


@pytest.fixture
def process():
    return Process()


def test_an_object_of_this_process_is_just_lost(process):
    assert process.losses.of_entry(process.owner.table.own(bytes(20)), PLAIN) is PLAIN


def test_a_finalised_one_says_so(process):
    entry = process.owner.table.own(bytes(20))
    entry.freed = True
    assert "finalised" in str(process.losses.of_entry(entry, PLAIN))


def test_an_owner_whose_loss_is_heard_of_meanwhile(process):
    def news():
        process.owner.peers.at("o").lost = True

    process.news = news
    assert isinstance(process.losses.of_object(bytes(20), "o", PLAIN), OwnerDiedError)


@pytest.mark.parametrize(
    ("reason", "kind"), [(ConnectionError("nobody"), OwnerDiedError), (OutOfDescriptorsError("full"), ObjectLostError)]
)
def test_an_owner_that_is_not_reached(process, reason, kind):
    process.owner.peers.away["o"] = reason
    assert type(process.losses.of_object(bytes(20), "o", PLAIN)) is kind


def test_an_owner_that_is_dialled_for_long_and_not_reached(process):
    process.owner.peers.slow.add("o")
    began = monotonic()

    def news():
        if monotonic() - began > 0.7 and process.owner.peers.by_process:
            process.owner.peers.decide("o", ConnectionError("no answer"))

    process.news = news
    assert isinstance(process.losses.of_object(bytes(20), "o", PLAIN), OwnerDiedError)


def test_an_owner_that_lives(process):
    assert process.losses.of_object(bytes(20), "o", PLAIN) is PLAIN


def test_a_store_that_has_gone_with_the_node(process):
    def news():
        process.death = "it was killed"

    process.news = news
    assert isinstance(process.losses.of_store(RayConnectionError("no answer")), NodeDiedError)
    assert process.cut_off == []


def test_a_store_that_has_gone_alone(process):
    error = RayConnectionError("no answer")
    assert process.losses.of_store(error) is error
    assert process.cut_off == [error]
