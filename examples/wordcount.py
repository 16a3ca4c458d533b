"""Counts the words in the source files of the installed standard library: map, then reduce in an actor.

    python examples/wordcount.py [--limit N] [--top N]

Each task counts one chunk of files and returns two refs: the counts, which go straight to the actor that adds them up
and never pass through this process, and a small summary, on which the progress bar waits. The same work is then done
serially, and the program fails (exit code 1) unless both results are equal.
"""

from __future__ import annotations

import argparse
import collections
import heapq
import keyword
import os
import re
import sys
import sysconfig
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import ray

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Counts: TypeAlias = "collections.Counter[str]"
Chunk: TypeAlias = list[str]

WORD = re.compile(r"[^\W\d]\w+")
STOP_WORDS = frozenset(keyword.kwlist) | {"self", "cls"}
CHUNKS_PER_CORE = 8


def count_words(paths: Iterable[str], stop_words: frozenset[str]) -> tuple[Counts, tuple[int, int]]:
    """Counts of the words in some files, and (files read, files with bytes that are no UTF-8)."""
    counts: Counts = collections.Counter()
    read = undecodable = 0
    for path in paths:
        text = Path(path).read_bytes().decode("utf-8", errors="replace")
        read += 1
        undecodable += "\ufffd" in text
        counts.update(WORD.findall(text.lower()))
    for word in stop_words:
        counts.pop(word, None)
    return counts, (read, undecodable)


class Total:
    """Adds up the counts of all chunks."""

    def __init__(self) -> None:
        self.counts: Counts = collections.Counter()

    def add(self, counts: Counts) -> None:
        self.counts.update(counts)

    def result(self) -> Counts:
        return self.counts


# The plain function and class stay usable as such: the serial run below calls the function itself.
count_chunk = ray.remote(num_return_vals=2)(count_words)
TotalActor = ray.remote(Total)


def source_files(limit: int | None) -> list[Path]:
    """The ``.py`` files of the standard library, without installed packages; sorted, so that each run sees the same."""
    root = Path(sysconfig.get_path("stdlib"))
    outside = {"site-packages", "dist-packages"}
    found = sorted(path for path in root.rglob("*.py") if outside.isdisjoint(path.parts) and path.is_file())
    return found if limit is None else found[:limit]


def sizes_of(paths: Iterable[Path]) -> dict[str, int]:
    """{path: bytes}. Every file is read once, so that all runs below find the same warm page cache."""
    return {str(path): len(path.read_bytes()) for path in paths}


def chunks_of(sizes: dict[str, int], count: int) -> list[Chunk]:
    """Files dealt into ``count`` chunks of about the same number of bytes: the largest first, each to the lightest."""
    loads = [(0, number) for number in range(count)]
    chunks: list[Chunk] = [[] for _ in range(count)]
    for path in sorted(sizes, key=lambda path: sizes[path], reverse=True):
        load, number = heapq.heappop(loads)
        chunks[number].append(path)
        heapq.heappush(loads, (load + sizes[path], number))
    return [chunk for chunk in chunks if chunk]


def progress(done: int, total: int) -> None:
    """Draw the bar, on terminals only."""
    if sys.stderr.isatty():
        filled = 40 * done // total
        end = "\n" if done == total else ""
        print(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done}/{total} chunks", end=end, file=sys.stderr, flush=True)


def count_in_parallel(chunks: Sequence[Chunk], stop_words: frozenset[str]) -> tuple[Counts, int, int]:
    """Map over the chunks in tasks, reduce in an actor; the counts, files read, and files with undecodable bytes."""
    shared = ray.put(stop_words)
    total = TotalActor.remote()
    pending: list[Any] = []
    for chunk in chunks:
        counts, summary = count_chunk.remote(chunk, shared)
        total.add.remote(counts)
        pending.append(summary)
    read = undecodable = 0
    while pending:
        ready, pending = ray.wait(pending, num_returns=len(pending), timeout=timedelta(milliseconds=100))
        for files, bad in ray.get(ready):
            read += files
            undecodable += bad
        progress(len(chunks) - len(pending), len(chunks))
    return ray.get(total.result.remote()), read, undecodable


def verdict(serial: float, parallel: float, start: float, cores: int) -> str:
    """The speed-up; if there is none, why."""
    text = (
        f"speed-up {serial / parallel:.2f} on {cores} cores, {serial / (parallel + start):.2f} with the start included"
    )
    if parallel < serial:
        return text
    load = os.getloadavg()[0]
    if load > cores:
        return f"{text}: none, as other programs keep the cores busy (load {load:.1f})"
    return f"{text}: none, as there is too little to count" if serial < 1 else f"{text}: none with so few cores"


def show(counts: Counts, top: int) -> None:
    """Print the most frequent words."""
    for word, number in counts.most_common(top):
        print(f"{number:>9,}  {word}")


def arguments(description: str | None = __doc__) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N files")
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="how many words to print (default %(default)s)"
    )
    options = parser.parse_args()
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")
    return options


def main() -> int:
    options = arguments()
    sizes = sizes_of(source_files(options.limit))
    cores = len(os.sched_getaffinity(0))
    chunks = chunks_of(sizes, CHUNKS_PER_CORE * cores)
    print(f"{len(sizes):,} files, {sum(sizes.values()) / 1e6:.1f} MB, {len(chunks)} chunks, {cores} cores")

    begun = time.perf_counter()
    ray.init()
    started = time.perf_counter()
    counts, read, undecodable = count_in_parallel(chunks, STOP_WORDS)
    finished = time.perf_counter()
    ray.shutdown()
    serial_begun = time.perf_counter()
    expected, _ = count_words(sizes, STOP_WORDS)
    serial = time.perf_counter() - serial_begun

    show(counts, options.top)
    print(f"{counts.total():,} words, {len(counts):,} different; {undecodable} files with bytes that are not UTF-8")
    parallel, start = finished - started, started - begun
    print(f"serial {serial:.2f} s; in parallel {parallel:.2f} s, after {start:.2f} s to start")
    print(verdict(serial, parallel, start, cores))
    if counts != expected or read != len(sizes):
        print("wordcount: the parallel result differs from the serial one", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
