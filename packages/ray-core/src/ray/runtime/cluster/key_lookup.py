"""Which key file is meant: by the address of the cluster, by its name, or the only one that there is."""

from __future__ import annotations

import os

from ray.exceptions import KeyFileError, RayConnectionError
from ray.runtime.cluster.key_file import read_key_file
from ray.runtime.cluster.key_folder import FoundKey, KeyFolder
from ray.runtime.cluster.places import Place, is_same
from ray.runtime.cluster.wanted import DEFAULT_NAME


def key_at(place: Place, folder: KeyFolder, source: str) -> FoundKey:
    """The key file of the cluster whose control server is at ``place``.

    Args:
        place: as the user gave it.
        folder: where to look.
        source: where it was given, for messages.

    Raises:
        RayConnectionError: there is none, or there are several.
        KeyFileError: there is none that can be used, and one that cannot.
    """
    found, unusable = _all(folder)
    fitting = [each for each in found if is_same(each.key.place, place)]
    if len(fitting) > 1:
        names = _listed([each.key.name for each in fitting])
        raise RayConnectionError(
            f"Several key files in {folder.path} have the address {place} (from {source}): those of {names}. Give the "
            "name of one of these clusters as the address, or remove the files of those that have ended."
        )
    if fitting:
        return fitting[0]
    if unusable:
        raise unusable[0]
    others = f"; those there are for {_described(found)}" if found else ""
    raise RayConnectionError(
        f"There is no key file for the cluster at {place} (from {source}) in {folder.path}{others}. "
        f"{how_to_copy(place, folder)}"
    )


def key_named(name: str, folder: KeyFolder, source: str) -> FoundKey:
    """The key file of the cluster ``name``.

    Raises:
        RayConnectionError: there is none.
        KeyFileError: it cannot be used.
    """
    try:
        return folder.read(name)
    except FileNotFoundError:
        found, _ = _all(folder)
        others = f"those there are for {_described(found)}" if found else "there is none of another one, either"
        named = "" if name == DEFAULT_NAME else f" --name {name}"
        raise RayConnectionError(
            f"There is no cluster of the name {name!r} (from {source}): no key file for it is in {folder.path}; "
            f"{others}. `ray start --head{named}` starts one on this machine; for one of another machine, copy its key "
            "file from there. The address of a machine has a port: 'host:port'."
        ) from None


def only_key(folder: KeyFolder, source: str) -> FoundKey:
    """The key file that this user has.

    Raises:
        RayConnectionError: there is none, or there are several.
        KeyFileError: it cannot be used.
    """
    found, unusable = _all(folder)
    if len(found) > 1:
        raise RayConnectionError(
            f"{source} is not clear: there are key files of {len(found)} clusters in {folder.path}, for "
            f"{_described(found)}. Give the address or the name of one of them."
        )
    if found:
        return found[0]
    if unusable:
        raise unusable[0]
    raise RayConnectionError(
        f"{source} found no cluster: there is no key file in {folder.path}. `ray start --head` starts a cluster on "
        "this machine and writes one; for a cluster of another machine, copy its key file from there."
    )


def key_in(path: str) -> FoundKey:
    """The key file at ``path``; ``-`` is standard input.

    Raises:
        KeyFileError: it cannot be used.
    """
    try:
        return FoundKey(path if path == "-" else os.path.abspath(path), read_key_file(path))
    except FileNotFoundError:
        raise KeyFileError(path, "there is no such file") from None


def how_to_copy(place: Place, folder: KeyFolder) -> str:
    """What a user does that has no key file."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    return (
        "Who has the key file of a cluster can use it; the user that has started it finds it there, and copies it: "
        f"mkdir -p -m 700 {folder.path} && scp '{host}:.ray/clusters/NAME.json' {folder.path}/"
    )


def _all(folder: KeyFolder) -> tuple[list[FoundKey], list[KeyFileError]]:
    found: list[FoundKey] = []
    unusable: list[KeyFileError] = []
    for name in folder.names():
        try:
            found.append(folder.read(name))
        except FileNotFoundError:
            continue  # its cluster has ended meanwhile
        except KeyFileError as error:
            unusable.append(error)
    return found, unusable


def _described(found: list[FoundKey]) -> str:
    return _listed([f"{each.key.name} ({each.key.place})" for each in found])


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
