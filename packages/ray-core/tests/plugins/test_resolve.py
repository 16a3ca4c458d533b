"""Resolution without a file system: choices and candidates in, plan or sentence out."""

from typing import Any

import msgspec
import pytest

from ray.config import Setting, Settings
from ray.exceptions import (
    AmbiguousPluginError,
    IncompatiblePluginsError,
    PluginContractError,
    PluginNotInstalledError,
    PluginOptionsError,
    UnknownPluginError,
)
from ray.plugins.candidate import Candidate, Inventory
from ray.plugins.plan import ResolvedPlan
from ray.plugins.resolve import resolve
from ray.plugins.specs import PluginInfo


class Options(msgspec.Struct):
    capacity: int = 7
    name: str = "x"


def info(seam: str, name: str, **more: Any) -> PluginInfo:
    return PluginInfo(seam=seam, name=name, api=2, **more)


CORE = {
    ("store", "heap"): info("store", "heap"),
    ("transport", "unix"): info("transport", "unix", capabilities=frozenset({"processes"})),
    ("transport", "inproc"): info("transport", "inproc"),
    ("scheduler", "hybrid"): info("scheduler", "hybrid"),
    ("scheduler", "spread"): info("scheduler", "spread"),
    ("control", "embedded"): info("control", "embedded"),
    ("executor", "serial"): info("executor", "serial"),
    ("executor", "threads"): info("executor", "threads"),
}
SHM = {("store", "shm"): info("store", "shm", capabilities=frozenset({"shared", "notifications"}), options=Options)}
PLASMA = {("store", "plasma"): info("store", "plasma", capabilities=frozenset({"shared", "notifications"}))}
EPOLL = {("selector", "epoll"): info("selector", "epoll", needs_store=frozenset({"notifications"}))}


class Installation:
    """What is installed, and a record of what was looked into."""

    def __init__(self, *groups: dict[tuple[str, str], PluginInfo], versions: dict[str, str] | None = None) -> None:
        self.infos = {key: value for group in groups for key, value in group.items()}
        self.failures: dict[tuple[str, str], Exception] = {}
        self.asked: list[tuple[str, str]] = []
        plugins: dict[str, dict[str, tuple[Candidate, ...]]] = {}
        for seam, name in self.infos:
            plugins.setdefault(seam, {})[name] = (Candidate(seam, name, f"m.{name}", f"d-{name}", "1.0"),)
        self.inventory = Inventory(plugins, versions or {"ray-core": "0.1.0"})

    def info_of(self, candidate: Candidate) -> PluginInfo:
        key = (candidate.seam, candidate.name)
        self.asked.append(key)
        if key in self.failures:
            raise self.failures[key]
        return self.infos[key]

    def resolve(self, settings: Settings | None = None, *, local_mode: bool = False, **choices: str) -> ResolvedPlan:
        if settings is None:
            settings = Settings({seam: Setting(v, f"from ray.init({seam}=...)") for seam, v in choices.items()})
        return resolve(settings, self.inventory, self.info_of, local_mode=local_mode)


def names(plan: ResolvedPlan) -> dict[str, str]:
    return {seam: part.name for seam, part in plan.parts.items()}


def test_defaults_of_the_core_alone():
    plan = Installation(CORE).resolve()
    assert names(plan) == {"store": "heap", "transport": "unix", "scheduler": "hybrid", "control": "embedded"}
    assert plan.store.source == "default: the first installed of plasma, shm, heap"
    assert plan.transport.source == "default"
    assert plan.selector is None
    assert plan.executor is None
    assert sorted(plan.executors) == ["serial", "threads"]
    assert plan.notes == ["no selector is in use: none of epoll, poll is installed and fits"]
    assert plan.describe() == "store=heap transport=unix scheduler=hybrid control=embedded selector=none"


@pytest.mark.parametrize(
    ("installed", "store"), [([], "heap"), ([SHM], "shm"), ([PLASMA], "plasma"), ([SHM, PLASMA], "plasma")]
)
def test_default_store_is_the_first_installed(installed, store):
    assert Installation(CORE, *installed).resolve().store.name == store


