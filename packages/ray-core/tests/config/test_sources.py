from pathlib import Path
from typing import Any

import pytest

from ray.config import Setting, Settings, gather, read_file
from ray.config.sources import ConfigFile
from ray.exceptions import PluginOptionsError

SEAMS = {"store": "RAY_STORE", "transport": "RAY_TRANSPORT"}


def ask(
    cwd: Path,
    environ: dict[str, str] | None = None,
    options: dict[str, Any] | None = None,
    observers: Any = None,
    **keywords: Any,
) -> Settings:
    return gather(SEAMS, keywords, options or {}, observers, environ or {}, cwd)


def refusal(cwd: Path, **arguments: Any) -> str:
    with pytest.raises(PluginOptionsError) as caught:
        ask(cwd, **arguments)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


def test_nothing_asked_for(tmp_path):
    assert ask(tmp_path) == Settings()


def test_the_first_source_that_speaks_wins(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.ray]\nstore = "from-pyproject"\n')
    assert ask(tmp_path).choices["store"] == Setting("from-pyproject", "from pyproject.toml [tool.ray]")
    (tmp_path / "ray.toml").write_text('store = "from-toml"\n')
    assert ask(tmp_path).choices["store"] == Setting("from-toml", "from ray.toml")
    (tmp_path / "other.toml").write_text('store = "from-named"\n')
    environ = {"RAY_CONFIG": "other.toml"}
    assert ask(tmp_path, environ).choices["store"] == Setting("from-named", "from file other.toml (RAY_CONFIG)")
    environ["RAY_STORE"] = "from-env"
    assert ask(tmp_path, environ).choices["store"] == Setting("from-env", "from environment RAY_STORE")
    assert ask(tmp_path, environ, store="kw").choices["store"] == Setting("kw", "from ray.init(store=...)")


def test_sources_are_chosen_for_each_seam_alone(tmp_path):
    (tmp_path / "ray.toml").write_text('store = "a"\ntransport = "b"\n')
    choices = ask(tmp_path, {"RAY_STORE": "c"}).choices
    assert choices == {"store": Setting("c", "from environment RAY_STORE"), "transport": Setting("b", "from ray.toml")}


def test_one_file_counts_and_files_are_not_merged(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.ray]\ntransport = "x"\n')
    (tmp_path / "ray.toml").write_text('store = "a"\n')
    assert set(ask(tmp_path).choices) == {"store"}


def test_an_empty_variable_is_unset(tmp_path):
    assert ask(tmp_path, {"RAY_STORE": "", "RAY_CONFIG": ""}).choices == {}


def test_parents_are_not_searched(tmp_path):
    (tmp_path / "ray.toml").write_text('store = "a"\n')
    inner = tmp_path / "inner"
    inner.mkdir()
    assert ask(inner).choices == {}


def test_a_pyproject_of_somebody_else_is_not_even_parsed(tmp_path):
    (tmp_path / "pyproject.toml").write_text("this is not TOML")
    assert read_file({}, tmp_path) == ConfigFile()
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["ray-core"]\n')
    assert ask(tmp_path) == Settings()


@pytest.mark.parametrize("own", ['[project]\nname = "ray"', '[tool.x]\nmodules = ["ray.x"]', "[tool.x.ray]"])
def test_a_pyproject_that_only_names_the_package_is_not_parsed(tmp_path, own):
    (tmp_path / "pyproject.toml").write_text(f"{own}\nthis is not TOML")
    assert read_file({}, tmp_path) == ConfigFile()


