"""Crawls a web site with async actors, politely, and compares with a sequential crawl.

    python examples/crawler.py [--site DIR | --pydoc] [--hosts N] [--crawlers N] [--latency SECONDS]

The site is real HTML that this program serves itself: the documentation of this repository where it is built or can be
built, else pages that pydoc makes of the standard library; DIR may be any other. It is served under several hosts, each
of which answers late, as hosts on the internet do, and says in its ``robots.txt`` what crawlers may not do.

One actor, the frontier, knows which pages have been seen and hands out the next one as soon as its host allows it. The
crawlers fetch and parse, each with many requests under way on one event loop. The program fails (exit code 1) if a host
saw more than it allows, or if the sequential crawl finds other pages.

Needs aiohttp and ray-async: ``pip install aiohttp ./packages/ray-core ./packages/ray-async``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import html.parser
import importlib
import importlib.util
import os
import pydoc
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import ray

if TYPE_CHECKING:
    from collections.abc import Iterable

AGENT = "ray-example-crawler"
DELAY_S = 0.01
"""What ``robots.txt`` asks for between two requests."""
LATENCY_S = 0.05
REQUESTS_PER_HOST = 8
"""How many requests to one host may be under way."""
REQUESTS_PER_CRAWLER = 16
TIMEOUT_S = 20.0
ROBOTS = f"User-agent: *\nCrawl-delay: {DELAY_S}\nDisallow: /_sources/\nDisallow: /_static/\n"
MODULES = (
    "argparse ast asyncio base64 bisect calendar cmd codecs collections configparser contextlib copy csv dataclasses "
    "datetime decimal dis email enum fnmatch fractions functools gettext glob gzip hashlib heapq html http inspect io "
    "ipaddress itertools json keyword linecache logging math mimetypes operator os pathlib pickle pprint queue random "
    "re sched secrets selectors shlex shutil signal smtplib socket ssl statistics string struct subprocess tarfile "
    "tempfile textwrap threading time timeit tokenize traceback types typing unittest urllib uuid warnings weakref "
    "xml zipfile zlib"
)


#: pydoc links every module that it meets, wherever the pages are.
MODULE_LINK = re.compile(r'<a href="(?P<name>[\w.]+)\.html[^"]*">(?P<text>.*?)</a>', re.DOTALL)


# --- pages ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Page:
    """What became of one address."""

    url: str
    status: int
    size: int = 0
    links: tuple[str, ...] = ()


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.update((target, None) for name, target in attrs if name == "href" and target)


def page_of(url: str, status: int, kind: str, body: bytes) -> Page:
    """Parse what a host has sent."""
    if status != 200 or "html" not in kind:
        return Page(url, status, len(body))
    parser = _Links()
    parser.feed(body.decode("utf-8", errors="replace"))
    absolute = (urldefrag(urljoin(url, target)).url for target in parser.found)
    links = dict.fromkeys(link for link in absolute if urlsplit(link).scheme in ("http", "https"))
    return Page(url, status, len(body), tuple(links))


class Rules:
    """What the hosts of a crawl allow; pages of any other host are left alone."""

    def __init__(self, robots: dict[str, str]) -> None:
        self._robots: dict[str, RobotFileParser] = {}
        for host, text in robots.items():
            self._robots[host] = parser = RobotFileParser()
            parser.parse(text.splitlines())

    def delay_s(self, host: str) -> float:
        """How long to wait between two requests. (``RobotFileParser`` itself takes only whole seconds.)"""
        return float(self._robots[host].crawl_delay(AGENT) or DELAY_S)

    def allow(self, url: str) -> bool:
        robots = self._robots.get(urlsplit(url).netloc)
        return robots is not None and robots.can_fetch(AGENT, url)


# --- actors -----------------------------------------------------------------------------------------------------------


class Host:
    """What the frontier knows of one host."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.queue: deque[str] = deque()
        self.under_way = 0
        self.free_at = 0.0

    @property
    def open(self) -> bool:
        return bool(self.queue) and self.under_way < REQUESTS_PER_HOST