def test_only_what_is_chosen_is_looked_into():
    here = Installation(CORE, SHM, PLASMA)
    here.resolve(store="shm", scheduler="spread")
    assert here.asked == [("store", "shm"), ("transport", "unix"), ("scheduler", "spread"), ("control", "embedded")]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"store": "plasma"},
            (
                "store='plasma' (from ray.init(store=...)) needs the package 'ray-store-plasma'; install it: "
                'pip install "ray-core[plasma]"'
            ),
        ),
        (
            {"store": "shm"},
            (
                "store='shm' (from ray.init(store=...)) needs the package 'ray-store-shm'; install it: "
                'pip install "ray-core[shm]"'
            ),
        ),
        (
            {"transport": "zmq"},
            (
                "transport='zmq' (from ray.init(transport=...)) needs the package 'ray-transport-zmq'; install it: "
                'pip install "ray-core[zmq]"'
            ),
        ),
        (
            {"selector": "epoll"},
            (
                "selector='epoll' (from ray.init(selector=...)) needs the package 'ray-async'; install it: "
                'pip install "ray-core[async]"'
            ),
        ),
        (
            {"executor": "asyncio"},
            (
                "executor='asyncio' (from ray.init(executor=...)) needs the package 'ray-async'; install it: "
                'pip install "ray-core[async]"'
            ),
        ),
        (
            {"control": "redis"},
            (
                "control='redis' (from ray.init(control=...)) needs the package 'redis'; install it: "
                'pip install "ray-core[redis]"'
            ),
        ),
    ],
)
def test_known_names_that_are_not_installed(choice, message):
    with pytest.raises(PluginNotInstalledError) as caught:
        Installation(CORE).resolve(**choice)
    assert str(caught.value) == message
    assert isinstance(caught.value, ImportError)


def test_a_package_that_does_not_hold_its_plugin():
    here = Installation(CORE, versions={"ray-store-plasma": "0.0.9", "ray-core": "0.1.0"})
    with pytest.raises(PluginNotInstalledError) as caught:
        here.resolve(store="plasma")
    assert str(caught.value) == (
        "store='plasma' (from ray.init(store=...)) is not in the installed 'ray-store-plasma' 0.0.9; "
        'look for a newer one: pip install --upgrade "ray-core[plasma]"'
    )


def of_the_core(**versions: str) -> Installation:
    """With the plugin that the core brings for a library."""
    here = Installation(
        CORE, {("control", "redis"): info("control", "redis")}, versions={"ray-core": "0.1.0"} | versions
    )
    offer = Candidate("control", "redis", "m.redis", "ray-core", "0.1.0")
    plugins = here.inventory.plugins
    here.inventory = Inventory(
        {**plugins, "control": {**plugins["control"], "redis": (offer,)}}, here.inventory.versions
    )
    return here


def test_a_plugin_of_the_core_that_needs_a_library():
    with pytest.raises(PluginNotInstalledError) as caught:
        of_the_core().resolve(control="redis")
    assert str(caught.value) == (
        "control='redis' (from ray.init(control=...)) needs the package 'redis'; install it: "
        'pip install "ray-core[redis]"'
    )
    assert of_the_core(redis="8.1.0").resolve(control="redis").control.name == "redis"


def test_such_a_name_may_be_offered_by_others():
    here = Installation(CORE, {("control", "redis"): info("control", "redis")})
    assert here.resolve(control="redis").control.name == "redis"


@pytest.mark.parametrize(
    ("value", "end"),
    [("shn", "Did you mean 'shm'?"), ("hep", "Did you mean 'heap'?"), ("tracd", "Did you mean 'traced'?")],
)
def test_unknown_names(value, end):
    here = Installation(CORE, {("store", "traced"): info("store", "traced")})
    with pytest.raises(UnknownPluginError) as caught:
        here.resolve(Settings({"store": Setting(value, "from environment RAY_STORE")}))
    assert str(caught.value) == f"store={value!r} (from environment RAY_STORE) is not a known store. {end}"
    assert isinstance(caught.value, LookupError)


