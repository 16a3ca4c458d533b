"""Interpreters that run the programs of this folder in turn, each program with an end, and what they printed."""

from __future__ import annotations

import argparse
import ctypes
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
import time
from collections.abc import Sequence
from typing import Any

import processes

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results"
QUICK_RESULTS = RESULTS / "quick"
GRACE_S = 5.0
PR_SET_CHILD_SUBREAPER = 36


@dataclasses.dataclass(slots=True)
class Contestant:
    """An interpreter and what to set in its environment; ``results`` is filled in as it runs programs."""

    name: str
    python: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    unavailable: str = ""
    results: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)

    def run(self, program: str, arguments: Sequence[str], timeout_s: float) -> tuple[list[dict[str, Any]], str]:
        """The JSON records that ``program`` printed and, if it went wrong, how. Nothing of it runs on afterwards."""
        if timeout_s <= 0:
            return [], "not started: the time was up"
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
                problem = f"stopped after {timeout_s:.0f} s"
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                left = end_descendants()
            output.seek(0)
            errors.seek(0)
            lines, complaints = output.read().splitlines(), errors.read().strip().splitlines()
        if problem:
            problem += f": {complaints[-1][:300] if complaints else 'no message'}"
        elif left:
            problem = f"{left} processes were still there {GRACE_S:g} s later"
        return [json.loads(line) for line in lines if line.startswith("{")], problem

    def probe(self) -> None:
        """Find out whether this contestant can start at all."""
        records, problem = self.run("adapter", [], 120)
        record = records[-1] if records else {}
        self.versions = record.get("versions", {})
        if not self.versions:
            self.unavailable = record.get("unavailable", problem) or "no answer"
            print(f"{self.name}: unavailable: {self.unavailable}", file=sys.stderr)

    def measure(self, program: str, arguments: Sequence[str], timeout_s: float) -> None:
        """Run a program and fold its records into the results; a line without a record has failed."""
        records, problem = self.run(program, arguments, timeout_s)
        if problem:
            self.problems.append(f"{program}: {problem}")
            print(f"{self.name}: {program}: {problem}", file=sys.stderr)
        missing = {name for record in records for name in record.get("lines", ())}
        for record in records:
            if "name" not in record:
                continue
            missing.discard(record["name"])
            result = self._result(record["name"]) | {"unit": record["unit"]}
            if record["value"] is not None:
                result["rounds"].append(record["value"])
                result["samples"].extend(record["samples"])
            elif "failed" in record:
                result["failures"].append(record["failed"])
            else:
                result["unavailable"] = record["unavailable"]
            self.results[record["name"]] = result
        for name in missing:
            self._result(name)["failures"].append(problem or "no record")

    def _result(self, name: str) -> dict[str, Any]:
        return self.results.setdefault(name, {"unit": "", "rounds": [], "samples": [], "failures": []})

    def summary(self) -> dict[str, Any]:
        """Median of the rounds' values, least and greatest sample, per line."""
        lines = {}
        for name, result in self.results.items():
            line = {key: value for key, value in result.items() if value}
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


def adopt_orphans() -> None:
    """Become the parent of every process whose own parent ends, so that `end_descendants` finds them (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> int:
    """Wait for what a program has started to end, then kill it; returns how many had to be killed."""
    end = time.monotonic() + GRACE_S
    while _reap() and time.monotonic() < end:
        time.sleep(0.02)
    stubborn = processes.session()[1:]
    for pid in stubborn:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    while _reap():
        time.sleep(0.02)
    return len(stubborn)


def _reap() -> bool:
    """Take note of the children that have ended; whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every program has which runs contestants."""
    parser.add_argument("contestants", nargs="*", metavar="NAME=PYTHON", help="default: this interpreter, as ours")
    parser.add_argument("--quick", action="store_true", help="a try: little time for each line, rough figures")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="for one program (default %(default)s)")
    parser.add_argument("--note", default="", help="a remark to keep with the results")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="default: benchmarks/results[/quick]")


def out(options: argparse.Namespace) -> pathlib.Path:
    """The directory for the results, which exists afterwards."""
    chosen: pathlib.Path = options.out or (QUICK_RESULTS if options.quick else RESULTS)
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


def named(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """(name, interpreter) for each ``NAME=PYTHON``; ends the program when one is not."""
    found = []
    for argument in arguments or [f"ours={sys.executable}"]:
        name, separator, python = argument.partition("=")
        if not (separator and name and python):
            sys.exit(f"{argument!r} is not NAME=PYTHON, such as ours=.venv/bin/python")
        if shutil.which(python) is None:
            sys.exit(f"{python!r} (for {name!r}) cannot be run")
        found.append((name, python))
    return found


def circumstances(note: str = "") -> dict[str, Any]:
    """When, where and how: what is kept with every result. Interpreters are named, their paths are not."""
    words: list[str] = []
    for word in sys.argv[1:]:
        name, separator, value = word.rpartition("=")
        words.append(f"{name}{separator}PYTHON" if os.sep in value and shutil.which(value) else word)
    if "--out" in words:
        place = words.index("--out")
        del words[place : place + 2]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python benchmarks/{pathlib.Path(sys.argv[0]).name} {shlex.join(words)}".strip(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": round(os.getloadavg()[0], 2),
        "note": note,
    }
