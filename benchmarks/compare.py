"""Runs the benchmark programs under several interpreters in turn and prints the lines side by side.

    python benchmarks/compare.py ours=.venv/bin/python ray=.venv-ray/bin/python --markdown out.md --json out.json

The first contestant is the one judged against the targets, the second the one the ratios refer to. Every round runs
each group under each contestant before the next group, so that a slow minute of the machine hits all alike. The zmq
and plasma variants of the first contestant are tried as well; where a plugin is not installed the table says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from report import markdown, misses, text
from targets import GROUPS, VARIANTS

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(slots=True)
class Contestant:
    """An interpreter, what to set in its environment, and the groups it runs; ``results`` is filled in as they do."""

    name: str
    python: str
    groups: tuple[str, ...]
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    unavailable: str = ""
    results: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)

    def run(self, program: str, arguments: list[str], timeout_s: float) -> tuple[list[dict[str, Any]], str]:
        """The JSON records that ``program`` printed and, if it went wrong, how."""
        command = [self.python, str(HERE / f"{program}.py"), *arguments]
        # Files, not pipes: a process that a broken runtime leaves behind would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=os.environ | self.environment,
                start_new_session=True,
            )
            try:
                status = process.wait(timeout_s)
                problem = f"exit code {status}" if status else ""
            except subprocess.TimeoutExpired:
                problem = f"stopped after {timeout_s:g} s"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            output.seek(0)
            errors.seek(0)
            lines, complaints = output.read().splitlines(), errors.read().strip().splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return records, f"{problem}: {complaints[-1][:300] if complaints else 'no message'}" if problem else ""

    def probe(self) -> None:
        """Find out whether this contestant can start at all."""
        records, problem = self.run("adapter", [], 120)
        record = records[-1] if records else {}
        self.versions = record.get("versions", {})
        if not self.versions:
            self.unavailable = record.get("unavailable", problem) or "no answer"

    def measure(self, group: str, arguments: list[str], timeout_s: float) -> None:
        """Run a group and fold its records into the results."""
        records, problem = self.run(group, arguments, timeout_s)
        if problem:
            self.problems.append(f"{group}: {problem}")
            print(f"{self.name}: {group}: {problem}", file=sys.stderr)
        for record in records:
            result = self.results.setdefault(record["name"], {"unit": record["unit"], "rounds": [], "samples": []})
            if record["value"] is None:
                result |= {key: record[key] for key in ("unavailable", "failed") if key in record}
            else:
                result["rounds"].append(record["value"])
                result["samples"].extend(record["samples"])

    def summary(self) -> dict[str, Any]:
        """Median of the rounds' values, least and greatest sample, per line."""
        lines = {}
        for name, result in self.results.items():
            line = dict(result)
            if result["rounds"]:
                samples = result["samples"]
                line |= {"median": statistics.median(result["rounds"]), "min": min(samples), "max": max(samples)}
            lines[name] = line
        return {
            "versions": self.versions,
            "unavailable": self.unavailable,
            "problems": self.problems,
            "lines": lines,
        }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestants", nargs="*", metavar="NAME=PYTHON", help="default: this interpreter, as ours")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=1.5, help="time per line and round (default %(default)s)")
    parser.add_argument("--groups", default=",".join(GROUPS), help="default %(default)s")
    parser.add_argument("--only", default="", metavar="REGEX", help="only lines whose name matches")
    parser.add_argument("--million", action="store_true", help="also queue and run 1,000,000 tasks, once each")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter with loky and dask (default: the first one's)")
    parser.add_argument("--no-peers", action="store_true", help="leave ProcessPoolExecutor, loky and Dask out")
    parser.add_argument("--no-variants", action="store_true", help="leave the zmq and plasma variants out")
    parser.add_argument("--timeout", type=float, default=900, metavar="S", help="for one program (default %(default)s)")
    parser.add_argument("--note", default="", help="a remark to keep with the results")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser.parse_args()


def contestants(options: argparse.Namespace) -> list[Contestant]:
    """Those named on the command line, then the variants of the first."""
    groups = tuple(options.groups.split(","))
    found = []
    for argument in options.contestants or [f"ours={sys.executable}"]:
        name, separator, python = argument.partition("=")
        if not (separator and name and python):
            sys.exit(f"compare.py: {argument!r} is not NAME=PYTHON, such as ours=.venv/bin/python")
        if shutil.which(python) is None:
            sys.exit(f"compare.py: {python!r} (for {name!r}) cannot be run")
        found.append(Contestant(name, python, groups))
    first = found[0]
    if not options.no_variants:
        for variant, (environment, of_variant) in VARIANTS.items():
            chosen = tuple(group for group in groups if group in of_variant)
            found.append(Contestant(f"{first.name}+{variant}", first.python, chosen, environment))
    return found


def command_line() -> str:
    """How this was called, with interpreters named instead of their paths on this machine."""
    shown = [f"{word.partition('=')[0]}=PYTHON" if "/python" in word and "=" in word else word for word in sys.argv[1:]]
    words = ["PYTHON" if "/python" in word and " " not in word else word for word in shown]
    return "python benchmarks/compare.py " + shlex.join(words)


def main() -> int:
    options = arguments()
    all_of_them = contestants(options)
    for contestant in all_of_them:
        contestant.probe()
        if contestant.unavailable:
            print(f"{contestant.name}: unavailable: {contestant.unavailable}", file=sys.stderr)
    running = [contestant for contestant in all_of_them if not contestant.unavailable]
    started = datetime.datetime.now(datetime.UTC)
    load = os.getloadavg()[0]
    program_arguments = ["--seconds", str(options.seconds), "--only", options.only]
    for number in range(options.rounds):
        for group in options.groups.split(","):
            for contestant in running:
                if group in contestant.groups:
                    print(f"round {number + 1}: {group}: {contestant.name}", file=sys.stderr)
                    contestant.measure(group, program_arguments, options.timeout)
    if options.million:
        for contestant in running:
            if contestant.environment == {}:
                limit = 10 * options.timeout
                contestant.measure("million", ["--only", options.only, "--limit", str(limit)], limit + 60)
    peers = Contestant("peers", options.peers or all_of_them[0].python, ())
    if not options.no_peers:
        peers.measure("peers", program_arguments, options.timeout)
    document = {
        "date": started.isoformat(timespec="seconds"),
        "command": command_line(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": round(load, 2),
        "rounds": options.rounds,
        "note": options.note,
        "judged": all_of_them[0].name,
        "contestants": {contestant.name: contestant.summary() for contestant in all_of_them},
        "peers": peers.summary()["lines"],
    }
    print(text(document))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(document))
    return 1 if options.check and misses(document) else 0


if __name__ == "__main__":
    sys.exit(main())