@pytest.mark.parametrize(
    "text",
    [
        '[tool.ray]\nstore = "a"',
        '[ "tool" . \'ray\' ]\nstore = "a"',
        '[tool]\nray.store = "a"',
        '[tool]\nray = {store = "a"}',
        'tool.ray.store = "a"',
        'tool . "ray" . store = "a"',
        "tool = {ray = {store = 'a'}}",
        "'tool' = {ray.store = 'a'}",
    ],
)
def test_the_table_of_a_pyproject_is_found_however_it_is_written(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    assert ask(tmp_path).choices["store"].value == "a"


def test_a_pyproject_can_be_named(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.ray]\nstore = "a"\n')
    assert ask(tmp_path, {"RAY_CONFIG": str(path)}).choices["store"].source == f"from file {path} (RAY_CONFIG)"


def test_options_of_keyword_and_file(tmp_path):
    (tmp_path / "ray.toml").write_text("[options.store.shm]\nsize = 1\ndepth = 2\n")
    settings = ask(tmp_path, options={"store": {"size": 3}})
    assert settings.options_for("store", "shm") == {
        "size": Setting(3, "from ray.init(options=...)"),
        "depth": Setting(2, "from ray.toml"),
    }
    assert settings.options_for("store", "shm", chosen=False) == {
        "size": Setting(1, "from ray.toml"),
        "depth": Setting(2, "from ray.toml"),
    }
    assert settings.options_for("store", "heap", chosen=False) == {}


@pytest.mark.parametrize(
    ("keyword", "variable", "toml", "expected"),
    [
        (["k"], "e", '["f"]', Setting(("k",), "from ray.init(observers=...)")),
        (None, "e, g,", '["f"]', Setting(("e", "g"), "from environment RAY_OBSERVERS")),
        (None, "", '["f"]', Setting((), "from environment RAY_OBSERVERS")),
        (None, None, '["f"]', Setting(("f",), "from ray.toml")),
        ([], "e", '["f"]', Setting((), "from ray.init(observers=...)")),
        (None, None, None, Setting((), "default")),
    ],
)
def test_observers(tmp_path, keyword, variable, toml, expected):
    if toml is not None:
        (tmp_path / "ray.toml").write_text(f"observers = {toml}\n")
    environ = {} if variable is None else {"RAY_OBSERVERS": variable}
    assert ask(tmp_path, environ, observers=keyword).observers == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('stor = "a"', "ray.toml: unknown key 'stor'. Did you mean 'store'?"),
        ("zz = 1", "ray.toml: unknown key 'zz'. Known: 'observers', 'options', 'store', 'transport'."),
        ("store = 3", "store=3 (from ray.toml) must be the name of a plugin or a dotted path to one"),
        ('store = ""', "store='' (from ray.toml) must be the name of a plugin or a dotted path to one"),
        ("options = 3", "ray.toml: options must be a table, not 3"),
        ("[options]\nstore = 3", "ray.toml: options.store must be a table, not 3"),
        ("[options.store]\nsize = 3", "ray.toml: options.store.size must be a table, not 3"),
        ("[options.stor.a]\nb = 1", "ray.toml: options: 'stor' is not a seam. Did you mean 'store'?"),
        ('observers = "a"', "observers='a' (from ray.toml) must be a list of names"),
        ("observers = 1", "observers=1 (from ray.toml) must be a list of names"),
        ("observers = [1]", "observers=[1] (from ray.toml) must be a list of names"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    (tmp_path / "ray.toml").write_text(text)
    assert refusal(tmp_path) == message


def test_files_that_cannot_be_read(tmp_path):
    assert refusal(tmp_path, environ={"RAY_CONFIG": "absent.toml"}) == (
        "RAY_CONFIG='absent.toml' cannot be read: No such file or directory"
    )
    (tmp_path / "ray.toml").write_bytes(b"store = \xff")
    assert refusal(tmp_path).startswith("ray.toml is not valid TOML: 'utf-8' codec can't decode")
    (tmp_path / "ray.toml").write_text("store =")
    assert refusal(tmp_path) == "ray.toml is not valid TOML: Invalid value (at end of document)"
    (tmp_path / "ray.toml").unlink()
    (tmp_path / "pyproject.toml").write_text("tool = {ray = 3}")
    assert refusal(tmp_path) == "pyproject.toml [tool.ray] must be a table, not 3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"store": 3}, "store=3 (from ray.init(store=...)) must be the name of a plugin or a dotted path to one"),
        ({"options": {"stor": {}}}, "options: 'stor' is not a seam. Did you mean 'store'?"),
        ({"options": {"store": 1}}, "options['store'] must be a table, not 1"),
        ({"options": 5}, "options must be a table, not 5"),
        ({"observers": "watch"}, "observers='watch' (from ray.init(observers=...)) must be a list of names"),
    ],
)
def test_arguments_that_are_refused(tmp_path, arguments, message):
    assert refusal(tmp_path, **arguments) == message
