"""A node that runs already, which a driver joins as one job among others."""

from __future__ import annotations

import os
import platform

import msgspec

from ray.exceptions import IncompatiblePluginsError, RayConnectionError
from ray.plugins.plan import ResolvedPlan
from ray.runtime.driver.leaving import NodeLeavesError
from ray.runtime.process.node_start import JobConfig, NodeFacts, python_version
from ray.runtime.process.session_dirs import NodeEnd, session_in
from ray.runtime.start_options import JoinOptions
from ray.runtime.worker import driver_path


class JoinedNode:
    """Implements ``Hosting``."""

    is_owner = False
    is_guest = False

    def __init__(self, options: JoinOptions) -> None:
        """Find it.

        Raises:
            RayConnectionError: there is no such node, or this program's Python is not that of its workers.
            IncompatiblePluginsError: the session has other plugins than the program has chosen.
        """
        self.session_dir = os.path.abspath(options.session_dir)
        try:
            self._facts = session_in(self.session_dir)
        except RayConnectionError as error:
            raise NodeLeavesError(str(error)) from None
        self.session = self._facts.session
        check_python(self.session, self._facts.python)
        #: That of the session.
        self.plan = ResolvedPlan.from_json(self._facts.plan)
        check_choice(options, self.plan)
        self._end = NodeEnd(self.session_dir)

    def begin(self) -> None:
        """See ``Hosting``: it runs."""

    def await_facts(self) -> NodeFacts:
        """See ``Hosting``."""
        facts = self._facts
        found = NodeFacts(facts.address, facts.store_address, facts.events, node=facts.node)
        if facts.cluster is not None:
            found = msgspec.structs.replace(found, host=facts.cluster.host, cluster=facts.cluster.address)
        return found

    def how_it_ended(self, patience_s: float) -> str:
        """See ``Hosting``: it is another program's child."""
        return ""

    def log_tail(self) -> str:
        """See ``Hosting``: it is not this program's to read."""
        return ""

    def why_it_ended(self) -> str:
        """See ``Hosting``."""
        return self._end.reason()

    def lost(self, *, orderly: bool) -> None:
        """See ``Hosting``: the node's survivor cleans up."""

    def end(self) -> None:
        """See ``Hosting``."""

    def clear_away(self) -> None:
        """See ``Hosting``."""
        self._end.close()

    def after_fork_in_child(self) -> None:
        """See ``Hosting``."""
        self._end.close()


def check_python(session: str, version: str) -> None:
    """See that workers and this program read each other's functions.

    Raises:
        RayConnectionError: they do not.
    """
    if version != python_version():
        raise RayConnectionError(
            f"the workers of session {session} run Python {version}, and this program Python "
            f"{platform.python_version()}: they could not read each other's functions"
        )


def check_choice(options: JoinOptions, plan: ResolvedPlan) -> None:
    """See that the session has what the program has chosen.

    Raises:
        IncompatiblePluginsError: it has something else.
    """
    for seam, name in options.chosen.items():
        part = plan.parts.get(seam)
        if part is None or name not in (part.name, part.module):
            found = "none" if part is None else repr(part.name)
            raise IncompatiblePluginsError(f"{seam}={name!r} was asked for, and the session that is joined has {found}")
    for seam, wanted in options.plugin_options.items():
        part = plan.parts.get(seam)
        for option, value in wanted.items():
            if part is None or part.options.get(option) != value:
                found = "no such part" if part is None else repr(part.options.get(option))
                raise IncompatiblePluginsError(
                    f"{seam}.{option}={value!r} was asked for, and the session that is joined has {found}"
                )


def job_config(options: JoinOptions) -> JobConfig:
    """What this program wants of a node whose processes have begun elsewhere."""
    try:
        cwd = os.getcwd() if options.key is None else ""  # another machine has other directories
    except OSError:  # it was removed: there is no other process that could enter it
        cwd = ""
    code = options.code
    return JobConfig(
        driver_path.current_path(code.root),
        options.namespace,
        options.log_to_driver,
        "" if code.package else cwd,
        _umask(),
        dict(code.env_vars),
        code.package,
        is_guest=options.key is not None,
    )


def _umask() -> int:
    """That of this process, unchanged: another thread may be making a file."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name == "Umask":
                    return int(value, 8)
    except (OSError, ValueError):
        pass
    return -1
