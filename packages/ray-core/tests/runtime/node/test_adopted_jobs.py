"""Jobs of other nodes: which home they are for, what late words do, and when they are over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ray.builtin.unix_transport import UnixTransport
from ray.exceptions import RemoteProtocolError
from ray.messages import cluster, codec, node
from ray.runtime.cluster.lending import RemoteDriver
from ray.runtime.node.job_ends import LEFT
from ray.runtime.node.jobs import Jobs
from ray.runtime.node.output import NodeOutput
from ray.runtime.node.processes import NodeProcesses
from ray.runtime.process.node_start import JobConfig
from ray.runtime.process.timers import Timers

NODE = 9
CONFIG = JobConfig([], "default", True, umask=0o022).to_json()


class Home:
    """Another node manager."""

    job = ""

    def __init__(self, id: bytes) -> None:
        self.id = id
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


def decoded(sent: Any) -> Any:
    """What is for the driver."""
    return codec.decode([sent.message])


class Ends:
    """Notes which jobs are over."""

    def __init__(self) -> None:
        self.over: list[str] = []
        self.given_up: list[str] = []

    def give_up(self, job: Any) -> None:
        self.given_up.append(job.id)

    def begin(self, job: Any, leaver: Any) -> None:
        job.driver = None
        self.over.append(job.id)


class Node:
    def __init__(self, folder: Any) -> None:
        self.jobs = Jobs(str(folder))
        self.ends = Ends()
        self.output = NodeOutput(UnixTransport(str(folder)), Timers(), self.jobs.hears)
        self.clients: dict[bytes, Any] = {}
        self.processes = NodeProcesses(self.clients, None, self.jobs, self.ends, self.output)  # type: ignore[arg-type]

    def adopt(self, job: str, home: Home, config: bytes = CONFIG) -> None:
        self.processes.adopt(job, config, home.id, RemoteDriver(home, job))


@pytest.fixture
def made(tmp_path: Any) -> Node:
    return Node(tmp_path)


A, B = b"node-a..", b"node-b.."


def test_a_job_of_two_homes_is_over_with_the_last(made: Node) -> None:
    first, second = Home(A), Home(B)
    made.adopt("00000001", first)
    made.adopt("00000001", second)
    made.processes.end_job("00000001", b"another.")
    made.processes.home_lost(A)
    assert made.ends.over == []
    made.jobs.tell("00000001", node.Ping(1))
    assert [decoded(each) for each in first.sent] == [node.Ending(LEFT)]
    assert [decoded(each) for each in second.sent] == [node.Ping(1)]
    made.processes.end_job("00000001", B)
    made.processes.end_job("00000001", B)
    assert made.ends.over == ["00000001"]


def test_a_job_whose_driver_has_ended_gives_other_nodes_up(made: Node) -> None:
    """They may be homes of it for each other, and would wait for each other for ever."""
    driver_s = NODE.to_bytes(4, "big") + b"mngr"
    config = msgspec.structs.replace(JobConfig.from_json(CONFIG), home=NODE).to_json()
    for end in (
        lambda: made.processes.end_job("00000001", driver_s),
        lambda: made.processes.end_job("00000001", A),  # which was told that the driver has ended
        lambda: made.processes.home_lost(driver_s),
    ):
        for home in (driver_s, A, B):
            made.adopt("00000001", Home(home), config)
        job = made.jobs.get("00000001")
        assert job is not None
        made.processes.end_job("00000001", B, goes_on=True)
        assert made.ends.given_up == []
        end()
        assert made.ends.given_up == ["00000001"]
        assert made.ends.over == []
        for home in (driver_s, A):
            made.processes.end_job("00000001", home, goes_on=True)
        assert made.ends.over == ["00000001"]
        assert not job.goes_on
        made.jobs.forget(job)
        made.ends = made.processes._job_ends = Ends()  # type: ignore[assignment]


def test_a_job_that_no_home_needs_here_may_go_on_elsewhere(made: Node) -> None:
    made.adopt("00000001", Home(A))
    job = made.jobs.get("00000001")
    made.processes.home_lost(A)
    assert made.ends.over == ["00000001"]
    assert job is not None
    assert job.goes_on


def test_a_job_knows_the_node_of_its_driver(made: Node) -> None:
    made.jobs.node = 7
    own = made.jobs.add(1)
    made.jobs.configure(own, JobConfig.from_json(CONFIG))
    made.adopt("00000002", Home(A), made.processes.config_of(own.id))
    assert JobConfig.from_json(made.processes.config_of("00000002")).home == 7


def test_a_job_of_this_node_is_nobody_elses(made: Node) -> None:
    job = made.jobs.add(1)
    job.driver = own = Home(b"driver..")
    made.adopt(job.id, Home(A))
    made.processes.home_lost(A)
    assert job.driver is own
    assert made.ends.over == []


def test_a_home_that_gives_up_a_job_of_this_node_does_not_wait_for_it(made: Node) -> None:
    """Its tasks have submitted others, for which it has borrowed workers here."""
    home, own = Home(A), Home(b"driver..")
    made.clients[A] = home
    job = made.jobs.add(1)
    job.driver = own
    made.adopt(job.id, home)
    made.processes.end_job(job.id, A)
    assert [(each.job, decoded(each)) for each in home.sent] == [(job.id, node.Ending(LEFT))]
    assert own.sent == made.ends.over == []
    assert job.driver is own


def test_what_is_no_config_is_refused_and_adopts_nothing(made: Node) -> None:
    for bad in (b"", b"{}", b"[1]"):
        with pytest.raises(ValueError, match=r".*"):
            made.adopt("00000001", Home(A), bad)
    assert not made.processes.serves("00000001")
    made.adopt("00000001", Home(A))
    assert made.processes.serves("00000001")


def test_words_on_what_was_printed_may_be_late(made: Node) -> None:
    """The driver has ended while its home still answers."""
    home = Home(A)
    made.adopt("00000001", home)
    made.output.forward("00000001", node.Logs(1, "f", 1, [b"line"]))
    (sent,) = home.sent
    assert isinstance(sent, cluster.ToDriver)
    assert isinstance(codec.decode([sent.message]), node.Logs)
    with pytest.raises(RemoteProtocolError):
        made.processes.printed("00000001", 1 << 30)
    made.processes.end_job("00000001", A)
    made.output.driver_lost("00000001")
    made.processes.printed("00000001", 1000)
    made.processes.printed("00000009", 1000)
    made.output.forget("00000001")
    assert made.output._backlogs == {}


def test_drivers_of_other_nodes_are_not_told_of_the_end_of_this_one(made: Node) -> None:
    home, own = Home(A), Home(b"driver..")
    made.adopt("00000001", home)
    made.jobs.add(2).driver = own
    made.jobs.tell_all(node.Ending("why"))
    assert (home.sent, own.sent) == ([], [node.Ending("why")])


def test_a_driver_that_says_no_umask_has_that_of_the_node(made: Node) -> None:
    made.jobs.umask = 0o027
    job = made.jobs.add(1)
    made.jobs.configure(job, JobConfig([], "default", True))
    assert job.config is not None
    assert job.config.umask == 0o027
