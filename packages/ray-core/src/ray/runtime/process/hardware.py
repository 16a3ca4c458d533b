"""What this machine offers to this process: processors, memory and GPUs, as far as affinity and cgroups allow.

Every reader takes the root of the file system, so that tests can show it another machine, and costs well under a
millisecond. Without limits, ``cpu_count()`` equals ``psutil.cpu_count()`` (both count the processors that are online)
but does not pay for the import of psutil.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import posixpath
import shutil
import socket
import subprocess
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

_NVIDIA_SMI_TIMEOUT_S = 5.0
_DRIVER_FILES = ("proc/driver/nvidia", "dev/nvidiactl", "dev/dxg")


class Hardware(msgspec.Struct, frozen=True):
    """What ``ray.init()`` offers by default."""

    cpus: int
    memory_bytes: int
    gpu_ids: tuple[str, ...]
    """As ``CUDA_VISIBLE_DEVICES`` would name them."""


def detect(root: str = "/", environ: Mapping[str, str] | None = None) -> Hardware:
    """Everything at once; starts a process only where an NVIDIA driver is there without its Python binding."""
    return Hardware(cpu_count(root), memory_limit_bytes(root), gpu_ids(root, environ))


def described(
    node_id: str,
    address: str,
    resources: Mapping[str, float],
    name: str = "",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The row of ``ray.nodes()`` for the node whose manager is this process."""
    return node_row(node_id, address, socket.gethostname(), os.getpid(), resources, name, labels)