def test_unknown_names_like_none():
    with pytest.raises(UnknownPluginError) as caught:
        Installation(CORE).resolve(scheduler="zzz")
    assert str(caught.value) == (
        "scheduler='zzz' (from ray.init(scheduler=...)) is not a known scheduler. Known: 'hybrid', 'spread'."
    )


def ambiguous(name: str = "traced") -> Installation:
    here = Installation(CORE)
    offers = (Candidate("store", name, "a.plugin", "a-dist", "1.0"), Candidate("store", name, "b", "b-dist", "2.0"))
    here.inventory = Inventory({**here.inventory.plugins, "store": {**here.inventory.plugins["store"], name: offers}})
    return here


def test_two_distributions_offer_one_name():
    with pytest.raises(AmbiguousPluginError) as caught:
        ambiguous().resolve(store="traced")
    assert str(caught.value) == (
        "store='traced' (from ray.init(store=...)) is offered by 'a-dist' 1.0 and 'b-dist' 2.0: "
        "pip uninstall one of them, or give the module: store='a.plugin'"
    )


def test_ambiguity_matters_only_where_it_is_chosen():
    assert ambiguous().resolve().store.name == "heap"
    with pytest.raises(AmbiguousPluginError, match="default: the first installed of plasma, shm, heap"):
        ambiguous("plasma").resolve()


def test_incompatible_selector():
    with pytest.raises(IncompatiblePluginsError) as caught:
        Installation(CORE, EPOLL).resolve(selector="epoll")
    assert str(caught.value) == (
        "selector='epoll' needs store notifications; store='heap' has none: "
        "use selector='poll' or store 'plasma' or 'shm'"
    )
    assert Installation(CORE, EPOLL, SHM).resolve(selector="epoll").selector.name == "epoll"


def test_a_default_selector_that_does_not_fit_is_passed_over_and_noted():
    plan = Installation(CORE, EPOLL).resolve()
    assert plan.selector is None
    assert plan.notes == [
        (
            "selector='epoll' was passed over: selector='epoll' needs store notifications; store='heap' has none: "
            "use selector='poll' or store 'plasma' or 'shm'"
        ),
        "no selector is in use: none of epoll, poll is installed and fits",
    ]
    assert Installation(CORE, EPOLL, {("selector", "poll"): info("selector", "poll")}).resolve().selector.name == "poll"
    assert Installation(CORE, EPOLL, SHM).resolve().selector.name == "epoll"


def test_a_default_that_is_broken_is_passed_over_but_a_choice_is_not():
    here = Installation(CORE, SHM)
    here.failures["store", "shm"] = PluginNotInstalledError("store='shm' cannot be imported: boom")
    plan = here.resolve()
    assert plan.store.name == "heap"
    assert plan.notes[0] == "store='shm' was passed over: store='shm' cannot be imported: boom"
    with pytest.raises(PluginNotInstalledError, match="boom"):
        here.resolve(store="shm")
    here.failures["store", "heap"] = PluginContractError("heap is broken")
    with pytest.raises(PluginContractError, match="heap is broken"):
        here.resolve()


def test_an_installation_without_metadata_says_so():
    with pytest.raises(PluginNotInstalledError) as caught:
        Installation(versions={"other": "1"}).resolve()
    assert str(caught.value) == (
        "store='heap' (default: the first installed of plasma, shm, heap) needs the package 'ray-core'; "
        'install it: pip install "ray-core"'
    )


def test_a_transport_within_one_process_needs_local_mode():
    with pytest.raises(IncompatiblePluginsError) as caught:
        Installation(CORE).resolve(transport="inproc")
    assert str(caught.value) == (
        "transport='inproc' does not leave its process, but a session has several: "
        "use transport='unix' or ray.init(local_mode=True)"
    )
    assert Installation(CORE).resolve(transport="inproc", local_mode=True).transport.name == "inproc"


