"""The Redis control store keeps the contract of its seam, whatever way leads to its server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.redis_servers import RedisUnderTest, free_port, server_binary, server_of, stopped

from ray.abc.control import ControlStore
from ray.builtin.redis_control.access import load
from ray.builtin.redis_control.handle import RedisControlStore
from ray.builtin.redis_control.options import RedisOptions
from ray.builtin.redis_control.own import OwnRedis
from ray.testing.contracts.control import ControlContract

Silence = Callable[[ControlStore], AbstractContextManager[object]]


class TestUnix(ControlContract):
    """The session's own server, as its node manager reaches it."""

    @pytest.fixture
    def own(self, short_dir: Path) -> Iterator[OwnRedis]:
        server_binary()
        own = OwnRedis(str(short_dir), self.options())
        yield own
        own.close()

    def options(self) -> RedisOptions:
        return RedisOptions()

    @pytest.fixture
    def open_control(self, own: OwnRedis) -> Callable[[], ControlStore]:
        return lambda: RedisControlStore(load(own.address))

    @pytest.fixture
    def silence(self, own: OwnRedis) -> Silence:
        return lambda control: stopped(server_of(own.pid))


class TestTls(TestUnix):
    """The session's own server, as other machines reach it."""

    def options(self) -> RedisOptions:
        return RedisOptions(host="127.0.0.1", port=free_port())

    @pytest.fixture
    def open_control(self, own: OwnRedis) -> Callable[[], ControlStore]:
        pytest.importorskip("cryptography")
        access = own.remote
        assert access is not None
        assert access.tls
        return lambda: RedisControlStore(access)


class TestTcp(ControlContract):
    """A server that is there already."""

    @pytest.fixture
    def open_control(self, server: RedisUnderTest) -> Callable[[], ControlStore]:
        return lambda: RedisControlStore(server.access("tcp"))

    @pytest.fixture
    def silence(self, server: RedisUnderTest) -> Silence:
        return lambda control: server.stopped()


@pytest.mark.slow
class TestSentinel(ControlContract):
    """The primary that a Sentinel names."""

    @pytest.fixture
    def sentinel(self, server: RedisUnderTest, short_dir: Path) -> Iterator[RedisUnderTest]:
        folder = short_dir / "s"
        folder.mkdir()
        watch = f"sentinel monitor main 127.0.0.1 {server.port} 1"
        sentinel = RedisUnderTest(folder, watch, is_sentinel=True)
        yield sentinel
        sentinel.close()

    @pytest.fixture
    def open_control(self, server: RedisUnderTest, sentinel: RedisUnderTest) -> Callable[[], ControlStore]:
        access = server.access("tcp", hosts=[("127.0.0.1", sentinel.port)], service="main")
        return lambda: RedisControlStore(access)

    @pytest.fixture
    def silence(self, server: RedisUnderTest) -> Silence:
        return lambda control: server.stopped()
