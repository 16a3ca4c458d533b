import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from ray.exceptions import (
    IncompatiblePluginsError,
    PluginContractError,
    PluginNotInstalledError,
)
from ray.plugins.candidate import Candidate
from ray.plugins.discovery import foreign_owners, info_of, ownership_conflict, path_candidate, scan


def test_built_in_parts_are_found_by_their_entry_points():
    found = {(seam, name) for seam, names in scan().plugins.items() for name in names}
    assert found >= {
        ("store", "heap"), ("transport", "unix"), ("transport", "inproc"), ("scheduler", "hybrid"),
        ("scheduler", "spread"), ("control", "embedded"), ("executor", "serial"), ("executor", "threads"),
    }  # fmt: skip
    (heap,) = scan().plugins["store"]["heap"]
    assert heap == Candidate("store", "heap", "ray.builtin.plugins.heap", "ray-core", metadata.version("ray-core"))


def test_agrees_with_the_standard_library():
    ours = {(c.seam, c.name, c.target) for n in scan().plugins.values() for cs in n.values() for c in cs}
    theirs = {
        (point.group.removeprefix("ray."), point.name, point.value)
        for group in metadata.entry_points().groups
        if group.startswith("ray.")
        for point in metadata.entry_points(group=group)
    }
    assert ours == theirs


def test_reads_groups_comments_spaces_and_extras(install, site):
    install(
        "Some.Thing_else",
        """
        # ray.store = in a comment
        [console_scripts]
        ray.store = not:ours

        [ray.store]
        one = pkg.one
        ; two = pkg.two
        three=pkg.three : obj.attr [extra]

        [ray.transport]
        one = pkg.transport
        """,
        version="2.1.dev0+local",
    )
    found = scan([str(site)])
    assert found.versions == {"some-thing-else": "2.1.dev0+local"}
    assert {
        seam: {name: [c.target for c in cs] for name, cs in names.items()} for seam, names in found.plugins.items()
    } == {
        "store": {"one": ["pkg.one"], "three": ["pkg.three:obj.attr"]},
        "transport": {"one": ["pkg.transport"]},
    }


def test_the_first_distribution_of_a_name_hides_later_ones(install, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    install("dist-a", "[ray.store]\nx = new\n", version="2.0", folder=first)
    install("dist_A", "[ray.store]\nx = old\n", version="1.0", folder=second)
    found = scan([str(first), str(second)])
    assert found.plugins["store"]["x"] == (Candidate("store", "x", "new", "dist-a", "2.0"),)


def test_development_folders_and_archives_are_read(tmp_path):
    egg = tmp_path / "src" / "thing.egg-info"
    egg.mkdir(parents=True)
    (egg / "entry_points.txt").write_text("[ray.store]\nsource = thing\n")
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped-3.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: zipped\nVersion: 3.0\n")
        file.writestr("zipped-3.0.dist-info/entry_points.txt", "[ray.store]\nzipped = zipped\n")
    found = scan([str(tmp_path / "src"), str(archive), str(tmp_path / "absent")])
    assert set(found.plugins["store"]) == {"source", "zipped"}
    assert found.versions == {"thing": "", "zipped": "3.0"}


def test_unusable_metadata_is_not_fatal(site):
    (site / "nohyphen.dist-info").mkdir()
    (site / "afile-1.0.dist-info").write_text("")
    (site / "binary-1.0.dist-info").mkdir()
    (site / "binary-1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe[ray.store]\nodd\n\xff = x\n")
    assert scan([str(site)]).plugins == {}


def test_scanning_imports_nothing(install):
    install("lazy-dist", "[ray.store]\nlazy = lazy_module\n", {"lazy_module": "raise RuntimeError('imported')"})
    assert "lazy" in scan().plugins["store"]
    assert "lazy_module" not in sys.modules


def test_import_failure_names_the_plugin(install):
    install("broken-dist", "[ray.store]\nbroken = broken_module\n", {"broken_module": "1 / 0"})
    (candidate,) = scan().plugins["store"]["broken"]
    with pytest.raises(PluginNotInstalledError) as caught:
        info_of(candidate)
    assert str(caught.value) == (
        "store='broken' (package 'broken-dist' 1.0) cannot be imported: ZeroDivisionError: division by zero"
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert (caught.value.seam, caught.value.plugin) == ("store", "broken")


def test_a_missing_library_ends_in_a_command(install):
    install("needy-dist", "[ray.store]\nneedy = needy_module\n", {"needy_module": "import absent_library"})
    (candidate,) = scan().plugins["store"]["needy"]
    with pytest.raises(ImportError) as caught:
        info_of(candidate)
    assert str(caught.value) == (
        "store='needy' (package 'needy-dist' 1.0) cannot be imported: ModuleNotFoundError: No module named "
        "'absent_library'; install what it needs: pip install --upgrade needy-dist"
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            ("api=2", "api=3"),
            IncompatiblePluginsError,
            (
                "store='traced' (package 'traced-dist' 1.0) is written for plugin API 3, but this ray-core has 2: "
                "pip install --upgrade ray-core"
            ),
        ),
        (
            ("api=2", "api=1"),
            IncompatiblePluginsError,
            (
                "store='traced' (package 'traced-dist' 1.0) is written for plugin API 1, but this ray-core has 2: "
                "pip install --upgrade traced-dist"
            ),
        ),
        (
            ('seam="store"', 'seam="control"'),
            PluginContractError,
            "store='traced' (package 'traced-dist' 1.0) is a plugin for 'control', not for 'store'",
        ),
        (
            ('name="traced"', 'name="tracer"'),
            PluginContractError,
            "store='traced' (package 'traced-dist' 1.0) calls itself 'tracer' in its PLUGIN record",
        ),
        (
            ("PLUGIN =", "OTHER ="),
            PluginContractError,
            "store='traced' (package 'traced-dist' 1.0) has no record PLUGIN = PluginInfo(...)",
        ),
    ],
)
def test_records_that_do_not_fit(traced, change, error, message):
    traced(change)
    (candidate,) = scan().plugins["store"]["traced"]
    with pytest.raises(error) as caught:
        info_of(candidate)
    assert str(caught.value) == message