@pytest.mark.parametrize("value", ["my.mod", "mod:thing", "my.mod:a.b"])
def test_dotted_paths(value):
    here = Installation(CORE)
    here.infos["store", value] = info("store", "mine")
    plan = here.resolve(store=value)
    assert (plan.store.name, plan.store.module, plan.store.distribution) == (value, value, "")


def settings(
    choices: dict[str, str], keyword: dict[str, dict[str, Any]] | None = None, file: dict[str, Any] | None = None
) -> Settings:
    return Settings(
        {seam: Setting(value, "from ray.toml") for seam, value in choices.items()},
        keyword_options={
            seam: {key: Setting(value, "from ray.init(options=...)") for key, value in options.items()}
            for seam, options in (keyword or {}).items()
        },
        file_options={
            seam: {
                name: {key: Setting(value, "from ray.toml") for key, value in options.items()}
                for name, options in plugins.items()
            }
            for seam, plugins in (file or {}).items()
        },
    )


def test_options_are_complete_and_keep_their_sources():
    here = Installation(CORE, SHM)
    plan = here.resolve(settings({}, {"store": {"name": "k"}}, {"store": {"shm": {"name": "f", "capacity": 3}}}))
    assert plan.store.options == {"capacity": 3, "name": "k"}
    assert plan.store.option_sources == {"capacity": "from ray.toml", "name": "from ray.init(options=...)"}
    assert here.resolve().store.options == {"capacity": 7, "name": "x"}


def test_options_of_the_file_belong_to_their_plugin_only():
    plan = Installation(CORE, SHM).resolve(settings({"store": "heap"}, file={"store": {"shm": {"capacity": 3}}}))
    assert plan.store.options == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            settings({"store": "shm"}, {"store": {"capasity": 1}}),
            "store='shm' has no option 'capasity' (from ray.init(options=...)). Did you mean 'capacity'?",
        ),
        (
            settings({"store": "shm"}, file={"store": {"shm": {"capacity": "big"}}}),
            "store='shm': option 'capacity' (from ray.toml): expected 'int', got 'str'",
        ),
        (
            settings({"store": "heap"}, {"store": {"capacity": 1}}),
            "store='heap' takes no options, but 'capacity' was given (from ray.init(options=...))",
        ),
        (
            settings({}, {"selector": {"a": 1}}),
            "options['selector'] was given, but no selector is chosen: add selector=...",
        ),
        (
            settings({}, {"executor": {"a": 1}}),
            "options['executor'] was given, but no executor is chosen: add executor=...",
        ),
        (
            settings({}, file={"executor": {"threads": {"a": 1}}}),
            "executor='threads' takes no options, but 'a' was given (from ray.toml)",
        ),
    ],
)
def test_options_that_do_not_fit(given, message):
    with pytest.raises(PluginOptionsError) as caught:
        Installation(CORE, SHM).resolve(given)
    assert str(caught.value) == message


def test_an_executor_for_everything():
    plan = Installation(CORE).resolve(executor="threads")
    assert plan.executor is not None
    assert plan.executor.name == "threads"
    assert sorted(plan.executors) == ["serial", "threads"]


def test_observers_are_loaded_by_name_only():
    here = Installation(CORE, {("observer", "watch"): info("observer", "watch")})
    assert here.resolve().observers == []
    named = Settings(observers=Setting(("watch",), "from environment RAY_OBSERVERS"))
    (watch,) = here.resolve(named).observers
    assert (watch.name, watch.source) == ("watch", "from environment RAY_OBSERVERS")
    with pytest.raises(UnknownPluginError) as caught:
        here.resolve(Settings(observers=Setting(("wtch",), "from environment RAY_OBSERVERS")))
    assert str(caught.value) == (
        "observer='wtch' (from environment RAY_OBSERVERS) is not a known observer. Did you mean 'watch'?"
    )


