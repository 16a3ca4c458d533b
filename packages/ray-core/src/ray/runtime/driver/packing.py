"""Packs the directory that a program sends along: a ZIP with relative paths, without what no node needs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import IO, NamedTuple

from ray.exceptions.base import printable
from ray.runtime.driver.ignoring import IGNORE_FILE, IgnoreRules
from ray.runtime.node.unpacking import MAX_ENTRIES, MAX_PACKED_BYTES, MAX_UNPACKED_BYTES
from ray.runtime.process.node_start import Package
from ray.runtime.process.packed_directory import PackedDirectory
from ray.runtime.process.telling import log

_CHUNK_BYTES = 1 << 20
#: Entries that an error shows of a directory that is too large, and links that a warning shows.
_MOST_SHOWN = 5
#: How hard to compress: what there is of code is small, and what is large should not take long.
_LEVEL = 1
#: Of a file, what is tried.
_SAMPLE_BYTES = 1 << 16
#: Of a file of patterns.
_MAX_RULES_BYTES = 1 << 20
_ADVICE = f"Name what the tasks do not need in a file {IGNORE_FILE} in it, one pattern a line"


class _Entry(NamedTuple):
    """What goes into the ZIP."""

    path: str
    """Relative, with ``/`` between the names."""
    size: int
    mode: int

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def top(self) -> str:
        """What it is, or lies in, directly in the directory."""
        name, deeper, _ = self.path.partition("/")
        return f"{name}/" if deeper or self.is_folder else name


def pack(path: str) -> PackedDirectory:
    """Pack a directory.

    Raises:
        ValueError: it is none, is too large, or has something that cannot be read.
    """
    try:
        root = os.path.realpath(os.path.expanduser(path))
    except OSError as error:  # it is relative to a directory that was removed
        raise ValueError(f"working_dir={path!r} cannot be found: {error.strerror}") from None
    if not os.path.isdir(root):
        what = "is a file, not a directory" if os.path.exists(root) else "does not exist"
        raise ValueError(f"working_dir={path!r} {what}{f': {root}' if root != path else ''}")
    entries = _listed(root, _rules(root))
    _check_size(root, entries)
    file: IO[bytes] | None = None
    try:
        file = tempfile.TemporaryFile(prefix="ray-working-dir-")  # noqa: SIM115 - for as long as the session
        _write(root, entries, file)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if file is not None:
            file.close()
        raise ValueError(f"working_dir {root!r} cannot be packed: {error}") from None
    except BaseException:
        if file is not None:
            file.close()
        raise
    return PackedDirectory(root, Package(digest, size), file)


def _rules(root: str) -> IgnoreRules:
    path = os.path.join(root, IGNORE_FILE)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"working_dir: {path!r} is no file")
            data = file.read(_MAX_RULES_BYTES + 1)
        if len(data) > _MAX_RULES_BYTES:
            raise ValueError(f"working_dir: {path!r} has more than {_shown(_MAX_RULES_BYTES)}")
        return IgnoreRules(data.decode().splitlines())
    except FileNotFoundError:
        return IgnoreRules()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _listed(root: str, rules: IgnoreRules) -> list[_Entry]:
    """All that is sent of a directory, in a fixed order; folders stand before what is in them."""
    links: list[str] = []
    entries = list(_walk(root, "", rules, links))
    if links:
        more = f" and {len(links) - _MOST_SHOWN} more" if len(links) > _MOST_SHOWN else ""
        log.warning("working_dir: symbolic links are not sent: %s%s", ", ".join(links[:_MOST_SHOWN]), more)
    return entries


def _walk(root: str, folder: str, rules: IgnoreRules, links: list[str]) -> Iterator[_Entry]:
    try:
        with os.scandir(os.path.join(root, folder)) as found:
            inside = sorted(found, key=lambda item: item.name)
    except FileNotFoundError:  # it was removed meanwhile, as files below
        return
    except OSError as error:
        raise _unreadable(os.path.join(root, folder), error) from None
    for item in inside:
        path = f"{folder}/{item.name}" if folder else item.name
        with contextlib.suppress(FileNotFoundError):
            known = item.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(known.st_mode)
            if rules.leaves_out(path, is_folder=is_folder):
                continue
            if path != printable(path):
                raise ValueError(f"working_dir {root!r} has a file whose name is not in UTF-8: {path!r}. {_ADVICE}.")
            if stat.S_ISLNK(known.st_mode):
                links.append(path)
            elif is_folder:
                yield _Entry(path, 0, known.st_mode)
                yield from _walk(root, path, rules, links)
            elif stat.S_ISREG(known.st_mode):
                yield _Entry(path, known.st_size, known.st_mode)


def _check_size(root: str, entries: list[_Entry]) -> None:
    total = sum(entry.size for entry in entries)
    if total > MAX_UNPACKED_BYTES:
        raise ValueError(
            f"working_dir {root!r} is too large to be sent: {_shown(total)}, and at most {_shown(MAX_UNPACKED_BYTES)} "
            f"can be. Its largest entries: {_largest(entries)}. {_ADVICE}, or have tasks read it from a place that "
            "every node reaches."
        )
    if len(entries) > MAX_ENTRIES:
        counts = Counter(entry.top for entry in entries)
        raise ValueError(
            f"working_dir {root!r} has too much in it to be sent: {len(entries):,} files and folders, and at most "
            f"{MAX_ENTRIES:,} can be. Most are in {_most(counts, '{:,}'.format)}. {_ADVICE}."
        )


def _write(root: str, entries: list[_Entry], file: IO[bytes]) -> None:
    """Write the ZIP; stops as soon as it is too large."""
    left = MAX_UNPACKED_BYTES
    with zipfile.ZipFile(file, "w", compresslevel=_LEVEL) as archive:
        for entry in entries:
            if entry.is_folder:
                archive.writestr(_info(entry.path + "/", entry), b"")
                continue
            path = os.path.join(root, entry.path)
            with contextlib.suppress(FileNotFoundError), _opened(path) as source:
                chunk = _read(source, path)
                archive.compression = zipfile.ZIP_DEFLATED if _shrinks(chunk) else zipfile.ZIP_STORED
                with archive.open(entry.path, "w") as target:
                    while chunk and file.tell() <= MAX_PACKED_BYTES and left >= 0:
                        target.write(chunk)
                        left -= len(chunk)
                        chunk = _read(source, path)
                archive.getinfo(entry.path).external_attr = entry.mode << 16
            if file.tell() > MAX_PACKED_BYTES or left < 0:
                total = sum(each.size for each in entries)
                raise ValueError(
                    f"working_dir {root!r} is too large to be sent: more than {_shown(MAX_PACKED_BYTES)} when it is "
                    f"packed, {_shown(total)} before. Its largest entries: {_largest(entries)}. {_ADVICE}, or have "
                    "tasks read it from a place that every node reaches."
                )


def _info(name: str, entry: _Entry) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)  # of 1980: the same content makes the same ZIP, whenever its files were written
    info.external_attr = entry.mode << 16
    return info


def _opened(path: str) -> IO[bytes]:
    """A file; it may have become a pipe, or a link, since it was listed.

    Raises:
        FileNotFoundError: it was removed.
        ValueError: it cannot be read.
    """
    try:
        return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from None


def _read(source: IO[bytes], path: str) -> bytes:
    try:
        return source.read(_CHUNK_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None


def _shrinks(chunk: bytes) -> bool:
    """Whether a file that begins so becomes smaller: what is compressed already costs much time, and gains nothing."""
    sample = chunk[:_SAMPLE_BYTES]
    return len(sample) < _SAMPLE_BYTES or len(zlib.compress(sample, _LEVEL)) < 0.9 * len(sample)


def _unreadable(path: str, error: OSError | UnicodeDecodeError) -> ValueError:
    why = error.strerror if isinstance(error, OSError) else "it is not in UTF-8"
    return ValueError(f"working_dir: {path!r} cannot be read: {why}. {_ADVICE}.")


def _largest(entries: Iterable[_Entry]) -> str:
    sizes: Counter[str] = Counter()
    for entry in entries:
        sizes[entry.top] += entry.size
    return _most(sizes, _shown)


def _most(amounts: Counter[str], show: Callable[[int], str]) -> str:
    return ", ".join(f"{name} ({show(amount)})" for name, amount in amounts.most_common(_MOST_SHOWN))


def _shown(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"
