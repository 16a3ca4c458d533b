"""The documentation says what the code does: every hook, every seam, every public name."""

import importlib
import inspect
import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

import ray
import ray.abc
import ray.exceptions
from ray.plugins import specs
from ray.plugins.seams import SEAMS
from ray.testing.cluster import Cluster, ClusterNode

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PARTS = distribution("ray-core").entry_points
HOOKS = sorted(name for name in vars(specs) if name.startswith("ray_"))


def directives(page: Path) -> dict[str, str]:
    """``{documented name: directive}`` of a page of the reference."""
    text = page.read_text()
    return {name: kind for kind, name in re.findall(r"^\.\. (auto\w+):: ([\w.]+)$", text, re.MULTILINE)}


def test_hooks_are_found() -> None:
    assert len(HOOKS) >= 15


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_documented_with_its_exact_signature(hook: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(specs, hook)).parameters)
    headings = re.findall(r"^### `(.+)`$", (DOCS / "seams" / "hooks.md").read_text(), re.MULTILINE)
    assert f"{hook}({arguments})" in headings


def test_no_hook_is_documented_that_does_not_exist() -> None:
    headings = re.findall(r"^### `(\w+)\(", (DOCS / "seams" / "hooks.md").read_text(), re.MULTILINE)
    assert sorted(headings) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_says_what_it_is_for(hook: str) -> None:
    function = getattr(specs, hook)
    assert (function.__doc__ or "").strip().endswith(".")
    for parameter in inspect.signature(function).parameters.values():
        assert parameter.default is parameter.empty, "pluggy does not pass arguments with defaults"
        assert parameter.annotation is not parameter.empty


@pytest.mark.parametrize("seam", sorted(SEAMS))
def test_seam_has_the_same_stem_everywhere(seam: str) -> None:
    page = (DOCS / "seams" / f"{seam}.md").read_text()
    assert importlib.import_module(f"ray.abc.{seam}").__doc__
    for hook in SEAMS[seam].hooks:
        assert f"`{hook}`" in page
    assert f"`RAY_{seam.upper()}`" in page
    index = (DOCS / "seams" / "index.md").read_text()
    assert f"`ray.{seam}`" in index


@pytest.mark.parametrize("seam", sorted({entry.group[4:] for entry in PARTS if entry.group.startswith("ray.")}))
def test_seam_with_a_built_in_part_has_a_contract_suite(seam: str) -> None:
    suite = importlib.import_module(f"ray.testing.contracts.{seam}")
    name = f"{seam.capitalize()}Contract"
    assert inspect.isclass(getattr(suite, name))
    assert name in (importlib.import_module("ray.testing.contracts").__doc__ or "")


def described(value: type, name: str) -> str:
    """A class or a method of it as a heading of the reference has it: without types, and ``self``."""
    found = inspect.signature(value if name == value.__name__ else getattr(value, name))
    given = [each.replace(annotation=each.empty) for each in found.parameters.values() if each.name != "self"]
    text = str(inspect.Signature(given))
    return f"{value.__name__}{text}" if name == value.__name__ else f"{value.__name__}.{name}{text}"


def test_the_reference_of_the_test_cluster_is_true() -> None:
    """Each public method has its signature as a heading, each attribute a row of a table; there are no others."""
    text = (DOCS / "reference" / "testing-cluster.md").read_text()
    headings = re.findall(r"^### `(.+)`$", text, re.MULTILINE)
    rows = re.findall(r"^\| `(\w+\.\w+)` \|", text, re.MULTILINE)
    wanted, attributes = [described(Cluster, "Cluster")], []
    for kind in (Cluster, ClusterNode):
        for name in [*vars(kind), *re.findall(r"self\.([a-z]\w*)(?:: .*)? = ", inspect.getsource(kind))]:
            if not name.startswith("_") and inspect.isfunction(getattr(kind, name, None)):
                wanted.append(described(kind, name))
            elif not name.startswith("_"):
                attributes.append(f"{kind.__name__}.{name}")
    assert sorted(headings) == sorted(wanted)
    assert sorted(rows) == sorted(attributes)


def test_every_hook_of_a_seam_exists() -> None:
    assert {hook for seam in SEAMS.values() for hook in seam.hooks} <= set(HOOKS)


def test_the_reference_lists_exactly_what_ray_exports() -> None:
    documented = {name.removeprefix("ray.") for name in directives(DOCS / "reference" / "api.md")}
    exported = set(ray.__all__) - {"__version__", "exceptions", "experimental"}
    assert sorted(name for name in documented if "." not in name) == sorted(exported)


def test_every_exported_name_exists_and_says_what_it_is() -> None:
    for name in ray.__all__:
        value = getattr(ray, name)
        if name != "__version__":
            assert (inspect.getdoc(value) or "").strip(), name


def test_all_exports_are_sorted_and_unique() -> None:
    for module in (ray, ray.abc, ray.exceptions):
        assert len(set(module.__all__)) == len(module.__all__), module.__name__


def test_every_exception_is_documented() -> None:
    documented = set(directives(DOCS / "reference" / "exceptions.md"))
    classes = {
        name
        for name, value in vars(ray.exceptions).items()
        if isinstance(value, type) and issubclass(value, BaseException) and value.__name__ == name
    }
    assert classes == documented


@pytest.mark.parametrize("page", sorted((DOCS / "adr").glob("0*.md")), ids=lambda path: path.stem)
def test_decision_has_its_three_parts(page: Path) -> None:
    text = page.read_text()
    number = page.stem.split("-")[0]
    assert text.startswith(f"# {number} ")
    assert re.search(r"^Status: (accepted|superseded by \d{4})$", text, re.MULTILINE)
    for part in ("Context", "Decision", "Consequences"):
        assert f"\n## {part}\n" in text
    assert f"\n{page.stem}\n" in (DOCS / "adr" / "index.md").read_text()


def test_links_between_files_of_the_repository_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("packages/*/*.md")]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        if "_build" not in page.parts
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert dead == []
