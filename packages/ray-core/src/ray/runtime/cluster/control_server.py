"""A word with the control server of a cluster, without any library of its own: does it answer, and is it the one?"""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from urllib.parse import unquote, urlsplit

from ray.builtin.redis_control.plain_link import RedisLink, RefusedError
from ray.exceptions import RayConnectionError, RaySystemError
from ray.runtime.cluster.key_file import KeyFile
from ray.runtime.cluster.places import Place
from ray.runtime.cluster.wanted import CONNECT_S

SENTINEL_PORT = 26379


def answers(key: KeyFile, timeout_s: float = CONNECT_S) -> bool:
    """Whether the control server of this life of the cluster is there."""
    try:
        link = open_link(key, timeout_s)
    except (OSError, RefusedError):
        return False
    try:
        session = _session(link, key)
    except (OSError, RefusedError):
        return False
    finally:
        link.close()
    return session in ("", key.session)


def check_control(key: KeyFile, path: str, source: str, timeout_s: float = CONNECT_S) -> None:
    """See that the control server of the cluster answers, and is the one that the key file is for.

    Args:
        key: of the cluster.
        path: of its file, for messages.
        source: where the address was given, for messages.
        timeout_s: how long to wait.

    Raises:
        RayConnectionError: it does not.
        RaySystemError: what answers is not that life of the cluster.
    """
    mismatch = (
        f"The key file {path} is that of session {key.session} of cluster {key.name!r}, and what answers at {key.place}"
    )
    again = "If the cluster was started again since, copy its key file again."
    try:
        link = open_link(key, timeout_s)
        try:
            session = _session(link, key)
        finally:
            link.close()
    except ssl.SSLEOFError as error:  # it has just ended
        raise nobody_answers(key.place, source, error) from None
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or error
        raise RaySystemError(f"{mismatch} has another certificate ({reason}). {again}") from None
    except RefusedError as error:
        raise RaySystemError(f"{mismatch} refuses it: {error}. {again}") from None
    except OSError as error:
        raise nobody_answers(key.place, source, error) from None
    if session not in ("", key.session):
        raise RaySystemError(f"{mismatch} has session {session}. {again}")


def claim_name(key: KeyFile, timeout_s: float = CONNECT_S) -> None:
    """Have the server know this life of the cluster as the one that bears its name.

    Raises:
        RayConnectionError: the server does not answer.
        RaySystemError: it refuses, or another cluster has the name there.
    """
    try:
        link = open_link(key, timeout_s)
        try:
            if link.call("SET", _current(key), _signed(key), "NX") is None:
                session = _session(link, key)
                if session != key.session:
                    raise RaySystemError(
                        f"The control server at {key.place} has a cluster {key.name!r} already, session {session}: "
                        "choose another --name, or stop that one with `ray stop --cluster`."
                    )
        finally:
            link.close()
    except RefusedError as error:
        raise RaySystemError(f"The control server at {key.place} refuses: {error}.") from None
    except OSError as error:
        raise RayConnectionError(f"No control server answers at {key.place}: {error}.") from error


def release_name(key: KeyFile, timeout_s: float = CONNECT_S) -> None:
    """Give the name back that ``claim_name`` took.

    Raises:
        OSError: the server does not answer.
        RefusedError: it refuses.
    """
    link = open_link(key, timeout_s)
    try:
        if _session(link, key) == key.session:
            link.call("DEL", _current(key))
    finally:
        link.close()


def nobody_answers(place: Place, source: str, error: OSError) -> RayConnectionError:
    """What is said where nobody is."""
    return RayConnectionError(f"No cluster answers at {place} (from {source}): {error}.")


def _current(key: KeyFile) -> str:
    return f"ray:{{{key.name}}}:current"


def _signed(key: KeyFile) -> str:
    signed = f"{_current(key)}\0{key.session}".encode()
    return f"{key.session} {hmac.new(bytes.fromhex(key.hmac_key), signed, hashlib.sha256).hexdigest()}"


def _session(link: RedisLink, key: KeyFile) -> str:
    """The session that the server has under the name of the cluster; empty if it has none."""
    found = link.call("GET", _current(key))
    text = found.decode(errors="replace") if isinstance(found, bytes) else ""
    session = text.partition(" ")[0][:64]
    if session == key.session and not hmac.compare_digest(text, _signed(key)):
        raise RefusedError("what it says of the session was not signed with the keys of the cluster")
    return session


def open_link(key: KeyFile, timeout_s: float) -> RedisLink:
    """Connect to the control server of a cluster, and say the password. The caller closes it.

    Raises:
        OSError: nobody answers, or it has another certificate.
        RefusedError: the password is another, or what answers is no control server.
    """
    link = RedisLink(_connected(key, timeout_s))
    try:
        if key.password:
            link.call("AUTH", *([key.user] if key.user else []), key.password)
        link.call("PING")
    except BaseException:
        link.close()
        raise
    return link


def _connected(key: KeyFile, timeout_s: float) -> socket.socket:
    url = urlsplit(key.control[0])
    if url.scheme == "unix":
        found = socket.socket(socket.AF_UNIX)
        try:
            found.settimeout(timeout_s)
            found.connect(unquote(url.path))
        except BaseException:
            found.close()
            raise
        return found
    if url.scheme == "redis+sentinel":
        return _primary(url.netloc, url.path.strip("/"), timeout_s)
    plain = socket.create_connection(key.place, timeout_s)
    if url.scheme != "rediss":
        return plain
    try:
        return _context(key.certificate).wrap_socket(plain, server_hostname=None if key.certificate else url.hostname)
    except BaseException:
        plain.close()
        raise


def _context(certificate: str) -> ssl.SSLContext:
    if not certificate:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # that very certificate is what proves it
    context.load_verify_locations(cadata=certificate)
    return context


def _primary(sentinels: str, service: str, timeout_s: float) -> socket.socket:
    """A connection to the server that one of the Sentinels names."""
    problem: Exception = ConnectionRefusedError("no Sentinel answers")
    for text in sentinels.split(","):
        sentinel = urlsplit(f"//{text}")
        try:
            link = RedisLink(
                socket.create_connection((sentinel.hostname or "", sentinel.port or SENTINEL_PORT), timeout_s)
            )
            try:
                found = link.call("SENTINEL", "get-master-addr-by-name", service)
            finally:
                link.close()
        except (OSError, RefusedError) as error:
            problem = error
            continue
        if isinstance(found, list) and len(found) == 2 and all(isinstance(part, bytes) for part in found):
            host, port = (bytes(part).decode() for part in found if isinstance(part, bytes))
            return socket.create_connection((host, int(port)), timeout_s)
        problem = ConnectionRefusedError(f"the Sentinels know no {service!r}")
    raise problem
