"""A replica takes the place of a primary that has died, and Sentinel says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.redis_servers import RedisUnderTest

from ray.abc.blocking_control import BlockingControl
from ray.abc.control_operations import Get, Incr, Put
from ray.builtin.redis_control.handle import RedisControlStore
from ray.exceptions import ControlTimeoutError
from ray.testing import eventually


@pytest.fixture
def servers(short_dir: Path) -> Iterator[list[RedisUnderTest]]:
    """The primary, its replica, and the Sentinel that watches them."""
    made: list[RedisUnderTest] = []

    def make(*lines: str, is_sentinel: bool = False) -> RedisUnderTest:
        folder = short_dir / str(len(made))
        folder.mkdir()
        made.append(RedisUnderTest(folder, *lines, is_sentinel=is_sentinel))
        return made[-1]

    primary = make()
    replica = make(f"replicaof 127.0.0.1 {primary.port}")
    # One user on both, as administrators have it.
    replica.admin("ACL", "SETUSER", "ray", "resetpass", f">{primary.password}")
    make(
        f"sentinel monitor main 127.0.0.1 {primary.port} 1",
        "sentinel down-after-milliseconds main 500",
        "sentinel failover-timeout main 5000",
        is_sentinel=True,
    )
    yield made
    for server in made:
        server.close()


@pytest.mark.timeout(90)
def test_what_is_asked_goes_on_at_the_new_primary(servers: list[RedisUnderTest]) -> None:
    primary, replica, sentinel = servers
    access = primary.access("tcp", hosts=[("127.0.0.1", 1), ("127.0.0.1", sentinel.port)], service="main")
    handle = RedisControlStore(access)
    control = BlockingControl(handle)
    seen: list[str] = []
    handle.subscribe("watched/", seen.append)
    assert control.ask(Put("a", b"1"))
    assert control.ask(Incr("count")) == 1
    eventually(lambda: replica.admin("GET", "ray:{default}:s1:count") == b"1")
    eventually(lambda: len(sentinel.admin("SENTINEL", "REPLICAS", "main")) == 1, within_s=20)
    primary.kill()
    begin = time.monotonic()
    with pytest.raises(ControlTimeoutError, match=r"redis\+sentinel://127\.0\.0\.1:1,127\.0\.0\.1:\d+/main"):
        control.ask(Incr("count"), timeout_s=0.3)
    count = control.ask(Incr("count"), timeout_s=40.0)
    assert count == 2, f"after {time.monotonic() - begin:.1f} s"
    assert control.ask(Get("a")) == b"1"
    assert replica.admin("GET", "ray:{default}:s1:count") == b"2"

    def hinted() -> bool:
        control.ask(Put("watched/a", b"x"))
        return "watched/a" in seen

    eventually(hinted)
    # The old one comes back, and still takes itself for a primary: nobody asks it.
    primary.start()
    for number in range(3, 13):
        assert control.ask(Incr("count"), timeout_s=20.0) == number
    handle.close()
