"""Starting and stopping: each sample is a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import cache

from harness import Budget, Line, parse, register, report

LINES: list[Line] = []
MARK = "startup-sample "


def child() -> None:
    """In the fresh interpreter: import, start, one task, stop; prints the four times and the versions."""
    start = time.perf_counter()
    import ray  # noqa: F401

    imported = time.perf_counter()
    import adapter

    ready = time.perf_counter()
    adapter.init()

    def answer() -> int:
        return 42

    remote_answer = adapter.remote(answer)

    assert adapter.ray.get(remote_answer.remote()) == 42
    answered = time.perf_counter()
    versions = adapter.versions()
    stopping = time.perf_counter()
    adapter.ray.shutdown()
    stopped = time.perf_counter()
    times = {
        "import_ray": imported - start,
        "init_first_result": answered - ready,
        "import_to_result": answered - ready + imported - start,
        "shutdown": stopped - stopping,
    }
    print(MARK + json.dumps({"times": times, "versions": versions}))


@cache
def sample(_number: int) -> dict[str, dict[str, float]]:
    """The result of one fresh interpreter, kept so that all lines of this group share it."""
    command = [sys.executable, __file__, "--child"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    for text in done.stdout.splitlines():
        if text.startswith(MARK):
            result: dict[str, dict[str, float]] = json.loads(text.removeprefix(MARK))
            return result
    raise RuntimeError(f"the interpreter ended with {done.returncode}: {done.stderr[-200:]}")


def _import_only(budget: Budget) -> list[float]:
    code = "import time; t = time.perf_counter(); import ray; print('ray', time.perf_counter() - t)"
    outputs = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2 * budget.samples)]
    return [float(text.split("ray ")[-1]) for text in outputs[1:]]  # the first one fills the page cache


LINES.append(Line("import_ray", "s", _import_only))


def _add(name: str) -> None:
    def run(budget: Budget) -> list[float]:
        return [sample(number)["times"][name] for number in range(budget.samples)]

    register(LINES, name, "s")(run)


for _name in ("init_first_result", "import_to_result", "shutdown"):
    _add(_name)


def main() -> int:
    chosen, budget = parse(LINES, __doc__)
    if not chosen:
        return 0
    return report(chosen, budget, {key: str(value) for key, value in sample(0)["versions"].items()})


if __name__ == "__main__":
    if sys.argv[1:] == ["--child"]:
        child()
    else:
        sys.exit(main())
