"""The ``ray`` command. Each subcommand is a module that is imported only when it is asked for.

Data goes to stdout, errors to stderr. Exit codes: 0 done; 1 the operation failed or found something wrong; 2 wrong
usage, including a plugin that does not exist; 3 no session can be reached; 4 time over; 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from ray.exceptions import PluginError, RayConnectionError, RayError

#: {subcommand: (``module:function(arguments) -> exit code``, one line of help)}
COMMANDS: dict[str, tuple[str, str]] = {
    "doctor": ("ray.cli.doctor:run", "show the plan and why, versions, limits and conflicts of this installation"),
    "memory": ("ray.cli.memory:run", "list the objects in the stores of running sessions: size, state, who holds them"),
    "microbenchmark": ("ray.cli.microbenchmark:main", "measure what tasks, actors and objects cost on this machine"),
    "plugins": ("ray.cli.plugins:run", "list plugins: installed, chosen, and what else could be installed"),
}

FAILED, USAGE, UNREACHABLE, TIMED_OUT, INTERRUPTED = 1, 2, 3, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; ``arguments`` are those of the process if None. Returns the exit code."""
    try:
        code = _dispatch(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has had enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PluginError as error:
        return _fail(error, USAGE)
    except RayConnectionError as error:
        return _fail(error, UNREACHABLE)
    except TimeoutError as error:
        return _fail(error, TIMED_OUT)
    except RayError as error:
        return _fail(error, FAILED)


def _dispatch(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="ray",
        description="Remote tasks, actors and shared objects for Python.",
        epilog="`ray COMMAND --help` shows the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this text")
    parser.add_argument("--version", action="store_true", help="show the version")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.version:
        from ray._version import __version__

        print(f"ray-core {__version__}")
        return 0
    if given.command in COMMANDS:
        module, _, function = COMMANDS[given.command][0].partition(":")
        run: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), function)
        return run(given.arguments)
    return _contributed(parser, given.command, given.arguments)


def _contributed(parser: argparse.ArgumentParser, command: str | None, arguments: list[str]) -> int:
    """Commands of plugins: they cost a resolved plan, so they are asked for only now."""
    from ray.config import did_you_mean
    from ray.plugins import Command, Composition, resolve_plan

    brought: dict[str, Command] = {}
    warning = ""
    try:
        brought = {entry.name: entry for entry in Composition(resolve_plan()).commands()}
    except Exception as error:
        # Whatever a plugin does wrong must not take the help away.
        warning = f"ray: commands of plugins are not available: {type(error).__name__}: {error}"
    if command in brought:
        return brought[command].run(arguments)
    if warning:
        print(warning, file=sys.stderr)
    if command is not None:
        hint = did_you_mean(command, [*COMMANDS, *brought])
        print(f"ray: there is no command {command!r}.{hint}", file=sys.stderr)
        return USAGE
    listed = {name: summary for name, (_, summary) in COMMANDS.items()}
    listed.update({name: entry.summary for name, entry in brought.items()})
    width = max(map(len, listed)) + 2
    lines = "\n".join(f"  {name:<{width}}{summary}" for name, summary in sorted(listed.items()))
    parser.usage = "ray [--help] [--version] COMMAND ..."
    parser.epilog = f"commands:\n{lines}\n\n{parser.epilog}"
    print(parser.format_help(), end="")
    return 0


def _fail(error: BaseException, code: int) -> int:
    print(f"ray: {error}", file=sys.stderr)
    return code
