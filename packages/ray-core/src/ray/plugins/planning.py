"""Resolution against this machine and this process: reads the environment, the file and the installed packages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ray.config import gather
from ray.plugins.discovery import info_of, scan
from ray.plugins.plan import ResolvedPlan
from ray.plugins.resolve import resolve
from ray.plugins.seams import SEAMS


def resolve_plan(
    store: str | None = None,
    transport: str | None = None,
    scheduler: str | None = None,
    selector: str | None = None,
    control: str | None = None,
    executor: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    observers: Sequence[str] | None = None,
    local_mode: bool = False,
) -> ResolvedPlan:
    """Make the plan of a session: arguments, else environment, else file, else defaults.

    Reads ``sys.path``, the environment and at most one file of the working directory, and imports the chosen plugin
    modules (not what they import inside their hooks). Called once, by the driver or the head; other processes are
    handed the plan.

    Args:
        store: name of an installed plugin, or a dotted path to a plugin module; None leaves the choice to the
            environment, the file or the default. Likewise the other seams.
        transport: see ``store``.
        scheduler: see ``store``.
        selector: see ``store``.
        control: see ``store``.
        executor: see ``store``; None takes one by the actor's class.
        options: {seam: {option: value}} for the chosen plugins.
        observers: names of plugins that only contribute, in order; None asks the environment and the file.
        local_mode: whether the session is this one process.

    Raises:
        PluginError: see ``ray.plugins.resolve.resolve``; nothing was started.
    """
    settings = gather(
        seams={seam.name: seam.env for seam in SEAMS.values()},
        keywords={
            "store": store,
            "transport": transport,
            "scheduler": scheduler,
            "selector": selector,
            "control": control,
            "executor": executor,
        },
        options=options or {},
        observers=observers,
        environ=os.environ,
        cwd=os.curdir,
    )
    return resolve(settings, scan(), info_of, local_mode=local_mode)
