"""Arguments of ``ray.init`` are checked before anything is started, and also where the session there is goes on."""

import pytest

import ray
from ray.exceptions import PluginOptionsError

WRONG = [
    ({"num_cpus": -1}, ValueError, "num_cpus=-1"),
    ({"num_cpus": "3"}, TypeError, "num_cpus must be a number"),
    ({"num_gpus": 1.5}, ValueError, "num_gpus=1.5"),
    ({"resources": {"disk": -1}}, ValueError, "resources"),
    ({"object_store_memory": 10}, ValueError, "object_store_memory .* at least 1,048,576, not 10"),
    ({"object_store_memory": 0}, ValueError, "greater than 0, at least 1,048,576"),
    ({"object_store_memory": "1GB"}, TypeError, "object_store_memory"),
    ({"namespace": ""}, ValueError, "Namespace"),
    ({"log_to_driver": 1}, TypeError, "log_to_driver must be True or False"),
    ({"local_mode": 1}, TypeError, "local_mode must be True or False"),
    ({"ignore_reinit_error": 1}, TypeError, "ignore_reinit_error must be True or False"),
    ({"address": 5}, TypeError, "address must be a string"),
    ({"store": "nosuch"}, LookupError, "nosuch"),
    ({"store": 5}, PluginOptionsError, "store=5"),
    ({"observers": "x"}, PluginOptionsError, "observers='x'"),
    ({"options": 5}, PluginOptionsError, "options must be a table"),
    ({"options": {"stor": {}}}, PluginOptionsError, "Did you mean 'store'"),
    ({"options": {"store": {5: 1}}}, PluginOptionsError, "no option"),
    ({"options": {"scheduler": {"threshold": 2}}}, PluginOptionsError, "threshold"),
    ({"options": {"selector": {"x": 1}}}, PluginOptionsError, "takes no options"),
    ({"options": {"transport": {"x": 1}}}, PluginOptionsError, "takes no options"),
]
OF_PLASMA = [
    ({"spill_dir": "/nope/nope"}, "option 'spill_dir': no file can be written under '/nope/nope'"),
    ({"spill_dir": "/proc"}, "option 'spill_dir': no file can be written under '/proc'"),
    ({"spill_dir": __file__}, "no file can be written"),
    ({"spill_dir": 7}, "spill_dir"),
    ({"capacity_bytes": 10}, "capacity_bytes must be 0 or at least 1,048,576, not 10"),
    ({"full_timeout_s": "x"}, "full_timeout_s"),
    ({"spill_limit_bytes": -1}, "spill_limit_bytes"),
]


@pytest.mark.parametrize("local_mode", [False, True])
def test_the_first_time(local_mode):
    for given, kind, text in WRONG:
        with pytest.raises(kind, match=text):
            ray.init(**{"local_mode": local_mode} | given)
        assert not ray.is_initialized()


@pytest.mark.parametrize(("given", "text"), OF_PLASMA)
def test_options_of_the_store(given, text):
    pytest.importorskip("ray_store_plasma")
    with pytest.raises(PluginOptionsError, match=text):
        ray.init(store="plasma", options={"store": given})
    assert not ray.is_initialized()


def test_a_directory_is_looked_at_only_where_it_is_used(tmp_path):
    pytest.importorskip("ray_store_plasma")
    for given in ({"spill_dir": "/nope/nope", "spill": False}, {"spill_dir": str(tmp_path)}):
        with ray.init(num_cpus=1, store="plasma", options={"store": given}):
            assert ray.get(ray.put(1)) == 1


def test_the_second_time():
    with ray.init(num_cpus=1, local_mode=True):
        for given, kind, text in WRONG:
            with pytest.raises(kind, match=text):
                ray.init(**{"ignore_reinit_error": True} | given)
        for harmless in ({}, {"num_cpus": 4}, {"store": "heap"}, {"object_store_memory": 1 << 20}):
            assert ray.init(ignore_reinit_error=True, **harmless)["node_id"]
        with pytest.raises(RuntimeError, match="twice"):
            ray.init(num_cpus=1)
