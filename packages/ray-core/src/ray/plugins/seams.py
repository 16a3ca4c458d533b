"""The seams: where each is found, how it is chosen, and which names core knows of.

Names are known here even where their package is not installed, so that asking for one ends in the command that installs
it and not in "unknown".
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ray.abc.store import LISTING, NOTIFICATIONS, PINNING, SHARED, SPILLING

#: Capabilities of a transport: it reaches other processes of this machine; it reaches other machines; another one's
#: ``poll`` can wait for it.
PROCESSES = "processes"
HOSTS = "hosts"
WATCHABLE = "watchable"


class Known(msgspec.Struct, frozen=True):
    """A plugin that the project offers: what to install, and what it will be able to do."""

    package: str
    """The distribution whose absence is the reason when the name is missing."""
    requirement: str
    """What to write after ``pip install``."""
    capabilities: frozenset[str] = frozenset()
    offered_by: str = ""
    """The distribution that offers the name, where ``package`` is only a library that it needs."""


class Seam(msgspec.Struct, frozen=True):
    """One replaceable part of the system."""

    name: str
    preference: tuple[str, ...]
    """The default is the first of these that is installed and fits."""
    hooks: tuple[str, ...]
    """What a plugin of this seam must implement."""
    optional: bool = False
    """Whether a plan may do without."""
    known: Mapping[str, Known] = msgspec.field(default_factory=dict)

    @property
    def group(self) -> str:
        """Entry-point group."""
        return f"ray.{self.name}"

    @property
    def env(self) -> str:
        """Environment variable that chooses."""
        return f"RAY_{self.name.upper()}"

    @property
    def default_reason(self) -> str:
        """Why the default is what it is, for messages and the plan."""
        if len(self.preference) < 2:
            return "default"
        return f"default: the first installed of {', '.join(self.preference)}"


_CORE = Known("ray-core", "ray-core")
_ASYNC = Known("ray-async", "ray-core[async]")

#: {seam name: seam}, in the order in which parts are resolved: what others depend on comes first.
SEAMS: dict[str, Seam] = {
    seam.name: seam
    for seam in (
        Seam(
            "store",
            preference=("plasma", "shm", "heap"),
            hooks=("ray_start_store", "ray_open_store"),
            known={
                "heap": _CORE,
                "plasma": Known(
                    "ray-store-plasma",
                    "ray-core[plasma]",
                    frozenset({SHARED, NOTIFICATIONS, PINNING, SPILLING, LISTING}),
                ),
                "shm": Known("ray-store-shm", "ray-core[shm]", frozenset({SHARED, NOTIFICATIONS, LISTING})),
            },
        ),
        Seam(
            "transport",
            preference=("unix",),
            hooks=("ray_open_transport",),
            known={
                "unix": Known("ray-core", "ray-core", frozenset({PROCESSES})),
                "inproc": _CORE,
                "routed": _CORE,
                "zmq": Known("ray-transport-zmq", "ray-core[zmq]", frozenset({PROCESSES, HOSTS, WATCHABLE})),
            },
        ),
        Seam(
            "scheduler",
            preference=("hybrid",),
            hooks=("ray_make_scheduler",),
            known={"hybrid": _CORE, "spread": _CORE},
        ),
        Seam(
            "control",
            preference=("embedded",),
            hooks=("ray_start_control", "ray_open_control"),
            known={
                "embedded": _CORE,
                "redis": Known("redis", "ray-core[redis]", offered_by="ray-core"),
            },
        ),
        Seam(
            "selector",
            preference=("epoll", "poll"),
            hooks=("ray_make_selector",),
            optional=True,
            known={"epoll": _ASYNC, "poll": _CORE},
        ),
        Seam(
            # No default: the worker takes one of the plan's executors, by the actor's class.
            "executor",
            preference=(),
            hooks=("ray_make_executor",),
            optional=True,
            known={"serial": _CORE, "threads": _CORE, "asyncio": _ASYNC},
        ),
    )
}

#: Plugins that only contribute (serializers, event sinks, commands, life-cycle hooks). They run user-installed code in
#: every process, so none is loaded unless it is named: ``observers=`` of init, ``RAY_OBSERVERS=a,b``, or the file.
OBSERVER = Seam("observer", preference=(), hooks=(), optional=True)
