"""A web service that awaits refs, under load from another process, alone and while 10,000 other refs are pending.

    python examples/serve.py [--rate N] [--seconds S] [--pending N]

Each request runs a task and awaits its ref on the event loop of the web server; nothing blocks a thread. The client
sends requests at a fixed rate, whether or not answers come, and counts each latency from the moment at which its
request was due, so that a stall of the server counts for all that it delays. The program fails (exit code 1) if an
answer is wrong or missing, or if the pending refs do not all come in the end. Needs aiohttp and ray-async:
``pip install aiohttp ./packages/ray-core ./packages/ray-async``.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
import time
from typing import Any

import ray

RATE = 200
SECONDS = 4.0
PENDING = 10_000
TIMEOUT_S = 30.0


# --- the service ------------------------------------------------------------------------------------------------------


@ray.remote
def square(x: int) -> int:
    return x * x


class _Gate:
    """Keeps tasks waiting."""

    def __init__(self) -> None:
        self._open = asyncio.Event()

    async def passed(self) -> None:
        """Return when the gate is open."""
        await self._open.wait()

    async def open(self) -> None:
        self._open.set()


Gate = ray.remote(num_cpus=0)(_Gate)


@ray.remote
def after(gate: None, number: int) -> int:
    """Waits for the gate where it was submitted, and not in a process."""
    return number


async def answer(request: Any) -> Any:
    """``GET /square?x=3``"""
    from aiohttp import web

    try:
        x = int(request.query["x"])
    except (KeyError, ValueError):
        raise web.HTTPBadRequest(text="x must be a whole number") from None
    return web.json_response({"x": x, "square": await square.remote(x)})


async def start_service() -> tuple[Any, int]:
    """Listen on a free port of this machine; returns what stops it, and the port."""
    from aiohttp import web

    app = web.Application()
    app.router.add_get("/square", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, runner.addresses[0][1]


# --- the client -------------------------------------------------------------------------------------------------------


async def load(port: int, rate: int, seconds: float) -> dict[str, Any]:
    """Send requests at a fixed rate; returns what came of them, latencies in ms."""
    import aiohttp

    latencies: list[float] = []
    errors: list[str] = []

    async def one(session: Any, x: int, due: float) -> None:
        await asyncio.sleep(due - time.perf_counter())
        try:
            async with session.get(f"http://127.0.0.1:{port}/square", params={"x": x}) as response:
                result = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            errors.append(f"{type(error).__name__}: {error}")
            return
        if result != {"x": x, "square": x * x}:
            errors.append(f"{x}: {result}")
        latencies.append((time.perf_counter() - due) * 1e3)

    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
        await one(session, 0, time.perf_counter())
        latencies.clear()
        begun = time.perf_counter() + 0.1
        async with asyncio.TaskGroup() as group:
            for number in range(max(1, int(rate * seconds))):
                group.create_task(one(session, number, begun + number / rate))
    latencies.sort()
    return {
        "requests": max(1, int(rate * seconds)),
        "errors": errors,
        "p50_ms": latencies[len(latencies) // 2] if latencies else None,
        "p99_ms": latencies[len(latencies) * 99 // 100] if latencies else None,
        "max_ms": latencies[-1] if latencies else None,
    }


async def load_from_another_process(port: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run ``load`` where it does not share this process's event loop."""
    arguments = ["--client", str(port), "--rate", str(options.rate), "--seconds", str(options.seconds)]
    client = await asyncio.create_subprocess_exec(sys.executable, __file__, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await client.communicate()
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    if client.returncode:
        raise RuntimeError(f"the client ended with {client.returncode}")
    found: dict[str, Any] = json.loads(output)
    return found


# --- the program ------------------------------------------------------------------------------------------------------


def report(name: str, found: dict[str, Any]) -> None:
    if found["p50_ms"] is not None:
        times = " ".join(f"{key} {found[f'{key}_ms']:.1f} ms" for key in ("p50", "p99", "max"))
        print(f"{name}: {found['requests']} requests, {times}", flush=True)
    for error in found["errors"][:3]:
        print(f"serve: {error}", file=sys.stderr)


async def serve(options: argparse.Namespace) -> int:
    runner, port = await start_service()
    try:
        await asyncio.gather(*[square.remote(x) for x in range(100)])  # the workers are there
        alone = await load_from_another_process(port, options)
        report("nothing else pending", alone)

        gate = Gate.remote()
        passed = gate.passed.remote()
        pending = []
        for number in range(options.pending):
            pending.append(asyncio.ensure_future(after.remote(passed, number)))
            if number % 100 == 0:
                await asyncio.sleep(0)  # the service goes on meanwhile
        crowded = await load_from_another_process(port, options)
        still = sum(not future.done() for future in pending)
        report(f"{still:,} refs pending", crowded)

        begun = time.perf_counter()
        await gate.open.remote()
        complete = await asyncio.gather(*pending) == list(range(options.pending))
        print(f"then all {options.pending:,} came in {time.perf_counter() - begun:.2f} s")
    finally:
        await runner.cleanup()
    if not complete or still != options.pending or alone["errors"] or crowded["errors"]:
        print("serve: an answer is wrong or missing", file=sys.stderr)
        return 1
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=RATE, metavar="N", help="requests a second (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="S", help="length of each load (default %(default)s)"
    )
    parser.add_argument("--pending", type=int, default=PENDING, metavar="N", help="pending refs (default %(default)s)")
    parser.add_argument("--client", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rate < 1 or options.seconds <= 0 or options.pending < 1:
        parser.error("--rate, --seconds and --pending must be positive")
    return options


def main() -> int:
    options = arguments()
    if importlib.util.find_spec("aiohttp") is None:
        print("serve: this example needs aiohttp; install it: pip install aiohttp", file=sys.stderr)
        return 2
    if options.client is not None:
        print(json.dumps(asyncio.run(load(options.client, options.rate, options.seconds))))
        return 0
    with ray.init():
        return asyncio.run(serve(options))


if __name__ == "__main__":
    sys.exit(main())
