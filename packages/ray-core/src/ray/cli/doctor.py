"""``ray doctor``: the plan and why each part was chosen, versions, limits of the machine, and what is wrong."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from typing import Any

from ray.api.address import cluster_address, node_of
from ray.cli import exits
from ray.cli.commands import command, with_format
from ray.cli.output import as_json, as_size, as_table
from ray.cli.plugins import survey
from ray.exceptions import PluginError, RayError
from ray.plugins import Composition, PlannedPart, ResolvedPlan, foreign_owners, resolve_plan
from ray.plugins.candidate import Inventory
from ray.plugins.discovery import normalise, ownership_conflict, scan
from ray.plugins.seams import SEAMS

#: Whose versions matter in a report; of those that are installed.
_REPORTED = (
    "ray-core", "ray-store-shm", "ray-store-plasma", "ray-transport-zmq", "ray-async",
    "click", "msgspec", "pluggy", "cloudpickle", "psutil", "numpy", "pyarrow", "pyzmq", "redis", "uvloop",
)  # fmt: skip
#: How long a cluster may take to answer.
_CLUSTER_S = 2.0
_FEW_FILES = 1024
_SMALL_SHM_BYTES = 256 * 1024 * 1024


@command("doctor")
@with_format
def doctor(form: str) -> int:
    """Show the plan and why each part was chosen, versions, limits and conflicts. Starts nothing.

    A plan that cannot be resolved because of what was asked for is wrong usage; other problems are failures.
    """
    report = examine()
    print(as_json(report) if form == "json" else _as_text(report))
    if report["error"]:
        return exits.USAGE
    return exits.FAILED if report["problems"] else exits.DONE


def examine() -> dict[str, Any]:
    """Everything that the report says, as plain values."""
    inventory = scan()
    plan: ResolvedPlan | None = None
    facts: dict[str, Any] = {}
    error = ""
    defects = []
    try:
        plan = resolve_plan()
        facts = Composition(plan).diagnostics()
    except PluginError as failure:
        error = str(failure)
    except Exception as failure:
        defects.append(f"a plugin failed in ray_diagnostics: {type(failure).__name__}: {failure}")
    limits = _limits()
    owners = foreign_owners()
    return {
        "plan": None if plan is None else _plan(plan),
        "error": error,
        "versions": _versions(inventory),
        "limits": limits,
        "plugins": facts,
        "problems": [
            *([f"the plan cannot be resolved: {error}"] if error else []),
            *([ownership_conflict(owners)] if owners else []),
            *_address_problems(),
            *defects,
        ],
        "warnings": [*_plugin_warnings(inventory, plan), *_limit_warnings(limits)],
    }


def _address_problems() -> list[str]:
    """What ``ray.init()`` would say of the address that the environment gives."""
    try:
        cluster = cluster_address(None, None, local_mode=False)
        if cluster is not None:
            node_of(cluster, _CLUSTER_S)
    except (RayError, ValueError) as error:
        return [str(error)]
    return []


def _plan(plan: ResolvedPlan) -> dict[str, Any]:
    parts = [_part(part, part.source) for chosen in plan.parts.values() for part in chosen.with_inner]
    if plan.executor is None:
        parts += [_part(part, "by the actor's class") for part in plan.executors.values()]
    parts += [_part(part, part.source) for part in plan.observers]
    return {"parts": parts, "notes": plan.notes, "digest": plan.digest}


def _part(part: PlannedPart, why: str) -> dict[str, Any]:
    return {
        "seam": part.seam,
        "name": part.name,
        "package": part.distribution,
        "version": part.version,
        "module": part.module,
        "why": why,
        "options": part.options,
        "option_sources": part.option_sources,
    }


def _versions(inventory: Inventory) -> dict[str, str]:
    versions = {
        "python": f"{platform.python_version()} ({platform.python_implementation()}, {sys.executable})",
        "platform": platform.platform(),
    }
    plugin_packages = {
        normalise(offer.distribution)
        for seam in SEAMS
        for offers in inventory.plugins.get(seam, {}).values()
        for offer in offers
    }
    for name in dict.fromkeys((*_REPORTED, *sorted(plugin_packages))):
        if name in inventory.versions:
            versions[name] = inventory.versions[name]
    return versions


def _limits() -> dict[str, Any]:
    from ray.runtime.process.hardware import cpu_count, gpu_ids, memory_limit_bytes

    limits: dict[str, Any] = {
        "cpus": cpu_count(),
        "cpus_of_host": os.cpu_count() or 1,
        "memory_bytes": memory_limit_bytes(),
        "memory_bytes_of_host": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": list(gpu_ids()),
    }
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits["open_files"], limits["open_files_hard"] = soft, hard
    try:
        shm = shutil.disk_usage("/dev/shm")
        limits["shm_bytes"], limits["shm_free_bytes"] = shm.total, shm.free
    except OSError:
        limits["shm_bytes"] = limits["shm_free_bytes"] = 0
    limits["redis_server"] = shutil.which("redis-server") or shutil.which("valkey-server") or ""
    return limits


def _plugin_warnings(inventory: Inventory, plan: ResolvedPlan | None) -> list[str]:
    warnings = []
    for row in survey(inventory, plan):
        if row["state"] == "broken":
            warnings.append(row["text"])
        elif row["state"] == "ambiguous":
            warnings.append(
                f"{row['seam']}={row['name']!r} is offered by more than one package, one of them "
                f"{row['package']!r} {row['version']}: pip uninstall all but one"
            )
    return warnings


def _limit_warnings(limits: dict[str, Any]) -> list[str]:
    warnings = []
    if 0 <= limits["open_files"] < _FEW_FILES:
        warnings.append(
            f"at most {limits['open_files']} open files: every worker needs some. Raise it: "
            f"ulimit -n {min(65536, limits['open_files_hard']) if limits['open_files_hard'] > 0 else 65536}"
        )
    if not hasattr(os, "memfd_create") and 0 < limits["shm_bytes"] < _SMALL_SHM_BYTES:
        warnings.append(
            f"/dev/shm has {as_size(limits['shm_bytes'])}, little for a shared-memory store. "
            "In a container, start it with more: docker run --shm-size=2g"
        )
    return warnings


def _as_text(report: dict[str, Any]) -> str:
    sections = []
    if report["plan"] is None:
        sections.append(f"Plan\n  it cannot be resolved: {report['error']}")
    else:
        rows = [
            (part["seam"], part["name"], f"{part['package']} {part['version']}".strip() or part["module"], part["why"])
            for part in report["plan"]["parts"]
        ]
        sections.append("Plan\n" + as_table(rows, "  "))
        options = [
            (f"{part['seam']}.{option}", value, part["option_sources"].get(option, "default"))
            for part in report["plan"]["parts"]
            for option, value in part["options"].items()
        ]
        if options:
            sections.append("Options\n" + as_table(options, "  "))
        if report["plan"]["notes"]:
            sections.append("Notes\n" + "\n".join(f"  {note}" for note in report["plan"]["notes"]))
        if report["error"]:
            sections.append(f"Error\n  {report['error']}")
    sections.append("Versions\n" + as_table(list(report["versions"].items()), "  "))
    limits = report["limits"]
    machine = [
        ("cpus", f"{limits['cpus']} of {limits['cpus_of_host']}"),
        ("memory", f"{as_size(limits['memory_bytes'])} of {as_size(limits['memory_bytes_of_host'])}"),
        ("gpus", ", ".join(limits["gpus"]) or "none"),
        ("open files", f"{limits['open_files']} (at most {limits['open_files_hard']})"),
        ("/dev/shm", f"{as_size(limits['shm_free_bytes'])} free of {as_size(limits['shm_bytes'])}"),
        ("redis server", limits["redis_server"] or "not found (control='redis' needs one, or the URL of one)"),
    ]
    sections.append("Limits\n" + as_table(machine, "  "))
    if report["plugins"]:
        sections.append("Plugins say\n" + as_table(list(report["plugins"].items()), "  "))
    if report["warnings"]:
        sections.append("Warnings\n" + "\n".join(f"  {warning}" for warning in report["warnings"]))
    problems = report["problems"] or ["none"]
    sections.append("Problems\n" + "\n".join(f"  {problem}" for problem in problems))
    return "\n\n".join(sections)
