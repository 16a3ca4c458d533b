"""How tests are written: what they know of the product, and of each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = sorted([*ROOT.glob("tests/**/*.py"), *ROOT.glob("packages/*/tests/**/*.py")])

#: The tests of the parts that a session is made of know how it is made.
OF_THE_PARTS = ROOT / "packages" / "ray-core" / "tests" / "runtime"

#: Programs that tests start, which are strings here, count as well.
SESSION = re.compile(r"interface\.(_?current|current_session)\b|runtime\.interface import .*\bcurrent")


def named(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {what}"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_tests_are_found() -> None:
    assert len(TESTS) > 150
    assert any(OF_THE_PARTS in path.parents for path in TESTS)


def test_only_ray_testing_looks_inside_a_session() -> None:
    """Else each change of its parts changes the tests: ``ray.testing.inside`` has what they need."""
    wrong = [
        named(path, number, line.strip())
        for path in TESTS
        if OF_THE_PARTS not in path.parents and path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if SESSION.search(line)
    ]
    assert wrong == []


def test_no_folder_of_tests_imports_from_another() -> None:
    """What several need lies at the top of ``tests``; fixtures come from the ``conftest.py`` above, by their names."""
    wrong = []
    for path in TESTS:
        own = path.relative_to(ROOT).parts[:-1]
        for line, module in imports(path) if "from tests" in path.read_text() else ():
            parts = tuple(module.split("."))
            folder = next((parts[:n] for n in range(len(parts), 0, -1) if ROOT.joinpath(*parts[:n]).is_dir()), ())
            if parts[0] == "tests" and ("conftest" in parts or (own[: len(folder)] != folder and len(folder) > 1)):
                wrong.append(named(path, line, f"imports {module}"))
    assert wrong == []


def test_what_is_waited_for_is_waited_for_with_eventually() -> None:
    """It says what it has waited for, and what was there instead."""
    wrong = [
        named(path, node.lineno, ast.unparse(node.test))
        for path in TESTS
        if "monotonic()" in path.read_text()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.While) and is_a_wait(node.body)
    ]
    assert wrong == []


def is_a_wait(body: list[ast.stmt]) -> bool:
    """Whether the loop does nothing but look at the clock, and sleep."""
    if len(body) != 2:
        return False
    asserted, slept = body
    return (
        isinstance(asserted, ast.Assert)
        and "monotonic()" in ast.unparse(asserted.test)
        and isinstance(slept, ast.Expr)
        and ast.unparse(slept).startswith("time.sleep(")
    )
