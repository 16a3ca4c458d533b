"""Functions and classes as people write them at a prompt: redefined, nested, late, partial, large, many."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import ray

ROOT = Path(__file__).parents[2]

PROMPT = """
import ray
context = ray.init(num_cpus=1, log_to_driver=False)
@ray.remote
def f(): return helper()

def helper(): return 1

print("later helper", ray.get(f.remote(), timeout=20))
@ray.remote
def f(): return "second"

print("redefined", ray.get(f.remote(), timeout=20))
class C:
    def m(self): return "old"

@ray.remote
def make(): return C()

@ray.remote
def use(c): return c.m(), type(c) is C

print("class", ray.get(make.remote(), timeout=20).m(), ray.get(use.remote(C()), timeout=20))
class C:
    def m(self): return "new"

@ray.remote
def make(): return C()

@ray.remote
def use(c): return c.m(), type(c) is C

print("class again", ray.get(make.remote(), timeout=20).m(), ray.get(use.remote(C()), timeout=20))
@ray.remote
class A:
    def m(self): return 1

a = A.remote()
@ray.remote
class A:
    def m(self): return 2

b = A.remote()
print("actors", ray.get([a.m.remote(), b.m.remote()], timeout=20))
@ray.remote
def fact(n): return 1 if n == 0 else n * ray.get(fact.remote(n - 1))

print("recursion", ray.get(fact.remote(5), timeout=20))
class MyError(Exception): pass

@ray.remote
def fail(): raise MyError("mine")

try: ray.get(fail.remote(), timeout=20)
except MyError as error: print("error", type(error.__cause__).__name__, error.__cause__.args)

ray.shutdown()
"""

SAID = """later helper 1
redefined second
class old ('old', True)
class again new ('new', True)
actors [1, 2]
recursion 120
error MyError ('mine',)
"""


@pytest.mark.slow
def test_at_the_prompt():
    run = subprocess.run(
        [sys.executable, "-q", "-i"], input=PROMPT, capture_output=True, text=True, timeout=50, cwd=ROOT, check=False
    )
    assert run.stdout == SAID, run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_in_a_script(tmp_path):
    (tmp_path / "script.py").write_text(PROMPT)
    run = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, timeout=50, cwd=tmp_path, check=False
    )
    assert run.stdout == SAID, run.stderr


def test_redefined_in_a_loop(start):
    start(num_cpus=2)
    refs = []
    for i in range(50):

        @ray.remote
        def f():
            return i  # noqa: B023

        refs.append((i, f.remote()))
        assert ray.get(f.remote(), timeout=30) == i
    assert all(ray.get(ref, timeout=30) == i for i, ref in refs)


def test_kinds_of_callables(start):
    start(num_cpus=1)

    def power(base, exponent, *, plus=0):
        return base**exponent + plus

    class Outer:
        class Inner:
            def __init__(self, x=0):
                self.x = x

            def method(self, y):
                return self.x + y

            @staticmethod
            def static(y):
                return -y

            @classmethod
            def of(cls, y):
                return cls(y).x

    inner = Outer.Inner(10)
    remote = ray.remote
    offset = 5
    results = [
        remote(lambda x: x + offset).remote(1),
        remote(functools.partial(power, exponent=2, plus=1)).remote(3),
        remote(functools.partial(lambda a, b: a - b, 10)).remote(4),
        remote(inner.method).remote(1),
        remote(Outer.Inner.static).remote(2),
        remote(Outer.Inner.of).remote(3),
    ]
    assert ray.get(results, timeout=30) == [6, 10, 6, 11, -2, 3]
    Actor = ray.remote(Outer.Inner)
    actor = Actor.remote(7)
    assert ray.get(actor.method.remote(1), timeout=30) == 8
    made = ray.get(remote(lambda: Outer.Inner(4)).remote(), timeout=30)
    assert made.x == 4
    assert type(made).__qualname__ == Outer.Inner.__qualname__


def test_recursion_of_inner_functions(start):
    start(num_cpus=1)

    @ray.remote
    def even(n):
        return True if n == 0 else ray.get(odd.remote(n - 1))

    @ray.remote
    def odd(n):
        return False if n == 0 else ray.get(even.remote(n - 1))

    assert ray.get([even.remote(10), odd.remote(10)], timeout=30) == [True, False]


def test_helper_defined_later(start):
    start(num_cpus=1)

    @ray.remote
    def uses():
        return later()

    def later():
        return "defined after it"

    assert ray.get(uses.remote(), timeout=30) == "defined after it"


@pytest.mark.timeout(300)
def test_large_closure_warns_with_its_name(start, rounds, caplog):
    start(num_cpus=1)
    nbytes = rounds(12, 200) * 1_000_000
    small, lookup_table = b"s" * 1000, b"x" * nbytes

    @ray.remote
    def large():
        return len(lookup_table) + len(small)

    with caplog.at_level(logging.WARNING, logger="ray"):
        assert ray.get([large.remote() for _ in range(5)], timeout=120) == [nbytes + 1000] * 5
    warnings = [record.getMessage() for record in caplog.records if "pickled" in record.getMessage()]
    assert len(warnings) == 1
    assert "large" in warnings[0]
    assert "lookup_table" in warnings[0]
    assert f"{nbytes / 1e6:,.1f} MB" in warnings[0]
    assert "ray.put" in warnings[0]


@pytest.mark.timeout(300)
def test_many_functions(start, rounds):
    start(num_cpus=2)
    count = rounds(300, 1000)

    def make(i):
        @ray.remote
        def f(x):
            return i, x

        return f

    functions = [make(i) for i in range(count)]
    refs = [function.remote(i) for i, function in enumerate(functions)]
    assert ray.get(refs, timeout=120) == [(i, i) for i in range(count)]
    assert ray.get([function.remote(0) for function in reversed(functions)], timeout=120) == [
        (i, 0) for i in reversed(range(count))
    ]


def test_classes_keep_their_identity_in_a_worker(start):
    """Two tasks of the same definition see the same class in one process."""
    start(num_cpus=1)

    class Token:
        pass

    @ray.remote
    def same(a, b):
        return type(a) is type(b) is Token

    assert ray.get(same.remote(Token(), Token()), timeout=30)
    assert type(ray.get(ray.put(Token()))) is Token
    assert type(ray.get(ray.remote(lambda: Token()).remote(), timeout=30)) is Token
