"""A forked child that goes on to use its parent's session is told that there is none across a fork, and what to do."""

import multiprocessing
import os
import sys
import warnings

import pytest

import ray
from ray.exceptions import RayConnectionError


@ray.remote
def echo(x):
    return x


@ray.remote
class Keeper:
    def __init__(self):
        self.ref = ray.put(1)

    def get(self):
        return 1

    def child(self):
        return texts_of_a_child(self.ref, echo.remote(1), None)


def use(ref, pending, actor):
    """What each way to use the session says; called in a child."""
    ways = {
        "get": lambda: ray.get(ref),
        "get of a list": lambda: ray.get([pending]),
        "wait": lambda: ray.wait([ref, pending]),
        "put": lambda: ray.put(1),
        "task": lambda: echo.remote(1),
        "call": lambda: actor.get.remote(),
        "actor": Keeper.remote,
        "nodes": ray.nodes,
    }
    if actor is None:
        del ways["call"]
    texts = {}
    for name, way in ways.items():
        try:
            texts[name] = f"no error: {way()}"
        except RayConnectionError as error:
            texts[name] = str(error)
    return texts


def texts_of_a_child(*given):
    """By ``multiprocessing``, as most programs fork."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=lambda: there.send(use(*given)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: this process has threads
        child.start()
    try:
        return here.recv() if here.poll(30) else "nothing was said"
    finally:
        child.join(30)


def check(texts):
    for name, text in texts.items():
        assert "a session does not cross a fork" in text, name
        assert "'ray.init()'" in text, name
        assert "not been started" not in text, name


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere fork is no safe way to start a child")
def test_children(start):
    start(num_cpus=2)
    actor = Keeper.remote()
    ref = ray.put(1)
    texts = texts_of_a_child(ref, echo.remote(1), actor)
    assert len(texts) == 8
    check(texts)
    check(ray.get(actor.child.remote(), timeout=50))
    assert ray.get([ref, actor.get.remote(), echo.remote(1)], timeout=30) == [1, 1, 1]
    ray.shutdown()
    with pytest.raises(RayConnectionError, match="The session was shut down"):
        ray.put(1)


def test_a_child_that_was_forked_before_the_session():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        said = ""
        try:
            ray.put(1)
        except RayConnectionError as error:
            said = str(error)
        os._exit(0 if "has not been started yet" in said or "was shut down" in said else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