def test_plans_travel_and_compare():
    here = Installation(CORE, SHM, EPOLL)
    plan = here.resolve(settings({"store": "shm"}, {"store": {"capacity": 5}}))
    assert ResolvedPlan.from_json(plan.to_json()) == plan
    assert ResolvedPlan.from_json(plan.to_json().decode()) == plan
    assert ResolvedPlan.from_json(plan.to_json()).digest == plan.digest
    assert len(plan.digest) == 32
    same_by_another_way = here.resolve(settings({}, file={"store": {"shm": {"capacity": 5}}}))
    assert same_by_another_way.digest == plan.digest
    assert here.resolve(settings({"store": "shm"}, {"store": {"capacity": 6}})).digest != plan.digest
    assert here.resolve(store="shm").digest != plan.digest
    assert here.resolve(scheduler="spread").digest != here.resolve().digest


@pytest.mark.parametrize(("machine_options", "equal"), [(frozenset({"capacity"}), True), (frozenset({"x"}), False)])
def test_what_is_of_one_machine_is_not_compared(machine_options, equal):
    shm = {("store", "shm"): info("store", "shm", options=Options, machine_options=machine_options)}
    here = Installation(CORE, shm)
    plans = [here.resolve(settings({"store": "shm"}, {"store": {"capacity": capacity}})) for capacity in (5, 6)]
    digests = {ResolvedPlan.from_json(plan.to_json()).digest for plan in plans}
    assert (len(digests) == 1) == equal
    assert [plan.store.options["capacity"] for plan in plans] == [5, 6]


def test_where_the_code_lies_is_not_compared_but_its_version_is():
    plan = Installation(CORE).resolve()
    for changes, equal in (({"module": "elsewhere.plugin"}, True), ({"version": "2.0"}, False), ({"name": "b"}, False)):
        changed = msgspec.structs.replace(plan.store, **changes)
        other = msgspec.structs.replace(plan, parts={**plan.parts, "store": changed})
        assert (other.digest == plan.digest) == equal, changes


class RoutedOptions(msgspec.Struct):
    near: str = "unix"
    far: str = "zmq"
    near_options: dict[str, Any] = {}
    far_options: dict[str, Any] = {}


class ZmqOptions(msgspec.Struct):
    scheme: str = "ipc"
    host: str = "127.0.0.1"

    def check_machine(self) -> None:
        if self.host == "10.9.9.9":
            raise ValueError("there is no such interface")


ROUTED = {
    ("transport", "routed"): info(
        "transport",
        "routed",
        capabilities=frozenset({"processes", "hosts"}),
        options=RoutedOptions,
        inner={"near": frozenset({"processes"}), "far": frozenset({"hosts", "watchable"})},
    ),
    ("transport", "slow"): info("transport", "slow", capabilities=frozenset({"processes", "hosts"})),
}
ZMQ = {
    ("transport", "zmq"): info(
        "transport",
        "zmq",
        capabilities=frozenset({"processes", "hosts", "watchable"}),
        options=ZmqOptions,
        machine_options=frozenset({"host"}),
        capability_options={"hosts": {"scheme": "tcp"}},
    )
}


def routed(
    options: dict[str, Any] | None = None, file: dict[str, dict[str, Any]] | None = None, *installed: Any
) -> ResolvedPlan:
    settings = Settings(
        choices={"transport": Setting("routed", "from ray.init(transport=...)")},
        keyword_options={"transport": {name: Setting(value, "by keyword") for name, value in (options or {}).items()}},
        file_options={
            "transport": {
                plugin: {name: Setting(value, "from ray.toml") for name, value in given.items()}
                for plugin, given in (file or {}).items()
            }
        },
    )
    return Installation(CORE, ROUTED, *(installed or (ZMQ,))).resolve(settings)


