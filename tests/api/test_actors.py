"""Actors: classes, handles, methods, names, ends."""

import asyncio
import gc
import os
import pickle
import threading
import time

import pytest
from tests.api.one_session import nothing_left, session

import ray
from ray.exceptions import RayActorError, RayTaskError

__all__ = ["nothing_left", "session"]


@ray.remote
class Counter:
    """Counts."""

    field = 7

    def __init__(self, start=0, *, step=1):
        self.value = start
        self.step = step

    def add(self, n=None):
        self.value += self.step if n is None else n
        return self.value

    def get(self):
        return self.value

    def fail(self, text):
        raise KeyError(text)

    @staticmethod
    def static(x):
        return x + 1

    @classmethod
    def of_class(cls, x):
        return cls.field + x

    @ray.method(num_return_vals=2)
    def pair(self):
        return self.value, self.step

    @ray.method(num_returns=0)
    def quiet(self):
        self.value += 100

    def pid(self):
        return os.getpid()


def ended(call, seconds=10):
    """Wait until ``call`` raises RayActorError, and return it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            ray.get(call())
        except RayActorError as error:
            return error
        time.sleep(0.01)
    raise AssertionError("the actor did not end")


# --- classes and handles ---


def test_state_and_order():
    counter = Counter.remote(10, step=2)
    assert ray.get([counter.add.remote() for _ in range(5)]) == [12, 14, 16, 18, 20]
    assert ray.get(counter.get.remote()) == 20


def test_actors_are_apart():
    a, b = Counter.remote(), Counter.remote(5)
    ray.get(a.add.remote(3))
    assert ray.get([a.get.remote(), b.get.remote()]) == [3, 5]


def test_processes_of_their_own(session):
    a, b = Counter.remote(), Counter.remote()
    pids = ray.get([a.pid.remote(), b.pid.remote(), a.pid.remote()])
    if session == "local_mode":
        assert set(pids) == {os.getpid()}
    else:
        assert pids[0] == pids[2]
        assert len({*pids, os.getpid()}) == 3


def test_class_instances_are_refused():
    text = r"Actors cannot be instantiated directly. Instead of 'Counter\(\)', use 'Counter.remote\(\)'."
    with pytest.raises(TypeError, match=text):
        Counter(1)


def test_direct_method_calls_are_refused():
    counter = Counter.remote()
    text = r"Actor methods cannot be called directly. Instead of running 'object.add\(\)', try 'object.add.remote\(\)'."
    with pytest.raises(TypeError, match=text):
        counter.add()


def test_attributes_of_handles():
    counter = Counter.remote()
    with pytest.raises(AttributeError, match=r"no method 'ad'.*fields cannot be read.*Did you mean 'add'"):
        counter.ad  # noqa: B018
    with pytest.raises(AttributeError):
        counter.field  # noqa: B018
    assert {"add", "get", "static", "of_class", "pair"} <= set(dir(counter))
    assert "field" not in dir(counter)
    assert repr(counter) == f"Actor(Counter, {counter._core.actor_id.hex()})"
    assert repr(counter.add) == "ActorMethod(Counter.add)"
    assert Counter.__doc__ == "Counts."
    assert repr(Counter) == "ActorClass(Counter)"


def test_subclasses_of_actor_classes_are_refused():
    with pytest.raises(TypeError, match="Attempted to define subclass 'S' of actor class 'Counter'"):

        class S(Counter):
            pass


def test_inheritance_from_plain_classes():
    class Base:
        def base(self):
            return "base"

        def both(self):
            return "base"

    @ray.remote
    class Derived(Base):
        def both(self):
            return "derived, " + super().both()

    derived = Derived.remote()
    assert ray.get([derived.base.remote(), derived.both.remote()]) == ["base", "derived, base"]


def test_static_and_class_methods():
    counter = Counter.remote()
    assert ray.get(counter.static.remote(1)) == 2
    assert ray.get(counter.of_class.remote(1)) == 8


def test_numbers_of_results():
    counter = Counter.remote(1)
    value, step = counter.pair.remote()
    assert ray.get([value, step]) == [1, 1]
    assert counter.quiet.remote() is None
    assert ray.get(counter.get.remote()) == 101
    assert ray.get(counter.add.options(num_returns=1).remote()) == 102
    assert len(counter.pair.options(num_return_vals=2).remote()) == 2


def test_typed_base_class():
    class Typed(ray.Actor):
        def __init__(self, n):
            self.n = n

        @ray.method
        def m(self, x):
            return self.n + self.other(x)

        @ray.method
        def other(self, x):
            return 2 * x

    assert Typed(1).m(2) == 5  # a plain object here
    typed = Typed.remote(1)
    assert isinstance(typed, ray.ActorHandle)
    assert ray.get(typed.m.remote(2)) == 5
    assert ray.get(Typed.options(num_cpus=1).remote(3).m.remote(2)) == 7
    assert ray.remote(num_cpus=2)(Typed) is Typed
    assert ray.get(Typed.remote(1).m.remote(1)) == 3
    assert {"m", "other"} <= set(dir(typed))
    assert "remote" not in dir(typed)


def test_call_by_function():
    class Plain:
        def m(self, x):
            return x + 1

        def call(self, x):
            return "mine"

    class Other:
        def call(self):
            pass

    handle = ray.remote(Plain).remote()
    assert ray.get(handle.call.remote(1)) == "mine"  # the class's own method wins
    counter = Counter.remote()
    assert ray.get(counter.call(Counter.add, 4)) == 4
    with pytest.raises(TypeError, match="method of the actor's class"):
        counter.call(3)
    with pytest.raises(AttributeError):
        counter.call(Plain.m, 1)


# --- bad calls ---


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Counter.remote(1, 2), "too many positional arguments: 2 given, at most 1"),
        (lambda: Counter.remote(stop=1), "unexpected keyword argument 'stop'"),
        (lambda: Counter.remote(1, start=1), "multiple values for argument 'start'"),
    ],
)
def test_arguments_of_constructors(call, text):
    with pytest.raises(TypeError, match=text):
        call()


def test_classes_without_a_constructor_take_nothing():
    @ray.remote
    class Empty:
        def m(self):
            return 1

    with pytest.raises(TypeError, match="too many positional arguments: 1 given, at most 0"):
        Empty.remote(1)
    assert ray.get(Empty.remote().m.remote()) == 1


def test_arguments_of_methods():
    counter = Counter.remote()
    with pytest.raises(TypeError, match=r"Counter.fail.remote\(\): missing a required argument: 'text'"):
        counter.fail.remote()
    with pytest.raises(TypeError, match="too many positional"):
        counter.get.remote(1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'm'"):
        counter.add.remote(m=1)
    with pytest.raises(TypeError, match="too many positional"):
        counter.static.remote(1, 2)
    assert ray.get(counter.get.remote()) == 0
    assert ray.error_info() == []


def test_handles_that_travelled_still_check():
    @ray.remote
    def use(counter):
        try:
            counter.get.remote(1)
        except TypeError as error:
            return str(error)

    assert "too many positional" in ray.get(use.remote(Counter.remote()))


def test_unpicklable_arguments_submit_nothing():
    counter = Counter.remote()
    with pytest.raises(TypeError, match="lock"):
        counter.add.remote(threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        Counter.remote(threading.Lock())
    assert ray.get(counter.add.remote()) == 1


def test_unknown_concurrency_group():
    @ray.remote(concurrency_groups={"io": 1})
    class A:
        @ray.method(concurrency_group="oi")
        def m(self):
            pass

    with pytest.raises(ValueError, match=r"concurrency group 'oi'.*Known: 'io'"):
        A.remote()


# --- failures ---


def test_a_failing_method_leaves_the_actor_alive():
    counter = Counter.remote()
    with pytest.raises(KeyError, match="gone"):
        ray.get(counter.fail.remote("gone"))
    assert ray.get(counter.add.remote()) == 1


def test_a_failing_constructor_shows_in_every_call():
    @ray.remote
    class Bad:
        def __init__(self):
            raise ValueError("no constructor")

        def m(self):
            return 1

    bad = Bad.remote()
    for _ in range(2):
        with pytest.raises((RayTaskError, RayActorError), match="no constructor"):
            ray.get(bad.m.remote(), timeout=30)


def test_a_failed_argument_fails_the_call():
    counter = Counter.remote()
    with pytest.raises(KeyError, match="first"):
        ray.get(counter.add.remote(counter.fail.remote("first")))


# --- handles that travel ---


def test_handles_in_tasks_objects_and_actors():
    counter = Counter.remote()

    @ray.remote
    def bump(handles):
        return ray.get([handle.add.remote() for handle in handles])

    @ray.remote
    class Holder:
        def __init__(self, handle):
            self.handle = handle

        def bump(self):
            return ray.get(self.handle.add.remote())

    assert ray.get(bump.remote([counter, counter])) == [1, 2]
    assert ray.get(Holder.remote(counter).bump.remote()) == 3
    (back,) = ray.get(ray.put([counter]))
    assert back == counter
    assert hash(back) == hash(counter)
    assert ray.get(back.add.remote()) == 4
    assert ray.get(pickle.loads(pickle.dumps(counter)).add.remote()) == 5


def test_classes_travel():
    @ray.remote
    def make(cls, start):
        return ray.get(cls.remote(start).add.remote())

    assert ray.get(make.remote(Counter, 4)) == 5

    class Typed(ray.Actor):
        @ray.method
        def m(self):
            return "typed"

    @ray.remote
    def use_typed():
        return ray.get(Typed.remote().m.remote())

    assert ray.get(use_typed.remote()) == "typed"


def test_a_temporary_handle_lives_for_its_call():
    assert ray.get(Counter.remote(3).get.remote()) == 3


# --- ends ---


def test_the_last_handle_ends_the_actor(tmp_path):
    @ray.remote
    class Noted:
        def __init__(self, path):
            self.path = path

        def write(self, text):
            with open(self.path, "a") as file:
                file.write(text)

    path = tmp_path / "log"
    noted = Noted.options(name="noted").remote(str(path))
    noted.write.remote("pending calls finish")
    del noted
    gc.collect()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            ray.get_actor("noted")
        except ValueError:
            break
        time.sleep(0.01)
    with pytest.raises(ValueError, match="noted"):
        ray.get_actor("noted")
    assert path.read_text() == "pending calls finish"


def test_terminate():
    counter = Counter.remote()
    last = counter.add.remote()
    counter.__ray_terminate__.remote()
    assert ray.get(last) == 1
    ended(counter.get.remote)


def test_exit_actor():
    @ray.remote
    class Leaver:
        def m(self):
            return 1

        def leave(self):
            ray.exit_actor()
            return "not reached"

    leaver = Leaver.remote()
    assert ray.get(leaver.m.remote()) == 1
    with pytest.raises(RayActorError, match=r"exit_actor\(\) was called.*leave\(\) ended it"):
        ray.get(leaver.leave.remote(), timeout=30)
    assert "exit_actor" in str(ended(leaver.m.remote))


def test_exit_actor_with_several_results():
    @ray.remote
    class Leaver:
        @ray.method(num_returns=2)
        def leave(self):
            ray.exit_actor()

    leaver = Leaver.remote()
    for ref in leaver.leave.remote():
        with pytest.raises(RayActorError, match="exit_actor"):
            ray.get(ref, timeout=30)


def test_exit_actor_outside():
    with pytest.raises(TypeError, match="outside of an actor"):
        ray.exit_actor()


def test_kill():
    counter = Counter.remote()
    ray.get(counter.add.remote())
    ray.kill(counter)
    ray.kill(counter)
    error = ended(counter.get.remote)
    assert "Counter" in str(error)
    assert isinstance(error, RuntimeError)
    with pytest.raises(RayActorError):
        ray.get(counter.add.remote(), timeout=30)


def test_kill_with_a_restart():
    counter = Counter.options(max_restarts=1).remote(5)
    assert ray.get(counter.add.remote()) == 6
    ray.kill(counter, no_restart=False)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            assert ray.get(counter.get.remote(), timeout=30) == 5
            break
        except RayActorError:
            time.sleep(0.01)
    else:
        raise AssertionError("the actor did not come back")
    ray.kill(counter, no_restart=False)
    ended(counter.get.remote)


@pytest.mark.parametrize("wrong", [3, None, "Counter", Counter])
def test_kill_of_what_is_no_handle(wrong):
    with pytest.raises(ValueError, match=r"ray.kill\(\) only supported for actors"):
        ray.kill(wrong)


def test_kill_of_a_ref():
    with pytest.raises(ValueError, match=r"ray.cancel\(\)"):
        ray.kill(ray.put(1))
    with pytest.raises(TypeError, match="no_restart must be True or False"):
        ray.kill(Counter.remote(), no_restart=0)


# --- names ---


def test_named_actors():
    counter = Counter.options(name="known").remote(4)
    found = ray.get_actor("known")
    assert found == counter
    assert ray.get(found.add.remote()) == 5
    assert ray.get(ray.get_actor("known").get.remote()) == 5
    with pytest.raises(ValueError, match="'known'"):
        Counter.options(name="known").remote()

    @ray.remote
    def elsewhere():
        return ray.get(ray.get_actor("known").add.remote())

    assert ray.get(elsewhere.remote()) == 6


def test_namespaces():
    mine = Counter.options(name="c").remote(1)
    other = Counter.options(name="c", namespace="other").remote(2)
    assert ray.get([ray.get_actor("c").get.remote(), ray.get_actor("c", "other").get.remote()]) == [1, 2]
    with pytest.raises(ValueError, match="nowhere"):
        ray.get_actor("c", namespace="nowhere")
    assert mine != other


def test_names_that_are_not_there():
    with pytest.raises(ValueError, match="nobody"):
        ray.get_actor("nobody")
    with pytest.raises(ValueError, match="Actor name cannot be an empty string"):
        ray.get_actor("")
    with pytest.raises(TypeError, match="Actor name must be a string"):
        ray.get_actor(3)
    with pytest.raises(TypeError, match="Namespace name must be a string"):
        ray.get_actor("a", 3)


def test_a_name_is_free_after_the_end():
    counter = Counter.options(name="again").remote()
    ray.kill(counter)
    ended(counter.get.remote)
    until = time.monotonic() + 10
    while True:
        try:
            assert ray.get(Counter.options(name="again").remote(9).get.remote()) == 9
            break
        except ValueError:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_detached_actors_outlive_their_handles():
    Counter.options(name="kept", lifetime="detached").remote(8)
    gc.collect()
    ray.get(ray.put(0))
    counter = ray.get_actor("kept")
    assert ray.get(counter.get.remote()) == 8
    ray.kill(counter)
    ended(counter.get.remote)


# --- concurrency ---


def test_threaded_actors(session):
    if session == "local_mode":
        return

    @ray.remote
    class Meeting:
        def __init__(self):
            self.barrier = threading.Barrier(3)

        def meet(self):
            self.barrier.wait(20)
            return threading.get_ident()

    meeting = Meeting.options(max_concurrency=3).remote()
    assert len(set(ray.get([meeting.meet.remote() for _ in range(3)], timeout=30))) == 3


def test_async_methods_in_local_mode(session):
    if session != "local_mode":
        return

    @ray.remote
    class Async:
        def __init__(self):
            self.loop = asyncio.get_running_loop()

        async def m(self, other=None):
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is self.loop
            return 1 if other is None else 1 + ray.get(other.m.remote())

        def sync(self):
            return asyncio.get_running_loop() is self.loop

    a, b = Async.remote(), Async.remote()
    assert ray.get([a.m.remote(), a.m.remote(b), a.sync.remote()]) == [1, 2, True]

    async def main():
        return ray.get(a.m.remote())

    assert asyncio.run(main()) == 1
