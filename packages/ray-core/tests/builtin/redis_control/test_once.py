"""What is asked is done once, wherever the connection is lost in the middle of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.cutting_proxy import CuttingProxy
from tests.redis_servers import RedisUnderTest

from ray.abc.blocking_control import BlockingControl
from ray.abc.control_operations import (
    Append,
    Claim,
    Delete,
    Expire,
    Get,
    Incr,
    Items,
    Keys,
    Operation,
    Put,
    StreamAppend,
    StreamRead,
)
from ray.builtin.redis_control.handle import RedisControlStore

ROUNDS = 60


@pytest.fixture
def proxy(server: RedisUnderTest) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(("127.0.0.1", server.port), seed=1)
    yield proxy
    proxy.close()


@pytest.fixture
def cut(server: RedisUnderTest, proxy: CuttingProxy) -> Iterator[RedisControlStore]:
    """A handle that loses its connections."""
    handle = RedisControlStore(server.access("tcp", hosts=[("127.0.0.1", proxy.port)]))
    yield handle
    handle.close()


@pytest.fixture
def sound(server: RedisUnderTest) -> Iterator[BlockingControl]:
    """One that does not."""
    handle = RedisControlStore(server.access("unix"))
    yield BlockingControl(handle)
    handle.close()


Ask = Callable[[Operation[Any]], Any]


@pytest.fixture
def ask(cut: RedisControlStore) -> Ask:
    control = BlockingControl(cut)
    return lambda op: control.ask(op, timeout_s=20.0)


@pytest.mark.parametrize("when", ["before", "after", "late", "all"])
def test_everything_is_done_once(when: str, proxy: CuttingProxy, ask: Ask, sound: BlockingControl) -> None:
    assert ask(Incr("warm")) == 1
    proxy.cuts = dict.fromkeys(("before", "after", "late"), 0.15) if when == "all" else {when: 0.4}
    rounds = ROUNDS if when in ("before", "after") else ROUNDS // 3
    proxy.late_s = 0.03
    ids = []
    for number in range(1, rounds + 1):
        assert ask(Incr("count")) == number
        assert ask(Append("list", b"%d" % number, 1000)) == number
        ids.append(ask(StreamAppend("stream", b"%d" % number)))
        assert ask(Put("value", b"%d" % number)) is True
        assert ask(Put(f"name {number}", b"me", overwrite=False)) is True
        assert ask(Put(f"name {number}", b"me", overwrite=False)) is False
        assert ask(Claim("claim", None if number == 1 else b"%d" % (number - 1), b"%d" % number)) is True
        assert ask(Expire("claim", 100.0)) is True
        assert ask(Delete(f"name {number}")) is True
        assert ask(Delete(f"name {number}")) is False
    assert sum(proxy.made.values()) > rounds / 2
    proxy.cuts = {}
    numbers = [b"%d" % number for number in range(1, rounds + 1)]
    assert sound.ask(Get("count")) == numbers[-1]
    assert sound.ask(Items("list")) == numbers
    assert sound.ask(StreamRead("stream")).entries == list(zip(ids, numbers, strict=True))
    assert sound.ask(Get("claim")) == numbers[-1]
    assert sound.ask(Keys("")) == ["claim", "count", "list", "stream", "value", "warm"]


def test_what_is_under_way_comes_to_nothing_once_it_was_looked_for(
    proxy: CuttingProxy, ask: Ask, sound: BlockingControl
) -> None:
    """The server gets the first request when the second one has been answered."""
    assert ask(Incr("count")) == 1
    proxy.late_s = 0.5
    proxy.cuts = {"late": 1.0}
    answers: list[Any] = []

    def once(request: bytes) -> str:
        proxy.cuts = {}
        proxy.made["late"] += 1
        return "late"

    choose = proxy._choose
    proxy._choose = lambda request: once(request) if proxy.cuts and b"EXEC" in request else choose(request)
    answers.append(ask(Incr("count")))
    assert proxy.made["late"] == 1
    assert answers == [2]
    import time

    time.sleep(0.8)
    assert sound.ask(Get("count")) == b"2"


def test_an_answer_that_cannot_be_found_is_told(
    server: RedisUnderTest, proxy: CuttingProxy, ask: Ask, sound: BlockingControl
) -> None:
    """The entry is gone before its writer has a connection again."""
    ask(StreamAppend("stream", b"0"))
    proxy.cuts = {"after": 1.0}
    proxy._what = b"XADD"
    real = proxy._choose

    def choose(request: bytes) -> str:
        cut = real(request)
        if cut:
            proxy.cuts = {}
        elif not proxy.cuts:
            server.admin("XTRIM", "ray:{default}:s1:stream", "MAXLEN", 0)
        return cut

    proxy._choose = choose
    with pytest.raises(Exception, match="was done, but its answer was lost"):
        ask(StreamAppend("stream", b"1"))
    assert ask(StreamAppend("stream", b"2"))