class Frontier:
    """Which pages have been seen, and which one comes next."""

    def __init__(self, seeds: list[str], robots: dict[str, str]) -> None:
        self._rules = Rules(robots)
        self._hosts = {host: Host(self._rules.delay_s(host)) for host in robots}
        self._seen: set[str] = set()
        self._pages: list[Page] = []
        self._referrers: dict[str, str] = {}
        self._changed = asyncio.Condition()
        self._add(seeds, "the start")

    def _add(self, links: Iterable[str], source: str) -> None:
        for url in links:
            if url not in self._seen and self._rules.allow(url):
                self._seen.add(url)
                self._referrers[url] = source
                self._hosts[urlsplit(url).netloc].queue.append(url)

    async def next(self, done: Page | None) -> str | None:
        """Take what a crawler has fetched, and give it the next address as soon as a host allows; None at the end."""
        async with self._changed:
            if done is not None:
                self._hosts[urlsplit(done.url).netloc].under_way -= 1
                self._pages.append(done)
                self._add(done.links, done.url)
                self._changed.notify_all()
            while len(self._pages) < len(self._seen):
                now = time.monotonic()
                waiting = [host for host in self._hosts.values() if host.open]
                host = min(waiting, key=lambda host: host.free_at, default=None)
                if host is not None and host.free_at <= now:
                    host.under_way += 1
                    host.free_at = now + host.delay_s
                    return host.queue.popleft()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if host is None else host.free_at - now):
                        await self._changed.wait()
            return None

    async def progress(self) -> tuple[int, int]:
        """How many pages have been fetched, and seen."""
        return len(self._pages), len(self._seen)

    async def result(self) -> tuple[list[Page], dict[str, str]]:
        """All pages, and where each was first linked from."""
        return self._pages, self._referrers


