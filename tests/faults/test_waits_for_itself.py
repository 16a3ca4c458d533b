"""An actor that waits for a call of its own, which cannot begin before it has ended, is told so instead of hanging."""

import threading
import time

import pytest

import ray
from ray.exceptions import BlockingCallError, GetTimeoutError


@pytest.fixture(scope="module")
def session():
    with ray.init(num_cpus=4) as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_left(session):
    """Takes the place of the check around each test, which wants no session."""


@ray.remote
class Box:
    def __init__(self):
        self.refs = []

    def fill(self, refs):
        self.refs = refs

    def take(self):
        return self.refs


def me():
    return ray.get_runtime_context().current_actor


class Plain:
    def one(self):
        return 1

    @ray.method(num_returns="streaming")
    def stream(self):
        yield 1

    def later(self, waited_for):
        return waited_for

    def get(self):
        return ray.get(me().one.remote())

    def get_of_a_list(self):
        return ray.get([nap.remote(0), me().one.remote(), nap.remote(0)])

    def wait(self):
        return len(ray.wait([nap.remote(0), me().one.remote()], num_returns=2)[0])

    def next_of_a_stream(self):
        return [ray.get(ref) for ref in me().stream.remote()]

    def get_behind_an_argument(self):
        return ray.get(me().later.remote(nap.remote(0.1)))

    def get_of_anothers(self, box):
        while not (refs := ray.get(box.take.remote())):
            time.sleep(0.01)
        return ray.get(refs[0])

    # What is no mistake.

    def wait_for_the_other(self):
        own = me().one.remote()
        ready, rest = ray.wait([own, nap.remote(1.5)])
        return rest == [own] and ray.get(ready[0])

    def get_for_a_while(self):
        with pytest.raises(GetTimeoutError):
            ray.get(me().one.remote(), timeout=1.5)
        return 1

    def get_of_a_slow_task(self):
        return ray.get(nap.remote(1.5))

    def get_on_a_thread(self):
        own = me().one.remote()
        self.found = []
        self.thread = threading.Thread(target=lambda: self.found.append(ray.get(own)))
        self.thread.start()
        self.thread.join(1.5)
        return 1

    def found_on_the_thread(self):
        self.thread.join(30)
        return self.found


@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return 1


Actor = ray.remote(Plain)
MISTAKES = ["get", "get_of_a_list", "wait", "next_of_a_stream", "get_behind_an_argument"]
NO_MISTAKES = ["wait_for_the_other", "get_for_a_while", "get_of_a_slow_task"]


def test_it_is_told():
    box = Box.remote()
    actors = [Actor.remote() for _ in range(len(MISTAKES) + 1)]
    refs = [getattr(actor, name).remote() for actor, name in zip(actors, MISTAKES, strict=False)]
    refs.append(actors[-1].get_of_anothers.remote(box))
    box.fill.remote([actors[-1].one.remote()])
    for ref, name in zip(refs, [*MISTAKES, "get_of_anothers"], strict=True):
        call = "ray.wait" if name in ("wait", "next_of_a_stream") else "ray.get"
        with pytest.raises(BlockingCallError, match=r"wait for ever.* self\.method\(\).*max_concurrency=2") as caught:
            ray.get(ref, timeout=30)
        assert str(caught.value).startswith(f"{call}() in a method of the actor Plain waits for")
        assert (caught.value.call, caught.value.actor) == (call, "Plain")
    assert ray.get([actor.one.remote() for actor in actors], timeout=30) == [1] * len(actors)


def test_it_may_catch_that():
    @ray.remote
    class Catching(Plain):
        def get(self):
            own = me().one.remote()
            with pytest.raises(BlockingCallError):
                ray.get(own)
            return [own]

    actor = Catching.remote()
    [own] = ray.get(actor.get.remote(), timeout=30)
    assert ray.get(own, timeout=30) == 1


class Waiting(Plain):
    def __init__(self):
        self.one_of_them = ray.get(me().one.remote())


class Async(Waiting):
    async def sleep(self):
        return 1


def test_an_actor_that_waits_for_itself_while_it_is_made():
    made = [ray.remote(Waiting), ray.remote(Waiting).options(max_concurrency=2), ray.remote(Async)]
    for ref in [cls.remote().one.remote() for cls in made]:
        with pytest.raises(BlockingCallError, match="would wait for ever") as caught:
            ray.get(ref, timeout=30)
        assert ".. " not in str(caught.value)


def test_others_wait_as_ever():
    actors = [Actor.remote() for _ in NO_MISTAKES]
    refs = [getattr(actor, name).remote() for actor, name in zip(actors, NO_MISTAKES, strict=True)]
    threaded = Actor.options(max_concurrency=3).remote()
    thread = Actor.remote()
    refs += [threaded.get.remote(), threaded.get_of_a_list.remote(), thread.get_on_a_thread.remote()]
    assert ray.get(refs, timeout=30) == [1, 1, 1, 1, [1, 1, 1], 1]
    assert ray.get(thread.found_on_the_thread.remote(), timeout=30) == [1]
