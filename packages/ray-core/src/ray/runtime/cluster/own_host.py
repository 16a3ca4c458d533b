"""The address under which others reach this machine, and how its nodes know each other."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket

from ray.runtime.cluster.places import Place


def own_host(given: str) -> str:
    """The address, in numbers, that ``given`` means: an address, a name, or the name of an interface such as ``ib0``.

    Raises:
        ValueError: it is none of this machine, or means all of them.
    """
    interfaces = _interfaces()
    if not given:
        raise ValueError(f"give an address of this machine, {_described(interfaces)}")
    if given in interfaces:
        if not interfaces[given]:
            raise ValueError(f"the interface {given} has no address")
        return interfaces[given][0]
    try:
        address = str(ipaddress.ip_address(given.strip("[]")))
    except ValueError:
        address = _resolved(given, interfaces)
    if ipaddress.ip_address(address).is_unspecified:
        raise ValueError(f"{given} means all addresses of this machine: give one of them, {_described(interfaces)}")
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
    except OSError as error:
        meant = "" if address == given else f" ({address})"
        raise ValueError(
            f"{given}{meant} is no address of this machine, which has {_described(interfaces)}: {error.strerror}"
        ) from None
    return address


def this_machine() -> bytes:
    """The same for all processes of this user since the machine has started; empty: the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return hashlib.sha256(b"%d %b" % (os.geteuid(), file.read())).digest()
    except OSError:
        return b""


def host_towards(place: Place) -> str:
    """The address of this machine from which it reaches ``place``; nothing is sent.

    Raises:
        OSError: there is no way.
    """
    family, kind, _, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def _resolved(name: str, interfaces: dict[str, list[str]]) -> str:
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        known = ", ".join(interfaces)
        raise ValueError(
            f"{name!r} is no address, no known name and no interface of this machine ({known}): {reason}"
        ) from None


def _interfaces() -> dict[str, list[str]]:
    """``{name: addresses}``, those of IPv4 first; without those that are only good on one link."""
    import psutil  # here, as it takes longer than most of what is imported, and node managers do without

    found: dict[str, list[str]] = {}
    for name, addresses in psutil.net_if_addrs().items():
        texts = [each.address for each in addresses if each.family in (socket.AF_INET, socket.AF_INET6)]
        found[name] = sorted((text for text in texts if "%" not in text), key=lambda text: ":" in text)
    return found


def _described(interfaces: dict[str, list[str]]) -> str:
    return ", ".join(f"{text} ({name})" for name, texts in interfaces.items() for text in texts)
