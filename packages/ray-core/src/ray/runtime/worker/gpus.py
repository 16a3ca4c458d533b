"""The GPUs that the code of a worker sees."""

from __future__ import annotations

import os


class Gpus:
    """Those that the task, or the actor, was given."""

    __slots__ = ("ids",)

    def __init__(self) -> None:
        #: None as long as nobody was shown any.
        self.ids: list[str] | None = None

    def show(self, ids: list[str]) -> None:
        """Show the user's code these, and no others."""
        if ids or self.ids is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(ids)
        self.ids = ids
