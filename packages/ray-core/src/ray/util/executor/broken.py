"""What a program that was written for ``ProcessPoolExecutor`` catches; imported when it is needed.

The module that has ``BrokenProcessPool`` brings multiprocessing with it.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from ray.exceptions import NodeDiedError, RayActorError, RayError


class BrokenWorkerError(RayError, BrokenProcessPool):
    """The worker that ran a call of an executor has died, or could not be made ready. ``__cause__`` says why.

    Args:
        reason: the whole text.
    """

    def __init__(self, reason: str = "The worker of an executor has died.") -> None:
        self.reason = reason
        super().__init__(reason)


def worker_died(error: RayError) -> BrokenWorkerError:
    """The error of a call whose worker has died."""
    # Without its node the session may be over; an actor that was never made has failed in the initializer.
    unsure = isinstance(error, NodeDiedError) or (isinstance(error, RayActorError) and error.summary)
    told = BrokenWorkerError(f"The call was lost{'' if unsure else '; the executor goes on'}. {error}")
    told.__cause__ = error
    return told


def initializer_failed(error: BaseException) -> BrokenWorkerError:
    """The error of all calls of an executor whose initializer fails."""
    told = BrokenWorkerError(f"The initializer of the executor failed, and so do its calls. {error}")
    told.__cause__ = error
    return told
