"""Code that is sent by value is still code of a file: tracebacks, warnings and stacks name it and show its lines."""

import linecache
import subprocess
import sys
import textwrap

import pytest

import ray
from ray.exceptions import RayTaskError

PROGRAM = textwrap.dedent(
    """
    import faulthandler, inspect, sys, warnings
    import ray

    class Odd(Exception):
        def __str__(self):
            return "an odd one"

    def helper():
        raise Odd  # here it breaks

    def fail():
        helper()

    def make():
        def closure():
            return {}["closed over"]
        return closure

    def warn():
        warnings.warn("careful")  # here it warns

    def dump():
        faulthandler.dump_traceback(sys.stderr.fileno(), all_threads=False)

    def source():
        return inspect.getsource(source)

    class Actor:
        def method(self):
            raise KeyError("in a method")  # here a method breaks
        async def later(self):
            raise KeyError("in a coroutine")  # here a coroutine breaks

    def text_of(ref):
        try:
            ray.get(ref)
        except Exception as error:
            return str(error)

    if __name__ == "__main__":
        ray.init(num_cpus=2)
        remote = lambda target: ray.remote(target).remote
        print(text_of(remote(fail)()))
        print(text_of(remote(make())()))
        print(text_of(ray.remote(lambda: 1 / 0).remote()))
        actor = remote(Actor)()
        print(text_of(actor.method.remote()))
        print(text_of(actor.later.remote()))
        print(ray.get(remote(source)()))
        ray.get([remote(warn)(), remote(dump)()])
        ray.shutdown()
    """
)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A program, and what it printed: ``(path, stdout, stderr)``."""
    path = tmp_path_factory.mktemp("program") / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return path, done.stdout, done.stderr


def lines_with(text):
    return [number for number, line in enumerate(PROGRAM.splitlines(), 1) if text in line]


@pytest.mark.parametrize(
    "line",
    [
        "raise Odd  # here it breaks",
        'return {}["closed over"]',
        'raise KeyError("in a method")  # here a method breaks',
        'raise KeyError("in a coroutine")  # here a coroutine breaks',
    ],
)
def test_a_remote_traceback_names_file_and_line_and_shows_it(program, line):
    path, out, _ = program
    (number,) = lines_with(line)
    assert f'File "{path}", line {number}, in ' in out
    assert f"\n    {line}\n" in out


def test_a_lambda_has_a_place_too(program):
    path, out, _ = program
    (number,) = lines_with("1 / 0")
    assert f'File "{path}", line {number}, in <lambda>' in out


def test_a_warning_in_a_worker_names_file_and_line(program):
    path, _, err = program
    (number,) = lines_with("# here it warns")
    assert f"{path}:{number}: UserWarning: careful" in err
    assert 'warnings.warn("careful")  # here it warns' in err


def test_a_dump_of_the_stack_names_file_and_line(program):
    path, _, err = program
    (number,) = lines_with("faulthandler.dump_traceback")
    assert f'File "{path}", line {number} in dump' in err


def test_the_source_of_a_function_can_be_had_in_the_worker(program):
    _, out, _ = program
    assert "def source():\n    return inspect.getsource(source)\n" in out


# --- what no file holds: cells of notebooks, snippets -----------------------------------------------------------------


def cell(name, source):
    """Run a cell as a notebook does, which keeps its source; returns the cell's names."""
    text = textwrap.dedent(source)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    names = {"__name__": "__main__", "ray": ray}
    exec(compile(text, name, "exec"), names)
    return names


@pytest.fixture
def cells():
    before = set(linecache.cache)
    yield cell
    for name in set(linecache.cache) - before:
        del linecache.cache[name]


def test_a_cell_of_a_notebook_is_shown(start, cells):
    start(num_cpus=1)
    names = cells(
        "/tmp/ipykernel_1/no_such_file_123.py",
        """
        import inspect

        def inner(text):
            raise RuntimeError(text)  # in a cell

        @ray.remote(max_retries=0)
        def task():
            inner("as told")

        @ray.remote
        def source():
            return inspect.getsource(inner)
        """,
    )
    with pytest.raises(RuntimeError) as caught:
        ray.get(names["task"].remote())
    text = str(caught.value)
    assert 'File "/tmp/ipykernel_1/no_such_file_123.py", line 9, in task\n    inner("as told")\n' in text
    assert "raise RuntimeError(text)  # in a cell" in text
    assert ray.get(names["source"].remote()).endswith("# in a cell\n")


def test_a_later_cell_of_another_name_is_shown_as_it_is(start, cells):
    start(num_cpus=1)
    for number in (1, 2):
        names = cells(f"<input-{number}>", f"@ray.remote(max_retries=0)\ndef task():\n    raise ValueError({number})\n")
        with pytest.raises(RayTaskError, match=rf"raise ValueError\({number}\)\n"):
            ray.get(names["task"].remote())


def test_an_actor_of_a_cell_is_shown(start, cells):
    start(num_cpus=1)
    names = cells("<input-3>", "@ray.remote\nclass Actor:\n    def divide(self):\n        self.x = 1 // 0\n")
    with pytest.raises(ZeroDivisionError, match=r"self\.x = 1 // 0\n"):
        ray.get(names["Actor"].remote().divide.remote())


def test_code_without_any_source_shows_no_line_of_others(start):
    """A name that several snippets share says nothing, and nothing is made up."""
    start(num_cpus=1)
    names = {"__name__": "__main__", "ray": ray}
    exec("@ray.remote(max_retries=0)\ndef task():\n    raise ValueError\n", names)
    with pytest.raises(ValueError) as caught:
        ray.get(names["task"].remote())
    assert 'File "<string>", line 3, in task\n' in str(caught.value)
    exec("task = ray.remote(max_retries=0)(lambda: 1 / 0)", names)
    with pytest.raises(ZeroDivisionError) as caught:
        ray.get(names["task"].remote())
    assert 'File "<string>", line 1, in <lambda>\nZeroDivisionError' in str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="before, Python itself forgets the text of -c")
def test_the_program_of_the_command_line_is_shown():
    program = """
import ray
ray.init(num_cpus=1)

@ray.remote
def task():
    return 1 / 0  # in the command line

try:
    ray.get(task.remote())
except ZeroDivisionError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert 'File "<string>", line 7, in task\n    return 1 / 0  # in the command line\n' in done.stdout
