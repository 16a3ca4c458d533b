"""How commands print: aligned tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def as_json(value: Any) -> str:
    """Indented JSON."""
    import json

    return json.dumps(value, indent=2)


def as_table(rows: Sequence[Sequence[object]], indent: str = "") -> str:
    """Rows in aligned columns; the last column is as long as it likes."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]) - 1)] if texts else []
    lines = []
    for row in texts:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append((indent + "  ".join([*cells, row[-1]])).rstrip())
    return "\n".join(lines)


def as_size(nbytes: int) -> str:
    """Bytes with a binary unit, such as ``7.8 GiB``."""
    amount, unit = float(nbytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
