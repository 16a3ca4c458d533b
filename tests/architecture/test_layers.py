"""Which rooms may import which: the import contracts of pyproject.toml, and what import-linter cannot say."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "packages" / "ray-core" / "src" / "ray"
MODULES = sorted(SOURCES.rglob("*.py"))

#: Rooms above `api`: only these may import the package `ray` itself, which leads back to it.
MAY_IMPORT_RAY = {"cli", "experimental", "testing", "util", "worker"}

#: Rooms that may pickle: the second is a name for programs. Control processes import nothing else that could.
MAY_PICKLE = {"serialization", "cloudpickle"}

#: Libraries that are used where they are installed; nothing requires them.
OPTIONAL = {"cryptography", "mypy", "joblib", "numpy", "pynvml", "pytest", "hypothesis", "redis", "tblib", "uvloop"}


def room(path: Path) -> str:
    return path.relative_to(SOURCES).parts[0].removesuffix(".py")


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports(path: Path) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """``(line, module, names)`` for each import that runs, wherever in the module."""
    pending: list[ast.AST] = [ast.parse(path.read_text(), path.name)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and is_type_checking(node.test):
            pending.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield node.lineno, node.module or "", tuple(alias.name for alias in node.names)
        else:
            pending.extend(ast.iter_child_nodes(node))


def found(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {what}"


def test_import_contracts_are_kept() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists():
        pytest.fail("import-linter is not installed: install the dependency group 'imports'")
    result = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_only_the_top_imports_ray_itself() -> None:
    rooms = {module.stem if module.is_file() else module.name for module in SOURCES.iterdir()}
    wrong = [
        found(path, line, f"imports {name}")
        for path in MODULES
        if room(path) not in MAY_IMPORT_RAY and path != SOURCES / "__init__.py"
        for line, name, names in imports(path)
        if name == "ray" and not (names and set(names) <= rooms)
    ]
    assert wrong == []


def test_only_serialization_pickles() -> None:
    wrong = [
        found(path, line, f"imports {name}")
        for path in MODULES
        if room(path) not in MAY_PICKLE | {"testing"}
        for line, name, _ in imports(path)
        if name.split(".")[0] in {"pickle", "cloudpickle", "marshal", "shelve", "dill"}
    ]
    assert wrong == []


def test_only_compose_calls_hooks() -> None:
    wrong = []
    for path in MODULES:
        if path == SOURCES / "plugins" / "compose.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"hook", "subset_hook_caller"}:
                wrong.append(found(path, node.lineno, f"uses .{node.attr}"))
            elif isinstance(node, ast.Attribute) and node.attr == "PluginManager":
                wrong.append(found(path, node.lineno, "makes a plugin manager"))
    assert wrong == []


def test_every_third_party_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "packages/ray-core/pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=~!\[ ]", requirement)[0] for requirement in project["dependencies"]}
    used: dict[str, str] = {}
    for path in MODULES:
        for line, name, _ in imports(path):
            top = name.split(".")[0]
            if top != "ray" and top not in sys.stdlib_module_names:
                used.setdefault(top, found(path, line, f"imports {name}"))
    undeclared = {top: where for top, where in used.items() if top not in declared | OPTIONAL}
    assert undeclared == {}
    assert declared <= set(used), f"declared and not used: {declared - set(used)}"


def test_optional_libraries_are_imported_inside_functions() -> None:
    wrong = []
    for path in MODULES:
        if room(path) in ("testing", "mypy_plugin"):  # the second is imported by mypy only
            continue
        if path == SOURCES / "util" / "joblib" / "backend.py":  # imported by a function that has found joblib
            continue
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            wrong += [found(path, node.lineno, name) for name in names if name.split(".")[0] in OPTIONAL]
    assert wrong == []


def test_only_the_clock_reads_the_clock() -> None:
    """A program's tests may freeze or shift what the module ``time`` says; deadlines, beats and pauses go on."""
    clock = SOURCES / "clock.py"
    wrong = []
    for path in sorted(ROOT.glob("packages/*/src/**/*.py")):
        if path != clock:
            for line, name, _ in imports(path):
                if name == "time":
                    wrong.append(found(path, line, "imports time; take it from ray.clock"))
    assert wrong == []


def test_threads_and_flags_of_a_session_may_be_met_half_way() -> None:
    """Python's own wait for a new thread, and for a lock, where a finaliser may come that needs what is locked."""
    instead = {"threading.Thread": "UnawaitedThread", "threading.Event": "Flag"}
    wrong = []
    for room in ("runtime", "builtin"):
        for path in sorted((SOURCES / room).glob("**/*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in instead:
                    wrong.append(found(path, node.lineno, f"{name}; take ray.threads.{instead[name]}"))
    assert wrong == []


def test_no_limit_goes_by_the_clock_of_subprocess() -> None:
    """It is one that a program's tests may freeze or shift, as ``time`` is: look with ``poll()``, or use a timer."""
    wrong = []
    for path in sorted(ROOT.glob("packages/*/src/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "TimeoutExpired":
                wrong.append(found(path, node.lineno, "a limit of subprocess"))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                from_subprocess = isinstance(node.func.value, ast.Name) and node.func.value.id == "subprocess"
                has_limit = any(keyword.arg == "timeout" for keyword in node.keywords)
                if has_limit and (from_subprocess or node.func.attr == "communicate"):
                    wrong.append(found(path, node.lineno, "a limit of subprocess"))
    assert wrong == []
