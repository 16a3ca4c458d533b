"""Parts are given to each other: few collaborators, narrow protocols, and no state inherited from another file."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(ROOT.glob("packages/*/src/**/*.py"))
MOST_COLLABORATORS = 8
MOST_METHODS = 10
#: Errors and records take facts, not collaborators; a simulation takes what it is to simulate.
TAKE_FACTS = {"RayActorError", "RayTaskError", "Cluster"}
#: What is made to be derived from: what waits for an object, selectors, futures; and a class for type checkers alone.
BASES = {"Listener", "LoopListener", "EpollSelector", "PlasmaObjectFuture", "ActorClass"}


@functools.cache
def classes() -> list[tuple[Path, ast.ClassDef]]:
    """Of all modules. Not before a test asks: each process that runs tests imports this file."""
    trees = ((path, ast.parse(path.read_text())) for path in MODULES)
    return [(path, node) for path, tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def names(node: ast.ClassDef) -> list[str]:
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in bases]


def methods(node: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [item for item in node.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))]


def has_state(node: ast.ClassDef) -> bool:
    """Whether instances are given attributes by its own ``__init__``."""
    for method in methods(node):
        if method.name == "__init__":
            targets = [item for item in ast.walk(method) if isinstance(item, ast.Attribute)]
            return any(isinstance(item.ctx, ast.Store) and getattr(item.value, "id", "") == "self" for item in targets)
    return False


def where(path: Path, node: ast.ClassDef) -> str:
    return f"{path.as_posix().partition('/src/')[2]}:{node.lineno} {node.name}"


def test_classes_are_found() -> None:
    assert len(classes()) > 300
    assert sum(map(has_state, (node for _, node in classes()))) > 100


def test_constructors_take_few_collaborators() -> None:
    found = []
    for path, node in classes():
        for method in methods(node):
            count = len(method.args.args) - 1 + len(method.args.kwonlyargs)
            if method.name == "__init__" and count > MOST_COLLABORATORS and node.name not in TAKE_FACTS:
                found.append(f"{where(path, node)} takes {count}")
    assert found == []


def test_protocols_are_narrow() -> None:
    found = {node.name for _, node in classes() if "Protocol" in names(node) and len(methods(node)) > MOST_METHODS}
    assert found == set()


def test_no_state_is_inherited_from_another_file_of_the_room() -> None:
    by_room = {(path.parent, node.name): path for path, node in classes() if has_state(node)}
    found = {
        node.name
        for path, node in classes()
        for base in names(node)
        if base not in BASES
        and path.parent.name not in ("abc", "exceptions", "contracts")
        and by_room.get((path.parent, base), path) != path
    }
    assert found == set()


@pytest.mark.parametrize("name", sorted(TAKE_FACTS | BASES))
def test_exceptions_are_of_classes_that_there_are(name: str) -> None:
    assert any(node.name == name for _, node in classes())
