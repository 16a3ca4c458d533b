"""Everything that is checked, by name. `nox` alone runs the quick ones; `nox -l` lists all.

The quick sessions share one environment under .nox/dev, because making one takes longer than most of them run.
Sessions that ask what happens with other packages, versions or interpreters make their own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).parent
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Every version that a run today and a run next year have in common, those of run-time dependencies included.
PINNED = ["-c", str(ROOT / "constraints.txt")]
DISTRIBUTIONS = ["ray-core", "ray-store-shm", "ray-store-plasma", "ray-transport-zmq", "ray-async"]
PYTEST = ["-m", "pytest"]
TESTS = [ROOT / "tests", *sorted(ROOT.glob("packages/*/tests"))]
#: The tests start thousands of processes: none is to compile what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
COMPILE = ["-m", "compileall", "-q", *map(str, [*sorted(ROOT.glob("packages/*/src")), *TESTS])]
#: Twice as many at a time as there are processors, and one, as most tests wait for processes to start or to end. The
#: tests of a file stay together, as they may share a session. Files go out in the order of the paths, but for those
#: that wait (see conftest.py): ordered by the number of their tests, those with few and long ones would come last, when
#: nothing is left for the other processors.
SIDE_BY_SIDE = [f"--numprocesses={min(6, 2 * (os.cpu_count() or 1) + 1)}", "--dist=loadfile", "--no-loadscope-reorder"]
EVERYTHING = ["-m", ""]  # pytest's own -m: also what is marked slow, also soak; used with explicit paths only

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False


def group(*names: str) -> list[str]:
    """The exact requirements of dependency groups of pyproject.toml."""
    return list(nox.project.dependency_groups(SETTINGS, *names))


def names(*groups: str, without: str = "") -> list[str]:
    """The requirements of dependency groups without their versions."""
    return [name for name in (requirement.partition("==")[0] for requirement in group(*groups)) if name != without]


def editables() -> list[str]:
    return [argument for name in DISTRIBUTIONS for argument in ("-e", f"packages/{name}")]


def dev(session: nox.Session) -> str:
    """The python of the shared environment, made or renewed when a pyproject.toml has changed."""
    home = ROOT / ".nox" / "dev"
    python = home / "bin" / "python"
    stamp = home / "stamp"
    inputs = [ROOT / "pyproject.toml", ROOT / "constraints.txt", *sorted(ROOT.glob("packages/*/pyproject.toml"))]
    state = sys.version + hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()
    if not stamp.exists() or stamp.read_text() != state:
        venv.create(home, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PINNED]
        run(session, *install, *group("dev"))
        run(session, *install, "--no-build-isolation", *editables())  # with the pinned build tools, too
        stamp.write_text(state)
    return str(python)


def run(session: nox.Session, *command: str | Path, **env: str) -> None:
    session.run(*map(str, command), external=True, env={**os.environ, **env})


def redis_server(session: nox.Session) -> None:
    """Have a Redis server for the tests that use one: installed where it is missing, and this user and machine can.

    Without one they are skipped, or fail where RAY_REQUIRE_REDIS is 1.
    """
    if not (shutil.which("redis-server") or shutil.which("valkey-server") or os.environ.get("RAY_TEST_REDIS")):
        install(session, "redis-server")


def install(session: nox.Session, *packages: str) -> None:
    """Install packages of Debian, where this user and machine can; what needs them is skipped otherwise."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return
    # In that runlevel nothing that is installed is started.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    try:
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            session.run(apt, *command, external=True, silent=True, env=quiet)
    except nox.command.CommandFailed:
        session.warn(f"{' and '.join(packages)} could not be installed: the tests that need it are skipped")


def pytest_session(session: nox.Session, *arguments: str, **env: str) -> None:
    """Run pytest; what follows `--` on nox's command line takes the place of the arguments."""
    python = dev(session)
    redis_server(session)
    run(session, python, *COMPILE)
    run(session, python, *PYTEST, *(session.posargs or arguments), **env)


