"""Where parts of the runtime meet, the type checker knows what is passed on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "packages" / "ray-core" / "src" / "ray"
ROOMS = ["api", "protocol", *(f"runtime/{room}" for room in ("local", "owner", "process", "refs", "worker"))]
MODULES = sorted([path for room in ROOMS for path in (CORE / room).rglob("*.py")] + [*CORE.glob("runtime/*.py")])
#: What one part gives to another. A value of the user's is an ``object`` to the parts that only pass it on.
NAMES = {"client", "export", "link", "sink", "stream", "task", "value"}


def is_any(annotation: ast.expr | None) -> bool:
    """Whether it is ``Any``, or a union with it. Type arguments may be: what a callback is given, say."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.BinOp):
        return is_any(annotation.left) or is_any(annotation.right)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("ClassVar", "Final", "Optional"):
        return is_any(annotation.slice)
    return annotation is not None and ast.unparse(annotation) in ("Any", "typing.Any")


def untyped(tree: ast.AST) -> Iterator[str]:
    """Attributes and parameters with one of the names, or such a name behind an underscore, that may be anything."""
    for node in ast.walk(tree):
        name = ""
        if isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.AnnAssign):
            name = ast.unparse(node.target).rsplit(".", 1)[-1]
        if name.lstrip("_") in NAMES and is_any(getattr(node, "annotation", None)):
            yield f"{node.lineno}: {ast.unparse(node)}"  # type: ignore[attr-defined]


def test_they_are_found() -> None:
    text = "class A:\n  link: Any\n  def f(self, value: Any | None, *, task: int):\n    self._sink: 'Any' = value\n"
    assert sorted(found.split(":")[0] for found in untyped(ast.parse(text))) == ["2", "3", "4"]
    assert not list(untyped(ast.parse("def f(task: Task[Any], stream: Callable[[Any], int]) -> Any: ...")))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_joints_have_types(path: Path) -> None:
    assert list(untyped(ast.parse(path.read_text()))) == []
