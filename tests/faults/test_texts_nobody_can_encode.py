"""Text that UTF-8 cannot encode, or with a NUL, where ``ray.init`` wants a name, a path or an address: it is refused.

Refused before anything is started: nothing is left behind, and the next session starts.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.sessions import unchecked

import ray
from ray.exceptions import PluginError, PluginOptionsError
from ray.testing import leaks

LONE, OF_A_FILE = "\ud800", "\udc80"
needs_plasma = pytest.mark.skipif(
    importlib.util.find_spec("ray_store_plasma") is None, reason="ray-store-plasma is not installed"
)
needs_zmq = pytest.mark.skipif(
    importlib.util.find_spec("ray_transport_zmq") is None, reason="ray-transport-zmq is not installed"
)
nothing_left = unchecked()


@pytest.fixture(autouse=True)
def nothing_behind() -> Any:
    """Nothing was started that could leave anything."""
    before = leaks.snapshot()
    yield
    assert not ray.is_initialized()
    leaks.assert_clean(before)


def option(part: str, plugin: str, name: str, value: object) -> dict[str, Any]:
    return {part: plugin, "options": {part: {name: value}}}


OPTIONS = [
    pytest.param("store", "plasma", "spill_dir", "/tmp/{}", marks=needs_plasma),
    pytest.param("transport", "zmq", "key_file", "/tmp/{}", marks=needs_zmq),
    pytest.param("transport", "zmq", "host", "127.0.0.1{}", marks=needs_zmq),
    pytest.param("transport", "zmq", "scheme", "tcp{}", marks=needs_zmq),
]


@pytest.mark.parametrize("lone", [LONE, OF_A_FILE], ids=["lone surrogate", "of a file name"])
@pytest.mark.parametrize(("part", "plugin", "name", "text"), OPTIONS)
def test_an_option_of_a_plugin(part: str, plugin: str, name: str, text: str, lone: str) -> None:
    wanted = rf"{part}='{plugin}': option '{name}' \(from ray\.init\(options=\.\.\.\)\).*a lone surrogate"
    with pytest.raises(PluginOptionsError, match=wanted):
        ray.init(**option(part, plugin, name, text.format(lone)))


@needs_plasma
def test_a_directory_that_is_there_and_has_such_a_name(tmp_path: Path) -> None:
    folder = tmp_path / OF_A_FILE
    folder.mkdir()
    with pytest.raises(PluginOptionsError, match=r"'spill_dir'.*a lone surrogate.*give another one"):
        ray.init(**option("store", "plasma", "spill_dir", str(folder)))
    assert not list(folder.iterdir())


@needs_plasma
def test_an_option_inside_a_list_or_a_table() -> None:
    for value in ([LONE], {"a": LONE}, {LONE: "a"}, {"a": [("b", LONE)]}):
        with pytest.raises(PluginOptionsError, match=r"'spill_dir'.*a lone surrogate"):
            ray.init(**option("store", "plasma", "spill_dir", value))


@needs_plasma
def test_a_directory_with_a_nul() -> None:
    with pytest.raises(PluginOptionsError, match=r"'spill_dir': no file can be written.*null"):
        ray.init(**option("store", "plasma", "spill_dir", "/tmp/\0"))


@needs_zmq
@pytest.mark.parametrize("path", ["/tmp/\0", "/nowhere/keys.json", "/"], ids=["a NUL", "no file", "a directory"])
def test_keys_that_cannot_be_read(path: str) -> None:
    with pytest.raises(PluginError, match=r"^transport='zmq': cannot use the keys in"):
        ray.init(transport="zmq", options={"transport": {"scheme": "tcp", "key_file": path}})


HOSTS = ["\ud800", "a\udc80", "a" * 300, "a..b", "a\0b", "[4", "local[4]"]


@pytest.mark.parametrize("host", HOSTS, ids=ascii)
@pytest.mark.parametrize("prefix", ["", "redis://"])
def test_an_address_whose_host_nobody_can_have(prefix: str, host: str) -> None:
    for name in ("address", "redis_address"):
        with pytest.raises(ValueError, match=f"^Invalid address port or host in {name}="):
            ray.init(**{name: f"{prefix}{host}:6379"})


@pytest.mark.parametrize(
    "given",
    [
        {"namespace": LONE},
        {"resources": {LONE: 1}},
        {"observers": [LONE]},
        {"options": {LONE: {}}},
        {"options": {"store": {LONE: 1}}},
        *({part: name} for part in ("store", "transport", "scheduler", "control") for name in (LONE, f"ray.{LONE}")),
    ],
    ids=ascii,
)
def test_a_name(given: dict[str, Any]) -> None:
    with pytest.raises((PluginError, ValueError), match=r"\\ud800") as caught:
        ray.init(num_cpus=1, **given)
    assert not isinstance(caught.value, UnicodeError)


def test_a_file_of_settings_may_have_such_a_name(tmp_path: Path) -> None:
    """It is only named, in the plan."""
    folder = os.fsencode(tmp_path) + b"/\x80"
    os.mkdir(folder)
    with open(folder + b"/ray.toml", "w") as file:
        file.write('scheduler = "spread"\n')
    program = "import ray; ray.init(num_cpus=1); print(ray.get(ray.remote(lambda: 5).remote()))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environb, b"RAY_CONFIG": folder + b"/ray.toml"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.stdout == "5\n", done.stderr
    assert "scheduler=spread" in done.stderr
