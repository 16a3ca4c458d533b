"""The state of an object entry changes in one file, by the methods of its table."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "packages" / "ray-core" / "src" / "ray"
MACHINE = CORE / "protocol" / "references.py"
MODULES = sorted(path for path in ROOT.glob("packages/*/src/**/*.py") if path != MACHINE)

#: Attributes of entries that no other object of the runtime has, and those that others have as well.
OF_ENTRIES = {"contained", "credits", "freed"}
OF_OTHERS = {"handed", "local", "nbytes", "owner", "pins", "status", "value"}
#: What entries are called.
NAMES = ("entry", "_entry", "following", "unwanted", "found[0]")
#: {(file, function)} of references, and of what stands for them in the simulation: they count themselves.
ALLOWED = {
    ("runtime/refs/ref.py", "__init__"),
    ("runtime/refs/ref.py", "__del__"),
    ("testing/simulated_owner.py", "finish"),
    ("testing/simulated_owner.py", "_end"),
    *(("testing/simulated_process.py", function) for function in ("put", "take", "drop", "call")),
}


def writes(tree: ast.AST, function: str = "") -> Iterator[tuple[str, int, str]]:
    """(function, line, target) of each assignment to the state of what is called like an entry."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        for target in targets:
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(part, ast.Attribute):
                    owner = ast.unparse(part.value)
                    is_entry = owner.split(".")[-1] in NAMES
                    if (part.attr in OF_ENTRIES and owner != "self") or (part.attr in OF_OTHERS and is_entry):
                        yield inside, part.lineno, ast.unparse(part)
        yield from writes(node, inside)


def test_they_are_found() -> None:
    assert len(list(writes(ast.parse(MACHINE.read_text())))) > 15


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "packages")))
def test_nobody_else_changes_the_state_of_an_entry(path: Path) -> None:
    name = str(path.relative_to(CORE)) if CORE in path.parents else str(path)
    found = [write for write in writes(ast.parse(path.read_text())) if (name, write[0]) not in ALLOWED]
    assert not found
