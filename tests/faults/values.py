"""What tests of values between nodes share: see ``two_nodes``."""

from __future__ import annotations

import asyncio

import numpy as np

import ray
from ray.testing.inside import stored_objects

STORES = ("heap", "plasma", "shm")
MIB = 1 << 20


def start(store, **options):
    nodes = {"inner": store, **options}
    return ray.init(num_cpus=2, store="tests.faults.two_nodes", options={"store": nodes}, log_to_driver=False)


def here():
    return ray.get_runtime_context().get_node_id()


@ray.remote
def node():
    return here()


@ray.remote
def large(value, count=MIB):
    return np.full(count, value, np.uint8)


@ray.remote
def first(*arrays):
    return [int(array[0]) for array in arrays]


@ray.remote
def count_objects():
    return stored_objects()


@ray.remote
class Keeper:
    """Holds what it is given, and makes things of its own."""

    def __init__(self, *values):
        self.values = list(values)

    def where(self):
        return here()

    def firsts(self):
        return [int(value[0]) for value in self.values]

    def make(self, value):
        return [ray.put(np.full(MIB, value, np.uint8))]

    def keep(self, refs):
        self.values = refs
        return len(refs)

    def read(self):
        return int(ray.get(self.values[0])[0])

    def large(self, value):
        return np.full(2 * MIB, value, np.uint8)

    def first(self, array):
        return int(array[0])

    def forget(self):
        self.values = []

    def objects(self):
        return stored_objects()


@ray.remote
class AsyncKeeper:
    def __init__(self):
        self.seen = []

    async def see(self, number, array):
        self.seen.append(number)
        await asyncio.sleep(0)
        return int(array[0])

    async def order(self):
        return self.seen

    async def read(self, refs):
        return int((await refs[0])[0])
