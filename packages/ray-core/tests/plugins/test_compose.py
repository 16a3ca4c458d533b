"""Plans and compositions over real modules: the built-in ones and those of fake distributions."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ray.plugins.compose
from ray.abc import ControlStore, Executor, SchedulerPolicy, Store, Transport
from ray.exceptions import PluginContractError, PluginNotInstalledError, PluginOptionsError
from ray.plugins import Command, Composition, ResolvedPlan, hookimpl, resolve_plan, specs
from ray.plugins.seams import SEAMS

OBJECT_ID = bytes(range(20))


def test_every_part_of_the_default_plan_is_built_by_hooks(tmp_path):
    composition = Composition(ResolvedPlan.from_json(resolve_plan(store="heap").to_json()))
    control_server = composition.start_control(str(tmp_path))
    control = composition.open_control(control_server.address)
    store_server = composition.start_store(str(tmp_path), 1 << 20)
    store = composition.open_store(store_server.address)
    transport = composition.open_transport(str(tmp_path))
    scheduler = composition.make_scheduler()
    executors = [composition.make_executor(name, 2, {"io": 1}) for name in ("serial", "threads")]
    try:
        assert isinstance(control, ControlStore)
        assert isinstance(store, Store)
        assert isinstance(transport, Transport)
        assert isinstance(scheduler, SchedulerPolicy)
        assert all(isinstance(executor, Executor) for executor in executors)
        built = [control.name, store.name, transport.name, scheduler.name, *(executor.name for executor in executors)]
        assert built == ["embedded", "heap", "unix", "hybrid", "serial", "threads"]
    finally:
        for part in (*executors, transport, store, store_server, control, control_server):
            part.close()


def test_resolving_imports_no_implementation(tmp_path):
    code = (
        "import sys; from ray.plugins import Composition, resolve_plan; Composition(resolve_plan());"
        "print(sorted(m for m in sys.modules if m.startswith('ray.builtin.') and m.count('.') == 2))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert done.stdout == "['ray.builtin.plugins']\n", done.stderr


def test_options_reach_the_part():
    plan = resolve_plan(options={"scheduler": {"threshold": 0.25}})
    assert plan.scheduler.options == {"threshold": 0.25}
    policy: Any = Composition(plan).make_scheduler()
    assert policy._threshold == 0.25
    with pytest.raises(PluginOptionsError) as caught:
        resolve_plan(options={"scheduler": {"threshold": 2.0}})
    assert str(caught.value) == (
        "scheduler='hybrid': option 'threshold' (from ray.init(options=...)): expected 'float' <= 1.0"
    )


def test_a_third_party_store_by_name_environment_file_and_path(traced, monkeypatch):
    traced()
    assert resolve_plan(store="traced").store.distribution == "traced-dist"
    Path("ray.toml").write_text('store = "traced"\n')
    assert resolve_plan().store.source == "from ray.toml"
    monkeypatch.setenv("RAY_STORE", "heap")
    assert (resolve_plan().store.name, resolve_plan().store.source) == ("heap", "from environment RAY_STORE")
    plan = resolve_plan(store="traced_plugin:")
    composition = Composition(plan)
    store = composition.open_store(composition.start_store("/nowhere", 1000).address)
    view = store.create(OBJECT_ID, 3)
    view[:] = b"abc"
    store.seal(OBJECT_ID)
    assert bytes(store.get(OBJECT_ID) or b"") == b"abc"
    store.close()


BAD_PLUGINS = {
    "missing hook": (
        [("def ray_open_store(address)", "def ray_start_control(options)")],
        "store='traced' (package 'traced-dist' 1.0) does not implement ray_open_store",
    ),
    "misspelt hook": (
        [("def ray_open_store(address)", "def ray_opne_store(address)")],
        (
            "store='traced' (package 'traced-dist' 1.0) has a hook that does not fit: unknown hook 'ray_opne_store' in "
            "plugin"
        ),
    ),
    "unknown argument": (
        [("def ray_open_store(address)", "def ray_open_store(adress)")],
        (
            "store='traced' (package 'traced-dist' 1.0) has a hook that does not fit: Plugin 'store:traced' for hook "
            "'ray_open_store'"
        ),
    ),
    "default": (
        [("def ray_open_store(address)", "def ray_open_store(address, options=None)")],
        (
            "store='traced' (package 'traced-dist' 1.0) has defaults for options in ray_open_store; pluggy would never "
            "pass them"
        ),
    ),
    "wrong type": (
        [("return HeapStore.open(address)", "return {}")],
        "store='traced' (package 'traced-dist' 1.0) returned dict from ray_open_store, not a ray.abc.Store",
    ),
    "nothing": (
        [("return HeapStore.open(address)", "return None")],
        "store='traced' (package 'traced-dist' 1.0) returned NoneType from ray_open_store, not a ray.abc.Store",
    ),
    "empty promise": (
        [("api=2,", "api=2, capabilities=frozenset({'spilling', 'pinning'}),")],
        (
            "store='traced' (package 'traced-dist' 1.0) promises pinning, spilling in its PLUGIN record, but the "
            "opened store lacks it"
        ),
    ),
}


@pytest.mark.parametrize("case", BAD_PLUGINS)
def test_plugins_that_break_the_contract(traced, case):
    changes, message = BAD_PLUGINS[case]
    traced(*changes)
    composition = Composition(resolve_plan(store="traced"))
    for _ in range(2):  # A refused plugin stays refused.
        with pytest.raises(PluginContractError) as caught:
            composition.open_store("heap:1000")
        assert str(caught.value).startswith(message)


def test_a_library_missing_inside_a_hook(traced):
    traced(("from ray.builtin.heap_store import HeapStore\n", "import absent_library\n"))
    composition = Composition(resolve_plan(store="traced"))
    with pytest.raises(PluginNotInstalledError) as caught:
        composition.open_store("heap:0")
    assert str(caught.value) == (
        "store='traced' (package 'traced-dist' 1.0) cannot be imported: ModuleNotFoundError: No module named "
        "'absent_library'; install what it needs: pip install --upgrade traced-dist"
    )


def test_other_errors_of_a_hook_pass_unchanged(traced):
    traced(("return HeapStore.open(address)", "raise OSError(5, address)"))
    with pytest.raises(OSError, match="here"):
        Composition(resolve_plan(store="traced")).open_store("here")


def test_a_process_without_the_plugin_says_so(traced):
    traced()
    plan = resolve_plan(store="traced").to_json().replace(b"traced_plugin", b"not_on_this_path")
    with pytest.raises(PluginNotInstalledError, match="No module named 'not_on_this_path'"):
        Composition(ResolvedPlan.from_json(plan)).open_store("heap:0")


def test_one_module_may_not_serve_two_parts_by_accident(traced):
    traced(extra="\n@hookimpl\ndef ray_make_scheduler():\n    raise AssertionError('not chosen')\n")
    composition = Composition(resolve_plan(store="traced"))
    composition.open_store("heap:0").close()
    assert composition.make_scheduler().name == "hybrid"


def test_two_paths_may_lead_to_one_plugin(observer, install):
    plan = resolve_plan(observers=["watch", "watch_plugin:"])
    assert Composition(plan).serializers() == [(complex, repr)]


def test_selector_of_a_plan_without_one():
    plan = resolve_plan()
    plan.parts.pop("selector", None)
    with pytest.raises(PluginNotInstalledError) as caught:
        Composition(plan).make_selector(runtime=None)
    assert str(caught.value) == ('no selector is in use: install one before ray.init: pip install "ray-core[async]"')


def test_executors_by_name():
    plan = resolve_plan()
    plan.executors.pop("asyncio", None)
    composition = Composition(plan)
    with pytest.raises(PluginNotInstalledError) as caught:
        composition.make_executor("asyncio", 1, {})
    assert str(caught.value) == (
        "executor='asyncio' is not in this session's plan; install it before ray.init: pip install \"ray-core[async]\""
    )
    with pytest.raises(PluginNotInstalledError, match=r"executor='fibres' is not in this session's plan$"):
        composition.make_executor("fibres", 1, {})
    threads = Composition(resolve_plan(executor="threads")).make_executor("serial", 1, {})
    assert threads.name == "threads"
    threads.close()


OBSERVER = """
from ray.plugins import Command, PluginInfo, hookimpl

