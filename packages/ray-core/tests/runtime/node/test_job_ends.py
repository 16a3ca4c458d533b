"""What is done about the records of a job, and the last words of its workers, when this node's part in it is over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ray.messages import node
from ray.runtime.node import job_ends
from ray.runtime.node.job_ends import LEFT, JobEnds
from ray.runtime.node.jobs import Jobs
from ray.runtime.process.node_start import JobConfig
from ray.runtime.process.timers import Timers
from ray.testing import eventually


@pytest.mark.parametrize("goes_on", [False, True])
def test_the_failures_of_a_job_that_goes_on_are_kept(tmp_path: Any, goes_on: bool) -> None:
    """Where its driver lives, on another node, only that one says that they are of a job which has ended."""
    expired: list[str] = []
    recorded: Any = SimpleNamespace(expire=expired.append)
    pool: Any = SimpleNamespace(workers={}, knows=lambda pid: False)
    leases: Any = SimpleNamespace(end_job=lambda job: None)
    actors: Any = SimpleNamespace(outlives=lambda job: False)
    output: Any = SimpleNamespace(driver_lost=lambda job: None, forget=lambda job: None)
    jobs = Jobs(str(tmp_path))
    ends = JobEnds("0123456789abcdef", jobs, leases, pool, actors, output, recorded, Timers())
    job = jobs.adopt("00000001", SimpleNamespace(id=b"", job=""))  # type: ignore[arg-type]
    job.goes_on = goes_on
    ends.begin(job, None)
    assert jobs.get("00000001") is None
    assert expired == ([] if goes_on else ["00000001"])


HOME, OTHER = b"home....", b"other..."


class Leaver:
    """The driver that goes."""

    id = b"driver.."
    job = "00000001"

    def __init__(self) -> None:
        self.heard: list[object] = []

    def send(self, message: object) -> None:
        self.heard.append(message)


class Leaving:
    """A job whose driver goes while another node has something of it."""

    def __init__(self, folder: Any) -> None:
        nothing: Any = SimpleNamespace(
            workers={}, end_job=lambda job: None, outlives=lambda job: False, forget=lambda job: None,
            driver_lost=lambda job: None, expire=lambda job: None, knows=lambda pid: False,
        )  # fmt: skip
        self.timers = Timers()
        self.jobs = Jobs(str(folder))
        self.ends = JobEnds("0123456789abcdef", self.jobs, nothing, nothing, nothing, nothing, nothing, self.timers)
        self.ends.on_over = lambda job: [OTHER]
        self.leaver = Leaver()
        job = self.jobs.adopt("00000001", self.leaver)
        job.config = JobConfig([], "", True)
        self.ends.begin(job, self.leaver)

    def pass_time(self) -> None:
        self.timers.run_due()


def test_the_driver_hears_of_other_nodes_until_they_have_ended_what_they_had(tmp_path: Any) -> None:
    leaving = Leaving(tmp_path)
    leaving.pass_time()
    assert leaving.leaver.heard == []
    assert leaving.jobs.hears("00000001") is leaving.leaver
    leaving.ends.ended_there("00000001", OTHER)
    eventually(lambda: leaving.pass_time() or leaving.jobs.get("00000001") is None)
    assert leaving.leaver.heard == [node.Ending(LEFT)]
    assert leaving.jobs.hears("00000001") is None


def test_a_node_that_says_nothing_is_waited_for_one_second(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_ends, "_PATIENCE_S", 0.05)
    leaving = Leaving(tmp_path)
    eventually(lambda: leaving.pass_time() or leaving.jobs.get("00000001") is None)
    assert leaving.leaver.heard == [node.Ending(LEFT)]


def test_a_node_that_dies_meanwhile_is_not_waited_for(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_ends, "_PATIENCE_S", 60)
    leaving = Leaving(tmp_path)
    leaving.ends.node_down(HOME)
    leaving.pass_time()
    assert leaving.leaver.heard == []
    leaving.ends.node_down(OTHER)
    eventually(lambda: leaving.pass_time() or leaving.jobs.get("00000001") is None)
    assert leaving.leaver.heard == [node.Ending(LEFT)]


def test_nobody_waits_for_a_driver_that_was_killed_meanwhile(tmp_path: Any) -> None:
    leaving = Leaving(tmp_path)
    leaving.ends.leaver_lost("00000001", leaving.leaver)
    assert leaving.jobs.hears("00000001") is None
    eventually(lambda: leaving.pass_time() or leaving.jobs.get("00000001") is None)
    assert leaving.leaver.heard == []
