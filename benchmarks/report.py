"""Turns what ``compare.py`` measured into tables: ``python benchmarks/report.py FILE.json`` prints them again."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from targets import LINES, RATES, REMARKS, SECTIONS, ZMQ_SHARE, Row, Section

Document = dict[str, Any]
MISSED = "**no**"


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def pipe_table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first row is the head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def notes(document: Document) -> list[str]:
    """When, where and how it was measured."""
    machine = f"{document['cores']} cores, {document['system']}, load at the start {document['load_at_start']}"
    return [f"{document['date']}, {machine}", f"`{document['command']}`"] + [document["note"]] * bool(document["note"])


def troubles(name: str, entry: Document, with_versions: bool = True) -> list[str]:
    """What a contestant consists of, and what did not go as planned: lines with the same reason together."""
    found = []
    if entry["versions"] and with_versions:
        found.append(f"{name}: " + ", ".join(f"{part} {version}" for part, version in entry["versions"].items()))
    if entry["unavailable"]:
        found.append(f"{name}: unavailable: {entry['unavailable']}")
    reasons: dict[str, list[str]] = {}
    for line, result in entry["lines"].items():
        said = [f"unavailable: {result['unavailable']}"] if "unavailable" in result else []
        for reason in dict.fromkeys(said + [f"failed: {failure}" for failure in result.get("failures", ())]):
            reasons.setdefault(reason, []).append(line)
    found += [f"{name}: {', '.join(lines)} {reason}" for reason, lines in reasons.items()]
    return found + [f"{name}: {problem}" for problem in entry["problems"]]


class Comparison:
    """The tables of one document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.judged: str = document["judged"]
        self.rivals = [name for name in document["contestants"] if name != self.judged and "+" not in name]

    def name(self, variant: str) -> str:
        return f"{self.judged}+{variant}" if variant else self.judged

    def line(self, contestant: str, name: str) -> dict[str, Any]:
        """What was measured; only ``failures`` or ``unavailable`` if nothing was; empty if it was not run."""
        entry = self.document["contestants"].get(contestant, {"lines": {}, "unavailable": ""})
        if entry["unavailable"]:
            return {"unavailable": entry["unavailable"]}
        found: dict[str, Any] = entry["lines"].get(name, {})
        return found

    def value(self, contestant: str, row: Row) -> float | None:
        found: float | None = self.line(contestant, row.line).get("median")
        if found is None or not row.of:
            return found
        divisor = self.line(contestant, row.of).get("median")
        return None if divisor is None else found / divisor

    def verdict(self, row: Row, variant: str) -> bool | None:
        """Whether the variant does what it has to; None where nothing is asked or nothing is known."""
        line = self.line(self.name(variant), row.line)
        value = self.value(self.name(variant), row)
        if "failures" in line:
            return False
        if value is None:
            return None
        if variant == "zmq" and row.judged and line["unit"] in RATES:
            over_unix = self.value(self.judged, row)
            return None if over_unix is None else row.gain(value, over_unix) >= ZMQ_SHARE
        return row.met(value) if variant in row.judged else None

    def cell(self, row: Row, contestant: str, verdict: bool | None = None) -> str:
        line, value = self.line(contestant, row.line), self.value(contestant, row)
        if value is None:
            return "failed ✗" if "failures" in line else "unavailable" if "unavailable" in line else ""
        text = number(value)
        over_unix = self.value(self.judged, row)
        if contestant == self.name("zmq") and over_unix is not None:
            text += f" ({100 * row.gain(value, over_unix):.0f} %)"
        return text + ("" if verdict is None else " ✓" if verdict else " ✗")

    def peers(self, row: Row) -> str:
        found = {
            name.partition("@")[2]: line["median"]
            for name, line in self.document["peers"]["lines"].items()
            if name.partition("@")[0] == row.line and "median" in line
        }
        return ", ".join(f"{peer} {number(value)}" for peer, value in found.items())

    def unit(self, row: Row, names: Sequence[str]) -> str:
        """Of the row's line; empty if none of the contestants ``names`` ran it."""
        return next((line["unit"] for name in names if (line := self.line(name, row.line)).get("unit")), "")

    def gain(self, row: Row, rival: str) -> float | None:
        """How many times better than ``rival``; None where either did not run the line."""
        value, other = self.value(self.judged, row), self.value(rival, row)
        return None if value is None or other is None else row.gain(value, other)

    def cells(self, section: Section, row: Row) -> list[str]:
        """One row as text; empty if nobody ran its line."""
        unit = self.unit(row, [self.name(variant) for _, variant in section.columns])
        verdicts = {variant: self.verdict(row, variant) for _, variant in section.columns}
        own = [self.cell(row, self.name(variant), verdict) for variant, verdict in verdicts.items()]
        if not unit and not any(own):
            return []
        sign = "≤" if row.better == "lower" else "≥"
        target = "" if row.target is None else f"{sign} {row.target:,g}"
        missed = [heading for heading, variant in section.columns if verdicts[variant] is False]
        unknown = [v for v in row.judged if row.target is not None and verdicts[v] is None]
        met = f"{MISSED}: {', '.join(missed)}" if missed else "not run" if unknown else "yes" if row.target else ""
        return [row.label, "" if row.of else unit, target, *own, met]

    def table(self, section: Section) -> list[list[str]]:
        """Head and rows; only the head when nothing of it was run."""
        head = ["line", "unit", "target", *(heading for heading, _ in section.columns), "met"]
        return [head] + [cells for row in section.rows if (cells := self.cells(section, row))]

    def ratios(self) -> list[list[str]]:
        """What most ask first: each line, here and under the others, and how many times better."""
        head = ["line", *(f"times {name}" for name in self.rivals), "here", *self.rivals, "unit"]
        rows = []
        for row in LINES.rows:
            gains = [self.gain(row, name) for name in self.rivals]
            if row.judged and any(gain is not None for gain in gains):
                times = ["" if gain is None else f"{gain:.3g}" for gain in gains]
                values = [self.cell(row, name) for name in (self.judged, *self.rivals)]
                rows.append([row.label, *times, *values, "" if row.of else self.unit(row, [self.judged])])
        return [head, *rows]

    def others(self) -> list[list[str]]:
        """The lines that others than the contestants share."""
        rows = []
        for row in LINES.rows:
            if found := self.peers(row):
                rows.append([row.label, self.cell(row, self.judged), found, self.unit(row, [self.judged])])
        return [["line", "here", "others", "unit"], *rows]

    def tables(self) -> list[list[list[str]]]:
        """The ratios, the parts beside their targets, the others; only those with rows."""
        found = [self.ratios(), *(self.table(section) for section in SECTIONS), self.others()]
        return [table for table in found if len(table) > 1]

    def notes(self) -> list[str]:
        """The circumstances, then everything that did not go as planned, with its reason."""
        document = self.document
        found = [*notes(document), f"{document['rounds']} rounds in {document['minutes']} minutes", *REMARKS]
        for name, entry in {**document["contestants"], "others": document["peers"]}.items():
            found += troubles(name, entry, with_versions="+" not in name)
        return found


def misses(document: Document) -> list[str]:
    """Labels of the rows with a target that is missed."""
    return [cells[0] for table in Comparison(document).tables() for cells in table[1:] if cells[-1].startswith(MISSED)]


def markdown(document: Document) -> str:
    """For ``benchmarks/results``, from where the docs include it."""
    comparison = Comparison(document)
    tables = [pipe_table(table) for table in comparison.tables()]
    return "\n".join([*tables, *(f"- {note}" for note in comparison.notes())]) + "\n"


if __name__ == "__main__":
    print(markdown(json.loads(pathlib.Path(sys.argv[1]).read_text())), end="")
