"""What is asked is done once, wherever the connection is lost in the middle of it."""

from __future__ import annotations

import time
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

ROUNDS = 30


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


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "when", ["all", *(pytest.param(each, marks=pytest.mark.slow) for each in ("before", "after", "late"))]
)
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


@pytest.mark.parametrize("op", [Incr("a"), Append("a", b"x"), StreamAppend("a", b"x"), Put("a", b"x")])
def test_what_is_under_way_comes_to_nothing_once_it_was_looked_for(
    op: Operation[Any], server: RedisUnderTest, proxy: CuttingProxy, ask: Ask
) -> None:
    """The server gets the first request when the second one has been answered, and something else was done."""
    ask(Incr("warm"))
    proxy.late_s = 0.4
    late: list[bytes] = []

    def choose(request: bytes) -> str:
        if b"EXEC" not in request or late:
            return ""
        late.append(request)
        return "late"

    proxy._choose = choose
    answer = ask(op)
    assert answer
    assert len(late) == 1
    before = server.admin("DUMP", "ray:{default}:s1:a")
    time.sleep(0.7)
    assert server.admin("DUMP", "ray:{default}:s1:a") == before
    sizes = {"Append": "LLEN", "StreamAppend": "XLEN"}
    name = type(op).__name__
    if name in sizes:
        assert server.admin(sizes[name], "ray:{default}:s1:a") == 1


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
