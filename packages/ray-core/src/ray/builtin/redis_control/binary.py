"""The server's program: found on this machine, never brought along."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping

VARIABLE = "RAY_REDIS_SERVER"
_NAMES = ("redis-server", "valkey-server")
LEAST = (7, 0)
_APT = "apt-get install -y --no-install-recommends redis-server"


def find_server(environ: Mapping[str, str]) -> str:
    """The path of the program.

    Raises:
        ValueError: there is none.
    """
    named = environ.get(VARIABLE, "")
    if named:
        found = shutil.which(named)
        if found is None:
            raise ValueError(f"{VARIABLE} names {named!r}, which is no program that this user can run")
        return os.path.abspath(found)
    for name in _NAMES:
        found = shutil.which(name)
        if found is not None:
            return os.path.abspath(found)
    raise ValueError(f"neither redis-server nor valkey-server is on PATH; install one: {_APT}")


def check_version(path: str) -> tuple[int, int]:
    """The version of the program, which is new enough.

    Raises:
        ValueError: it is too old, or no such program.
    """
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise ValueError(f"{path} cannot be run: {error.strerror}") from None
    found = re.search(r"\bv=(\d+)\.(\d+)", done.stdout)
    if found is None:
        raise ValueError(f"{path} is no Redis or Valkey server: it does not tell its version")
    version = int(found[1]), int(found[2])
    if version < LEAST:
        raise ValueError(too_old(path, f"{version[0]}.{version[1]}"))
    return version


def too_old(where: str, version: str) -> str:
    """The sentence about a server that cannot do what is needed."""
    return f"{where} is version {version}, and Redis 7.0 (or Valkey) is the oldest that serves: install a newer one"
