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
    result = run(python, "-c", "import ray; ray.init(store='plasma')", cwd=tmp_path)
    assert result.returncode == 1
    assert 'pip install "ray-core[plasma]"' in result.stderr.splitlines()[-1]


def test_the_command_is_installed(python: Path, tmp_path: Path) -> None:
    command = python.with_name("ray")
    version = subprocess.run([str(command), "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert version.returncode == 0
    assert version.stdout.strip().split()[-1][0].isdigit()
    doctor = subprocess.run([str(command), "doctor"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "heap" in doctor.stdout
