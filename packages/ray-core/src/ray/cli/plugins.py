"""``ray plugins``: what is installed for each seam, which is chosen here, and what else there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray.cli import exits
from ray.cli.commands import command, with_format
from ray.cli.output import as_json, as_table
from ray.exceptions import PluginError
from ray.plugins import ResolvedPlan, resolve_plan
from ray.plugins.candidate import Inventory
from ray.plugins.discovery import info_of, normalise, scan
from ray.plugins.installing import command_for
from ray.plugins.resolve import lacks_library
from ray.plugins.seams import OBSERVER, SEAMS


@command("plugins")
@with_format
def plugins(form: str) -> int:
    """Show what is installed for each seam, which is chosen here, and what else there is.

    Every installed plugin is imported, to see whether it works.
    """
    try:
        plan = resolve_plan()
    except PluginError:
        plan = None  # `ray doctor` tells why; the list is what helps to choose something else.
    rows = list(survey(scan(), plan))
    if form == "json":
        print(as_json(rows))
        return exits.DONE
    header = ("SEAM", "PLUGIN", "STATE", "PACKAGE", "")
    cells = [
        (row["seam"], row["name"], row["state"], f"{row['package']} {row['version']}".strip(), row["text"])
        for row in rows
    ]
    print(as_table([header, *cells]))
    return exits.DONE


def survey(inventory: Inventory, plan: ResolvedPlan | None) -> Iterator[dict[str, Any]]:
    """One row per plugin: ``chosen``, ``installed``, ``broken``, ``ambiguous``, or one that is missing."""
    for seam in (*SEAMS.values(), OBSERVER):
        installed = {
            name: offers
            for name, offers in inventory.plugins.get(seam.name, {}).items()
            if not lacks_library(seam.known.get(name), offers, inventory)
        }
        part = plan.parts.get(seam.name) if plan is not None else None
        chosen = {each.name for each in part.with_inner} if part is not None else ()
        for name, offers in sorted(installed.items()):
            for candidate in offers:
                state = "chosen" if name in chosen else "installed"
                try:
                    text = info_of(candidate).summary
                except PluginError as error:
                    state, text = "broken", str(error)
                if len(offers) > 1:
                    state = "ambiguous"
                yield {
                    "seam": seam.name,
                    "name": name,
                    "state": state,
                    "package": candidate.distribution,
                    "version": candidate.version,
                    "text": text,
                }
        for name, known in sorted(seam.known.items()):
            if name in installed:
                continue
            version = inventory.versions.get(normalise(known.package), "")
            yield {
                "seam": seam.name,
                "name": name,
                "state": "not in package" if version else "not installed",
                "package": known.package,
                "version": version,
                "text": command_for(known, upgrade=bool(version)),
            }
