"""Both checkers agree with the cases: errors on the lines marked ``# E`` and nowhere else.

``cases.py`` and ``cases_async.py`` are for both, ``cases_plugin.py`` for mypy with the plugin; the snippets of the
README must pass in both.
"""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCE = {name: (HERE / name).read_text().splitlines() for name in ("cases.py", "cases_async.py", "cases_plugin.py")}


def marked(name: str, *marks: str) -> set[int]:
    return {number for number, line in enumerate(SOURCE[name], 1) if line.endswith(marks)}


def run(folder: Path, *command: str) -> str:
    """What the checker prints. It runs in a folder of its own, so that no configuration of ours has a say."""
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=240, check=False, cwd=folder
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1 is "found errors"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the checkers run: what one run of mypy has found out serves the next."""
    made = tmp_path_factory.mktemp("types")
    (made / "plugin.ini").write_text("[mypy]\nplugins = ray.mypy_plugin\n")
    return made


def mypy(folder: Path, case: Path, configuration: str = "") -> dict[int, str]:
    """The errors by line."""
    options = [f"--config-file={configuration}", f"--cache-dir={folder / 'cache'}{configuration}"]
    output = run(folder, "mypy", "--strict", "--show-absolute-path", *options, str(case))
    places = re.findall(r"^(.*?):(\d+): error: (.*)$", output, re.MULTILINE)
    assert {path for path, _, _ in places} <= {str(case)}, output
    return {int(number): text for _, number, text in places}


def pyright(folder: Path, case: Path) -> dict[int, str]:
    found = json.loads(run(folder, "pyright", "--pythonpath", sys.executable, "--outputjson", str(case)))
    errors = [item for item in found["generalDiagnostics"] if item["severity"] == "error"]
    return {item["range"]["start"]["line"] + 1: item["message"] for item in errors}


def mypy_with_plugin(folder: Path, case: Path) -> dict[int, str]:
    return mypy(folder, case, "plugin.ini")


def compare(name: str, errors: dict[int, str], expected: set[int]) -> None:
    missed = {number: SOURCE[name][number - 1].strip() for number in sorted(expected - set(errors))}
    wrong = {(number, SOURCE[name][number - 1].strip()): errors[number] for number in sorted(set(errors) - expected)}
    assert (missed, wrong) == ({}, {})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_checkers_agree_with_the_cases(checker, folder):
    pytest.importorskip(checker.__name__)
    errors = checker(folder, HERE / "cases.py")
    compare("cases.py", errors, marked("cases.py", "# E", f"# E {checker.__name__}"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, mypy_with_plugin, pyright])
def test_checkers_agree_with_the_cases_of_ray_async(checker, folder):
    pytest.importorskip("ray_async")
    pytest.importorskip(checker.__name__.partition("_")[0])
    name = "cases_async.py"
    compare(name, checker(folder, HERE / name), marked(name, "# E"))


@pytest.mark.timeout(300)
def test_mypy_with_the_plugin_agrees_with_the_cases(folder):
    pytest.importorskip("mypy")
    name = "cases_plugin.py"
    errors = mypy_with_plugin(folder, HERE / name)
    compare(name, errors, marked(name, "# E"))
    assert mypy_with_plugin(folder, HERE / name) == errors  # and from its cache
    said = "\n".join(errors.values())
    assert 'Actor "Counter" has no method "nope"' in said
    assert '"value" is no method of actor "Counter"; fields cannot be read from outside' in said


def snippets(page: str) -> list[str]:
    """The Python of a page."""
    parts = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert parts
    return parts


def in_function(name: str, part: str) -> str:
    kind = "async def" if re.search(r"\bawait |\basync with ", part) else "def"
    return f"{kind} {name}() -> None:\n{textwrap.indent(part, '    ')}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy_with_plugin, pyright])
def test_the_snippets_of_the_readme_have_no_errors(checker, folder, tmp_path):
    pytest.importorskip(checker.__name__.partition("_")[0])
    case = tmp_path / "snippets.py"
    functions = [in_function(f"snippet_{number}", part) for number, part in enumerate(snippets("README.md"))]
    case.write_text("import asyncio\nimport ray\n\n" + "\n\n".join(functions))
    errors = {
        number: text
        for number, text in checker(folder, case).items()
        if "untyped" not in text and "annotation" not in text
    }
    assert errors == {}, case.read_text()


@pytest.mark.timeout(300)
def test_the_page_about_types_says_what_mypy_says(folder, tmp_path):
    pytest.importorskip("mypy")
    case = tmp_path / "snippets.py"
    parts = [in_function("awaiting", part) if "await " in part else part for part in snippets("docs/typing.md")]
    case.write_text("import asyncio\n\n" + "\n\n".join(parts))
    errors = mypy_with_plugin(folder, case)
    lines = case.read_text().splitlines()
    expected = {number for number, line in enumerate(lines, 1) if "# error" in line}
    assert {lines[number - 1]: errors.get(number) for number in expected ^ set(errors)} == {}


def test_there_are_enough_cases():
    stated = sum("assert_type(" in line for lines in SOURCE.values() for line in lines)
    assert stated >= 120
    assert sum(len(marked(name, "# E")) for name in SOURCE) >= 100