PLUGIN = PluginInfo(seam="observer", name="watch", api=2)
seen = []


class Sink:
    def write(self, events):
        seen.append(events)

    def close(self):
        seen.append("closed")


@hookimpl
def ray_register_serializers():
    return [(complex, repr)]


@hookimpl
def ray_open_event_sink(session_dir):
    seen.append(session_dir)
    return Sink()


@hookimpl
def ray_register_commands():
    return [Command("watch", "prints its arguments", lambda arguments: print(*arguments) or 4)]


@hookimpl
def ray_plan_resolved(plan):
    seen.append(plan.describe())


@hookimpl
def ray_runtime_started(info):
    seen.append(info["pid"])


@hookimpl
def ray_runtime_stopping():
    raise ValueError("a defect of the observer")


@hookimpl
def ray_diagnostics():
    return {"watch": "awake"}
"""


@pytest.fixture
def observer(install):
    install("watch-dist", "[ray.observer]\nwatch = watch_plugin\n", {"watch_plugin": OBSERVER})


def test_observers_contribute_and_cannot_stop_a_session(observer, caplog):
    composition = Composition(resolve_plan(observers=["watch"]))
    assert composition.serializers() == [(complex, repr)]
    (sink,) = composition.event_sinks("/session")
    sink.write([{"task": 1}])
    assert [type(command) for command in composition.commands()] == [Command]
    assert composition.diagnostics() == {"watch": "awake"}
    composition.lifecycle("plan_resolved", {})
    composition.lifecycle("runtime_started", {"pid": 17})
    with caplog.at_level(logging.ERROR, "ray.plugins"):
        composition.lifecycle("runtime_stopping", {})
    assert "the plugin observer:watch failed in ray_runtime_stopping" in caplog.text
    assert "a defect of the observer" in caplog.text
    assert sys.modules["watch_plugin"].seen == ["/session", [{"task": 1}], composition.plan.describe(), 17]


def test_observers_are_not_loaded_unless_named(observer, monkeypatch):
    assert Composition(resolve_plan()).serializers() == []
    assert "watch_plugin" not in sys.modules
    monkeypatch.setenv("RAY_OBSERVERS", "watch")
    assert Composition(resolve_plan()).diagnostics() == {"watch": "awake"}


def test_hook_calls_can_be_traced(monkeypatch, capsys):
    monkeypatch.setenv("RAY_TRACE_PLUGINS", "1")
    Composition(resolve_plan()).make_scheduler()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"ray: pid {os.getpid()}: ray_make_scheduler(options) …"
    assert lines[1].startswith(f"ray: pid {os.getpid()}: ray_make_scheduler -> <ray.builtin.schedulers.HybridPolicy")


def test_every_hook_is_reachable_from_a_composition():
    hooks = {name for name in vars(specs) if name.startswith("ray_")}
    source = Path(ray.plugins.compose.__file__).read_text()
    through_lifecycle = {"ray_plan_resolved", "ray_runtime_started", "ray_runtime_stopping"}
    assert {hook for hook in hooks if f'"{hook}"' not in source} == through_lifecycle
    assert {hook for seam in SEAMS.values() for hook in seam.hooks} < hooks
    assert all(vars(specs)[hook].__doc__ for hook in hooks)


def test_hookimpl_is_that_of_this_project():
    @hookimpl
    def ray_make_scheduler() -> None: ...

    assert hasattr(ray_make_scheduler, "ray_impl")


FAR_PLUGIN = """
from ray.plugins import PluginInfo, hookimpl

