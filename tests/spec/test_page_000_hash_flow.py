"""A network of hashing tasks, solved in each way that waits: the digest is always the same.

Each task of a layer hashes what some tasks of the layer before have made, after a random delay, so that it also shows
that nobody reads an object before it is there, or another one instead.
"""

import hashlib
import random
import time

import pytest
from tests import sessions
from tests.quick import crossed

import ray
from ray.experimental import async_api

kept_session = sessions.kept()
mode = sessions.one_after_the_other()


pytest.importorskip("ray_async")

LAYERS = WIDTH = 16


@ray.remote(num_cpus=0.25)
def hashed(data, seconds, *inputs):
    time.sleep(seconds)
    return hashlib.sha256(data + b"".join(inputs)).digest()


class Network:
    """Which task of a layer reads which of the layer before, what else it hashes, and how long it takes."""

    def __init__(self, seed):
        rng = random.Random(seed)
        self.data = [[rng.randbytes(8) for _ in range(WIDTH)] for _ in range(LAYERS)]
        self.delays = [[rng.random() * 0.01 for _ in range(WIDTH)] for _ in range(LAYERS)]
        self.inputs = [[rng.sample(range(WIDTH), rng.randint(1, 4)) for _ in range(WIDTH)] for _ in range(LAYERS)]

    def by_hand(self):
        """The digest, without ray."""
        before = [b""] * WIDTH
        for data, inputs in zip(self.data, self.inputs, strict=True):
            layer = zip(data, inputs, strict=True)
            before = [hashlib.sha256(own + b"".join(before[i] for i in those)).digest() for own, those in layer]
        return hashlib.sha256(b"".join(before)).hexdigest()

    def layer(self, index, before):
        """Submit one layer; ``before`` has refs or values."""
        rows = zip(self.data[index], self.delays[index], self.inputs[index], strict=True)
        return [hashed.remote(own, seconds, *[before[i] for i in those]) for own, seconds, those in rows]

    def all(self):
        """Submit everything, each task with the refs of those that it waits for; the refs of the last layer."""
        layer = [b""] * WIDTH
        for index in range(LAYERS):
            layer = self.layer(index, layer)
        return layer


def digest(values):
    return hashlib.sha256(b"".join(values)).hexdigest()


def plain_get(network):
    return digest(ray.get(network.all()))


def plain_get_by_layers(network):
    layer = [b""] * WIDTH
    for index in range(LAYERS):
        layer = ray.get(network.layer(index, layer))
    return digest(layer)


def async_get(network):
    async def main():
        layer = [b""] * WIDTH
        for index in range(LAYERS):
            layer = await async_api.get(network.layer(index, layer))
        return digest(layer)

    return async_api.run_until_complete(main())


def async_get_of_everything(network):
    async def node(index, at, nodes):
        inputs = (
            [nodes[index - 1][i] for i in network.inputs[index][at]]
            if index
            else [b""] * len(network.inputs[index][at])
        )
        before = await async_api.get(inputs)
        return hashed.remote(network.data[index][at], network.delays[index][at], *before)

    async def main():
        loop = async_api.eventloop
        nodes = []
        for index in range(LAYERS):
            nodes.append([loop.create_task(node(index, at, nodes)) for at in range(WIDTH)])
        return digest(await async_api.get(nodes[-1]))

    return async_api.run_until_complete(main())


def async_wait(network):
    async def main():
        layer = [b""] * WIDTH
        for index in range(LAYERS):
            refs = pending = network.layer(index, layer)
            values = {}
            while pending:
                ready, pending = await async_api.wait(pending, num_returns=1)
                assert len(ready) == 1
                values[ready[0]] = await async_api.get(ready[0])
            layer = [values[ref] for ref in refs]
        return digest(layer)

    return async_api.run_until_complete(main())


@pytest.mark.parametrize(("solve", "seed"), crossed([plain_get, plain_get_by_layers], [7, 2018]))
def test_plain(ray_session, solve, seed):
    network = Network(seed)
    assert solve(network) == network.by_hand()


@pytest.mark.parametrize(
    ("solve", "selector"), crossed([async_get, async_get_of_everything, async_wait], ["epoll", "poll"])
)
def test_on_the_event_loop(ray_session, solve, selector):
    network = Network(7)
    async_api._init_eventloop(selector)
    try:
        assert solve(network) == network.by_hand()
        assert not async_api.eventloop.object_selector.get_map()
    finally:
        async_api.cleanup()