def node_row(
    node_id: str,
    address: str,
    hostname: str,
    pid: int,
    resources: Mapping[str, float],
    name: str = "",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A row of ``ray.nodes()`` for a node that is alive."""
    return {
        "NodeID": node_id,
        "Alive": True,
        "NodeManagerAddress": address,
        "NodeManagerHostname": hostname,
        "Pid": pid,
        "Resources": dict(resources),
        "NodeName": name,
        "Labels": dict(labels or {}),
    }


def cpu_count(root: str = "/") -> int:
    """Processors that this process may keep busy, at least 1.

    The least of: processors online, the affinity mask, the cgroups' cpusets, and the cgroups' quotas rounded up.
    """
    limits = [_online(root)]
    status = _read(root, "proc/self/status") or ""
    for line in status.splitlines():
        if line.startswith("Cpus_allowed_list:"):
            limits.append(_count(line.partition(":")[2]))
    for version, folder in cgroup_folders(root, "cpuset"):
        name = "cpuset.cpus.effective" if version == 2 else "cpuset.cpus"
        limits.append(_count(_read(root, folder, name) or ""))
    for version, folder in cgroup_folders(root, "cpu"):
        if version == 2:
            quota, _, period = (_read(root, folder, "cpu.max") or "max").partition(" ")
        else:
            quota = _read(root, folder, "cpu.cfs_quota_us") or "-1"
            period = _read(root, folder, "cpu.cfs_period_us") or ""
        if _positive(quota) and _positive(period):
            limits.append(-(-int(quota) // int(period)))
    return min((limit for limit in limits if limit > 0), default=1)


def memory_limit_bytes(root: str = "/") -> int:
    """Bytes that this process and its children may use: the host's memory, or a cgroup's limit if that is less."""
    limits = [_host_memory_bytes(root)]
    for version, folder in cgroup_folders(root, "memory"):
        limit = _read(root, folder, "memory.max" if version == 2 else "memory.limit_in_bytes") or ""
        if _positive(limit):
            limits.append(int(limit))
    return min((limit for limit in limits if limit > 0), default=0)


def address_space_bytes() -> int | None:
    """What ``ulimit -v`` allows a process to map; None: as much as it likes."""
    try:
        import resource
    except ImportError:  # not on this system
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def gpu_ids(root: str = "/", environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` would name them.

    The first of these that has an answer: ``CUDA_VISIBLE_DEVICES``, NVML (if ``pynvml`` can be imported),
    ``nvidia-smi -L``, the driver's files. Without a driver it ends before NVML.
    """
    environ = os.environ if environ is None else environ
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return _visible_devices(visible)
    if not any(os.path.exists(os.path.join(root, file)) for file in _DRIVER_FILES):
        return ()
    count = _nvml_count()
    if count is None:
        count = _nvidia_smi_count(environ)
    if count is None:
        with contextlib.suppress(OSError):
            count = len(os.listdir(os.path.join(root, "proc/driver/nvidia/gpus")))
    return tuple(str(index) for index in range(count or 0))


def _visible_devices(value: str) -> tuple[str, ...]:
    """As CUDA reads it: devices after the first invalid one do not exist."""
    ids: list[str] = []
    for entry in value.split(","):
        name = entry.strip()
        if not name or name.startswith("-") or name.lower() in ("none", "nodevfiles") or name in ids:
            break
        ids.append(name)
    return tuple(ids)


def _nvml_count() -> int | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another distribution of that name deprecates itself on import
            nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        try:
            return int(nvml.nvmlDeviceGetCount())
        finally:
            nvml.nvmlShutdown()
    except Exception:  # not installed, or a driver that does not answer: the next source is asked
        return None


def _nvidia_smi_count(environ: Mapping[str, str]) -> int | None:
    program = shutil.which("nvidia-smi", path=environ.get("PATH", os.defpath))
    if program is None:
        return None
    import tempfile  # Costs more than all the rest here.

    try:
        with tempfile.TemporaryFile() as said:
            with subprocess.Popen([program, "-L"], stdout=said, stderr=subprocess.DEVNULL) as process:
                # The limits of subprocess go by clocks that a program may have frozen.
                limit = threading.Timer(_NVIDIA_SMI_TIMEOUT_S, process.kill)
                limit.daemon = True
                with contextlib.suppress(RuntimeError):  # no thread to be had: better without a limit than not at all
                    limit.start()
                failed = process.wait()
                limit.cancel()
            said.seek(0)
            return None if failed else sum(line.startswith(b"GPU ") for line in said)
    except OSError:
        return None


def _online(root: str) -> int:
    return _count(_read(root, "sys/devices/system/cpu/online") or "") or os.cpu_count() or 1


def _host_memory_bytes(root: str) -> int:
    for line in (_read(root, "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cgroup_folders(root: str, controller: str) -> Iterator[tuple[int, str]]:
    """Yield ``(cgroup version, folder)`` for this process's cgroup and its parents, where that controller may be."""
    paths: dict[str, str] = {}
    for line in (_read(root, "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for name in controllers.split(","):
            paths[name] = path
    for line in (_read(root, "proc/self/mountinfo") or "").splitlines():
        mount, _, super_part = line.partition(" - ")
        kind, _, options = super_part.partition(" ")
        fields = mount.split()
        if kind == "cgroup2" and "" in paths:
            version, path = 2, paths[""]
        elif kind == "cgroup" and controller in paths and controller in options.split()[-1].split(","):
            version, path = 1, paths[controller]
        else:
            continue
        mounted, folder = fields[3], fields[4]
        inside = posixpath.relpath(path, mounted)
        # A container may see only its own cgroup, mounted as the top, while the path is told from outside.
        parts = [] if inside == "." or inside.startswith("..") else inside.split("/")
        for depth in range(len(parts), -1, -1):
            yield version, posixpath.join(folder, *parts[:depth])


def _read(root: str, *parts: str) -> str | None:
    try:
        return Path(root, *(part.lstrip("/") for part in parts)).read_text().strip()
    except OSError:
        return None


def _positive(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0


def _count(cpu_list: str) -> int:
    """How many processors a list such as ``0-3,8`` names; 0 if it says nothing."""
    total = 0
    for part in cpu_list.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit():
            total += (int(last) if last.isdigit() else int(first)) - int(first) + 1
    return total
