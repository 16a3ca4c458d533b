"""What goes wrong on a node: it is kept for ``ray.error_info``, and told to the driver that it concerns."""

from __future__ import annotations

from ray.clock import wall_time
from ray.exceptions.base import exit_text
from ray.messages import node
from ray.runtime.node.jobs import Jobs
from ray.runtime.node.recorded_errors import RecordedErrors
from ray.runtime.node.trouble import FAILED_START


class NodeFailures:
    """Every failure is of one job."""

    def __init__(self, recorded: RecordedErrors, jobs: Jobs) -> None:
        self._recorded = recorded
        self._jobs = jobs

    def record(self, job: str, record: node.ErrorRecord, *, print_it: bool = True) -> None:
        """Keep a failure; the driver prints what the node manager has found itself."""
        self._recorded.add(job, record)
        if print_it:
            self._jobs.tell(job, node.RecordError(record))

    def record_failed_start(self, job: str, cause: node.ExitCause) -> None:
        """A worker has ended before it came to what it was wanted for."""
        detail = cause.reason or exit_text(cause.exit_code, cause.signal)
        text = "\n".join([FAILED_START + detail, *cause.stderr])
        self.record(job, node.ErrorRecord("worker_died", text, wall_time(), pid=cause.pid))
