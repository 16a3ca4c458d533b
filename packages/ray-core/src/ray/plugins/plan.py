"""The result of resolution: made once, by the driver or the head, and handed to every other process."""

from __future__ import annotations

from typing import Any

import msgspec

from ray.plugins.candidate import Candidate


class PlannedPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One chosen plugin and all that is needed to build it elsewhere."""

    seam: str
    name: str
    module: str
    """``package.module`` or ``package.module:attribute``."""
    distribution: str = ""
    version: str = ""
    options: dict[str, Any] = {}
    """Complete: defaults are filled in."""
    source: str = "default"
    """Why this one, such as ``from environment RAY_STORE``."""
    option_sources: dict[str, str] = {}
    """{option: where it was set}, for those that were."""
    capabilities: list[str] = []
    """Sorted."""
    machine_options: list[str] = []
    """Sorted names of the options that may be others on another machine."""
    inner: dict[str, PlannedPart] = {}
    """{role: part} of a transport that is made of others."""

    @property
    def candidate(self) -> Candidate:
        """What ``discovery.load`` takes."""
        return Candidate(self.seam, self.name, self.module, self.distribution, self.version)

    @property
    def shared_options(self) -> dict[str, Any]:
        """Those that are the same in a whole cluster."""
        return {name: value for name, value in self.options.items() if name not in self.machine_options}

    @property
    def with_inner(self) -> list[PlannedPart]:
        """This one, and those that it is made of."""
        return [self, *self.inner.values()]

    @property
    def shared(self) -> list[Any]:
        """What a whole cluster has in common of it."""
        inner = [[role, part.shared] for role, part in sorted(self.inner.items())]
        return [self.seam, self.name, self.version, self.shared_options, *([inner] if inner else ())]

    @property
    def subject(self) -> str:
        """The part as messages name it."""
        return self.candidate.subject


class ResolvedPlan(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Which plugin serves each seam, with its options and the reason for the choice. Immutable."""

    parts: dict[str, PlannedPart]
    """{seam: part}. Always ``store``, ``transport``, ``scheduler`` and ``control``; ``selector`` where one is installed
    and fits; ``executor`` only where the user chose one for all actors and tasks."""
    executors: dict[str, PlannedPart] = {}
    """{name: part}: every executor that is installed. Which one runs is decided by the actor's class."""
    observers: list[PlannedPart] = []
    notes: list[str] = []
    """Sentences about what was passed over, for ``ray doctor``."""
    plugin_api: int
    stands_for: str = ""
    """The digest of the plan of the session, of which this one is another form for a single process."""

    @property
    def store(self) -> PlannedPart:
        """The object store."""
        return self.parts["store"]

    @property
    def transport(self) -> PlannedPart:
        """The transport between processes."""
        return self.parts["transport"]

    @property
    def scheduler(self) -> PlannedPart:
        """The placement policy."""
        return self.parts["scheduler"]

    @property
    def control(self) -> PlannedPart:
        """The control store."""
        return self.parts["control"]

    @property
    def selector(self) -> PlannedPart | None:
        """The selector over object ids, or None where none is installed."""
        return self.parts.get("selector")

    @property
    def executor(self) -> PlannedPart | None:
        """The executor that the user chose for everything, or None: by the actor's class."""
        return self.parts.get("executor")

    @property
    def digest(self) -> str:
        """32 hex digits over what the machines of a cluster have in common: nodes of equal digests fit each other.

        Neither why a part was chosen nor where its code lies is of account, nor what is of one machine alone.
        """
        if self.stands_for:
            return self.stands_for
        cached = self.__dict__.get("_digest")
        if cached is None:
            import hashlib  # loads OpenSSL, which not every program needs

            built = [
                self.plugin_api,
                *(
                    part.shared
                    for parts in (self.parts, self.executors, dict(enumerate(self.observers)))
                    for _, part in sorted(parts.items())
                ),
            ]
            encoded = msgspec.json.encode(built, order="sorted")
            cached = self.__dict__["_digest"] = hashlib.blake2b(encoded, digest_size=16).hexdigest()
        return str(cached)

    def differences(self, other: ResolvedPlan) -> list[str]:
        """Why nodes of the two plans do not fit each other, as ``store: plasma 1.0 there, heap 1.0 here``."""
        said: list[str] = []
        if self.plugin_api != other.plugin_api:
            said.append(f"plugin API: {self.plugin_api} there, {other.plugin_api} here")
        there, here = self._every, other._every
        said += [_difference(what, there.get(what), here.get(what)) for what in sorted({*there, *here})]
        return list(filter(None, said)) or ["the order of the observers"]

    @property
    def _every(self) -> dict[str, PlannedPart]:
        executors = {f"executor {name}": part for name, part in self.executors.items()}
        return self.parts | executors | {f"observer {part.name}": part for part in self.observers}

    def to_json(self) -> bytes:
        """The plan as JSON, in the order of resolution."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> ResolvedPlan:
        """Undo ``to_json``. Raises ``msgspec.ValidationError`` if it is none."""
        return msgspec.json.decode(data, type=cls)

    def describe(self) -> str:
        """One line that names the parts, such as ``store=heap transport=unix … selector=none``."""
        shown = {"selector": "none", **{seam: part.name for seam, part in self.parts.items()}}
        return " ".join(f"{seam}={shown[seam]}" for seam in (*self.parts, *(["selector"] if not self.selector else [])))


def _difference(what: str, there: PlannedPart | None, here: PlannedPart | None) -> str:
    if there is None or here is None or (there.name, there.version) != (here.name, here.version):
        shown = ["none" if part is None else f"{part.name} {part.version}".rstrip() for part in (there, here)]
        return "" if shown == ["none", "none"] else f"{what}: {shown[0]} there, {shown[1]} here"
    if there.shared == here.shared:
        return ""
    ours, theirs = there.shared_options, here.shared_options
    names = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    listed = ", ".join(f"{name}={ours.get(name)!r} there, {theirs.get(name)!r} here" for name in names)
    return f"{what}: {there.name} with {listed or 'other parts of its own'}"
