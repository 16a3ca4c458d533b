"""Measure and group a large Arrow table in parallel: split, aggregate in tasks, join the parts.

    pip install ./packages/ray-core ./packages/ray-store-plasma pyarrow
    python examples/arrow_groupby.py [--limit N] [--parts N]

The table is real: one row for each line of each source file of the installed standard library, with its text, the
package it belongs to and what it is. It is put into the object store once. Each task reads it in place, counts the
words, names and numbers in the lines of its own slice and groups them, without a copy of the table; the results are
joined with a second table about the packages. The program fails (exit code 1) unless the result equals that of one
process over the whole table.

Arrow groups with all cores as it is: a group-by alone is not worth a task. What pays is work that takes one core, as
Arrow's regular expressions do.
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import ray

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError:
    sys.exit("arrow_groupby: this example needs pyarrow; install it: pip install pyarrow")

KINDS = ("blank", "comment", "definition", "import", "other")
#: What is counted in the text of a line.
PATTERNS = {
    "words": r"[^\W\d]\w*",
    "names": r"\b[a-z]+(?:_[a-z]+)+\b",
    "numbers": r"\b(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?)\b",
    "strings": r"'[^']*'|\"[^\"]*\"",
}
AGGREGATES = [("length", "sum"), ("length", "max"), ("line", "count"), *((name, "sum") for name in PATTERNS)]


def kind_of(text: bytes) -> int:
    """Position in ``KINDS``."""
    if not text:
        return 0
    if text.startswith(b"#"):
        return 1
    if text.startswith((b"def ", b"class ", b"async def ")):
        return 2
    return 3 if text.startswith((b"import ", b"from ")) else 4


def source_files(limit: int | None) -> list[Path]:
    """The ``.py`` files of the standard library, without installed packages; sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    found = sorted(p for p in root.rglob("*.py") if {"site-packages", "dist-packages"}.isdisjoint(p.parts))
    return found[:limit]


@ray.remote
def lines_of(paths: list[str], root: str) -> pa.Table:
    """One row for each line of some files."""
    columns: dict[str, list[Any]] = {"package": [], "line": [], "text": [], "kind": []}
    for path in paths:
        inside = Path(path).relative_to(root)
        package = inside.parts[0] if len(inside.parts) > 1 else inside.stem
        for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
            text = line.strip()
            columns["package"].append(package)
            columns["line"].append(number)
            columns["text"].append(line.decode("utf-8", errors="replace"))
            columns["kind"].append(KINDS[kind_of(text)])
    return pa.table(columns)


@ray.remote
def grouped(table: pa.Table, start: int, count: int) -> tuple[pa.Table, int]:
    """The aggregates of some rows of a table, and the memory that Arrow has in this process with the table open."""
    part = table.slice(start, count)
    own = pa.total_allocated_bytes()
    return aggregate(part), own


def aggregate(table: pa.Table) -> pa.Table:
    """One row for each package and kind."""
    text = table["text"]
    table = table.append_column("length", pc.utf8_length(text))
    for name, pattern in PATTERNS.items():
        table = table.append_column(name, pc.count_substring_regex(text, pattern))
    return table.group_by(["package", "kind"]).aggregate(AGGREGATES)


def combine(parts: list[pa.Table]) -> pa.Table:
    """Aggregates of aggregates."""
    whole = pa.concat_tables(parts).group_by(["package", "kind"])
    names = [f"{name}_{how}" for name, how in AGGREGATES]
    total = whole.aggregate([(name, "max" if name.endswith("_max") else "sum") for name in names])
    return total.rename_columns(["package", "kind", *names])


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([("package", "ascending"), ("kind", "ascending")])


def verdict(serial_s: float, parallel_s: float) -> str:
    """Whether it was worth it, and if not, why."""
    text = f"{serial_s / parallel_s:.1f} times as fast on {len(os.sched_getaffinity(0))} cores"
    if parallel_s < serial_s:
        return text
    others = f" (load {os.getloadavg()[0]:.0f})"
    return f"{text}: it did not pay, as the table is small or other programs use the cores{others}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="only so many files")
    parser.add_argument("--parts", type=int, default=8, help="tasks that group; default: %(default)s")
    given = parser.parse_args()
    if given.parts < 1 or (given.limit is not None and given.limit < 1):
        parser.error("--limit and --parts must be at least 1")
    root = sysconfig.get_path("stdlib")
    files = [str(path) for path in source_files(given.limit)]
    with ray.init(log_to_driver=False):
        started = time.perf_counter()
        tables = ray.get([lines_of.remote(files[i :: given.parts], root) for i in range(given.parts)])
        table = pa.concat_tables(tables).combine_chunks()
        print(f"{len(files):,} files, {table.num_rows:,} lines, {table.nbytes / 2**20:.1f} MiB of Arrow data, ", end="")
        print(f"read in {time.perf_counter() - started:.2f} s")

        ref = ray.put(table)
        size = -(-table.num_rows // given.parts)
        started = time.perf_counter()
        parts = ray.get([grouped.remote(ref, i * size, size) for i in range(given.parts)])
        result = combine([part for part, _ in parts])
        parallel_s = time.perf_counter() - started
        own = max(nbytes for _, nbytes in parts)

        started = time.perf_counter()
        expected = aggregate(table)
        serial_s = time.perf_counter() - started

        packages = table.group_by("package").aggregate([("line", "count")]).rename_columns(["package", "lines"])
        joined = result.join(packages, keys="package")
        top = joined.filter(pc.equal(joined["kind"], "comment")).sort_by([("line_count", "descending")]).slice(0, 5)
        print("most lines of comments, and the words in them:")
        for row in top.select(["package", "line_count", "lines", "words_sum"]).to_pylist():
            lines = f"{row['line_count']:>7,} of {row['lines']:>8,} lines"
            print(f"  {row['package']:<16}{lines}, {row['words_sum']:>8,} words")
        print(
            f"counted and grouped in {parallel_s:.2f} s by {given.parts} tasks, in {serial_s:.2f} s by one process: ",
            end="",
        )
        print(verdict(serial_s, parallel_s))
        print(f"a task with the table open has at most {own / 2**20:.1f} MiB of Arrow memory of its own")
        same = in_order(result).equals(in_order(expected.select(result.column_names)))
        if not same or own > max(table.nbytes // 2, 1 << 20):
            print("FAILED: the parts do not make the whole, or the table was copied", file=sys.stderr)
            return 1
        print("equal to what one process finds in the whole table")
    return 0


if __name__ == "__main__":
    sys.exit(main())
