"""``ray memory``: what is in the stores of running sessions, biggest first."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import click

from ray.abc.store import Listing, StoredObject
from ray.cli import exits
from ray.cli.commands import command, with_format
from ray.cli.output import as_json, as_size, as_table
from ray.exceptions import RayConnectionError, RayError
from ray.ids import node_number, object_of, process_of
from ray.runtime.driver.observer import SessionObserver
from ray.runtime.process.session_dirs import live_sessions
from ray.units import counted


@command("memory")
@click.option("--session", default="", help="The id of one session, as ray.init prints it; its first letters will do.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Objects of each session.")
@with_format
def memory(session: str, limit: int, form: str) -> int:
    """List what is in the stores of running sessions of this user on this machine, biggest first, and what holds it."""
    reports: list[dict[str, Any]] = []
    failed: dict[str, Exception] = {}
    for path, facts in live_sessions():
        if facts.session.startswith(session):
            try:
                with contextlib.closing(SessionObserver(path, facts)) as observer:
                    reports.append(report(observer))
            except ConnectionError:
                continue  # it has ended meanwhile
            except (RayError, TimeoutError) as error:  # the others are shown all the same
                failed[facts.session] = error
    if failed and not reports:
        raise next(iter(failed.values()))
    for name, cause in failed.items():
        print(f"session {name} cannot be looked at: {cause}", file=sys.stderr)
    if not reports:
        which = f"no running session begins with {session!r}" if session else "no session is running"
        raise RayConnectionError(f"{which} (of this user, on this machine)")
    if form == "json":
        print(
            as_json(
                [{**found, "count": len(found["objects"]), "objects": found["objects"][:limit]} for found in reports]
            )
        )
        return exits.DONE
    for found in reports:
        _print(found, limit)
    return exits.DONE


def report(observer: SessionObserver) -> dict[str, Any]:
    """Facts of one session: totals in bytes, and a dict per object."""
    processes = [process for process in observer.ask("processes") if process[1] != "observer"]
    names = {pid: kind for _, kind, pid, _ in processes}
    names |= {actor["pid"]: f"actor {actor['class_name']}" for actor in observer.ask("actors") if actor["pid"] in names}
    owners = {process: pid for process, _, pid, _ in processes}
    mover = observer.ask("transfers").get("pid")
    if mover:
        names[mover] = "object manager"
    store = observer.open_store()
    try:
        stats = store.stats()
        listed = store.list() if isinstance(store, Listing) else None
    finally:
        store.close()
    pids = {address: pid for _, _, pid, address in processes}
    references = observer.holders([object_of(entry.object_id) for entry in listed or ()], list(pids)) if listed else {}
    silent = [_process(pid, names) for address, pid in pids.items() if listed and address not in references]

    def elsewhere(entry: StoredObject) -> str:
        """Its owner, if that is of another node."""
        number = node_number(entry.object_id)
        is_here = process_of(entry.object_id) in owners or observer.facts.node in (0, number)
        return "" if is_here else f"process of node {number:08x}"

    def holders(entry: StoredObject) -> list[str]:
        """Processes that use its memory, and those that have references to it.

        What an owner elsewhere has left here it has freed as soon as nobody holds it, on any node.
        """
        found = dict.fromkeys(entry.holders)
        found |= {pids[address]: None for address, ids in references.items() if object_of(entry.object_id) in ids}
        here = [_process(pid, names) for pid in found]
        owner = elsewhere(entry)
        return here or ([owner] if owner else [f"{name}?" for name in silent])

    def owner(entry: StoredObject) -> str:
        return elsewhere(entry) or _process(owners.get(process_of(entry.object_id), 0), names)

    objects = [
        {
            "object_id": object_of(entry.object_id).hex(),
            "bytes": entry.nbytes,
            "state": entry.state,
            "owner": owner(entry),
            "holders": holders(entry),
        }
        for entry in listed or ()
    ]
    cluster = observer.facts.cluster
    return {
        "session": observer.facts.session,
        "node_name": cluster.node_name if cluster is not None else "",
        "store": observer.store_name,
        "listed": listed is not None,
        "used_bytes": stats.used_bytes,
        "capacity_bytes": stats.capacity_bytes,
        "spilled_bytes": stats.spilled_bytes,
        "silent": silent,
        "objects": objects,
    }


def _process(pid: int, names: dict[int, str]) -> str:
    return f"{names.get(pid, 'process')} {pid}" if pid else "gone"


def _print(found: dict[str, Any], limit: int) -> None:
    title = f"session {found['session']}" + (f", node {found['node_name']}" if found["node_name"] else "")
    if not found["listed"]:
        print(f"{title}: store {found['store']!r} keeps objects in the processes that own them;")
        print("  there is nothing shared to list.")
        return
    objects = found["objects"]
    capacity = f" of {as_size(found['capacity_bytes'])}" if found["capacity_bytes"] else ""
    print(
        f"{title}: store {found['store']}, {counted(len(objects), 'object')}, "
        f"{as_size(found['used_bytes'])}{capacity} used, {as_size(found['spilled_bytes'])} spilled"
    )
    rows: list[tuple[str, ...]] = [("OBJECT", "SIZE", "STATE", "OWNER", "HELD BY")]
    for entry in objects[:limit]:
        held = ", ".join(entry["holders"]) or "nobody"
        rows.append((entry["object_id"], as_size(entry["bytes"]), entry["state"], entry["owner"], held))
    if objects:
        print(as_table(rows, indent="  "))
    for name in found["silent"]:
        print(f"  {name} does not answer: it may hold more", file=sys.stderr)
    if len(objects) > limit:
        print(f"  … and {len(objects) - limit} more (--limit)", file=sys.stderr)
