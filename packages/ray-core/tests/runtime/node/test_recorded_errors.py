"""Failures are recorded in a control store that is late, full, or says nothing, and the node manager goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ray.abc.blocking_control import BlockingControl
from ray.abc.control_operations import Items, Put, Ttl
from ray.builtin.embedded_control import EmbeddedControlServer, EmbeddedControlStore
from ray.clock import monotonic
from ray.exceptions import ControlStoreError, ControlTimeoutError
from ray.messages.node import ErrorRecord
from ray.runtime.node import recorded_errors
from ray.runtime.node.recorded_errors import RecordedErrors
from ray.testing.contracts._expect import eventually
from ray.testing.faults import FaultyControlStore


@pytest.fixture
def control() -> Iterator[FaultyControlStore]:
    server = EmbeddedControlServer()
    control = FaultyControlStore(EmbeddedControlStore(server.address))
    yield control
    control.close()
    server.close()


def record(number: int) -> ErrorRecord:
    return ErrorRecord("task", f"failure {number}", float(number))


def rows_of(errors: RecordedErrors, control: FaultyControlStore, job: str = "1") -> Any:
    answers: list[Any] = []
    errors.ask(job, answers.append)

    def answered() -> bool:
        control.deliver()
        return bool(answers)

    eventually(answered, "there is an answer")
    return answers[0]


def test_rows_come_back_in_their_order(control: FaultyControlStore) -> None:
    errors = RecordedErrors(control, print)
    for number in range(3):
        errors.add("1", record(number))
    rows = rows_of(errors, control)
    assert [row["message"] for row in rows] == ["failure 0", "failure 1", "failure 2"]
    assert rows[0].keys() == set(ErrorRecord.__struct_fields__)


@pytest.mark.parametrize("letter", ["x", "\u20ac", "\U0001f600"])
def test_what_is_too_long_is_kept_without_its_middle(control: FaultyControlStore, letter: str) -> None:
    """A thousand of them are 8 MiB at most."""
    errors = RecordedErrors(control, print)
    id = "f" * 32
    errors.add("1", ErrorRecord("task", f"first {100_000 * letter} last", 1.5, id, id, 1 << 22, 999 * letter))
    errors.add("1", ErrorRecord("task", 1000 * letter, 1.5, function=300 * letter))
    [cut, whole] = rows_of(errors, control)
    assert cut["message"].startswith(f"first {letter}")
    assert cut["message"].endswith(f"{letter} last")
    assert " bytes of this message are not kept ...]" in cut["message"]
    assert cut["task_id"] == id
    assert whole["message"] == 1000 * letter
    assert whole["function"] == 300 * letter
    rows = BlockingControl(control).ask(Items("errors:1"))
    assert 7000 < max(map(len, rows)) <= recorded_errors.MAX_ROW_BYTES


def test_each_job_has_its_own_which_are_kept_for_a_day(control: FaultyControlStore) -> None:
    errors = RecordedErrors(control, print)
    for number in range(4):
        errors.add(str(number % 2), record(number))
    assert [row["message"] for row in rows_of(errors, control, "0")] == ["failure 0", "failure 2"]
    assert [row["message"] for row in rows_of(errors, control, "1")] == ["failure 1", "failure 3"]
    errors.expire("0")
    left = {job: BlockingControl(control).ask(Ttl(f"errors:{job}")) or 0.0 for job in ("0", "1")}
    assert 23 * 3600 < left["0"] <= 24 * 3600 < left["1"] == float("inf")


def test_nobody_waits_for_a_store_that_says_nothing(
    control: FaultyControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_errors, "_ANSWER_S", 0.1)
    said: list[str] = []
    errors = RecordedErrors(control, said.append)
    with control.silent():
        start = monotonic()
        for number in range(recorded_errors.MAX_ERRORS + 10):
            errors.add("1", record(number))
        assert monotonic() - start < 2.0
        assert isinstance(rows_of(errors, control), ControlTimeoutError)
    assert len(control._asked) <= recorded_errors.MAX_ERRORS + 1
    rows = rows_of(errors, control)
    assert len(rows) == recorded_errors.MAX_ERRORS
    assert said == ["failures are recorded again; 10 are not in ray.error_info()"]


def test_what_cannot_be_recorded_is_told_once(control: FaultyControlStore) -> None:
    said: list[str] = []
    errors = RecordedErrors(control, said.append)
    control.ask(Put("errors:1", b"no list"), lambda answer: None)
    for number in range(3):
        errors.add("1", record(number))
    assert isinstance(rows_of(errors, control), ControlStoreError)
    assert len(said) == 1
    assert said[0].startswith("failures cannot be recorded for ray.error_info(): Append('errors:1')")
    assert not errors._under_way
