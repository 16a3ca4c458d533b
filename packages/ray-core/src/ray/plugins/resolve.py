"""From what was asked for and what is installed to a plan, or to a sentence that ends in what to do.

Pure: everything comes in by argument, including the function that knows a plugin's record. Choosing reads names only;
the record of a plugin, which may mean importing it, is asked for only once its name was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ray.config import Setting, Settings, check_options, did_you_mean
from ray.exceptions import (
    AmbiguousPluginError,
    IncompatiblePluginsError,
    PluginError,
    PluginNotInstalledError,
    PluginOptionsError,
    UnknownPluginError,
)
from ray.plugins.candidate import Candidate, Inventory
from ray.plugins.discovery import normalise, path_candidate
from ray.plugins.installing import command_for
from ray.plugins.plan import PlannedPart, ResolvedPlan
from ray.plugins.seams import OBSERVER, PROCESSES, SEAMS, Known, Seam
from ray.plugins.specs import PLUGIN_API, PluginInfo

InfoOf = Callable[[Candidate], PluginInfo]


def resolve(settings: Settings, inventory: Inventory, info_of: InfoOf, *, local_mode: bool = False) -> ResolvedPlan:
    """Choose a plugin for every seam.

    Args:
        settings: what was asked for.
        inventory: what is installed.
        info_of: gives the record of a candidate, or raises a PluginError.
        local_mode: whether one process is all there will be; otherwise the transport must reach others.

    Raises:
        PluginNotInstalledError: a chosen name needs a package, or its package cannot be imported.
        UnknownPluginError: a chosen name is not known at all.
        AmbiguousPluginError: two distributions offer a chosen name.
        PluginContractError: a chosen plugin's record is missing or wrong.
        PluginOptionsError: options were given that no chosen plugin takes.
        IncompatiblePluginsError: the chosen ones do not work together, or with this version.
    """
    _check_names(settings, inventory)
    parts: dict[str, PlannedPart] = {}
    notes: list[str] = []
    for seam in SEAMS.values():
        part = _resolve_seam(seam, settings, inventory, info_of, parts, notes, local_mode)
        if part is not None:
            parts[seam.name] = part
        elif settings.keyword_options.get(seam.name):
            raise PluginOptionsError(
                f"options[{seam.name!r}] was given, but no {seam.name} is chosen: add {seam.name}=...", seam=seam.name
            )
    return ResolvedPlan(
        parts=parts,
        executors=_executors(settings, inventory, info_of),
        observers=[_observer(name, settings, inventory, info_of) for name in settings.observers.value],
        notes=notes,
        plugin_api=PLUGIN_API,
    )


def _check_names(settings: Settings, inventory: Inventory) -> None:
    """See that the plugins to which the file gives options are known, be they installed or not."""
    for seam_name, plugins in settings.file_options.items():
        seam = SEAMS[seam_name]
        known = {*seam.known, *inventory.plugins.get(seam_name, {})}
        for name, given in plugins.items():
            if name not in known and "." not in name and ":" not in name:
                source = next((f" ({setting.source})" for setting in given.values()), "")
                raise PluginOptionsError(
                    f"options.{seam_name}.{name}{source}: {name!r} is not a known {seam_name}."
                    f"{did_you_mean(name, known)}",
                    seam=seam_name,
                    plugin=name,
                )


def additional_part(seam: Seam, name: str, plan: ResolvedPlan, inventory: Inventory, info_of: InfoOf) -> PlannedPart:
    """A plugin that a running session is asked for by name, beside those of its plan; without options.

    Raises:
        PluginError: as ``resolve``, for that name.
    """
    source = "asked for by name"
    candidate = find(seam, name, source, inventory)
    info = info_of(candidate)
    _check_fit(seam, candidate, info, plan.parts, local_mode=True)
    return PlannedPart(
        seam=seam.name,
        name=candidate.name,
        module=candidate.target,
        distribution=candidate.distribution,
        version=candidate.version,
        options=check_options(info.options, {}, candidate.subject),
        source=source,
        capabilities=sorted(info.capabilities),
    )


def _resolve_seam(
    seam: Seam,
    settings: Settings,
    inventory: Inventory,
    info_of: InfoOf,
    parts: Mapping[str, PlannedPart],
    notes: list[str],
    local_mode: bool,
) -> PlannedPart | None:
    choice = settings.choices.get(seam.name)
    if choice is not None:
        candidate = find(seam, choice.value, choice.source, inventory)
        info = info_of(candidate)
        _check_fit(seam, candidate, info, parts, local_mode)
        return _composed(_part(candidate, info, choice.source, settings), info, settings, inventory, info_of)
    passed_over: PluginError | None = None
    for candidate in _preferred(seam, inventory):
        try:
            info = info_of(candidate)
            _check_fit(seam, candidate, info, parts, local_mode)
        except PluginError as error:
            # Nobody asked for this one by name: it must not stop those who do not need it.
            notes.append(f"{candidate.subject} was passed over: {error}")
            passed_over = error
            continue
        return _composed(_part(candidate, info, seam.default_reason, settings), info, settings, inventory, info_of)
    if not seam.optional:
        raise passed_over or _missing(seam, seam.preference[-1], seam.default_reason, inventory)
    if seam.preference:
        notes.append(f"no {seam.name} is in use: none of {', '.join(seam.preference)} is installed and fits")
    return None


def find(seam: Seam, value: str, source: str, inventory: Inventory) -> Candidate:
    """The one candidate for a chosen name or dotted path."""
    if "." in value or ":" in value:
        return path_candidate(seam.name, value)
    offers = inventory.plugins.get(seam.name, {}).get(value, ())
    if not offers or lacks_library(seam.known.get(value), offers, inventory):
        raise _missing(seam, value, source, inventory)
    if len(offers) > 1:
        target = offers[0].target if "." in offers[0].target else f"{offers[0].target}:"
        packages = " and ".join(f"{offer.distribution!r} {offer.version}" for offer in offers)
        raise AmbiguousPluginError(
            f"{seam.name}={value!r} ({source}) is offered by {packages}: pip uninstall one of them, "
            f"or give the module: {seam.name}={target!r}",
            seam=seam.name,
            plugin=value,
        )
    return offers[0]


def _missing(seam: Seam, value: str, source: str, inventory: Inventory) -> PluginError:
    choice = f"{seam.name}={value!r} ({source})"
    known = seam.known.get(value)
    if known is None:
        names = {*seam.known, *inventory.plugins.get(seam.name, {})}
        return UnknownPluginError(
            f"{choice} is not a known {seam.name}.{did_you_mean(value, names)}", seam=seam.name, plugin=value
        )
    provider = known.offered_by or known.package
    version = inventory.versions.get(normalise(provider))
    if version is None or normalise(known.package) not in inventory.versions:
        text = f"{choice} needs the package {known.package!r}; install it: {command_for(known)}"
    else:
        # The package is there and does not offer the name: an older release, or one that is still to bring it.
        text = (
            f"{choice} is not in the installed {provider!r} {version}; "
            f"look for a newer one: {command_for(known, upgrade=True)}"
        )
    return PluginNotInstalledError(text, seam=seam.name, plugin=value)


def lacks_library(known: Known | None, offers: Sequence[Candidate], inventory: Inventory) -> bool:
    """Whether what offers a name is there, and the library that it needs is not."""
    if known is None or normalise(known.package) in inventory.versions:
        return False
    return known.offered_by in [offer.distribution for offer in offers]


def _preferred(seam: Seam, inventory: Inventory) -> Iterator[Candidate]:
    for name in seam.preference:
        if name in inventory.plugins.get(seam.name, {}):
            yield find(seam, name, seam.default_reason, inventory)


def _check_fit(
    seam: Seam,
    candidate: Candidate,
    info: PluginInfo,
    parts: Mapping[str, PlannedPart],
    local_mode: bool,
) -> None:
    store = parts.get("store")
    lacking = sorted(info.needs_store - set(store.capabilities)) if store is not None else []
    if store is not None and lacking:
        able = [name for name, known in SEAMS["store"].known.items() if info.needs_store <= known.capabilities]
        remedies = [f"{seam.name}={name!r}" for name in seam.preference if name != candidate.name]
        if able:
            remedies.append(f"store {' or '.join(map(repr, sorted(able)))}")
        advice = f": use {' or '.join(remedies)}" if remedies else ""
        raise IncompatiblePluginsError(
            f"{candidate.subject} needs store {' and '.join(lacking)}; {store.subject} has none{advice}",
            seam=seam.name,
            plugin=candidate.name,
        )
    if seam.name == "transport" and not local_mode and PROCESSES not in info.capabilities:
        raise IncompatiblePluginsError(
            f"{candidate.subject} does not leave its process, but a session has several: "
            "use transport='unix' or ray.init(local_mode=True)",
            seam=seam.name,
            plugin=candidate.name,
        )


def _composed(
    part: PlannedPart, info: PluginInfo, settings: Settings, inventory: Inventory, info_of: InfoOf
) -> PlannedPart:
    """The part with the others of its seam that it is made of, each with its own options."""
    options, inner = dict(part.options), {}
    for role, needed in info.inner.items():
        source = f"{role} of {part.subject}"
        candidate = find(SEAMS[part.seam], options[role], source, inventory)
        found = info_of(candidate)
        _check_inner(part, role, candidate, found, needed)
        option = f"{role}_options"
        where = part.option_sources.get(option, "default")
        given = settings.options_for(part.seam, found.name, chosen=False)
        given |= {name: Setting(value, where) for name, value in options.pop(option, {}).items()}
        for name, value in _options_for(found, needed).items():
            if name not in given:
                given[name] = Setting(value, f"for {source}")
            elif given[name].value != value:
                raise IncompatiblePluginsError(
                    f"{candidate.subject} with {name}={given[name].value!r} ({given[name].source}) cannot be {source}, "
                    f"which takes {name}={value!r}",
                    seam=part.seam,
                    plugin=part.name,
                )
        inner[role] = _planned(candidate, found, source, given)
    return msgspec.structs.replace(part, options=options, inner=inner) if inner else part


def _options_for(info: PluginInfo, capabilities: frozenset[str]) -> dict[str, Any]:
    """What its options have to be for it to have these."""
    return {name: value for wanted in capabilities for name, value in info.capability_options.get(wanted, {}).items()}


def _check_inner(part: PlannedPart, role: str, candidate: Candidate, info: PluginInfo, needed: frozenset[str]) -> None:
    lacking = sorted(needed - info.capabilities)
    if lacking or info.inner:
        known = SEAMS[part.seam].known
        able = sorted(name for name, offer in known.items() if needed <= offer.capabilities)
        why = f"it lacks {' and '.join(lacking)}" if lacking else "it is made of others itself"
        advice = f": use {role}={' or '.join(map(repr, able))}" if able else ""
        raise IncompatiblePluginsError(
            f"{candidate.subject} cannot be {role} of {part.subject}, as {why}{advice}",
            seam=part.seam,
            plugin=part.name,
        )


def _part(
    candidate: Candidate, info: PluginInfo, source: str, settings: Settings, *, chosen: bool = True
) -> PlannedPart:
    return _planned(candidate, info, source, settings.options_for(candidate.seam, info.name, chosen=chosen))


def _planned(candidate: Candidate, info: PluginInfo, source: str, given: Mapping[str, Setting]) -> PlannedPart:
    return PlannedPart(
        seam=candidate.seam,
        name=candidate.name,
        module=candidate.target,
        distribution=candidate.distribution,
        version=candidate.version,
        options=check_options(info.options, given, candidate.subject),
        source=source,
        option_sources={option: setting.source for option, setting in given.items()},
        capabilities=sorted(info.capabilities),
        machine_options=sorted(info.machine_options),
    )


def _executors(settings: Settings, inventory: Inventory, info_of: InfoOf) -> dict[str, PlannedPart]:
    """All that are installed. A worker imports the one its actor needs; here only those with options are imported."""
    seam = SEAMS["executor"]
    parts = {}
    for name in sorted(inventory.plugins.get("executor", {})):
        candidate = find(seam, name, "installed", inventory)
        if settings.options_for("executor", name, chosen=False):
            parts[name] = _part(candidate, info_of(candidate), "installed", settings, chosen=False)
        else:
            parts[name] = PlannedPart(
                seam="executor",
                name=name,
                module=candidate.target,
                distribution=candidate.distribution,
                version=candidate.version,
                source="installed",
            )
    return parts


def _observer(name: str, settings: Settings, inventory: Inventory, info_of: InfoOf) -> PlannedPart:
    candidate = find(OBSERVER, name, settings.observers.source, inventory)
    return _part(candidate, info_of(candidate), settings.observers.source, settings)
