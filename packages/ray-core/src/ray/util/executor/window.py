"""How many calls of an executor are under way at a time."""

from __future__ import annotations

#: Calls that are sent ahead of those that run start within so long, and so cannot be cancelled for so long.
AIM_S = 0.005
#: So many are sent for each that may run: the second waits at its worker while the first one runs.
LEAST_AHEAD = 2
MOST_AHEAD = 64


class Window:
    """So many calls: as many as may run, where the executor itself sees to that.

    Where the processors of the session limit how many run, some are sent ahead: the more, the quicker calls end.
    """

    def __init__(self, workers: int, *, ahead: bool) -> None:
        self._workers = workers
        self._ahead = LEAST_AHEAD if ahead else 1
        self.size = workers * self._ahead
        #: The same for chunks of many calls, whose size says how quick these are.
        self.chunks = self.size
        #: With so few under way more are to be sent.
        self.low = max(workers, self.size // 2) if ahead else workers - 1

    def learn(self, seconds: float) -> None:
        """A call took so long from when it was sent, with others waiting all the while."""
        if self._ahead == 1:
            return
        call_s = seconds / self._ahead
        fitting = int(AIM_S / call_s) if call_s else MOST_AHEAD
        self._ahead = max(LEAST_AHEAD, min(fitting, 2 * self._ahead, MOST_AHEAD))
        self.size = self._workers * self._ahead
        self.low = max(self._workers, self.size // 2)
