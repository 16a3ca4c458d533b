"""What a node has to know before it serves, asked for by a process of its own."""

from __future__ import annotations

import os
import signal

import msgspec
import pytest

from ray.abc.blocking_control import BlockingControl
from ray.abc.control_operations import Get, Put
from ray.builtin.embedded_control import EmbeddedControlServer, EmbeddedControlStore
from ray.exceptions import RayConnectionError, RaySystemError
from ray.ids import node_number
from ray.messages.cluster import KeptDirector, NodeRecord
from ray.plugins.planning import resolve_plan
from ray.protocol.director import DIRECTOR
from ray.runtime.cluster.enrolment import Enrolment, enrol
from ray.runtime.cluster.registry import Meta, Registry

PLAN = resolve_plan(store="heap", options={})
META = Meta("session", 7, "3.11", PLAN.to_json().decode(), PLAN.digest, "auto")
HEAD = KeptDirector(NodeRecord(5, "unix:/head", "head", "here", 100, {"CPU": 1}, {}), 3)


@pytest.fixture
def server():
    server = EmbeddedControlServer()
    yield server
    server.close()


@pytest.fixture
def control(server):
    handle = EmbeddedControlStore(server.address)
    yield handle
    handle.close()


@pytest.fixture
def founded(control):
    """The store of a cluster that has a director, whose data are encrypted."""
    enrol(Registry(control), msgspec.structs.replace(META, data_encryption="aes-gcm"), is_head=True)
    BlockingControl(control).ask(Put(DIRECTOR, msgspec.msgpack.encode(HEAD)))
    return control


def test_a_head_founds_the_cluster(control):
    told = enrol(Registry(control), META, is_head=True)
    assert told.director is None
    assert told.data_encryption == "auto"
    assert node_number(told.node) > 0
    assert Registry(control).meta() == META


def test_others_find_it(founded):
    first, second = (enrol(Registry(founded), META, is_head=False) for _ in range(2))
    assert node_number(second.node) == node_number(first.node) + 1
    assert first.director == HEAD
    assert first.data_encryption == "aes-gcm", "the head has said so"


def test_one_that_does_not_fit_gets_no_number(founded):
    before = BlockingControl(founded).ask(Get("fence"))
    with pytest.raises(RaySystemError, match=r"the nodes of the cluster have Python 3\.11, and this one 3\.12"):
        enrol(Registry(founded), msgspec.structs.replace(META, python="3.12"), is_head=False)
    assert BlockingControl(founded).ask(Get("fence")) == before


def test_without_a_cluster_there_is_nothing_to_find(control):
    with pytest.raises(RayConnectionError, match="knows of no cluster"):
        enrol(Registry(control), META, is_head=False)


def test_a_process_of_its_own_asks(server, founded):
    asked = []

    def open_control():
        asked.append(os.getpid())
        return EmbeddedControlStore(server.address)

    told = Enrolment(open_control, META, is_head=False).wait()
    assert (told.director, told.data_encryption) == (HEAD, "aes-gcm")
    assert asked == [], "not in this one"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("error", "text"),
    [(RayConnectionError("nobody there"), "^nobody there$"), (ValueError("strange"), "^ValueError: strange$")],
)
def test_what_is_wrong_there_is_told_here(error, text):
    def open_control():
        raise error

    with pytest.raises(RaySystemError, match=text):
        Enrolment(open_control, META, is_head=False).wait()


def test_one_that_is_killed_has_told_nothing():
    def open_control():
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RaySystemError, match="the process that asked the control store was killed"):
        Enrolment(open_control, META, is_head=False).wait()
