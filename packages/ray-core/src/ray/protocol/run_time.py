"""How long the runs of one function take, and how many of them a worker may therefore have at a time."""

from __future__ import annotations

#: Work pushed ahead to one worker, in microseconds of expected run time …
PIPELINE_US = 5_000
#: … and in tasks.
PIPELINE_TASKS = 512
#: One run counts at most this much more than the mean so far: a preempted one says nothing about the next.
_GROWTH = 2.0


class RunTime:
    """The moving mean of one function."""

    __slots__ = ("mean_us",)

    def __init__(self) -> None:
        #: Microseconds; negative before the first run has ended.
        self.mean_us = -1.0

    def observe(self, duration_us: int) -> None:
        """Take one more run into the mean."""
        mean = self.mean_us
        if mean < 0:
            self.mean_us = float(duration_us)
        else:
            most_us = mean * _GROWTH + 1.0
            self.mean_us = mean + (duration_us - mean if duration_us < most_us else most_us - mean) * 0.125

    def pipeline(self) -> int:
        """How many tasks one worker may have at a time: one until the run time is known, few when they are long."""
        mean = self.mean_us
        if mean < 0:
            return 1
        if mean * PIPELINE_TASKS <= PIPELINE_US:
            return PIPELINE_TASKS
        return max(1, int(PIPELINE_US / mean))
