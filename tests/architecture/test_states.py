"""The contributors' page of states is drawn from the tables of transitions.

``python tests/architecture/test_states.py`` draws it anew.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from ray.protocol import actors, references

PAGE = Path(__file__).resolve().parents[2] / "docs" / "states.md"
STATUSES = {references.PENDING: "PENDING", references.READY: "READY", references.FAILED: "FAILED"}
STATUSES |= {references.STORED: "STORED", references.AWAY: "AWAY"}
Transitions = Mapping[tuple[str | None, str], tuple[str, ...]]
#: {what the page calls it: (its transitions, the class whose methods they name)}
MACHINES: dict[str, tuple[Transitions, type]] = {
    "objects": (
        {
            (None if before is None else STATUSES[before], STATUSES[after]): events
            for (before, after), events in references.TRANSITIONS.items()
        },
        references.ReferenceTable,
    ),
    "actors": (actors.TRANSITIONS, actors.ActorTable),
}
BEGIN = "(begin)"


def drawn(transitions: Transitions) -> str:
    """A line for each state, and a column for each transition: from ● to the arrow."""
    states = list(dict.fromkeys([BEGIN, *(after for _, after in transitions)]))
    width = max(map(len, states))
    rows = [f"{'':{width}}"] + [f"{state:{width}}" for state in states]
    for number, (before, after) in enumerate(transitions, 1):
        start, end = states.index(before or BEGIN), states.index(after)
        low, high = sorted((start, end))
        rows[0] += f"{number:4}"
        for place in range(len(states)):
            if place == end:
                mark = "↻" if start == end else "▼" if end > start else "▲"
            else:
                mark = "●" if place == start else "│" if low < place < high else "·"
            rows[place + 1] += f"   {mark}"
    return "\n".join(rows)


def listed(transitions: Transitions) -> str:
    """What each column is."""
    rows = [
        f"| {number} | {before or ''} | {after} | {', '.join(f'`{event}`' for event in events)} |"
        for number, ((before, after), events) in enumerate(transitions.items(), 1)
    ]
    return "\n".join(["| | from | to | by |", "|---|---|---|---|", *rows])


def section(name: str, transitions: Transitions) -> str:
    """What the page says between the marks of a machine."""
    return f"<!-- {name} -->\n```text\n{drawn(transitions)}\n```\n\n{listed(transitions)}\n<!-- end -->"


def redrawn(text: str) -> str:
    """The page with what the tables say now."""
    for name, (transitions, _) in MACHINES.items():
        new = section(name, transitions)
        text, count = re.subn(rf"<!-- {name} -->\n.*?<!-- end -->", lambda _, new=new: new, text, flags=re.DOTALL)
        assert count == 1, name
    return text


def test_the_page_draws_what_the_tables_say() -> None:
    text = PAGE.read_text()
    assert text == redrawn(text), "run python tests/architecture/test_states.py"


@pytest.mark.parametrize("name", MACHINES)
def test_events_are_methods_of_the_table(name: str) -> None:
    transitions, table = MACHINES[name]
    events: Iterable[str] = {event for events in transitions.values() for event in events}
    assert all(inspect.isfunction(getattr(table, event, None)) for event in events)


@pytest.mark.parametrize("name", MACHINES)
def test_each_state_can_be_reached(name: str) -> None:
    transitions, _ = MACHINES[name]
    reached: set[str | None] = {None}
    for _ in transitions:
        reached |= {after for before, after in transitions if before in reached}
    assert reached == {state for change in transitions for state in change}


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text()))
