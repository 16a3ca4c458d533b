"""What ``ray.init`` hands to a runtime: checked, in the runtime's own units."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from ray.protocol.resources import UNIT
from ray.runtime.process import hardware

if TYPE_CHECKING:
    from ray.plugins.plan import ResolvedPlan
    from ray.runtime.cluster.key_folder import FoundKey
    from ray.runtime.process.node_start import Package
    from ray.runtime.process.packed_directory import PackedDirectory

DEFAULT_NAMESPACE = "default"
#: Of the memory, unless ``ray.init`` is told how much.
_MEMORY_SHARE = 0.7


class SentCode(msgspec.Struct, frozen=True):
    """What the program sends to its workers."""

    env_vars: Mapping[str, str] = msgspec.field(default_factory=dict)
    """For their environment."""
    directory: PackedDirectory | None = None
    """In which they begin, and look for modules first."""

    @property
    def package(self) -> Package | None:
        """The facts of the directory."""
        return None if self.directory is None else self.directory.package

    @property
    def root(self) -> str:
        """The path of the directory on this machine; empty: none is sent."""
        return "" if self.directory is None else self.directory.root

    def close(self) -> None:
        """Nobody is going to ask for it."""
        if self.directory is not None:
            self.directory.close()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Closed where the block, which hands it on, raises."""
        try:
            yield
        except BaseException:
            self.close()
            raise


class StartOptions(msgspec.Struct, frozen=True):
    """A session on this machine. Amounts are fixed point (see ``UNIT``); None is what the machine has."""

    plan: ResolvedPlan
    num_cpus: int | None = None
    num_gpus: int | None = None
    resources: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Custom resources by name."""
    memory_bytes: int | None = None
    """What tasks may ask for with ``memory=``."""
    object_store_bytes: int | None = None
    namespace: str = DEFAULT_NAMESPACE
    log_to_driver: bool = True
    code: SentCode = msgspec.field(default_factory=SentCode)


class JoinOptions(msgspec.Struct, frozen=True):
    """A job on a node that runs already."""

    session_dir: str
    """Of a node on this machine; empty: one of another machine serves this program."""
    chosen: Mapping[str, object] = msgspec.field(default_factory=dict)
    """{seam: name of a plugin}, where the program names one: the session's must be that."""
    plugin_options: Mapping[str, Mapping[str, object]] = msgspec.field(default_factory=dict)
    """{seam: {option: value}}: the session's must be these."""
    namespace: str = DEFAULT_NAMESPACE
    log_to_driver: bool = True
    key: FoundKey | None = None
    """Of the cluster, where no node of it is on this machine."""
    code: SentCode = msgspec.field(default_factory=SentCode)


def offered(options: StartOptions, gpus_found: int) -> dict[str, int]:
    """What the session offers, in fixed point, without zeros."""
    cpus, gpus, memory = options.num_cpus, options.num_gpus, options.memory_bytes
    totals = {
        "CPU": hardware.cpu_count() * UNIT if cpus is None else cpus,
        "GPU": gpus_found * UNIT if gpus is None else gpus,
        "memory": (int(hardware.memory_limit_bytes() * _MEMORY_SHARE) if memory is None else memory) * UNIT,
        **options.resources,
    }
    return {name: amount for name, amount in totals.items() if amount}
