"""The command that installs what is missing, in the place that ``ray-core`` itself came from."""

from __future__ import annotations

import functools
import json
import os

from ray.plugins.seams import Known


def command_for(known: Known, *, upgrade: bool = False) -> str:
    """What to type to get the package of ``known``.

    By the extra of ``ray-core`` that brings it; where ``ray-core`` was installed from a clone of the repository, from
    the folder beside it, as no index need have the package.
    """
    option = " --upgrade" if upgrade else ""
    folders = clone()
    if not folders:
        return f'pip install{option} "{known.requirement}"'
    own = os.path.join(folders, known.package)
    if os.path.isdir(own):
        return f"pip install{option} {_quoted(own)}"
    extra = known.requirement.removeprefix("ray-core")
    return f'pip install{option} "{os.path.join(folders, "ray-core")}{extra}"'


@functools.cache
def clone() -> str:
    """The folder of packages that ``ray-core`` was installed from, or empty: as its installer wrote down (PEP 610)."""
    from importlib.metadata import PackageNotFoundError, distribution  # slow to import, for messages only
    from urllib.parse import unquote, urlsplit

    try:
        record = distribution("ray-core").read_text("direct_url.json")
        parts = urlsplit(json.loads(record or "{}").get("url", ""))
    except (PackageNotFoundError, OSError, ValueError):
        return ""
    if parts.scheme != "file":
        return ""
    folder, name = os.path.split(unquote(parts.path).rstrip("/"))
    return folder if name == "ray-core" and os.path.isdir(os.path.join(folder, name)) else ""


def _quoted(path: str) -> str:
    return f'"{path}"' if any(letter.isspace() for letter in path) else path