def write_asserts(python: str) -> None:
    """Have pytest rewrite the asserts of all tests once: of those that run side by side, each would do it by itself."""
    halves = [TESTS[:1], TESTS[1:]]
    command = [python, *PYTEST, "-qq", "--collect-only"]
    processes = [subprocess.Popen([*command, *map(str, half)], stdout=subprocess.DEVNULL) for half in halves]
    for process in processes:
        process.wait()  # what is wrong with a test is told by those that run it


# Quick: these run by default, and nothing less is good enough for a change.


@nox.session(python=False)
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    python = dev(session)
    run(session, python, "-m", "ruff", "check", ".")
    run(session, python, "-m", "ruff", "format", "--check", ".")


@nox.session(python=False)
def types(session: nox.Session) -> None:
    """mypy over the code, mypy and pyright over what users see."""
    python = dev(session)
    run(session, python, "-m", "mypy")
    run(session, python, "-m", "pyright", "--pythonpath", python)


@nox.session(python=False)
def imports(session: nox.Session) -> None:
    """The rooms and who may enter them."""
    lint = Path(dev(session)).with_name("lint-imports")
    run(session, lint)
    run(session, lint, "--config", "importlinter-circles.toml")


@nox.session(python=False)
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    python = dev(session)
    run(session, python, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """Every test that is not marked slow or soak: units, contracts, API, specification, faults, architecture."""
    if not session.posargs:
        write_asserts(dev(session))
    pytest_session(session, *SIDE_BY_SIDE, "tests", "packages")  # long files first


# Parts of the above, and what takes longer.


@nox.session(python=False, default=False)
def contracts(session: nox.Session) -> None:
    """The contract suites over every part, and the broken parts that they must catch."""
    pytest_session(session, "packages", "tests/architecture", "-m", "not soak", "-k", "contract or Contract")


@nox.session(python=False, default=False)
def spec(session: nox.Session) -> None:
    """The snippets of the specification's pages."""
    pytest_session(session, "tests/spec")


@nox.session(python=False, default=False)
def matrix(session: nox.Session) -> None:
    """The same semantic tests over every combination of parts that is installed."""
    pytest_session(session, "tests/matrix", *EVERYTHING, RAY_TEST_MATRIX="all")


@nox.session(python=False, default=False)
def faults(session: nox.Session) -> None:
    """Kill, stop and starve processes under blocked calls."""
    pytest_session(session, "tests/faults", "-m", "not soak")


@nox.session(python=False, default=False)
def cluster(session: nox.Session) -> None:
    """Several nodes and several programs on this machine, and the control store in Redis."""
    redis = "packages/ray-core/tests/builtin/redis_control"
    parts = "packages/ray-core/tests/runtime/cluster"
    pytest_session(
        session, "tests/cluster", "tests/jobs", redis, parts, "tests/faults/test_redis_control.py", *EVERYTHING
    )


@nox.session(python=False, default=False)
def netns(session: nox.Session) -> None:
    """Several hosts, in network namespaces that the tests make; needs root."""
    if not (shutil.which("ip") and shutil.which("nft")):
        install(session, "iproute2", "nftables")
    pytest_session(session, "tests/netns", *EVERYTHING)


@nox.session(python=False, default=False)
def slow(session: nox.Session) -> None:
    """What the quick run leaves out, of all tests: what takes seconds each, and more of the same kind."""
    if not session.posargs:
        write_asserts(dev(session))
    pytest_session(session, *SIDE_BY_SIDE, "tests", "packages", "-m", "slow and not soak")


@nox.session(python=False, default=False)
def simulation(session: nox.Session) -> None:
    """Ten thousand random lives of simulated clusters; ``-- --seed N`` lives one of them again."""
    run(session, dev(session), "-m", "ray.testing.trials", *session.posargs)


@nox.session(python=False, default=False)
def soak(session: nox.Session) -> None:
    """The fault tests, those of the packages, and of values between nodes, for many more rounds."""
    pytest_session(
        session,
        "tests/faults",
        "tests/cluster/test_big_transfers.py",
        "tests/cluster/test_transfers_and_attempts.py",
        "packages",
        *EVERYTHING,
        "-o",
        "faulthandler_timeout=7200",
        "--timeout=7200",
        RAY_TEST_SOAK="1",
    )


@nox.session(python=False, default=False)
def packaging(session: nox.Session) -> None:
    """Wheels and source archives: built, looked into, installed into new environments."""
    pytest_session(session, "tests/packaging", *EVERYTHING, "--timeout=600")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure against upstream Ray and others, draw the curves, renew benchmarks/results; `-- --quick` only tries."""
    ours = dev(session)
    session.install("-q", *group("bench"))
    theirs = str(Path(session.bin) / "python")
    contestants = [f"ours={ours}", f"Ray 2.60={theirs}"]
    session.run("python", "benchmarks/compare.py", *contestants, "--peers", theirs, *session.posargs)
    session.run("python", "benchmarks/curves.py", *contestants, *session.posargs)


@nox.session(default=False)
def core_only(session: nox.Session) -> None:
    """Nothing but the wheel of ray-core: the whole API must work."""
    session.install("-q", *PINNED, "build", "hatchling")
    dist = Path(session.create_tmp()).resolve()
    for old in dist.glob("*.whl"):
        old.unlink()
    session.run("python", "-m", "build", "-q", "--wheel", "--no-isolation", "-o", str(dist), "packages/ray-core")
    wheel = next(dist.glob("ray_core-*.whl"))
    session.run("python", "-m", "pip", "uninstall", "-q", "-y", "build", "hatchling")
    session.install("-q", *PINNED, "--force-reinstall", str(wheel), *names("test", without="numpy"))
    session.run("python", *PYTEST, *SIDE_BY_SIDE, "tests/api", *session.posargs)


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """The oldest dependencies that the packages say they work with."""
    settings = [tomllib.loads((ROOT / f"packages/{name}/pyproject.toml").read_text()) for name in DISTRIBUTIONS]
    needed = {requirement for setting in settings for requirement in setting["project"]["dependencies"]}
    oldest = sorted(requirement.replace(">=", "==", 1) for requirement in needed if not requirement.startswith("ray-"))
    session.install("-q", *oldest, *group("test", "build"))
    session.install("-q", "--no-deps", "--no-build-isolation", *editables())
    session.run("python", "-m", "pip", "check")
    session.run("python", *COMPILE)
    session.run("python", *PYTEST, *SIDE_BY_SIDE, *(session.posargs or ["packages", "tests/api", "tests/spec"]))


@nox.session(default=False)
def newest(session: nox.Session) -> None:
    """The newest of everything, as pip installs it today: what fails here fails for those who install it now."""
    session.install("-q", *names("test", "test-extras", "build"))
    session.install("-q", "--no-build-isolation", "--upgrade", "--upgrade-strategy", "eager", *editables())
    session.run("python", "-m", "pip", "check")
    session.run("python", *COMPILE)
    session.run("python", *PYTEST, *SIDE_BY_SIDE, *(session.posargs or ["packages", "tests/api", "tests/spec"]))


@nox.session(default=False)
def pin(session: nox.Session) -> None:
    """Write constraints.txt anew: the versions of the groups, and the newest of what these bring along."""
    session.install("-q", *group("dev"))
    session.install("-q", "--no-build-isolation", *editables())
    found = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    path = ROOT / "constraints.txt"
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    path.write_text("\n".join([*comment, *str(found).split()]) + "\n")


@nox.session(python=["3.12", "3.13", "3.14"], default=False)
def pythons(session: nox.Session) -> None:
    """The tests on the other interpreters that are supported, where they are installed."""
    session.install("-q", *PINNED, *group("test", "build"))
    session.install("-q", *PINNED, "--no-build-isolation", *editables())
    session.run("python", *COMPILE)
    session.run(
        "python", *PYTEST, *SIDE_BY_SIDE, *(session.posargs or ["packages", "tests/api", "tests/spec", "tests/faults"])
    )
