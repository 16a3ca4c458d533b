"""Turns what ``compare.py`` measured into a table: ``python benchmarks/report.py FILE.json`` prints it again."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from targets import ROWS, ZMQ_SHARE, Row

Document = dict[str, Any]


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def _line(document: Document, contestant: str, name: str) -> dict[str, Any]:
    """The measured line; or one with only ``failed`` or ``unavailable``; or, when it was not run, an empty one."""
    entry = document["contestants"].get(contestant, {"lines": {}, "unavailable": ""})
    if entry["unavailable"]:
        return {"unavailable": entry["unavailable"]}
    found: dict[str, Any] = entry["lines"].get(name, {})
    return found


def _state(line: dict[str, Any]) -> str:
    return next((state for state in ("median", "failed", "unavailable") if state in line), "not run")


def _cell(line: dict[str, Any]) -> str:
    if "median" not in line:
        return _state(line)
    middle = number(line["median"])
    return middle if line["min"] == line["max"] else f"{middle} ({number(line['min'])} to {number(line['max'])})"


def _verdict(row: Row, line: dict[str, Any]) -> str:
    if "median" not in line:
        return "**no**" if "failed" in line else _state(line)
    met = row.met(line["median"])
    return "" if met is None else "yes" if met else "**no**"


def _peers(document: Document, row: Row) -> str:
    found = {
        name.partition("@")[2]: line for name, line in document["peers"].items() if name.partition("@")[0] == row.line
    }
    return ", ".join(f"{peer} {number(line['median'])}" for peer, line in found.items() if "median" in line)


def zmq_share(document: Document) -> tuple[float, str] | None:
    """The line that loses most over zmq and the share of the default transport's rate that it keeps."""
    judged = document["judged"]
    shares = []
    for row in ROWS:
        over_zmq, default = _line(document, f"{judged}+zmq", row.line), _line(document, judged, row.line)
        if not row.variant and "median" in over_zmq and "median" in default:
            shares.append((row.gain(over_zmq["median"], default["median"]), row.label))
    return min(shares, default=None)


def table(document: Document) -> list[list[str]]:
    """Header and rows as text."""
    judged = document["judged"]
    plain = [name for name in document["contestants"] if "+" not in name]
    others = plain[1:]
    head = ["line", "unit", *plain, *(f"gain on {other}" for other in others), "peers", "target", "met"]
    rows = [head]
    problems = any(entry["problems"] for entry in document["contestants"].values())
    for row in ROWS:
        own = _line(document, f"{judged}+{row.variant}" if row.variant else judged, row.line)
        rivals = [_line(document, other, row.line) for other in others]
        if not (own or any(rivals) or problems):
            continue
        gains = [
            f"{row.gain(own['median'], rival['median']):.3g}" if "median" in own and "median" in rival else "-"
            for rival in rivals
        ]
        sign = "≤" if row.better == "lower" else "≥"
        target = "" if row.target is None else f"{sign} {row.target:,g}"
        unit = next((line["unit"] for line in (own, *rivals) if "unit" in line), "")
        peers = "" if row.variant else _peers(document, row)
        cells = [_cell(own), *map(_cell, rivals), *gains]
        rows.append([row.label, unit, *cells, peers, target, _verdict(row, own)])
    blanks = ["-"] * len(others)
    share = zmq_share(document)
    if share:
        verdict = "yes" if share[0] >= ZMQ_SHARE else "**no**"
        cell = f"{share[0]:.2f} ({share[1]})"
    else:
        cell = verdict = _state(_line(document, f"{judged}+zmq", ""))
    rows.append(["the line that loses most over zmq", "share of unix", cell, *blanks, *blanks, "", "≥ 0.33", verdict])
    return rows


def misses(document: Document) -> list[str]:
    """Labels of the rows whose target is missed."""
    return [cells[0] for cells in table(document)[1:] if cells[-1] == "**no**"]


def _notes(document: Document) -> list[str]:
    machine = f"{document['cores']} cores, {document['system']}, load at the start {document['load_at_start']}"
    notes = [
        f"{document['date']}, {machine}",
        f"{document['rounds']} rounds; medians of the rounds (least to greatest sample)",
        f"command: {document['command']}",
    ]
    for name, entry in document["contestants"].items():
        versions = ", ".join(f"{part} {version}" for part, version in entry["versions"].items())
        notes.append(f"{name}: {versions or 'unavailable: ' + entry['unavailable']}")
        for line, result in entry["lines"].items():
            if (state := _state(result)) != "median":
                notes.append(f"{name}: {line} {state}: {result[state]}")
        notes.extend(f"{name}: {problem}" for problem in entry["problems"])
    return notes + [document["note"]] * bool(document["note"])


def text(document: Document) -> str:
    """For a terminal."""
    rows = [[cell.replace("`", "").replace("**", "") for cell in cells] for cells in table(document)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", *_notes(document)])


def markdown(document: Document) -> str:
    """For ``benchmarks/results`` and the docs."""
    rows = [[cell.replace("|", "\\|") for cell in cells] for cells in table(document)]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(document))]) + "\n"


if __name__ == "__main__":
    print(text(json.loads(pathlib.Path(sys.argv[1]).read_text())))
