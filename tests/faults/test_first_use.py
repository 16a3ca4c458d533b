"""The first use of everything, by several threads at once, and while libraries are being imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

#: Has the import of one module take long, in the middle.
_SLOW = """
import importlib.abc, importlib.machinery, sys, threading, time

begun, go_on = threading.Event(), threading.Event()

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != SLOW:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        def exec_module(module):
            begun.set()
            go_on.wait(20)
            load(module)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Slow())
"""


def run(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
    assert "Error" not in done.stderr, done.stderr


def dedent(text: str) -> str:
    return textwrap.dedent(text)


@pytest.mark.parametrize("module", ["cloudpickle", "cloudpickle.cloudpickle", "numpy._core", "polars"])
def test_values_are_pickled_while_another_thread_imports_a_library(module):
    pytest.importorskip(module.partition(".")[0])
    run(
        f"SLOW = {module!r}"
        + _SLOW
        + dedent("""
        import decimal
        import ray

        ray.init(num_cpus=1, log_to_driver=False, local_mode=True)
        thread = threading.Thread(target=__import__, args=(SLOW.partition(".")[0],))
        thread.start()
        assert begun.wait(20)
        value = {decimal.Decimal(1): [decimal.Decimal(2)], "set": {1, 2}}
        assert ray.get(ray.put(value)) == value
        go_on.set()
        thread.join()

        class Own:
            pass

        assert type(ray.get(ray.put(Own()))) is not None
        ray.shutdown()
        print("fine")
        """)
    )


@pytest.mark.parametrize("attempt", range(3))
def test_threads_that_begin_together(attempt):
    run(
        dedent("""
        import sys, threading, traceback
        import ray

        sys.setswitchinterval(1e-5)
        ready, errors = threading.Barrier(6), []

        class Own:
            pass

        def session():
            ray.init(num_cpus=1, log_to_driver=False, local_mode=True)

        calls = [
            lambda: __import__("cloudpickle"),
            lambda: ray.get(ray.put(Own())),
            lambda: ray.get(ray.put(lambda: 1))(),
            lambda: ray.wait([ray.put({1, 2})]),
            lambda: ray.get(ray.remote(lambda: Own()).remote()),
            lambda: [ray.kill, ray.get_actor, ray.method, ray.ObjectRef, ray.nodes, ray.exceptions],
        ]

        def work(call):
            ready.wait(20)
            try:
                call()
            except BaseException:
                errors.append(traceback.format_exc())

        session()
        threads = [threading.Thread(target=work, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not errors, errors[0]
        ray.shutdown()
        print("fine")
        """)
    )


@pytest.mark.parametrize("attempt", range(5))
def test_names_of_the_package_are_looked_up_by_threads_that_begin_together(attempt):
    """Python tells one of two threads of a deadlock where one imports a package, and the other a module inside."""
    run(
        dedent("""
        import sys, threading
        import ray

        sys.setswitchinterval(1e-5)
        names = [name for name in ray.__all__ if not name.startswith("_")]
        ready, errors = threading.Barrier(len(names)), []

        def work(name):
            ready.wait(20)
            try:
                getattr(ray, name)
            except BaseException as error:
                errors.append(f"{name}: {error!r}")

        threads = [threading.Thread(target=work, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not errors, errors
        print("fine")
        """)
    )


def test_a_finaliser_inside_the_first_use_of_a_name():
    run(
        dedent("""
        import gc
        import ray

        ray.init(num_cpus=1, log_to_driver=False, local_mode=True)
        got = []

        class Handle:
            def __init__(self):
                self.me = self

            def __del__(self):
                got.append(ray.get(ray.put(1)))
                ray.wait([ray.put(2)])

        gc.set_threshold(1)
        for name in ray.__all__:
            Handle()
            getattr(ray, name, None)
        gc.set_threshold(700)
        gc.collect()
        assert got == [1] * len(ray.__all__), got
        ray.shutdown()
        print("fine")
        """)
    )
