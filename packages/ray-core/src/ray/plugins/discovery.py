"""What is installed, from metadata alone, and the import of what was chosen.

One scan serves everything. ``importlib.metadata.entry_points`` parses every ``METADATA`` and ``entry_points.txt`` and
imports the ``email`` package: about 40 ms. Here each distribution costs one attempt to open one small file, about
10 µs, so that built-in parts need no special case and take the same door as everybody's. Nothing is cached: a scan is
paid once per ``init``, and what is installed may change between two of them (notebooks).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ray.exceptions import IncompatiblePluginsError, PluginContractError, PluginNotInstalledError
from ray.exceptions.shadowed import shadowing
from ray.plugins.candidate import Candidate, Inventory
from ray.plugins.seams import SEAMS
from ray.plugins.specs import PLUGIN_API, PluginInfo

_PREFIX = "ray."


def scan(path: Iterable[str] | None = None) -> Inventory:
    """Read the entry points of every distribution on ``path`` (``sys.path`` if None).

    As for imports, the first distribution of a name hides later ones of the same name.
    """
    plugins: dict[str, dict[str, list[Candidate]]] = {}
    versions: dict[str, str] = {}
    for found in _distributions(path):
        if found.key in versions:
            continue
        versions[found.key] = found.version
        data = found.read("entry_points.txt")
        if b"ray." not in data:
            continue
        for group, name, target in _entry_points(data.decode("utf-8", "replace")):
            offers = plugins.setdefault(group.removeprefix(_PREFIX), {}).setdefault(name, [])
            offers.append(Candidate(group.removeprefix(_PREFIX), name, target, found.name, found.version))
    frozen = {seam: {name: tuple(offers) for name, offers in names.items()} for seam, names in plugins.items()}
    return Inventory(frozen, versions)


def foreign_owners(path: Iterable[str] | None = None) -> list[str]:
    """Distributions other than ours that install files into a package directory ``ray/``, as ``name version``.

    Two owners of one directory overwrite each other's files, and removing one breaks the other. Only directories of
    the path that hold a ``ray/`` are looked into, and there only the lists of installed files; nothing is imported.
    Takes about 30 µs per distribution beside a ``ray/``, and nothing where ray-core is installed in editable mode.
    """
    owners = []
    entries = [entry for entry in (sys.path if path is None else path) if os.path.isdir(os.path.join(entry, "ray"))]
    for found in _distributions(entries):
        if found.key != "ray-core" and _owns_ray(found):
            owners.append(f"{found.name} {found.version}".strip())
    return owners


def ownership_conflict(owners: Iterable[str]) -> str:
    """The sentence about distributions, given as ``name version``, that share the package directory with ray-core."""
    named = list(owners)
    names = " ".join(owner.partition(" ")[0] for owner in named)
    return (
        f"the package directory 'ray/' belongs to ray-core and also to {' and '.join(map(repr, named))}, which cannot "
        f"both work; keep one: pip uninstall {names} && pip install --force-reinstall ray-core"
    )


def path_candidate(seam: str, value: str) -> Candidate:
    """The candidate for a dotted path given in place of a name."""
    return Candidate(seam, value, value)


def load(candidate: Candidate) -> Any:
    """Import a plugin: a module, or an attribute of one.

    Raises:
        PluginNotInstalledError: the import failed, for whatever reason of the plugin's.
    """
    module, _, attributes = candidate.target.partition(":")
    try:
        plugin: Any = importlib.import_module(module)
        for attribute in filter(None, attributes.split(".")):
            plugin = getattr(plugin, attribute)
    except Exception as error:
        raise import_failure(candidate, error) from error
    return plugin


def import_failure(candidate: Candidate, error: Exception) -> PluginNotInstalledError:
    """The error to raise for a plugin that did not import, then or inside one of its hooks."""
    text = f"{candidate.subject} ({candidate.origin}) cannot be imported: {type(error).__name__}: {error}"
    seam = SEAMS.get(candidate.seam)
    known = seam.known.get(candidate.name) if seam is not None else None
    hidden = shadowing(error)
    if hidden:
        text += f". {hidden}"
    elif isinstance(error, ImportError) and (known is not None or candidate.distribution):
        requirement = f'"{known.requirement}"' if known is not None else candidate.distribution
        text += f"; install what it needs: pip install --upgrade {requirement}"
    return PluginNotInstalledError(text, seam=candidate.seam, plugin=candidate.name)


def info_of(candidate: Candidate) -> PluginInfo:
    """Import a candidate and return its record, checked against what was chosen.

    Raises:
        PluginNotInstalledError: it cannot be imported.
        PluginContractError: it has no record, or the record is of another seam or name.
        IncompatiblePluginsError: it is written for another plugin API.
    """
    info = getattr(load(candidate), "PLUGIN", None)
    where = f"{candidate.subject} ({candidate.origin})"
    named = {"seam": candidate.seam, "plugin": candidate.name}
    if not isinstance(info, PluginInfo):
        raise PluginContractError(f"{where} has no record PLUGIN = PluginInfo(...)", **named)
    if info.api != PLUGIN_API:
        behind = candidate.distribution if info.api < PLUGIN_API else "ray-core"
        advice = f": pip install --upgrade {behind}" if behind else ""
        raise IncompatiblePluginsError(
            f"{where} is written for plugin API {info.api}, but this ray-core has {PLUGIN_API}{advice}", **named
        )
    if info.seam != candidate.seam:
        raise PluginContractError(f"{where} is a plugin for {info.seam!r}, not for {candidate.seam!r}", **named)
    if candidate.distribution and info.name != candidate.name:
        raise PluginContractError(f"{where} calls itself {info.name!r} in its PLUGIN record", **named)
    return info


def normalise(name: str) -> str:
    """A distribution's name as installers compare it."""
    key = name.lower().replace("_", "-").replace(".", "-")
    while "--" in key:
        key = key.replace("--", "-")
    return key


