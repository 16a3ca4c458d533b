"""What a program says to the control server before it trusts it, and what it says of all that is none."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from tests.key_files import SESSION, a_key

from ray.exceptions import RayConnectionError, RaySystemError
from ray.runtime.cluster import control_server
from ray.runtime.cluster.control_url import parse_control_url


class Server:
    """Answers each command as a table says."""

    def __init__(self, **answers: bytes | None):
        self.answers = {"AUTH": b"+OK\r\n", "PING": b"+PONG\r\n", "GET": b"$-1\r\n", **answers}
        self.asked: list[list[bytes]] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def key(self, **changes):
        return a_key(port=self.port, control=(f"redis://127.0.0.1:{self.port}",), **changes)

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                while line := file.readline():
                    words = []
                    for _ in range(int(line[1:])):
                        nbytes = int(file.readline()[1:])
                        words.append(file.read(nbytes + 2)[:-2])
                    self.asked.append(words)
                    answer = self.answers[words[0].decode()]
                    if answer is None:
                        break
                    connection.sendall(answer)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


@pytest.fixture
def serving():
    servers = []

    def make(**answers):
        servers.append(Server(**answers))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def bulk(text):
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


def check(key, timeout_s=2.0):
    control_server.check_control(key, "/k.json", "address='x'", timeout_s)


def test_the_right_one(serving):
    server = serving()
    key = server.key()
    check(key)
    assert control_server.answers(key)
    assert server.asked[:3] == [[b"AUTH", b"ray", b"geheim"], [b"PING"], [b"GET", b"ray:{default}:current"]]
    server.answers["GET"] = bulk(control_server._signed(key))
    check(key)
    assert control_server.answers(key)


def test_without_a_user_the_password_is_said_alone(serving):
    server = serving()
    check(server.key(user=""))
    assert server.asked[0] == [b"AUTH", b"geheim"]


def test_nobody(serving):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    key = a_key(port=port, control=(f"redis://127.0.0.1:{port}",))
    with pytest.raises(RayConnectionError, match=rf"No cluster answers at 127\.0\.0\.1:{port} \(from address='x'\)"):
        check(key)
    assert not control_server.answers(key)


def test_silence_is_waited_for_as_long_as_was_said():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        key = a_key(port=port, control=(f"redis://127.0.0.1:{port}",))
        begun = time.monotonic()
        with pytest.raises(RayConnectionError, match="timed out"):
            check(key, 0.3)
        assert 0.25 < time.monotonic() - begun < 10
        assert not control_server.answers(key, 0.1)


MISMATCHES = {
    "password": ({"AUTH": b"-WRONGPASS invalid\r\n"}, "refuses it: WRONGPASS invalid"),
    "no redis": ({"AUTH": b"HTTP/1.1 400 Bad Request\r\n"}, "what listens there is no Redis server"),
    "huge": ({"GET": b"$99999999999\r\n"}, "what listens there is no Redis server"),
    "other session": ({"GET": bulk("ffff000011112222 00")}, "has session ffff000011112222"),
    "forged": ({"GET": bulk(f"{SESSION} {'0' * 64}")}, "was not signed with the keys of the cluster"),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_what_is_another_cluster(serving, case):
    answers, text = MISMATCHES[case]
    key = serving(**answers).key()
    with pytest.raises(RaySystemError) as caught:
        check(key)
    assert not isinstance(caught.value, RayConnectionError)
    said = str(caught.value)
    assert f"The key file /k.json is that of session {SESSION} of cluster 'default', and what answers at" in said
    assert text in said
    assert "copy its key file again" in said
    assert "geheim" not in said
    assert not control_server.answers(key)


def test_a_server_that_hangs_up(serving):
    with pytest.raises(RayConnectionError, match="closed the connection"):
        check(serving(PING=None).key())


def test_a_name_is_claimed_once(serving):
    server = serving(SET=b"+OK\r\n")
    key = server.key()
    control_server.claim_name(key)
    assert server.asked[-1] == [b"SET", b"ray:{default}:current", control_server._signed(key).encode(), b"NX"]
    server.answers["SET"] = b"$-1\r\n"
    server.answers["GET"] = bulk("ffff000011112222 00")
    with pytest.raises(RaySystemError, match=r"has a cluster 'default' already, session ffff000011112222"):
        control_server.claim_name(key)
    server.answers["GET"] = bulk(control_server._signed(key))
    control_server.claim_name(key)  # that was this one
    server.answers["SET"] = b"-NOPERM no\r\n"
    with pytest.raises(RaySystemError, match="refuses: NOPERM no"):
        control_server.claim_name(key)


def test_a_name_is_released_by_its_own_alone(serving):
    server = serving(GET=bulk("ffff000011112222 00"), DEL=b":1\r\n")
    key = server.key()
    control_server.release_name(key)
    assert [b"DEL", b"ray:{default}:current"] not in server.asked
    server.answers["GET"] = bulk(control_server._signed(key))
    control_server.release_name(key)
    assert server.asked[-1] == [b"DEL", b"ray:{default}:current"]


def test_sentinels_name_the_server(serving):
    server = serving()
    named = b"*2\r\n" + bulk("127.0.0.1") + bulk(str(server.port))
    sentinel, dumb = serving(SENTINEL=named), serving(SENTINEL=b"*-1\r\n")
    places = f"127.0.0.1:{dumb.port},127.0.0.1:{sentinel.port}"
    key = a_key(port=dumb.port, control=(f"redis+sentinel://{places}/primary",))
    check(key)
    assert sentinel.asked == [[b"SENTINEL", b"get-master-addr-by-name", b"primary"]]
    with pytest.raises(RayConnectionError, match="the Sentinels know no 'primary'"):
        check(a_key(port=dumb.port, control=(f"redis+sentinel://127.0.0.1:{dumb.port}/primary",)))


@pytest.mark.parametrize(
    ("text", "shown", "place", "login"),
    [
        ("redis://h", "redis://h:6379", ("h", 6379), ("", "")),
        ("redis://u:p%40@h:7000", "redis://h:7000", ("h", 7000), ("u", "p@")),
        ("rediss://:p@[::1]:7000", "rediss://[::1]:7000", ("::1", 7000), ("", "p")),
        ("redis+sentinel://a,b:7/one", "redis+sentinel://a:26379,b:7/one", ("a", 26379), ("", "")),
    ],
)
def test_urls(text, shown, place, login):
    found = parse_control_url(text)
    assert (found.shown, tuple(found.place), (found.user, found.password)) == (shown, place, login)


@pytest.mark.parametrize(
    "text", ["", "h:6379", "http://h", "redis://", "redis://h/1", "redis://a,b", "redis+sentinel://a", "redis://h:x"]
)
def test_what_is_no_url(text):
    with pytest.raises(ValueError, match="the URL of a control server is redis://"):
        parse_control_url(text)