PLUGIN = PluginInfo(
    seam="transport", name="faraway", api=2, capabilities=frozenset({"processes", "hosts", "watchable"})
)
opened = []


@hookimpl
def ray_open_transport(options, session_dir, node, inner):
    from ray.builtin.unix_transport import UnixTransport

    class Faraway(UnixTransport):
        def listen(self, hint):
            return "far:" + hint

        def fileno(self):
            return self._wake_read

    opened.append((session_dir, node, dict(inner)))
    return Faraway(session_dir)


@hookimpl
def ray_diagnostics():
    return {"faraway": len(opened)}
"""


def test_a_transport_of_two_is_handed_both_and_opens_the_far_one_when_it_needs_it(install, tmp_path):
    install("far-dist", "[ray.transport]\nfaraway = far_plugin\n", {"far_plugin": FAR_PLUGIN})
    plan = resolve_plan(transport="routed", options={"transport": {"far": "faraway"}})
    composition = Composition(ResolvedPlan.from_json(plan.to_json()))
    assert composition.diagnostics()["faraway"] == 0, "its other hooks are heard"
    transport = composition.open_transport(os.path.relpath(tmp_path), 7)
    try:
        address = transport.listen("s")
        opened = sys.modules["far_plugin"].opened
        assert opened == []
        assert transport.listen_far(address) == f"{address}|far:s"
    finally:
        transport.close()
    assert opened == [(os.path.relpath(tmp_path), 7, {})]