def test_a_path_may_name_an_object_in_a_module(site):
    (site / "local_parts.py").write_text(
        "from ray.plugins import PluginInfo\n"
        "class Outer:\n"
        "    class inner:\n"
        "        PLUGIN = PluginInfo(seam='store', name='anything', api=2)\n"
    )
    assert info_of(path_candidate("store", "local_parts:Outer.inner")).name == "anything"
    with pytest.raises(PluginNotInstalledError) as caught:
        info_of(path_candidate("store", "local_parts:Outer.absent"))
    assert str(caught.value) == (
        "store='local_parts:Outer.absent' (module 'local_parts:Outer.absent') cannot be imported: "
        "AttributeError: type object 'Outer' has no attribute 'absent'"
    )


def own(folder: Path) -> None:
    (folder / "ray").mkdir(parents=True, exist_ok=True)


def test_nobody_else_owns_the_package_here():
    assert foreign_owners() == []


def test_other_owners_of_the_package_directory(install, site):
    own(site)
    install("ray-core", record="ray/__init__.py,sha256=x,1\n")
    install("ray", record="../../bin/ray,,\nray/__init__.py,sha256=x,1\nray/_raylet.so,,\n", version="2.60.0")
    install("ray-store-shm", record="ray_store_shm/__init__.py,,\n")
    install("xray", record="xray/__init__.py,,\nx/ray/__init__.py,,\n")
    setuptools_made = install("ant-ray", record="elsewhere\n", version="2.0")
    (setuptools_made / "top_level.txt").write_text("ray\n")
    assert sorted(foreign_owners([str(site)])) == ["ant-ray 2.0", "ray 2.60.0"]
    assert sorted(foreign_owners()) == ["ant-ray 2.0", "ray 2.60.0"]


def test_what_is_said_about_other_owners():
    assert ownership_conflict(["ray 2.60.0"]) == (
        "the package directory 'ray/' belongs to ray-core and also to 'ray 2.60.0', which cannot both work; "
        "keep one: pip uninstall ray && pip install --force-reinstall ray-core"
    )
    assert "also to 'ray 2' and 'b 1'," in ownership_conflict(["ray 2", "b 1"])
    assert "pip uninstall ray b &&" in ownership_conflict(["ray 2", "b 1"])


def test_metadata_without_the_directory_owns_nothing(install, site):
    install("ray", record="ray/__init__.py,,\n", version="2.60.0")
    assert foreign_owners([str(site)]) == []
