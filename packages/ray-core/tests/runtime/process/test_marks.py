"""Marks of sessions and jobs."""

from ray.runtime.process import marks

SESSION = "0123456789abcdef"


def test_no_job_has_the_mark_of_the_session_or_of_another_session() -> None:
    none = marks._mark(SESSION)
    numbers = [1, 2, 65534, 65535, 65536, 65537, 131072, 1 << 31]
    found = {marks._mark(SESSION, f"{number:08x}") for number in numbers}
    assert none not in found
    assert {mark >> marks._JOB_BITS for mark in found} == {none >> marks._JOB_BITS}
    assert len({marks._mark(SESSION, f"{number:08x}") for number in range(1, 65536)}) == 65535
    assert marks._mark("f123456789abcdee") >> marks._JOB_BITS != none >> marks._JOB_BITS