class Crawler:
    """Fetches and parses, many pages at a time."""

    def __init__(self, frontier: Any) -> None:
        self._frontier = frontier

    async def run(self) -> int:
        """Work until the frontier has nothing left; returns the number of pages."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(headers={"User-Agent": AGENT}, timeout=timeout) as session:
            return sum(await asyncio.gather(*(self._work(session) for _ in range(REQUESTS_PER_CRAWLER))))

    async def _work(self, session: Any) -> int:
        count = 0
        page: Page | None = None
        while (url := await self._frontier.next.remote(page)) is not None:
            page = await self._fetch(session, url)
            count += 1
        return count

    async def _fetch(self, session: Any, url: str) -> Page:
        import aiohttp

        try:
            async with session.get(url) as response:
                return page_of(url, response.status, response.content_type, await response.read())
        except (aiohttp.ClientError, TimeoutError):
            return Page(url, 0)


class Site:
    """The hosts, which are ports of this machine, and what they see of the crawlers."""

    def __init__(self, root: str, latency_s: float) -> None:
        self._root = Path(root).resolve()
        self._latency_s = latency_s
        self._runners: list[Any] = []
        self._busy: Counter[str] = Counter()
        self._most: Counter[str] = Counter()
        self._times: dict[str, list[float]] = {}

    async def start(self, hosts: int) -> list[str]:
        """Listen; returns the addresses of the hosts."""
        from aiohttp import web

        found = []
        for _ in range(hosts):
            app = web.Application()
            app.router.add_get("/robots.txt", self._robots)
            app.router.add_get("/{path:.*}", self._page)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._runners.append(runner)
            found.append(f"127.0.0.1:{runner.addresses[0][1]}")
        return found

    async def _robots(self, request: Any) -> Any:
        from aiohttp import web

        return web.Response(text=ROBOTS)

    async def _page(self, request: Any) -> Any:
        from aiohttp import web

        self._times.setdefault(request.host, []).append(time.monotonic())
        self._busy[request.host] += 1
        self._most[request.host] = max(self._most[request.host], self._busy[request.host])
        try:
            await asyncio.sleep(self._latency_s)
            path = (self._root / (request.match_info["path"] or "index.html")).resolve()
            if not path.is_relative_to(self._root) or not path.is_file():
                raise web.HTTPNotFound
            return web.Response(body=await asyncio.to_thread(path.read_bytes), content_type=kind_of(path))
        finally:
            self._busy[request.host] -= 1

    async def seen(self) -> dict[str, tuple[int, int, float]]:
        """For each host: requests, how many at a time at most, and seconds from the first to the last; then forget."""
        found = {host: (len(times), self._most[host], times[-1] - times[0]) for host, times in self._times.items()}
        self._times.clear()
        self._most.clear()
        return found

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()


def kind_of(path: Path) -> str:
    return {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}.get(path.suffix, "text/plain")


FrontierActor = ray.remote(num_cpus=0)(Frontier)
CrawlerActor = ray.remote(Crawler)
SiteActor = ray.remote(num_cpus=0)(Site)


# --- the two crawls ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Crawl:
    """A crawl and what it took."""

    pages: list[Page]
    referrers: dict[str, str]
    shares: list[int]
    took_s: float


async def crawl(seeds: list[str], robots: dict[str, str], crawlers: int) -> Crawl:
    """The distributed crawl."""
    import ray_async

    begun = time.perf_counter()
    frontier = FrontierActor.remote(seeds, robots)
    async with ray_async.TaskGroup() as group:
        shares = [group.create_task(CrawlerActor.remote(frontier).run.remote()) for _ in range(crawlers)]
        while not all(share.done() for share in shares):
            await asyncio.wait(shares, timeout=0.1)
            show_progress(*await frontier.progress.remote())
    pages, referrers = await frontier.result.remote()
    return Crawl(pages, referrers, [share.result() for share in shares], time.perf_counter() - begun)


def crawl_sequentially(seeds: list[str], robots: dict[str, str]) -> Crawl:
    """The same, one page after the other, without ``ray``."""
    begun = time.perf_counter()
    rules = Rules(robots)
    seen = dict.fromkeys(seeds, "the start")
    pages: list[Page] = []
    queue = deque(seeds)
    while queue:
        url = queue.popleft()
        try:
            request = urllib.request.Request(url, headers={"User-Agent": AGENT})
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                page = page_of(url, response.status, response.headers.get_content_type(), response.read())
        except urllib.error.HTTPError as error:
            with error:
                page = Page(url, error.code, len(error.read()))
        pages.append(page)
        new = [link for link in page.links if link not in seen and rules.allow(link)]
        seen.update(dict.fromkeys(new, url))
        queue.extend(new)
        show_progress(len(pages), len(seen))
    return Crawl(pages, seen, [len(pages)], time.perf_counter() - begun)


def show_progress(done: int, known: int) -> None:
    """Draw the bar, on terminals only."""
    if sys.stderr.isatty():
        filled = 40 * done // max(known, 1)
        end = "\n" if done == known else ""
        print(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done}/{known} pages ", end=end, file=sys.stderr, flush=True)


# --- the site ---------------------------------------------------------------------------------------------------------


def documentation(scratch: Path) -> Path | None:
    """The HTML documentation of this repository: built already, or now if possible."""
    docs = Path(__file__).resolve().parents[1] / "docs"
    if (docs / "_build" / "html" / "index.html").is_file():
        return docs / "_build" / "html"
    if not (docs / "conf.py").is_file() or importlib.util.find_spec("sphinx") is None:
        return None
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-b", "html", docs, scratch], capture_output=True, check=False
    )
    return scratch if built.returncode == 0 else None


def pydoc_pages(directory: Path, names: list[str]) -> Path:
    """Pages about modules of the standard library."""
    index = "".join(f'<li><a href="{name}.html">{name}</a></li>' for name in names)
    (directory / "index.html").write_text(f"<title>Modules</title><ul>{index}</ul>")
    for name in names:
        text = pydoc.html.page(name, pydoc.html.document(importlib.import_module(name), name))
        text = MODULE_LINK.sub(lambda link: link[0] if link["name"] in names else link["text"], text)
        (directory / f"{name}.html").write_text(text, encoding="utf-8", errors="replace")
    return directory


def choose_site(options: argparse.Namespace, scratch: Path) -> tuple[Path, str]:
    """The directory to serve, and what it is."""
    if options.site is not None:
        return options.site, str(options.site)
    built = None if options.pydoc else documentation(scratch)
    if built is not None:
        return built, "documentation of this repository"
    return pydoc_pages(scratch, MODULES.split()), "pydoc pages of the standard library"


# --- the program ------------------------------------------------------------------------------------------------------


def impolite(name: str, seen: dict[str, tuple[int, int, float]], at_once: int) -> list[str]:
    """What a host would complain about. A request may be on the way for a while, so a whole crawl is looked at."""
    found = []
    for host, (count, most, span_s) in seen.items():
        if most > at_once:
            found.append(f"{name}: {host} had {most} requests at a time")
        if span_s < 0.9 * (count - 1) * DELAY_S - 0.5:
            found.append(f"{name}: {host} had {count} requests in {span_s:.2f} s")
    return found


def print_summary(found: Crawl, seen: dict[str, tuple[int, int, float]]) -> None:
    print(
        f"{sum(page.size for page in found.pages) / 1e6:.1f} MB, {sum(len(page.links) for page in found.pages):,} links"
    )
    statuses = Counter(page.status for page in found.pages)
    print("status: " + ", ".join(f"{count:,} x {status or 'no answer'}" for status, count in sorted(statuses.items())))
    for page in [page for page in found.pages if page.status != 200][:5]:
        print(f"  {page.status} {page.url}, linked from {found.referrers[page.url]}")
    for host, (count, most, span_s) in sorted(seen.items()):
        rate = count / span_s if span_s else 0
        print(f"{host}: {count} requests, {rate:.0f}/s, at most {most} at a time")
    print("pages per crawler: " + ", ".join(map(str, found.shares)))


async def main_crawl(options: argparse.Namespace, root: Path) -> int:
    import aiohttp

    site = SiteActor.remote(str(root), options.latency)
    hosts = await site.start.remote(options.hosts)
    seeds = [f"http://{host}/index.html" for host in hosts]
    robots = {}
    async with aiohttp.ClientSession() as session:
        for host in hosts:
            async with session.get(f"http://{host}/robots.txt") as response:
                robots[host] = await response.text()

    found = await crawl(seeds, robots, options.crawlers)
    seen = await site.seen.remote()
    print(f"{len(found.pages):,} pages in {found.took_s:.2f} s, {len(found.pages) / found.took_s:.0f}/s")
    least_s = len(found.pages) * options.latency
    print(f"the same one by one, to compare: {least_s:.0f} s or more", flush=True)
    plain = await asyncio.to_thread(crawl_sequentially, seeds, robots)
    complaints = impolite("crawl", seen, REQUESTS_PER_HOST)
    await site.stop.remote()

    print_summary(found, seen)
    print(f"{len(plain.pages):,} pages one by one in {plain.took_s:.2f} s, {len(plain.pages) / plain.took_s:.0f}/s")
    print(f"speed-up {plain.took_s / found.took_s:.1f}, with {options.crawlers} crawlers")
    if {(page.url, page.status, page.size) for page in found.pages} != {
        (page.url, page.status, page.size) for page in plain.pages
    }:
        complaints.append("the sequential crawl found something else")
    for complaint in complaints:
        print(f"crawler: {complaint}", file=sys.stderr)
    return bool(complaints)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--site", type=Path, metavar="DIR", help="HTML files to serve, with an index.html")
    what.add_argument("--pydoc", action="store_true", help="serve pages that pydoc makes, whatever else there is")
    parser.add_argument("--hosts", type=int, default=3, metavar="N", help="serve it so often (default %(default)s)")
    parser.add_argument(
        "--crawlers", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="actors (default: one per core)"
    )
    parser.add_argument(
        "--latency", type=float, default=LATENCY_S, metavar="SECONDS", help="of an answer (default %(default)s)"
    )
    options = parser.parse_args()
    if options.site is not None and not (options.site / "index.html").is_file():
        parser.error(f"there is no index.html in {options.site}")
    if options.hosts < 1 or options.crawlers < 1:
        parser.error("--hosts and --crawlers must be at least 1")
    return options


def main() -> int:
    options = arguments()
    if importlib.util.find_spec("aiohttp") is None:
        print("crawler: this example needs aiohttp; install it: pip install aiohttp", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        root, name = choose_site(options, Path(scratch))
        print(f"{name}: {sum(1 for _ in root.rglob('*.html'))} files, on {options.hosts} hosts", flush=True)
        with ray.init(num_cpus=options.crawlers):
            return asyncio.run(main_crawl(options, root))


if __name__ == "__main__":
    sys.exit(main())
