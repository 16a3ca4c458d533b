"""What holds for every test of the repository."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterator

import pytest
from tests import killed_runs


def pytest_configure() -> None:
    """Ctrl-C works in the programs that tests start, also where this one was started without: behind ``nohup … &``.

    What runs that were killed have left takes no time from this one.
    """
    killed_runs.begin()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


#: Where tests wait for several processes, servers and limits of time most of theirs.
_WAITING = (
    "tests/architecture/test_contracts_bite.py",
    "tests/cluster/",
    "tests/jobs/",
    "tests/spec/",
    "tests/faults/test_redis_control.py",
    "packages/ray-core/tests/builtin/",
    "packages/ray-core/tests/runtime/",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests wait for others are spread among those that compute: side by side they take less time."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        files: dict[str, list[pytest.Item]] = {}
        for item in items:
            files.setdefault(item.nodeid.partition("::")[0], []).append(item)
        waiting = [name for name in files if name.startswith(_WAITING)]
        computing = [name for name in files if not name.startswith(_WAITING)]
        places = {name: number / len(names) for names in (waiting, computing) for number, name in enumerate(names)}
        items[:] = [item for name in sorted(files, key=places.__getitem__) for item in files[name]]


def pytest_collection_finish() -> None:
    """Tests that look for garbage look at their own: thousands of collected tests take longer than most of them."""
    with contextlib.suppress(ImportError):
        import hypothesis  # noqa: F401  # asks for what refers to the generators of others, and has to find it
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_collections() -> Iterator[None]:
    """What a test lets go of ends at once, or not at all: it may be the last handle of an actor."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


#: Where the tests of clusters are, and of the control store that they need.
_OF_CLUSTERS = (
    "tests/cluster/",
    "tests/netns/",
    "tests/spec/test_page_004_cluster.py",
    "tests/faults/test_redis_control.py",
    "packages/ray-core/tests/builtin/redis_control/",
    "packages/ray-core/tests/runtime/cluster/",
)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests of clusters there were: where there is no Redis server they are skipped, and none has run."""
    counts = {
        outcome: len({report.nodeid for report in terminalreporter.getreports(outcome) if _is_of_clusters(report)})
        for outcome in ("passed", "failed", "error", "skipped")
    }
    if any(counts.values()):
        terminalreporter.write_line(f"tests of clusters: {', '.join(f'{n} {what}' for what, n in counts.items() if n)}")


def _is_of_clusters(report: pytest.TestReport) -> bool:
    return report.nodeid.startswith(_OF_CLUSTERS)
