"""A plugin of another author: installed into a new environment beside ray-core, chosen by name, and put to work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "examples" / "plugins" / "ray-store-traced"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COMPOSED = """
from ray.plugins import Composition, resolve_plan

plan = resolve_plan()
composition = Composition(plan)
server = composition.start_store("", 1000)
store = composition.open_store(server.address)
store.create(bytes(20), 3)[:] = b"abc"
store.seal(bytes(20))
print(type(store).__module__, bytes(store.get(bytes(20))).decode(), plan.store.source)
store.close()
"""

SESSION = """
import ray

ray.init(num_cpus=1, store="traced", options={"store": {"report": "report.jsonl"}})
double = ray.remote(lambda data: data * 2)
print(len(ray.get(double.remote(ray.put(b"x" * 300_000)))))
ray.shutdown()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("third-party")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
    python = home / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, str(ROOT / "packages" / "ray-core"), str(PLUGIN)], check=True, timeout=240)
    subprocess.run([*install, "pytest", "pytest-timeout"], check=True, timeout=240)
    return python


def run(python: Path, *arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_"))}
    return subprocess.run(
        [str(python), *arguments],
        cwd=cwd,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_is_listed(python: Path, tmp_path: Path) -> None:
    result = run(python, "-m", "ray", "plugins", "--format", "json", cwd=tmp_path)
    (row,) = [row for row in json.loads(result.stdout) if row["name"] == "traced"]
    assert (row["seam"], row["state"], row["package"]) == ("store", "installed", "ray-store-traced")


def test_it_is_not_taken_unless_chosen(python: Path, tmp_path: Path) -> None:
    result = run(python, "-m", "ray", "doctor", "--format", "json", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    (store,) = [part for part in json.loads(result.stdout)["plan"]["parts"] if part["seam"] == "store"]
    assert store["name"] == "heap"


def test_the_environment_chooses_it(python: Path, tmp_path: Path) -> None:
    result = run(python, "-c", COMPOSED, cwd=tmp_path, RAY_STORE="traced")
    assert (result.returncode, result.stdout) == (0, "ray_store_traced.store abc from environment RAY_STORE\n"), (
        result.stderr
    )


def test_a_file_chooses_it(python: Path, tmp_path: Path) -> None:
    (tmp_path / "ray.toml").write_text('store = "traced"\n[options.store.traced]\nreport = "counts.jsonl"\n')
    result = run(python, "-c", COMPOSED, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "ray_store_traced.store abc from ray.toml\n"), result.stderr
    counts = json.loads((tmp_path / "counts.jsonl").read_text())
    assert (counts["create"], counts["seal"], counts["get"]) == (1, 1, 1)


def test_it_passes_the_contract_in_that_environment(python: Path, tmp_path: Path) -> None:
    arguments = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(PLUGIN / "pyproject.toml"),
        str(PLUGIN / "tests"),
    ]
    result = run(python, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_session_runs_on_it(python: Path, tmp_path: Path) -> None:
    result = run(python, "-c", SESSION, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "600000\n"), result.stderr
    reports = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert sum(report.get("create", 0) for report in reports) >= 1


def test_a_session_can_be_told_by_the_environment(python: Path, tmp_path: Path) -> None:
    program = SESSION.replace(', store="traced"', "")
    result = run(python, "-c", program, cwd=tmp_path, RAY_STORE="traced")
    assert (result.returncode, result.stdout) == (0, "600000\n"), result.stderr
