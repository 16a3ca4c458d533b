"""A misspelled name in ray.toml is said, wherever it stands."""

import pytest

import ray
from ray.exceptions import PluginError


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[options.store.shn]\nsize = 1", r"options\.store\.shn \(from .*ray\.toml\): 'shn' is not a known store\."),
        ("[options.store.plasm]\nsize = 1", r"Did you mean 'plasma'\?"),
        ("[options.store.plasm]", r"options\.store\.plasm: 'plasm' is not a known store\."),
        ("[options.transport.unx]\nsize = 1", r"Did you mean 'unix'\?"),
        ("[options.executor.asincio]\nsize = 1", r"Did you mean 'asyncio'\?"),
    ],
)
def test_it_is_refused(table, message, tmp_path, monkeypatch):
    (tmp_path / "ray.toml").write_text(table)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match=message):
        ray.init(num_cpus=1)
    assert not ray.is_initialized()


@pytest.mark.parametrize("table", ["[options.transport.zmq]", '[options.store."own.store"]\nsize = 1'])
def test_options_of_what_is_not_chosen_stay_unread(table, tmp_path, monkeypatch):
    (tmp_path / "ray.toml").write_text(table)
    monkeypatch.chdir(tmp_path)
    with ray.init(local_mode=True):
        pass
