"""The pytest plugin, run in a pytest of its own."""

import subprocess
import sys

import pytest

#: A pytest starts in every test, which takes a while on a busy machine.
pytestmark = pytest.mark.timeout(170)

TESTS = """
import os, threading, pytest

def test_clean():
    pass

def test_leaks_a_descriptor():
    os.open("/dev/null", os.O_RDONLY)

@pytest.mark.ray_leaks("on purpose")
def test_exempt():
    os.open("/dev/null", os.O_RDONLY)
"""

RUNTIME = """
import os, sys, types, pytest

@pytest.fixture(autouse=True)
def fake_ray(monkeypatch):
    import ray
    calls = []
    monkeypatch.setattr(ray, "init", lambda **options: calls.append(options), raising=False)
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"), raising=False)
    yield
    assert calls == [{"num_cpus": 2}, "shutdown"]

def test_runtime(ray_runtime):
    ray = ray_runtime(num_cpus=2)
    assert ray.__name__ == "ray"

def test_runtime_that_leaks(ray_runtime):
    ray_runtime(num_cpus=2)
    os.open("/dev/null", os.O_RDONLY)
"""


@pytest.fixture
def outcome(tmp_path):
    def run(tests, ini):
        (tmp_path / "conftest.py").write_text('pytest_plugins = ["ray.testing.pytest_plugin"]\n')
        (tmp_path / "pytest.ini").write_text(f"[pytest]\nray_leak_timeout_s = 0.3\n{ini}\n")
        (tmp_path / "test_it.py").write_text(tests)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "-v", str(tmp_path)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False).stdout

    return run


def test_the_check_is_off_unless_asked_for(outcome):
    assert "3 passed" in outcome(TESTS, "")


def test_the_check_finds_leaks(outcome):
    text = outcome(TESTS, "ray_leak_check = true")
    assert "3 passed, 1 error" in text
    assert "ERROR at teardown of test_leaks_a_descriptor" in text
    assert "/dev/null" in text


def test_the_fixture_ends_the_session_and_checks(outcome):
    text = outcome(RUNTIME, "")
    assert "2 passed, 1 error" in text
    assert "ERROR at teardown of test_runtime_that_leaks" in text
