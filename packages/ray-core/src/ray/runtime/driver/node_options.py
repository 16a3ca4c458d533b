"""What a new node offers, and what a job wants: from the options of the program, and from what the machine has."""

from __future__ import annotations

import os
import sys

from ray.protocol.resources import UNIT
from ray.runtime.process import hardware
from ray.runtime.process.node_start import JobConfig, NodeConfig
from ray.runtime.start_options import StartOptions, offered
from ray.runtime.worker import driver_path

_PRESTART = 8
_STORE_SHARE = 0.3
#: Of the address space that a process may have: the store is mapped twice, and there is more to a process.
_SPACE_SHARE = 0.15
#: Imported by the zygote when the driver has them, so that workers need not.
_PRELOAD = ("numpy",)


def node_config(options: StartOptions, session: str, session_dir: str, job: JobConfig | None) -> NodeConfig:
    """The configuration of a new node, which ends with this process if it has a ``job`` at once."""
    found = hardware.gpu_ids()
    resources = offered(options, len(found))
    cpus, count = (resources.get(name, 0) // UNIT for name in ("CPU", "GPU"))
    ids = [*found, *(str(number) for number in range(count) if str(number) not in found)][:count]
    total = hardware.memory_limit_bytes()
    store = options.object_store_bytes if options.object_store_bytes is not None else _default_store_bytes(total)
    return NodeConfig(
        session=session,
        session_dir=session_dir,
        plan=options.plan.to_json().decode(),
        resources=resources,
        gpu_ids=ids,
        store_bytes=store,
        sys_path=driver_path.current_path(),
        preload=[name for name in _PRELOAD if name in sys.modules],
        prestart=max(1, min(cpus, _PRESTART)) if job else 0,
        owner_pid=os.getpid() if job else 0,
        job=job,
    )


def job_config(options: StartOptions) -> JobConfig:
    """What this program wants of a node that it starts, whose processes begin where it has begun."""
    code = options.code
    return JobConfig(
        driver_path.current_path(code.root),
        options.namespace,
        options.log_to_driver,
        env_vars=dict(code.env_vars),
        package=code.package,
    )


def _default_store_bytes(total: int) -> int:
    """A part of the memory, and no more than each process can map once for reading and once for writing."""
    space = hardware.address_space_bytes()
    most = int(total * _STORE_SHARE)
    return most if space is None else min(most, int(space * _SPACE_SHARE))
