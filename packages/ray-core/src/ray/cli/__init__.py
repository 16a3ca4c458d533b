"""The ``ray`` command. Each subcommand is a module that is imported only when it is asked for.

Data goes to stdout, errors to stderr. The exit codes are those of ``ray.cli.exits``.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import click

from ray.cli.commands import HELP_OPTIONS, Commands
from ray.cli.exits import DONE, FAILED, INTERRUPTED, TIMED_OUT, UNREACHABLE, USAGE
from ray.exceptions import KeyFileError, PluginError, RayConnectionError, RayError

#: What the system says of a file that takes no more.
_NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
#: {subcommand: (``module:command``, one line of help)}
COMMANDS: dict[str, tuple[str, str]] = {
    "doctor": ("ray.cli.doctor:doctor", "show the plan and why, versions, limits and conflicts of this installation"),
    "memory": ("ray.cli.memory:memory", "list the objects in the stores of running sessions, and what holds them"),
    "microbenchmark": ("ray.cli.microbenchmark:microbenchmark", "measure what tasks, actors and objects cost here"),
    "plugins": ("ray.cli.plugins:plugins", "list plugins: installed, chosen, and what else could be installed"),
    "start": ("ray.cli.start:start", "start a node on this machine: the head of a new cluster, or one more node"),
    "status": ("ray.cli.status:status", "list the nodes of a cluster, and what they have"),
    "stop": ("ray.cli.stop:stop", "end nodes on this machine; where the head is, the cluster"),
    "wait": ("ray.cli.wait:wait", "wait until a cluster is as large as one wants it"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; ``arguments`` are those of the process if None. Returns the exit code."""
    group = Commands(
        COMMANDS,
        name="ray",
        help="Remote tasks, actors and shared objects for Python. `ray COMMAND --help` shows the options of a command.",
        params=[click.Option(["--version"], is_flag=True, is_eager=True, callback=_version, help="Show the version.")],
        context_settings=HELP_OPTIONS,
        subcommand_metavar="COMMAND [ARGS]...",
        no_args_is_help=False,
        invoke_without_command=True,
    )
    given = sys.argv[1:] if arguments is None else list(arguments)
    if sys.stdout is None:  # closed by the shell
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    try:
        code = _run(group, given or ["--help"])
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has had enough. Python would complain once more when it flushes at exit.
        _write_no_more()
        return DONE
    except click.UsageError as error:
        return _fail(error, USAGE, error.ctx)
    except click.ClickException as error:
        return _fail(error.format_message(), FAILED)
    except (PluginError, KeyFileError) as error:
        return _fail(error, USAGE)
    except RayConnectionError as error:
        return _fail(error, UNREACHABLE)
    except TimeoutError as error:
        return _fail(error, TIMED_OUT)
    except RayError as error:
        return _fail(error, FAILED)
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        if sys.stdout is sys.__stdout__:
            _write_no_more()  # what is not written yet would fail once more
        return _fail(f"the output could not be written: {error}", FAILED)


def _write_no_more() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(group: Commands, arguments: list[str]) -> int:
    # Not `Group.main`, whose way with interrupts and closed pipes differs from the one above.
    try:
        with group.make_context("ray", arguments) as context:
            return int(group.invoke(context) or DONE)
    except click.exceptions.Exit as end:
        return end.exit_code


def _version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from ray._version import __version__

        click.echo(f"ray-core {__version__}")
        context.exit()


def _fail(error: object, code: int, context: click.Context | None = None) -> int:
    try:
        print(f"ray: {error.format_message() if isinstance(error, click.UsageError) else error}", file=sys.stderr)
        if context is not None and (context.parent is not None or isinstance(error, click.NoSuchOption)):
            print(f"`{context.command_path} --help` shows what can be given.", file=sys.stderr)
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:  # nobody can be told; Python would complain once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return code
