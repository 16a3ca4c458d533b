"""The pages can be read without Sphinx, lead to each other, and their examples run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.redis_servers import server_binary

from ray.builtin.redis_control.commands import acl_rules

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("packages/*/*.md"), ROOT / "benchmarks/README.md"])
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]*)\)")
START = "import ray\nray.init(num_cpus=4, log_to_driver=False)\n"
#: Pages whose examples are one program each, and what the program needs to be whole.
PROGRAMS = {
    "patterns": "", "streaming": "", "concurrency-groups": "", "notebooks": "", "logging": "", "debugging": "",
    "migration": "", "getting-started": "", "actors": START, "errors": START, "async-api": "", "seams/hooks": "",
    "seams/control": "", "working-dir": "", "executor": "", "pool": "", "actor-pool": "", "queue": "", "sync": "",
    "dask": "", "iterators": "",
    "async": "import aiohttp\nurls, use = [], print\n",
    "objects": START + "big_table, keys, lookup = {1: 2}, [1], ray.remote(lambda table, key: table[key])\n",
    "seams/selector": START + "refs = [ray.put(number) for number in range(3)]\n",
    "tasks": START + "import datetime\nrefs, data = [ray.put(number) for number in range(3)], None\n",
}  # fmt: skip
#: Pages of which each example is a program.
APART = ["plasma", "redis", "routed", "shm", "zmq"]
#: Pages whose examples are tests.
TESTS = ["testing"]
#: The examples of types are wrong on purpose, and are checked with the types; the plugin is the one among the examples.
#: Those of clusters need one; that of one machine is a test of these.
ELSEWHERE = ["typing", "seams/index", "index", "cluster", "private-clusters"]


def prose(page: Path) -> str:
    """The text without its code."""
    text = re.sub(r"^(`{3,}|:{3,}).*?^\1\s*$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors(page: Path) -> set[str]:
    """What its headings can be called by."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / f"{name}.md").read_text(), re.MULTILINE | re.DOTALL)


def run(program: str, folder: Path) -> list[str]:
    """What a program prints, line by line."""
    script = folder / "example.py"
    script.write_text(program)
    # Where each piece of a line is written at once, a line of another thread may come between two of them.
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=buffered, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


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


@pytest.mark.timeout(110)
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_examples_run_and_print_what_they_say(name: str, tmp_path: Path) -> None:
    for package in re.findall(r"^import (aiohttp)$", PROGRAMS[name], re.MULTILINE):
        pytest.importorskip(package)
    program = "\n".join([PROGRAMS[name], *blocks(name)])
    # Some say more than the value, or what it depends on.
    comments = re.findall(r"^\s*print\(.*\)  # (.+)$", program, re.MULTILINE)
    expected = [text for text in comments if not re.search(r" with |, ending in |: ", text)]
    (tmp_path / "big.bin").write_bytes(b"x")
    printed = run(program, tmp_path)
    lines = iter(printed)
    missing = [text for text in expected if not any(line == text for line in lines)]
    assert missing == [], printed


@pytest.mark.timeout(220)
@pytest.mark.parametrize("name", APART)
def test_each_example_runs(name: str, tmp_path: Path) -> None:
    if name == "redis":
        server_binary()
    examples = blocks(name)
    assert examples
    for example in examples:
        run("import ray\n" + example.replace("/mnt/fast", str(tmp_path)), tmp_path)


def test_no_page_with_examples_is_forgotten() -> None:
    pages = [str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md") if "_build" not in page.parts]
    assert {page for page in pages if blocks(page)} == {*PROGRAMS, *APART, *TESTS, *ELSEWHERE}


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", TESTS)
def test_the_examples_are_tests_that_pass(name: str, tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text("\n".join(blocks(name)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:timeout"]
    done = subprocess.run([*command, "."], cwd=tmp_path, capture_output=True, text=True, timeout=140)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_the_rules_for_a_redis_server_are_those_of_the_client() -> None:
    rules = re.search(r"^user ray on >PASSWORD (.*?)^```$", (DOCS / "redis.md").read_text(), re.MULTILINE | re.DOTALL)
    assert rules
    assert rules[1].split() == acl_rules("default").split()