def test_a_transport_of_two_brings_both_into_the_plan():
    part = routed().transport
    assert part.options == {"near": "unix", "far": "zmq"}
    assert list(part.inner) == ["near", "far"]
    assert [each.name for each in part.with_inner] == ["routed", "unix", "zmq"]
    far = part.inner["far"]
    assert far.module == "m.zmq"
    assert far.source == "far of transport='routed'"
    assert far.options == {"scheme": "tcp", "host": "127.0.0.1"}
    assert far.option_sources == {"scheme": "for far of transport='routed'"}
    assert far.machine_options == ["host"]
    assert ResolvedPlan.from_json(routed().to_json()) == routed()


def test_the_options_of_both_come_from_the_file_and_from_the_keyword():
    file = {"zmq": {"host": "10.0.0.1"}, "routed": {"near": "slow"}}
    part = routed({}, file).transport
    assert (part.options["near"], part.inner["near"].name) == ("slow", "slow")
    assert part.inner["far"].options["host"] == "10.0.0.1"
    assert part.inner["far"].option_sources["host"] == "from ray.toml"
    far = routed({"far_options": {"host": "10.0.0.2"}}, file).transport.inner["far"]
    assert (far.options["host"], far.option_sources["host"]) == ("10.0.0.2", "by keyword")


def test_what_is_of_one_machine_is_not_in_the_digest_of_the_inner_ones_either():
    plans = [routed({"far_options": {"host": host}}) for host in ("10.0.0.1", "10.0.0.2")]
    assert plans[0] != plans[1]
    assert plans[0].digest == plans[1].digest == routed().digest
    assert routed({"near": "slow"}).digest != routed().digest
    other = msgspec.structs.replace(routed().transport.inner["far"], version="2.0")
    part = msgspec.structs.replace(routed().transport, inner={**routed().transport.inner, "far": other})
    plan = routed()
    assert msgspec.structs.replace(plan, parts={**plan.parts, "transport": part}).digest != plan.digest


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"far": "unix"},
            IncompatiblePluginsError,
            "transport='unix' cannot be far of transport='routed', as it lacks hosts and watchable: use far='zmq'",
        ),
        (
            {"far": "slow"},
            IncompatiblePluginsError,
            "transport='slow' cannot be far of transport='routed', as it lacks watchable: use far='zmq'",
        ),
        (
            {"near": "inproc"},
            IncompatiblePluginsError,
            "transport='inproc' cannot be near of transport='routed', as it lacks processes: use near='unix' or 'zmq'",
        ),
        (
            {"near": "routed"},
            IncompatiblePluginsError,
            (
                "transport='routed' cannot be near of transport='routed', as it is made of others itself: "
                "use near='unix' or 'zmq'"
            ),
        ),
        (
            {"far_options": {"scheme": "ipc"}},
            IncompatiblePluginsError,
            (
                "transport='zmq' with scheme='ipc' (by keyword) cannot be far of transport='routed', "
                "which takes scheme='tcp'"
            ),
        ),
        (
            {"far_options": {"hots": "10.0.0.1"}},
            PluginOptionsError,
            "transport='zmq' has no option 'hots' (by keyword). Did you mean 'host'?",
        ),
        (
            {"near_options": {"x": 1}},
            PluginOptionsError,
            "transport='unix' takes no options, but 'x' was given (by keyword)",
        ),
        (
            {"far_options": {"host": "10.9.9.9"}},
            PluginOptionsError,
            "transport='zmq': there is no such interface",
        ),
        (
            {"far": "zmpq"},
            UnknownPluginError,
            "transport='zmpq' (far of transport='routed') is not a known transport. Did you mean 'zmq'?",
        ),
    ],
)
def test_what_cannot_be_one_of_the_two_is_refused(options, kind, message):
    with pytest.raises(kind) as caught:
        routed(options)
    assert str(caught.value) == message


def test_a_package_that_the_far_one_needs_is_named():
    with pytest.raises(PluginNotInstalledError) as caught:
        routed({}, {}, {})
    assert str(caught.value) == (
        "transport='zmq' (far of transport='routed') needs the package 'ray-transport-zmq'; install it: "
        'pip install "ray-core[zmq]"'
    )
