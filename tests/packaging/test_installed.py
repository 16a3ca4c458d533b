"""A new environment with nothing but the wheel of ray-core and what it asks for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("core-only")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
    python = home / "bin" / "python"
    subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", str(ROOT / "packages" / "ray-core")],
        check=True, timeout=240,
    )  # fmt: skip
    return python


@pytest.fixture(scope="module")
def from_a_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment made with the lines that the README gives for extras."""
    home, dist = tmp_path_factory.mktemp("extras"), tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
    python = home / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    packages = [str(path.parent) for path in ROOT.glob("packages/*/pyproject.toml")]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(dist), *packages], check=True, timeout=240)
    env = {**os.environ, "PIP_FIND_LINKS": str(dist)}
    subprocess.run([*pip, "install", "-q", "ray-core[plasma,zmq]"], check=True, timeout=240, env=env)
    return python


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_"))}
    return subprocess.run(
        [str(python), *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_requirements_are_consistent(python: Path, tmp_path: Path) -> None:
    result = run(python, "-m", "pip", "check", cwd=tmp_path)
    assert result.returncode == 0, result.stdout


def test_a_task_runs(python: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import ray\nray.init(num_cpus=1)\nf = ray.remote(lambda x: x + 1)\nprint(ray.get(f.remote(f.remote(0))))\n"
    )
    result = run(python, str(script), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "2\n"), result.stderr


def test_a_missing_plugin_is_named_with_the_command_that_installs_it(python: Path, tmp_path: Path) -> None:
    program = ["-c", "import ray; ray.init(store='plasma'); print(ray.get(ray.put(1)))"]
    result = run(python, *program, cwd=tmp_path)
    assert result.returncode == 1
    command = result.stderr.splitlines()[-1].partition("install it: ")[2]
    assert command == f"pip install {ROOT / 'packages' / 'ray-store-plasma'}"
    assert run(python, "-m", *command.split(), cwd=tmp_path).returncode == 0
    result = run(python, *program, cwd=tmp_path)
    assert result.stdout == "1\n", result.stderr
    assert run(python, "-m", "pip", "uninstall", "-q", "-y", "ray-store-plasma", cwd=tmp_path).returncode == 0


def test_extras_resolve_from_the_wheels_of_a_clone(from_a_clone: Path, tmp_path: Path) -> None:
    program = "import ray; ray.init(store='plasma', transport='zmq'); print(ray.get(ray.put(1)))"
    result = run(from_a_clone, "-c", program, cwd=tmp_path)
    assert result.stdout == "1\n", result.stderr
    result = run(from_a_clone, "-c", "import ray; ray.init(store='shm')", cwd=tmp_path)
    assert result.stderr.splitlines()[-1].endswith('install it: pip install "ray-core[shm]"')


def test_the_command_is_installed(python: Path, tmp_path: Path) -> None:
    command = python.with_name("ray")
    version = subprocess.run([str(command), "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert version.returncode == 0
    assert version.stdout.strip().split()[-1][0].isdigit()
    doctor = subprocess.run([str(command), "doctor"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "heap" in doctor.stdout
