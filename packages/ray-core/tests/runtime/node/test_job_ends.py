"""What is done about the records of a job when this node's part in it is over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ray.runtime.node.job_ends import JobEnds
from ray.runtime.node.jobs import Jobs
from ray.runtime.process.timers import Timers


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
