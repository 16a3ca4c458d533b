"""Unpacks the directory that a program has sent along: in a process of its own, which trusts nothing of it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import zipfile
import zlib

from ray.exceptions.base import printable
from ray.runtime.process.node_start import Package

MAX_PACKED_BYTES = 100 << 20
MAX_UNPACKED_BYTES = 1 << 30
#: Files and folders.
MAX_ENTRIES = 20_000
_CHUNK_BYTES = 1 << 20
_DAMAGED = "the ZIP file is damaged"


class UnpackError(Exception):
    """Why it cannot be used: a clause."""


def unpack(archive: str, package: Package, folder: str) -> None:
    """Unpack a ZIP file into a new folder of this user alone; nothing is left of one that fails.

    Args:
        archive: path of the file.
        package: what it should be.
        folder: path; what an earlier attempt has left there is removed.

    Raises:
        UnpackError: it is damaged, has what none should have, or there is no room for it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with open(archive, "rb") as file:
            if os.fstat(file.fileno()).st_size != package.size:
                raise UnpackError(f"{_DAMAGED}: its size is wrong")
            if hashlib.file_digest(file, "sha256").hexdigest() != package.digest:
                raise UnpackError(f"{_DAMAGED}: its checksum is wrong")
            with zipfile.ZipFile(file) as opened:
                os.mkdir(folder, 0o700)
                _extract(opened, folder)
    except (UnpackError, OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnpackError(_reason(error, folder)) from None


def _extract(archive: zipfile.ZipFile, folder: str) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise UnpackError(f"it has {len(entries):,} files and folders, more than {MAX_ENTRIES:,}")
    left = MAX_UNPACKED_BYTES
    for entry in entries:
        path = os.path.join(folder, _checked(entry))
        if entry.is_dir():
            _make_folder(path)
            continue
        _make_folder(os.path.dirname(path))
        mode = 0o700 if entry.external_attr >> 16 & stat.S_IXUSR else 0o600
        with archive.open(entry) as source, open(_create(path, mode), "wb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:  # whatever sizes it tells
                    raise UnpackError(f"it has more than {MAX_UNPACKED_BYTES >> 30} GiB")
                target.write(chunk)


def _make_folder(path: str) -> None:
    """Make a folder, unless it is there, and those above it: each for this user alone."""
    if not os.path.isdir(path):
        _make_folder(os.path.dirname(path))
        os.mkdir(path, 0o700)


def _create(path: str, mode: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def _checked(entry: zipfile.ZipInfo) -> str:
    """The path of an entry inside the folder.

    Raises:
        UnpackError: it would be outside, or is no file and no folder.
    """
    name = entry.filename.removesuffix("/")
    shown = printable(name)
    parts = name.split("/")
    if not all(parts) or not {".", ".."}.isdisjoint(parts) or "\0" in entry.orig_filename:
        raise UnpackError(f"it has an entry that would lie outside of the directory: {shown!r}")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or entry.flag_bits & 1:
        raise UnpackError(f"it has an entry that is neither a file nor a folder: {shown!r}")
    return name


def no_room(error: OSError, folder: str) -> str:
    """The clause that says so, where that is what ``error`` means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {folder!r} has no room for it"
    return ""


def _reason(error: Exception, folder: str) -> str:
    if isinstance(error, UnpackError):
        return str(error)
    if isinstance(error, OSError):
        no_disk = no_room(error, os.path.dirname(folder))
        if no_disk:
            return no_disk
        return (
            f"{_DAMAGED}: {error}" if error.errno == errno.EEXIST else f"it cannot be unpacked: {printable(str(error))}"
        )
    return f"{_DAMAGED}: {printable(str(error))}"
