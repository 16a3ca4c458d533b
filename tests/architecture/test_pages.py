"""The pages can be read without Sphinx, lead to each other, and their examples run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("packages/*/*.md"), ROOT / "benchmarks/README.md"])
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]*)\)")
#: Pages whose examples are one program each, and pages whose examples are tests.
PROGRAMS = [
    "patterns", "streaming", "concurrency-groups", "notebooks", "logging", "debugging", "migration",
]  # fmt: skip
TESTS = ["testing"]


def prose(page: Path) -> str:
    """The text without its code."""
    text = re.sub(r"^(`{3,}|:{3,}).*?^\1\s*$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors(page: Path) -> set[str]:
    """What its headings can be called by."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(name: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", (DOCS / f"{name}.md").read_text(), re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_a_text_and_a_target(page: Path) -> None:
    wrong = []
    for _, text, target in LINK.findall(prose(page)):
        if not text:
            wrong.append(f"no text: {target}")
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        if not to.exists():
            wrong.append(f"no such file: {target}")
        elif anchor and to.suffix == ".md" and anchor not in anchors(to):
            wrong.append(f"no such heading: {target}")
    assert wrong == []


def test_every_page_can_be_reached_by_plain_links() -> None:
    """From the README, without the tables of contents that Sphinx makes."""
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [(page.parent / target.partition("#")[0]).resolve() for _, _, target in LINK.findall(prose(page))]
        left += [target for target in targets if target.suffix == ".md" and target.exists()]
    pages = {page for page in DOCS.rglob("*.md") if "_build" not in page.parts}
    # Each decision is listed by the table of contents of their page.
    missing = {page for page in pages - reached if page.parent.name != "adr"}
    assert sorted(str(page.relative_to(ROOT)) for page in missing) == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_examples_run_and_print_what_they_say(name: str, tmp_path: Path) -> None:
    program = blocks(name)
    expected = re.findall(r"^\s*print\(.*\)  # (.+)$", program, re.MULTILINE)
    assert expected
    script = tmp_path / "example.py"
    script.write_text(program)
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    lines = iter(done.stdout.splitlines())
    missing = [text for text in expected if not any(line == text for line in lines)]
    assert missing == [], done.stdout


@pytest.mark.parametrize("name", TESTS)
def test_the_examples_are_tests_that_pass(name: str, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(blocks(name))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:timeout"]
    done = subprocess.run([*command, "."], cwd=tmp_path, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
