"""What this store does beyond the contract, and how it is chosen."""

import json
import logging
from pathlib import Path

import pytest
from ray_store_traced import TracedStore

from ray.exceptions import PluginOptionsError, RayConnectionError
from ray.plugins import Composition, resolve_plan

OBJECT_ID = bytes(20)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No choice comes from where the tests run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_STORE", raising=False)
    monkeypatch.delenv("RAY_CONFIG", raising=False)


def test_operations_are_counted_and_reported(tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    plan = resolve_plan(store="traced", options={"store": {"report": str(report)}})
    composition = Composition(plan)
    server = composition.start_store(str(tmp_path), 1000)
    store = composition.open_store(server.address)
    assert isinstance(store, TracedStore)
    store.create(OBJECT_ID, 4)[:] = b"data"
    store.seal(OBJECT_ID)
    for _ in range(2):
        assert bytes(store.get(OBJECT_ID) or b"") == b"data"
    assert store.counts == {"create": 1, "seal": 1, "get": 2}
    store.close()
    store.close()
    server.close()
    (line,) = report.read_text().splitlines()
    counts = json.loads(line)
    assert counts.pop("pid") > 0
    assert counts == {"create": 1, "seal": 1, "get": 2}


def test_operations_are_logged_on_request(caplog: pytest.LogCaptureFixture) -> None:
    store = TracedStore("traced:100", log=True)
    with caplog.at_level(logging.INFO, "ray_store_traced"):
        assert not store.contains(OBJECT_ID)
    assert caplog.messages == [f"contains {OBJECT_ID.hex()}"]


def test_foreign_addresses_are_refused() -> None:
    with pytest.raises(RayConnectionError, match="'heap:5' is not the address of a traced store"):
        TracedStore("heap:5")


def test_options_are_checked_before_anything_starts() -> None:
    with pytest.raises(PluginOptionsError) as caught:
        resolve_plan(store="traced", options={"store": {"reprot": "x"}})
    assert str(caught.value) == (
        "store='traced' has no option 'reprot' (from ray.init(options=...)). Did you mean 'report'?"
    )