class _Found(msgspec.Struct, frozen=True):
    """A distribution's metadata: a directory, or for archives whatever importlib.metadata has."""

    name: str
    version: str
    directory: str = ""
    archived: Any = None

    @property
    def key(self) -> str:
        return normalise(self.name)

    def read(self, filename: str) -> bytes:
        """The file's content, empty if there is none. Bytes: most files are searched once and never decoded."""
        if self.archived is not None:
            return (self.archived.read_text(filename) or "").encode()
        try:
            with open(f"{self.directory}/{filename}", "rb", buffering=0) as file:
                return file.read()
        except OSError:
            return b""


def _distributions(path: Iterable[str] | None) -> Iterator[_Found]:
    for entry in dict.fromkeys(sys.path if path is None else path):
        try:
            names = os.listdir(entry or ".")
        except NotADirectoryError:
            yield from _archived(entry)
            continue
        except OSError:
            continue
        for filename in names:
            if filename.endswith((".dist-info", ".egg-info")):
                found = _from_directory(f"{entry or '.'}/{filename}", filename)
                if found is not None:
                    yield found


def _from_directory(directory: str, filename: str) -> _Found | None:
    stem, _, kind = filename.rpartition(".")
    if kind == "dist-info":
        name, hyphen, version = stem.rpartition("-")
        if not hyphen:
            return None
        return _Found(name.replace("_", "-"), version, directory)
    # "name-version-py3.11.egg-info", or "name.egg-info" in a source tree.
    name, _, rest = stem.partition("-")
    return _Found(name.replace("_", "-"), rest.partition("-")[0], directory)


def _archived(entry: str) -> Iterator[_Found]:
    """Zip files on the path: rare, so the standard library's slow way will do."""
    from importlib import metadata

    for distribution in metadata.distributions(path=[entry]):
        name = distribution.metadata["Name"]
        if name:
            yield _Found(name, distribution.version, archived=distribution)


def _entry_points(text: str) -> Iterator[tuple[str, str, str]]:
    """Groups of ours in an ``entry_points.txt``: ``(group, name, target)``."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line[1:].rstrip("]").strip()
        elif group.startswith(_PREFIX) and "=" in line and line[0] not in "#;":
            name, _, target = line.partition("=")
            yield group, name.strip(), target.partition("[")[0].replace(" ", "")


def _owns_ray(found: _Found) -> bool:
    """Whether the list of files names anything under ``ray/``.

    ``top_level.txt`` is short and, where there is one, says it all; else ``RECORD`` lists every file.
    """
    top = found.read("top_level.txt")
    if top:
        return b"ray" in top.split()
    record = found.read("RECORD")
    return record.startswith(b"ray/") or b"\nray/" in record
