"""What ``ray status`` prints of what a cluster has."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from ray.cli import status
from ray.exceptions import RayConnectionError
from ray.runtime.cluster.local_clusters import KeeperFacts, LocalCluster, LocalKeeper
from ray.runtime.cluster.process_ends import Process


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    report: dict[str, Any] = {"nodes": [], "waiting": [], "resources": {}, "available": {}, "unheard": {}}
    monkeypatch.setattr(status, "local_cluster", lambda name, address: LocalCluster("default", "s", "127.0.0.1:6379"))
    monkeypatch.setattr(status, "report", lambda cluster, waiting: report)
    return report


def printed() -> str:
    done = CliRunner().invoke(status.status, [], standalone_mode=False)
    assert done.exception is None
    return done.output


def test_what_is_not_known_to_be_in_use_is_not_said_to_be(found: dict[str, Any]) -> None:
    """A node that does not answer, as the head after its keeper was killed, says nothing of what is free there."""
    found |= {
        "resources": {"CPU": 4.0, "memory": float(3 << 30)},
        "available": {"CPU": 1.0, "memory": float(1 << 30)},
        "unheard": {"CPU": 2.0, "memory": float(2 << 30)},
    }
    lines = printed().splitlines()
    assert "  CPU: 1 of 4 in use; 2 on nodes that do not answer" in lines
    assert "  memory: 0 B of 3.0 GiB in use; 2.0 GiB on nodes that do not answer" in lines


def test_what_is_in_use(found: dict[str, Any]) -> None:
    found |= {"resources": {"CPU": 4.0}, "available": {"CPU": 1.0}}
    assert "  CPU: 3 of 4 in use\n" in printed()


@pytest.mark.parametrize(("has_keeper", "said"), [(True, "its keeper is starting another one"), (False, "no node of")])
def test_a_node_manager_that_is_started_again(has_keeper: bool, said: str) -> None:
    keeper = LocalKeeper("folder", KeeperFacts("default", "s", "127.0.0.1:6379", "path"), Process(1, ""))
    with pytest.raises(RayConnectionError, match=said):
        status.report(LocalCluster("default", "s", "127.0.0.1:6379", keeper=keeper if has_keeper else None))
