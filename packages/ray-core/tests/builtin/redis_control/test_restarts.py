"""When a dead server is started again, and how attempts to reach one are spaced."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ray.builtin.redis_control.pauses import FIRST_S, LONGEST_S, Pauses
from ray.builtin.redis_control.restarts import LIMIT, WITHIN_S, Restarts


def test_the_first_death_costs_no_pause() -> None:
    assert Restarts().died(0.0) == 0.0


def test_five_deaths_a_minute_are_borne() -> None:
    restarts = Restarts()
    pauses = [restarts.died(float(now)) for now in range(LIMIT)]
    assert None not in pauses
    assert pauses == sorted(pauses)  # type: ignore[type-var]
    assert restarts.died(10.0) is None


def test_deaths_are_forgotten_after_a_minute() -> None:
    restarts = Restarts()
    for now in range(100):
        assert restarts.died(now * (WITHIN_S / LIMIT)) is not None


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=60))
def test_there_are_never_more_than_five_a_minute(gaps: list[float]) -> None:
    restarts, now, borne = Restarts(), 0.0, []
    for gap in gaps:
        now += gap
        pause_s = restarts.died(now)
        if pause_s is None:
            assert sum(now - then < WITHIN_S for then in borne) >= LIMIT
            return
        assert 0.0 <= pause_s <= 2.0
        borne.append(now)
        assert sum(now - then < WITHIN_S for then in borne) <= LIMIT


def test_pauses_grow_up_to_a_limit() -> None:
    pauses = Pauses()
    seen = [pauses.failed() for _ in range(100)]
    assert FIRST_S / 2 <= seen[0] <= FIRST_S
    assert all(LONGEST_S / 2 <= pause_s <= LONGEST_S for pause_s in seen[10:])
    assert len(set(seen[10:])) > 50  # clients that lost the same server do not come back together
    pauses.worked()
    assert pauses.failed() <= FIRST_S
