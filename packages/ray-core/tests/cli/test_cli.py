import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ray._version import __version__
from ray.cli import COMMANDS
from ray.cli.exits import MEANINGS

BIN = Path(sys.executable).parent


@pytest.fixture
def ray(tmp_path):
    """Run the command in an empty directory without choices from the environment."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.run(
            [sys.executable, "-m", "ray", *arguments],
            cwd=tmp_path,
            env={**inherited, **environ},
            capture_output=True,
            text=True,
            timeout=30,
        )

    return run


def fake_distribution(site: Path, name: str, version: str, record: str, entry_points: str = "") -> None:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text(record)
    (info / "entry_points.txt").write_text(entry_points)


def test_version(ray):
    done = ray("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ray-core {__version__}\n", "")


def test_the_script_is_the_same_command():
    done = subprocess.run([BIN / "ray", "--version"], capture_output=True, text=True, timeout=30)
    assert done.stdout == f"ray-core {__version__}\n"


def test_version_and_help_are_cheap(tmp_path):
    code = "import sys; from ray.cli import main; main(['--version']); print('pluggy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(ray, arguments):
    done = ray(*arguments)
    assert done.returncode == 0
    assert "Usage: ray [OPTIONS] COMMAND [ARGS]..." in done.stdout
    assert "doctor " in done.stdout
    assert "plugins " in done.stdout


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_is_plain_and_ends_with_the_exit_codes(ray, command):
    done = ray(*command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "``" not in done.stdout
    assert "::" not in done.stdout
    _, _, codes = done.stdout.partition("Exit codes:\n")
    assert [line.split(maxsplit=1) for line in codes.splitlines()] == [[str(n), text] for n, text in MEANINGS.items()]
    assert list(MEANINGS) == [0, 1, 2, 3, 4, 130]


WRONG = {
    "microbenchmark --only [": ("'[' is no regular expression", "\n  tasks, pipelined\n"),
    "microbenchmark --only nosuchline": ("no line matches 'nosuchline'", "\n  tasks, pipelined\n"),
    "microbenchmark --seconds -1": ("-1 is no time to measure for",),
    "microbenchmark --seconds 0": ("0 is no time to measure for",),
    "microbenchmark --seconds nan": ("nan is no time to measure for",),
    "microbenchmark --seconds inf": ("inf is no time to measure for",),
    "microbenchmark --seconds long": ("'long' is not a valid float",),
    "memory --limit -3": ("-3 is not in the range x>=0",),
    "memory --limit many": ("'many' is not a valid integer",),
    "memory --format yaml": ("'yaml' is not one of 'table', 'json'",),
    "doctor --nonsense": ("--nonsense",),
    "plugins extra": ("extra",),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_usage_is_said_and_nothing_is_started(ray, wrong):
    done = ray(*wrong.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ray: ")
    assert done.stderr.endswith(f"`ray {wrong.split()[0]} --help` shows what can be given.\n")
    assert [said for said in WRONG[wrong] if said not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert "session" not in done.stderr


def test_a_wrong_option_of_the_command_itself_points_to_its_help(ray):
    done = ray("--nope")
    assert done.returncode == 2
    assert re.fullmatch(r"ray: No such option.* '?--nope'?\.?\n`ray --help` shows what can be given\.\n", done.stderr)


@pytest.mark.parametrize("choice", [{"RAY_STORE": "nope"}, {"RAY_TRANSPORT": "nope"}, {"RAY_CONFIG": "/no/such/file"}])
def test_what_was_chosen_wrongly_is_a_problem(ray, choice):
    (name, value) = next(iter(choice.items()))
    done = ray("doctor", **choice)
    assert done.returncode == 2
    problems = done.stdout.partition("Problems\n")[2]
    assert name in problems
    assert value in problems
    assert json.loads(ray("doctor", "--format=json", **choice).stdout)["problems"]
    done = ray("microbenchmark", **choice)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ray: ")
    assert "Traceback" not in done.stderr


def test_no_session_can_be_reached(ray):
    done = ray("memory", "--session", "nothing-begins-so")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "ray: no running session begins with 'nothing-begins-so' (of this user, on this machine)\n"


def test_an_interrupt(tmp_path):
    code = (
        "import os, signal, sys; from ray.cli import commands, main\n"
        "commands.contributed = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(main(['--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "")


def test_the_program_does_not_import_the_command_line(tmp_path):
    code = "import sys, ray; ray.put; print([name for name in sys.modules if name.partition('.')[0] == 'click'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_unknown_commands_and_options(ray):
    done = ray("doctr")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ray: there is no command 'doctr'. Did you mean 'doctor'?\n"
    assert ray("doctor", "--nonsense").returncode == 2
    assert ray("--nonsense").returncode == 2


def test_doctor_as_json(ray):
    done = ray("doctor", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    parts = {(part["seam"], part["name"]): part["why"] for part in report["plan"]["parts"]}
    assert parts["transport", "unix"] == "default"
    assert parts["executor", "serial"] == "by the actor's class"
    assert report["error"] == ""
    assert report["problems"] == []
    assert report["versions"]["ray-core"] == __version__
    assert report["limits"]["cpus"] >= 1
    assert report["limits"]["open_files"] != 0
    assert set(report["limits"]) >= {"memory_bytes", "shm_bytes", "gpus", "redis_server"}


def test_doctor_as_table(ray):
    done = ray("doctor", RAY_SCHEDULER="spread")
    assert done.returncode == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert f"scheduler spread ray-core {__version__} from environment RAY_SCHEDULER" in lines
    assert [line for line in lines if line in ("Plan", "Versions", "Limits", "Problems")] == [
        "Plan", "Versions", "Limits", "Problems",
    ]  # fmt: skip
    assert lines[-2:] == ["Problems", "none"]


def test_doctor_on_a_plan_that_cannot_be_resolved(ray):
    done = ray("doctor", RAY_STORE="shn")
    assert done.returncode == 2
    said = "cannot be resolved: store='shn' (from environment RAY_STORE) is not a known store. Did you mean 'shm'?"
    assert f"  it {said}\n" in done.stdout
    assert done.stdout.endswith(f"Problems\n  the plan {said}\n")
    assert json.loads(ray("doctor", "--format=json", RAY_STORE="shn").stdout)["plan"] is None


def test_doctor_finds_another_owner_of_the_package(ray, tmp_path):
    site = tmp_path / "site"
    (site / "ray").mkdir(parents=True)
    fake_distribution(site, "ray", "2.60.0", "ray/__init__.py,,\n")
    # A .pth of the running environment comes first, as ours is what runs.
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.path.append({str(site)!r})\n")
    done = ray("doctor", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "belongs to ray-core and also to 'ray 2.60.0'" in done.stdout


def test_doctor_warns_of_plugins_that_nobody_chose(ray, tmp_path):
    site = tmp_path / "site"
    fake_distribution(site, "a-dist", "1.0", "", "[ray.store]\nx = absent_a\n")
    fake_distribution(site, "b-dist", "2.0", "", "[ray.store]\nx = absent_b\n")
    done = ray("doctor", PYTHONPATH=str(site))
    assert done.returncode == 0
    assert (
        "store='x' is offered by more than one package, one of them 'a-dist' 1.0: pip uninstall all but one"
        in done.stdout
    )


def test_plugins(ray, tmp_path):
    site = tmp_path / "site"
    fake_distribution(site, "a-dist", "1.0", "", "[ray.store]\nx = absent_a\n")
    rows = json.loads(ray("plugins", "--format", "json", PYTHONPATH=str(site)).stdout)
    states = {(row["seam"], row["name"]): row["state"] for row in rows}
    assert states["transport", "unix"] == "chosen"
    assert states["scheduler", "spread"] == "installed"
    assert states["store", "x"] == "broken"
    (broken,) = [row for row in rows if row["name"] == "x"]
    assert broken["text"].startswith("store='x' (package 'a-dist' 1.0) cannot be imported: ModuleNotFoundError")
    table = ray("plugins").stdout
    assert table.startswith("SEAM ")
    assert ray("plugins", RAY_STORE="nonsense").returncode == 0


def test_a_command_of_a_plugin(ray, tmp_path):
    site = tmp_path / "site"
    fake_distribution(site, "watch-dist", "1.0", "", "[ray.observer]\nwatch = watch_plugin\n")
    (site / "watch_plugin.py").write_text(
        "from ray.plugins import Command, PluginInfo, hookimpl\n"
        "PLUGIN = PluginInfo(seam='observer', name='watch', api=2)\n"
        "@hookimpl\n"
        "def ray_register_commands():\n"
        "    return [Command('watch', 'prints its arguments', lambda arguments: print(*arguments) or 4)]\n"
    )
    environ = {"PYTHONPATH": str(site), "RAY_OBSERVERS": "watch"}
    done = ray("watch", "one", "--two", "--help", "-x", **environ)
    assert (done.returncode, done.stdout) == (4, "one --two --help -x\n")
    assert re.search("^  watch +prints its arguments$", ray("--help", **environ).stdout, re.MULTILINE)


def test_a_defect_of_a_plugin_takes_neither_help_nor_report_away(ray, tmp_path):
    site = tmp_path / "site"
    fake_distribution(site, "bad-dist", "1.0", "", "[ray.observer]\nbad = bad_plugin\n")
    (site / "bad_plugin.py").write_text(
        "from ray.plugins import PluginInfo, hookimpl\n"
        "PLUGIN = PluginInfo(seam='observer', name='bad', api=2)\n"
        "@hookimpl\n"
        "def ray_register_commands():\n"
        "    raise ValueError('no commands')\n"
        "@hookimpl\n"
        "def ray_diagnostics():\n"
        "    raise ValueError('no facts')\n"
    )
    environ = {"PYTHONPATH": str(site), "RAY_OBSERVERS": "bad"}
    done = ray("--help", **environ)
    assert done.returncode == 0
    assert done.stderr == "ray: commands of plugins are not available: ValueError: no commands\n"
    done = ray("doctor", **environ)
    assert done.returncode == 1
    assert "a plugin failed in ray_diagnostics: ValueError: no facts" in done.stdout


def test_a_closed_pipe_is_no_error(tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m ray doctor | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize(
    ("name", "instead"), [("summary", "ray memory"), ("timeline", "ray memory"), ("up", "'ray start' starts the node")]
)
def test_commands_of_other_releases_say_what_there_is_instead(ray, name, instead):
    done = ray(name)
    assert done.returncode == 2
    assert f"there is no command {name!r}. It is not in this release." in done.stderr
    assert instead in done.stderr


def test_output_that_cannot_be_written():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ray.cli", "plugins"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("ray: the output could not be written: ")
    assert "Traceback" not in done.stderr


def test_errors_that_cannot_be_written():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "ray.cli", "memory", "--session", "nothing-begins-so"]
        assert subprocess.run(command, stdout=full, stderr=full, check=False).returncode == 3


def test_no_output_at_all():
    command = f"exec {sys.executable} -m ray.cli plugins >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("address", ["10.0.0.5:6379", "nowhere", "auto"])
def test_doctor_looks_at_the_address_of_the_environment(ray, address):
    done = ray("doctor", RAY_ADDRESS=address)
    assert done.returncode == 1
    assert f"RAY_ADDRESS='{address}'" in done.stdout
