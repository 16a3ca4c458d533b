"""Actors: calls to plain and async ones, calls among them, birth."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from adapter import ray, remote
from harness import Budget, Line, latencies, main, rates, register

LINES: list[Line] = []
PIPELINED = 5_000


class _Server:
    def ping(self) -> None:
        return None


class _AsyncServer:
    async def ping(self) -> None:
        return None


class _Client:
    def __init__(self, servers: list[Any]) -> None:
        self.servers = servers

    def call(self, count: int) -> int:
        servers = self.servers
        return len(ray.get([servers[number % len(servers)].ping.remote() for number in range(count)]))


Server, AsyncServer, Client = (remote(num_cpus=0)(plain) for plain in (_Server, _AsyncServer, _Client))


def with_actor(actor_class: Any, measure: Callable[[Any], list[float]]) -> list[float]:
    """``measure`` with a new actor that has answered once, and is killed afterwards."""
    actor = actor_class.remote()
    try:
        ray.get(actor.ping.remote())
        return measure(actor)
    finally:
        ray.kill(actor)


def calls(actor: Any, budget: Budget) -> list[float]:
    return rates(lambda: ray.get([actor.ping.remote() for _ in range(PIPELINED)]), PIPELINED, budget)


@register(LINES, "actor_sync", "µs")
def actor_sync(budget: Budget) -> list[float]:
    return with_actor(Server, lambda actor: latencies(lambda: ray.get(actor.ping.remote()), budget))


@register(LINES, "actor_pipelined", "/s")
def actor_pipelined(budget: Budget) -> list[float]:
    return with_actor(Server, lambda actor: calls(actor, budget))


@register(LINES, "async_actor_sync", "µs")
def async_actor_sync(budget: Budget) -> list[float]:
    return with_actor(AsyncServer, lambda actor: latencies(lambda: ray.get(actor.ping.remote()), budget))


@register(LINES, "async_actor_pipelined", "/s")
def async_actor_pipelined(budget: Budget) -> list[float]:
    return with_actor(AsyncServer, lambda actor: calls(actor, budget))


@register(LINES, "actors_2x2", "/s")
def actors_2x2(budget: Budget) -> list[float]:
    servers = [Server.remote() for _ in range(2)]
    clients = [Client.remote(servers) for _ in range(2)]
    each = 2_500
    try:
        return rates(lambda: ray.get([client.call.remote(each) for client in clients]), 2 * each, budget)
    finally:
        for actor in clients + servers:
            ray.kill(actor)


@register(LINES, "actors_born", "/s")
def actors_born(budget: Budget) -> list[float]:
    def births() -> None:
        actors = [Server.remote() for _ in range(10)]
        ray.get([actor.ping.remote() for actor in actors])
        for actor in actors:
            ray.kill(actor)

    return rates(births, 10, budget)


if __name__ == "__main__":
    sys.exit(main(LINES, __doc__))
