"""The crawler runs as a user runs it, on a small site with everything that a site has."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("ray_async")

PROGRAM = Path(__file__).parents[2] / "examples" / "crawler.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=55, check=False
    )


@pytest.fixture(scope="module")
def crawler():
    spec = importlib.util.spec_from_file_location("crawler_example", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules["crawler_example"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["crawler_example"]


@pytest.fixture
def site(tmp_path):
    """30 pages, each reached from the one before and two others; a broken link, a text, and what is disallowed."""
    for number in range(30):
        links = [number + 1, number * 2, number // 2]
        body = "".join(f'<a href="page{to % 30}.html#part">{to}</a>' for to in links)
        (tmp_path / f"page{number}.html").write_text(
            f"<title>{number}</title>{body}<a href='/_static/secret.html'>x</a>"
        )
    (tmp_path / "index.html").write_text(
        '<a href="page0.html">first</a> <a href="gone.html">gone</a> <a href="notes.txt">notes</a>'
        '<a href="mailto:nobody@example.org">mail</a> <a href="http://127.0.0.2:1/elsewhere.html">elsewhere</a>'
    )
    (tmp_path / "notes.txt").write_text('<a href="page99.html">no link, since this is no HTML</a>')
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "secret.html").write_text("nobody should see this")
    return tmp_path


@pytest.mark.timeout(60)
def test_crawls_a_site_politely_and_finds_what_a_sequential_crawl_finds(site) -> None:
    done = run("--site", str(site), "--hosts", "2", "--latency", "0.01")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{site}: 32 files, on 2 hosts"
    assert "status: 64 x 200, 2 x 404" in lines
    assert re.search(
        r"^  404 http://127\.0\.0\.1:\d+/gone\.html, linked from \S+/index\.html$", done.stdout, re.MULTILINE
    )
    hosts = re.findall(r"^127\.0\.0\.1:\d+: (\d+) requests, \d+/s, at most (\d+) at a time$", done.stdout, re.MULTILINE)
    assert [int(count) for count, _ in hosts] == [33, 33]
    assert all(int(most) <= 8 for _, most in hosts)
    shares = next(line for line in lines if line.startswith("pages per crawler: "))
    assert sum(map(int, shares.removeprefix("pages per crawler: ").split(", "))) == 66
    assert re.search(r"^66 pages in \d+\.\d\d s", done.stdout, re.MULTILINE)
    assert re.search(r"^speed-up \d+\.\d", done.stdout, re.MULTILINE)
    assert "pages " not in done.stderr  # the bar is for terminals


def test_refuses_what_it_cannot_do(tmp_path) -> None:
    done = run("--site", str(tmp_path))
    assert done.returncode == 2
    assert "there is no index.html" in done.stderr
    done = run("--hosts", "0")
    assert done.returncode == 2
    assert "must be at least 1" in done.stderr


def test_pages_are_parsed(crawler) -> None:
    body = (
        b'<a href="b.html#x">1</a><A HREF="b.html">2</A><a name="y">3</a><a href="//h/c">4</a><a href="ftp://h">5</a>'
    )
    page = crawler.page_of("http://h/a/a.html", 200, "text/html", body)
    assert page.links == ("http://h/a/b.html", "http://h/c")
    assert page.size == len(body)
    assert crawler.page_of("http://h/a", 404, "text/html", body).links == ()
    assert crawler.page_of("http://h/a", 200, "text/plain", body).links == ()
    assert crawler.page_of("http://h/a", 200, "text/html", b"\xff<a href=x>").links == ("http://h/x",)


def test_rules_are_those_of_robots_txt(crawler) -> None:
    rules = crawler.Rules({"h": "User-agent: *\nCrawl-delay: 2\nDisallow: /private/\n", "open": ""})
    assert rules.delay_s("h") == 2
    assert rules.allow("http://h/public")
    assert not rules.allow("http://h/private/x")
    assert rules.allow("http://open/private/x")
    assert not rules.allow("http://elsewhere/")


def test_impolite_crawls_are_noticed(crawler) -> None:
    assert crawler.impolite("crawl", {"h": (100, 8, 1.0)}, 8) == []
    assert crawler.impolite("crawl", {"h": (100, 9, 1.0)}, 8) == ["crawl: h had 9 requests at a time"]
    assert crawler.impolite("crawl", {"h": (1000, 8, 1.0)}, 8) == ["crawl: h had 1000 requests in 1.00 s"]


def test_pydoc_pages_make_a_site(crawler, tmp_path) -> None:
    root = crawler.pydoc_pages(tmp_path, ["json", "heapq"])
    assert sorted(path.name for path in root.iterdir()) == ["heapq.html", "index.html", "json.html"]
    page = crawler.page_of("http://h/index.html", 200, "text/html", (root / "index.html").read_bytes())
    assert page.links == ("http://h/json.html", "http://h/heapq.html")
    assert b"load" in (root / "json.html").read_bytes()
