"""What a ``.rayignore`` file leaves out of a working directory: patterns as in a ``.gitignore``, one a line."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: The file, in the directory that is sent.
IGNORE_FILE = ".rayignore"
#: Never sent, wherever they lie.
ALWAYS = frozenset({".git", ".venv", "__pycache__"})


class IgnoreRules:
    """Decides by paths relative to the directory, with ``/`` between the names.

    A pattern without ``/``, but for one at its end, is about names in every folder; others begin in the directory. One
    that ends with ``/`` is about folders. ``*`` and ``?`` stop at a ``/``, ``**`` does not. ``!`` takes back what an
    earlier line has left out, and the last line that is about a path decides. What lies in a folder that is left out is
    left out with it.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        #: (expression for the whole path, only folders, left out), in the order of the lines
        self._rules: list[tuple[re.Pattern[str], bool, bool]] = []
        for line in lines:
            text = line.rstrip("\r\n").rstrip()
            if not text or text.startswith("#"):
                continue
            leaves_out = not text.startswith("!")
            text = text if leaves_out else text[1:]
            only_folders = text.endswith("/")
            text = text.rstrip("/")
            if not text:
                continue
            anywhere = "/" not in text
            expression = _expression(text.removeprefix("/"))
            self._rules.append(
                (re.compile(f"(?:.*/)?{expression}" if anywhere else expression, re.DOTALL), only_folders, leaves_out)
            )

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        """Whether a file or folder is left out, whose own folder is not."""
        if path.rpartition("/")[2] in ALWAYS:
            return True
        for pattern, only_folders, leaves_out in reversed(self._rules):
            if (is_folder or not only_folders) and pattern.fullmatch(path):
                return leaves_out
        return False


def _expression(pattern: str) -> str:
    """A regular expression for a pattern."""
    parts, at = [], 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 3
        elif pattern.startswith("**", at):
            parts.append(".*")
            at += 2
        elif pattern[at] == "*":
            parts.append("[^/]*")
            at += 1
        elif pattern[at] == "?":
            parts.append("[^/]")
            at += 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inside = pattern[at + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            parts.append(f"[{'^' + inside[1:] if inside[0] in '!^' else inside}]")
            at = end + 1
        elif pattern[at] == "\\" and at + 1 < len(pattern):
            parts.append(re.escape(pattern[at + 1]))
            at += 2
        else:
            parts.append(re.escape(pattern[at]))
            at += 1
    return "".join(parts)
